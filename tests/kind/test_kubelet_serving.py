# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kubelet's serving certificate on a real node, self-signed, from files and signed by the cluster: handshakes, logs and exec."""

from __future__ import annotations

import base64
import json
import re
import time
import typing as t

import cluster
import observe
import pytest

PKI = "/var/lib/kubelet/pki"
CONFIG = "/var/lib/kubelet/config.yaml"
SIGNER = "kubernetes.io/kubelet-serving"
ONLY_IT = {"certs_rotate_force": True, "certs_rotate_select": "[?name=='kubelet-serving']"}
NOTHING = {"certs_rotate_renew_before_days": 0}
ADDED = f"{CONFIG}.before"
NOT_THE_NODES = "10.96.0.1"
ASK = """
umask 077
cd $(mktemp -d)
openssl ecparam -name prime256v1 -genkey -noout -out key.pem
openssl req -new -key key.pem -subj /O=system:nodes/CN=system:node:%(node)s -addext subjectAltName=%(names)s
"""


@pytest.fixture(autouse=True)
def containers_stay() -> t.Iterator[None]:
    """Whatever becomes of the kubelet, every container of the control plane keeps its id."""
    before = cluster.containers("tier=control-plane")
    yield
    assert cluster.containers("tier=control-plane") == before


@pytest.fixture(name="restored")
def fixture_restored() -> t.Iterator[None]:
    """The kubelet's configuration, and the requests to its signer, as they were before."""
    cluster.on_node("cp", "-p", CONFIG, ADDED)
    yield
    cluster.on_node("mv", ADDED, CONFIG)
    cluster.on_node("systemctl", "restart", "kubelet")
    cluster.on_node("sh", "-c", f"rm -f {PKI}/given.* {PKI}/kubelet-server-*")
    for name in requests():
        cluster.kubectl("delete", "csr", name)
    wait_for(lambda: served() and "BEGIN" in served(), "a handshake after the test")


def wait_for(condition: t.Callable[[], t.Any], what: str, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.5)


def served() -> str:
    """The certificate that a handshake on 10250 shows, as PEM; empty when there is none."""
    connect = f"openssl s_client -connect {cluster.node_address()}:10250 </dev/null 2>/dev/null | openssl x509 2>/dev/null"
    return cluster.on_node("sh", "-c", connect, check=False).strip()


def said_of(certificate: str, *what: str) -> str:
    """What openssl says of a certificate."""
    return cluster.on_node("openssl", "x509", "-noout", *what, stdin=certificate)


def on_disk(path: str) -> str:
    """The first certificate of a file, as PEM."""
    return cluster.on_node("openssl", "x509", "-in", path).strip()


def requests() -> dict[str, dict[str, t.Any]]:
    """The requests to the signer of serving certificates, by name."""
    listed = json.loads(cluster.kubectl("get", "csr", "-o", "json"))["items"]
    return {one["metadata"]["name"]: one for one in listed if one["spec"]["signerName"] == SIGNER}


def conditions(name: str) -> list[str]:
    """What was decided about a request."""
    return [one["type"] for one in requests()[name]["status"].get("conditions", [])]


def assert_logs_and_exec() -> None:
    """The API server reaches the kubelet, and a command runs in a container."""
    pod = f"kube-scheduler-{cluster.NODE}"
    assert cluster.kubectl("-n", "kube-system", "logs", pod, "--tail=1")
    shown = cluster.kubectl("-n", "kube-system", "exec", "daemonset/kube-proxy", "--", "sh", "-c", "echo it works")
    assert shown.strip() == "it works"


def rotate(*argv: str, **variables: t.Any) -> str:
    """What a rotation says."""
    return cluster.playbook("rotate", "-e", json.dumps(variables), *argv).stdout


def result() -> dict[str, t.Any]:
    """The newest rotation's result for the certificate."""
    (found,) = cluster.newest_report("rotate")["results"][cluster.NODE]["certificates"]
    assert found["name"] == "kubelet-serving"
    return t.cast("dict[str, t.Any]", found)


def test_the_self_signed_one_is_renewed_and_reloaded_by_itself() -> None:
    """A handshake shows the new one, which says the same as the old one; the kubelet is not restarted."""
    old, kubelet = served(), observe.processes()["kubelet"]
    authority = cluster.on_node("tail", "-n", "+2", f"{PKI}/kubelet.crt")
    rotate(**ONLY_IT)
    new = served()
    assert new != old
    assert new == on_disk(f"{PKI}/kubelet.crt")
    assert cluster.on_node("tail", "-n", "+2", f"{PKI}/kubelet.crt") != authority
    assert "OK" in cluster.on_node("openssl", "verify", "-CAfile", f"{PKI}/kubelet.crt", "-partial_chain", f"{PKI}/kubelet.crt")
    for what in ("-subject", "-ext=subjectAltName,extendedKeyUsage,keyUsage,basicConstraints"):
        flag, _equals, value = what.partition("=")
        assert said_of(new, flag, *filter(None, [value])) == said_of(old, flag, *filter(None, [value]))
    assert re.search(r"CN ?= ?.+-ca@[0-9]+", said_of(new, "-issuer"))
    year = "31449600"  # a day less
    assert "will not expire" in cluster.on_node("openssl", "x509", "-noout", "-checkend", year, stdin=new)
    assert (result()["in_use"], result()["proof"]) == ("true", "handshake")
    assert observe.processes()["kubelet"] == kubelet
    assert cluster.on_node("stat", "-c", "%a %U", f"{PKI}/kubelet.key").split() == ["600", "root"]
    assert_logs_and_exec()


def test_a_rollback_brings_the_old_one_back() -> None:
    """And the kubelet serves it again."""
    run_id = cluster.newest_report("rotate")["run"]["id"]
    new = served()
    cluster.playbook("rollback", "-e", json.dumps({"certs_rotate_rollback_run_id": run_id}))
    assert served() != new
    assert served() == on_disk(f"{PKI}/kubelet.crt")
    assert_logs_and_exec()


def test_files_that_the_clusters_ca_signed_are_signed_again(restored: None) -> None:
    """`tlsCertFile` and `tlsPrivateKeyFile` of an administrator."""
    ca = "/etc/kubernetes/pki/ca"
    names = f"DNS:{cluster.NODE},IP:{cluster.node_address()}"
    make = (
        f"umask 077; cd {PKI}; openssl req -x509 -newkey rsa:2048 -nodes -keyout given.key -out given.crt -days 9"
        f" -subj '/O=system:nodes/CN=system:node:{cluster.NODE}' -addext subjectAltName={names} -addext extendedKeyUsage=serverAuth"
        f" -addext basicConstraints=critical,CA:FALSE -CA {ca}.crt -CAkey {ca}.key 2>/dev/null"
    )
    cluster.on_node("sh", "-c", make)
    configure(f"tlsCertFile: {PKI}/given.crt\ntlsPrivateKeyFile: {PKI}/given.key\n")
    wait_for(lambda: served() == on_disk(f"{PKI}/given.crt"), "the given certificate on 10250")
    old = served()
    rotate(certs_rotate_select="[?name=='kubelet-serving']")  # nine days: due
    assert served() != old
    assert served() == on_disk(f"{PKI}/given.crt")
    assert "OK" in cluster.on_node("openssl", "verify", "-CAfile", f"{ca}.crt", f"{PKI}/given.crt")
    assert result()["in_use"] == "true"
    assert_logs_and_exec()


def configure(lines: str) -> None:
    """Add lines to the kubelet's configuration, and restart it."""
    cluster.on_node("sh", "-c", f"cat >>{CONFIG}", stdin=lines)
    cluster.on_node("systemctl", "restart", "kubelet")


def ask(name: str, names: str, config: str) -> None:
    """A request for a serving certificate of this node with these names, by whom the kubeconfig says."""
    request = cluster.on_node("sh", "-c", ASK % {"node": cluster.NODE, "names": names})
    document = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "signerName": SIGNER,
            "request": base64.b64encode(request.encode()).decode(),
            "usages": ["digital signature", "server auth"],
        },
    }
    cluster.on_node("kubectl", "--kubeconfig", config, "create", "-f", "-", stdin=json.dumps(document))


def finding_codes() -> set[str]:
    """What an inspection finds about the certificate."""
    cluster.playbook("inspect")
    records = cluster.newest_report("inspect")["records"]
    return {finding["code"] for record in records if record["name"] == "kubelet-serving" for finding in record["findings"]}


def test_what_a_kubelet_asks_for_is_approved_and_what_is_forged_is_left_alone(restored: None) -> None:
    """With `serverTLSBootstrap`: nothing is served before, and the cluster's own certificate after."""
    own_names = f"DNS:{cluster.NODE},IP:{cluster.node_address()}"
    cluster.on_node("rm", "-f", f"{PKI}/kubelet-server-current.pem")
    configure("serverTLSBootstrap: true\n")
    wait_for(requests, "the kubelet's request")
    own = list(requests())
    assert finding_codes() >= {"not_signed"}
    ask("forged-address", f"{own_names},IP:{NOT_THE_NODES}", "/etc/kubernetes/kubelet.conf")
    ask("forged-name", "DNS:kubernetes.default.svc", "/etc/kubernetes/kubelet.conf")
    ask("not-a-kubelet", own_names, "/etc/kubernetes/admin.conf")

    shown = rotate("--check", **NOTHING)
    assert all(f"approve {name}: node {cluster.NODE} asks for its own names" in shown for name in own)
    assert {name: conditions(name) for name in requests()} == {name: [] for name in requests()}

    done = rotate(**NOTHING)
    assert all(f"approve {name}: node {cluster.NODE} asks for its own names; its certificate is valid until" in done for name in own)
    assert (
        f"leave forged-address of system:node:{cluster.NODE}: it asks for IP:{NOT_THE_NODES}, which Node {cluster.NODE} does not have"
        in done
    )
    assert f"leave forged-name of system:node:{cluster.NODE}: it asks for DNS:kubernetes.default.svc" in done
    assert "leave not-a-kubelet of kubernetes-admin: kubernetes-admin asks for it, who is no kubelet" in done
    assert {name: conditions(name) for name in ("forged-address", "forged-name", "not-a-kubelet")} == {
        "forged-address": [],
        "forged-name": [],
        "not-a-kubelet": [],
    }
    assert all(conditions(name) == ["Approved"] for name in own)
    wait_for(lambda: "BEGIN" in served(), "a certificate on 10250")
    assert re.search(r"CN ?= ?kubernetes\b", said_of(served(), "-issuer"))
    assert served() == on_disk(f"{PKI}/kubelet-server-current.pem")
    assert_logs_and_exec()

    again = cluster.module("kubelet_serving_approval", {"nodes": [cluster.NODE]})
    assert (again["changed"], again["approved"]) == (False, [])
    assert {one["request"] for one in again["left_alone"]} == {"forged-address", "forged-name", "not-a-kubelet"}
