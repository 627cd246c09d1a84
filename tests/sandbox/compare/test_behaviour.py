# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the collection depends on in the components' behaviour; true for real ones, and therefore demanded of the stand-ins.

Every test leaves the node as it found it, but for processes that were restarted.
"""

from __future__ import annotations

import json
import time
import typing as t
from urllib.parse import quote

import pytest

if t.TYPE_CHECKING:
    from conftest import Target

CONTROLLER_MANAGER_CONF = "/etc/kubernetes/controller-manager.conf"
OBJECTS = (
    *("/api/v1/secrets", "/api/v1/configmaps", "/api/v1/namespaces/default/services", "/apis/apiregistration.k8s.io/v1/apiservices"),
    *(f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations" for kind in ("validating", "mutating")),
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
)
NODE_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def test_processes_carry_their_manifests_arguments(target: Target) -> None:
    """Discovery recognises a component by its argument vector."""
    assert None not in target.call("components").values()


def test_apiserver_serves_a_replaced_pair_within_a_second(target: Target, api: str) -> None:
    """It watches the files."""
    for seconds in target.call("reload_seconds", "apiserver", "ca", api.partition("://")[2]):
        assert seconds < 1


@pytest.mark.parametrize(("pair", "port"), [("etcd/server", 2379), ("etcd/peer", 2380)])
def test_etcd_serves_a_replaced_pair_at_the_next_handshake(target: Target, pair: str, port: int) -> None:
    """It reads the files for each handshake."""
    for seconds in target.call("reload_seconds", pair, "etcd/ca", "%s:%d" % (target.call("address"), port)):
        assert seconds < 0.1


def test_apiserver_has_a_loopback_certificate_of_its_own(target: Target) -> None:
    """Its common name tells when the process was started."""
    name = target.call("serves", target.call("address"), "6443", "apiserver-loopback-client")["common_name"]
    prefix, _at, started = name.partition("@")
    assert prefix == "apiserver-loopback-client"
    assert int(started) <= time.time()


WHO_MAY_ASK_FOR_WHAT = [
    ("none", "/readyz", 200),
    ("none", "/readyz/etcd", 403),
    ("admin.conf", "/readyz/etcd", 200),
    ("none", "/livez", 200),
    ("none", "/api/v1/namespaces/default", 403),
    ("foreign", "/readyz", 401),
    ("foreign", "/api/v1/namespaces/default", 401),
    ("admin.conf", "/api/v1/namespaces/default", 200),
    ("super-admin.conf", "/api/v1/namespaces/default", 200),
    ("scheduler.conf", "/api/v1/namespaces/kube-system/configmaps/kubeadm-config", 403),
    ("admin.conf", "/api/v1/namespaces/kube-system/configmaps/kubeadm-config", 200),
    ("controller-manager.conf", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager", 200),
    ("scheduler.conf", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler", 200),
    # The controller manager may list whatever there is, but get neither a node nor a kubelet's Lease; a scheduler may not see the latter.
    *(("controller-manager.conf", path, 200) for path in ("/api/v1/nodes", NODE_LEASES)),
    *(("controller-manager.conf", path + "/any", 403) for path in ("/api/v1/nodes", NODE_LEASES)),
    ("scheduler.conf", "/api/v1/nodes", 200),
    ("scheduler.conf", NODE_LEASES, 403),
    # So may it see what an inspection lists of the API's objects.
    *((who, path, 200) for who in ("admin.conf", "controller-manager.conf") for path in OBJECTS),
    ("scheduler.conf", "/api/v1/secrets", 403),
    ("none", "/api/v1/secrets", 403),
    ("admin.conf", "/apis/apiregistration.k8s.io/v1/secrets", 404),
    ("admin.conf", "/api/v1/secrets?fieldSelector=data%3Dx", 400),
]


def test_who_may_ask_for_what(target: Target, api: str) -> None:
    """401 for certificates of strangers, 403 for what one may not."""
    answers = target.call("statuses", json.dumps([(who, api + path) for who, path, _status in WHO_MAY_ASK_FOR_WHAT]))
    seen = [(who, path, status) for (who, path, _status), status in zip(WHO_MAY_ASK_FOR_WHAT, answers)]
    assert seen == WHO_MAY_ASK_FOR_WHAT


def test_a_list_can_be_narrowed(target: Target, api: str) -> None:
    """By a name and by a label."""

    def names(path: str) -> list[str]:
        answer = target.call("ask", "controller-manager.conf", "GET", api + path)
        return [item["metadata"]["name"] for item in answer["body"]["items"]]

    name = names("/api/v1/nodes")[0]
    for collection in ("/api/v1/nodes", NODE_LEASES):
        assert names(collection + "?fieldSelector=metadata.name%3D" + name) == [name]
        assert names(collection + "?fieldSelector=metadata.name%3Dnobody") == []
    assert name in names("/api/v1/nodes?labelSelector=node-role.kubernetes.io/control-plane")
    assert names("/api/v1/nodes?labelSelector=nobody-has-this") == []


def test_a_list_comes_in_pages(target: Target, api: str) -> None:
    """Each with a token for the next one, the last without; together they are the whole."""

    def page(query: str = "") -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", target.call("ask", "admin.conf", "GET", api + "/api/v1/namespaces" + query)["body"])

    seen: list[dict[str, t.Any]] = []
    token: str | None = ""
    while token is not None:
        answer = page("?limit=2&continue=" + quote(token, safe=""))
        assert len(answer["items"]) <= 2
        seen += answer["items"]
        token = answer["metadata"].get("continue")
    assert len(seen) > 2
    names = [item["metadata"]["name"] for item in seen]
    assert names == [item["metadata"]["name"] for item in page()["items"]]


def test_secrets_of_one_type(target: Target, api: str) -> None:
    """In all namespaces."""
    secrets = api + "/api/v1/namespaces/default/secrets"
    kinds = {"certops-compare-1": "kubernetes.io/tls", "certops-compare-2": "Opaque"}
    data = {"tls.crt": "eA==", "tls.key": "eA=="}
    try:
        for name, kind in kinds.items():
            document = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": "default"},
                "type": kind,
                "data": data,
            }
            assert target.call("ask", "admin.conf", "POST", secrets, json.dumps(document))["status"] == 201
        answer = target.call("ask", "admin.conf", "GET", api + "/api/v1/secrets?fieldSelector=type%3Dkubernetes.io%2Ftls")
        names = {item["metadata"]["name"] for item in answer["body"]["items"]}
        assert names.intersection(kinds) == {"certops-compare-1"}
    finally:
        for name in kinds:
            target.call("ask", "admin.conf", "DELETE", f"{secrets}/{name}", json.dumps({"kind": "DeleteOptions", "apiVersion": "v1"}))


def test_a_kubelet_renews_its_nodes_lease(target: Target, api: str) -> None:
    """Every ten seconds, for forty; its holder is the node, its time the node's own."""
    (first,) = target.call("ask", "admin.conf", "GET", api + NODE_LEASES)["body"]["items"]
    assert first["spec"]["holderIdentity"] == first["metadata"]["name"]
    assert first["spec"]["leaseDurationSeconds"] == 40
    give_up = time.monotonic() + 60
    while target.call("ask", "admin.conf", "GET", api + NODE_LEASES)["body"]["items"][0]["spec"]["renewTime"] == first["spec"]["renewTime"]:
        assert time.monotonic() < give_up, first
        time.sleep(0.5)


REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
MAKE_REQUEST = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj $0 2>/dev/null | base64 -w0"


def test_a_kubelet_has_its_certificate_renewed_by_the_cluster(target: Target, api: str) -> None:
    """A request for itself is approved and signed by itself; the node may look at it, and may not remove it."""
    kubelet, signer = "pem:/var/lib/kubelet/pki/kubelet-client-current.pem", "kubernetes.io/kube-apiserver-client-kubelet"
    review = '{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}'
    me = target.call("ask", kubelet, "POST", api + "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    user = me["body"]["status"]["userInfo"]["username"]
    request = target.run("sh", "-c", MAKE_REQUEST, f"/O=system:nodes/CN={user}").strip()
    spec = {"signerName": signer, "request": request, "usages": ["digital signature", "client auth"], "expirationSeconds": 86400}
    kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
    asked = target.call(
        "ask", kubelet, "POST", api + REQUESTS, json.dumps({**kind, "metadata": {"generateName": "compare-"}, "spec": spec})
    )
    assert (asked["status"], asked["body"]["spec"]["username"]) == (201, user)
    url = f"{api}{REQUESTS}/{asked['body']['metadata']['name']}"
    try:
        give_up = time.monotonic() + 20
        while not target.call("ask", kubelet, "GET", url)["body"].get("status", {}).get("certificate"):
            assert time.monotonic() < give_up
            time.sleep(0.2)
        status = target.call("ask", kubelet, "GET", url)["body"]["status"]
        assert [condition["type"] for condition in status["conditions"]] == ["Approved"]
        shown = target.run("sh", "-c", "echo $0 | base64 -d | openssl x509 -noout -subject -ext extendedKeyUsage", status["certificate"])
        assert user in shown
        assert "TLS Web Client Authentication" in shown
        assert target.call("ask", kubelet, "DELETE", url)["status"] == 403
    finally:
        assert target.call("ask", "admin.conf", "DELETE", url)["status"] == 200


def test_the_configuration_of_the_cluster_can_be_read(target: Target, api: str) -> None:
    """kubeadm leaves it in a ConfigMap."""
    answer = target.call("ask", "admin.conf", "GET", api + "/api/v1/namespaces/kube-system/configmaps/kubeadm-config")
    assert "certificateValidityPeriod" in answer["body"]["data"]["ClusterConfiguration"]


def test_whoami_shows_the_certificate(target: Target, api: str) -> None:
    """The credential id is the certificate's SHA-256."""
    body = '{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}'
    answer = target.call("ask", "admin.conf", "POST", api + "/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
    assert answer["status"] == 201
    info = answer["body"]["status"]["userInfo"]
    assert info["username"] == "kubernetes-admin"
    assert "kubeadm:cluster-admins" in info["groups"]
    assert info["extra"]["authentication.kubernetes.io/credential-id"] == ["X509SHA256=" + target.call("fingerprint", "admin.conf")]


def test_the_kubelet_is_reached_through_the_apiserver(target: Target, api: str) -> None:
    """With the API server's own client pair."""
    nodes = target.call("ask", "admin.conf", "GET", api + "/api/v1/nodes")["body"]["items"]
    name = nodes[0]["metadata"]["name"]
    url = "%s/api/v1/nodes/%s/proxy/healthz" % (api, name)
    give_up = time.monotonic() + 20  # the kubelet was restarted a moment ago
    while target.call("ask", "admin.conf", "GET", url) != {"status": 200, "body": "ok"}:
        assert time.monotonic() < give_up, target.call("ask", "admin.conf", "GET", url)
        time.sleep(0.5)


PORTS = [
    ("none", "https://127.0.0.1:10257/healthz", 200),
    ("none", "https://127.0.0.1:10259/healthz", 200),
    ("none", "https://127.0.0.1:10250/healthz", 401),
    ("pair:apiserver-kubelet-client", "https://127.0.0.1:10250/healthz", 200),
    ("none", "http://127.0.0.1:10248/healthz", 200),
    ("none", "http://127.0.0.1:2381/readyz", 200),
    ("none", "https://127.0.0.1:2379/health", 0),
    ("pair:etcd/healthcheck-client", "https://127.0.0.1:2379/health", 200),
]


def test_ports_answer(target: Target) -> None:
    """0: the connection is refused or broken off, as etcd does without a client certificate."""
    answers = target.call("statuses", json.dumps([(who, url) for who, url, _status in PORTS]))
    assert [(who, url, status) for (who, url, _status), status in zip(PORTS, answers)] == PORTS


def test_etcd_tells_members_and_leader(target: Target) -> None:
    """Its JSON gateway."""
    url = "https://127.0.0.1:2379/v3/"
    members = target.call("ask", "pair:etcd/healthcheck-client", "POST", url + "cluster/member/list", "{}")["body"]["members"]
    assert members[0]["peerURLs"][0].endswith(":2380")
    status = target.call("ask", "pair:etcd/healthcheck-client", "POST", url + "maintenance/status", "{}")["body"]
    assert status["leader"] in [member["ID"] for member in members]
    assert status["version"].startswith("3.")


def test_leaders_serve_a_certificate_made_at_their_start(target: Target) -> None:
    """Valid from one hour before."""
    for port in ("10257", "10259"):
        assert target.call("serves", "127.0.0.1", port)["not_before"] < time.time() - 3590


def test_a_replaced_kubeconfig_is_not_seen_by_the_controller_manager(target: Target) -> None:
    """Its single-file mount keeps the old inode, and the process goes on."""
    before = target.call("components")["kube-controller-manager"]
    same = target.call("inodes", "kube-controller-manager", CONTROLLER_MANAGER_CONF)
    assert same["host"] == same["seen"]
    target.call("replace_same", CONTROLLER_MANAGER_CONF)
    different = target.call("inodes", "kube-controller-manager", CONTROLLER_MANAGER_CONF)
    assert different["seen"] == same["seen"] != different["host"]
    assert target.call("components")["kube-controller-manager"] == before


def test_a_lease_is_deleted_only_as_it_was_read(target: Target) -> None:
    """A lock is not taken from whoever has written it in between."""
    seen = target.call("deletions", "certops-comparison")
    assert seen == {"another version": 409, "another uid": 409, "as it is": 200, "afterwards": 404}


def test_the_controller_manager_keeps_its_lease_when_stopped(target: Target) -> None:
    """Nobody leads until the lease is released for it, by an update with its own identity."""
    seen = target.call("stop_leader", "kube-controller-manager")
    assert seen["gone"] < 3
    assert seen["acquired"] is None
    assert set(seen["seen"]) == {seen["holder"]}
    assert target.call("release", "kube-controller-manager", "controller-manager.conf") < 4
    mounted = target.call("inodes", "kube-controller-manager", CONTROLLER_MANAGER_CONF)
    assert mounted["host"] == mounted["seen"], "a new container sees the file as it is now"


def test_the_scheduler_releases_its_lease_when_stopped(target: Target) -> None:
    """A new leader is there long before the lease would have ended."""
    seen = target.call("stop_leader", "kube-scheduler")
    assert seen["gone"] < 3
    assert seen["acquired"] is not None


def test_a_stopped_apiserver_lingers_and_is_not_ready_while_it_starts(target: Target) -> None:
    """The listener closes at once, the process stays for open watches; after its start it refuses for a while."""
    seen = target.call("stop_apiserver", "2")
    assert seen["closed"] < 1
    assert seen["lingered"]
    # 403 while its rules are not loaded yet (a slow poll may miss that second), 500 while it is not ready
    assert {403, 500} & set(seen["statuses"])
    assert seen["statuses"][-1] == 200
    assert seen["ready"] < 30


def test_the_second_restart_waits_for_the_back_off(target: Target, request: pytest.FixtureRequest) -> None:
    """At once the first time, then ten seconds; a restart of the kubelet forgets it."""
    if not request.config.getoption("--slow"):
        pytest.skip("takes 15 s; ask for it with --slow")
    target.run("systemctl", "restart", "kubelet")
    time.sleep(3)
    first, second = target.call("restart_delays", "kube-scheduler")
    assert second > 8
    assert second > first
