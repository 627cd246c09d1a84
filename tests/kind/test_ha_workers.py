# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every kubelet gets another client certificate, the workers' after the control plane's, one after the other, and pods run on.

Whether a worker's kubelet uses what lies on its disk, a control-plane node asks it. One whose certificate has expired is out, and comes
back by what the report tells.
"""

from __future__ import annotations

import json
import pathlib
import re
import typing as t
from datetime import datetime, timedelta, timezone

import cluster
import ha
import pytest
from kubeconfigs import credential_id, data_of, seen_by_api, write

WORKER, OTHER = ha.WORKERS
FILES = f"{WORKER}-files"  # its second name, for kubeconfigs whose originals are on other nodes
COPY = "/root/.kube/config"
USER = f"{COPY}#kind-{cluster.CLUSTER}"
CONF, CURRENT = "/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/pki/kubelet-client-current.pem"
SELECTED = {
    "certs_rotate_force": True,
    "certs_rotate_select": "[?name=='kubelet-client' || contains(name, '#')]",
    "certs_rotate_health_timeout_seconds": 90,
}
# Of a CA that signs for any dates, past ones too.
SETTINGS = """
[ca]
default_ca = ca
database = index
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = policy
x509_extensions = usages
[policy]
organizationName = supplied
commonName = supplied
[usages]
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
"""


def fingerprint(node: str) -> str:
    """Of the certificate that the kubelet's link leads to."""
    said = cluster.on_node("openssl", "x509", "-in", CURRENT, "-noout", "-fingerprint", "-sha256", node=node)
    return said.strip().partition("=")[2].replace(":", "").lower()


def began(node: str) -> int:
    """When the kubelet was started, in microseconds of the clock that all nodes share."""
    return int(cluster.on_node("systemctl", "show", "kubelet", "-P", "ActiveEnterTimestampMonotonic", node=node))


def client(playbook: str, node: str) -> dict[str, t.Any]:
    """What the newest report says of a kubelet's client certificate."""
    records = cluster.newest_report(playbook)["records"]
    (record,) = (record for record in records if (record["host"], record["name"]) == (node, "kubelet-client"))
    return t.cast("dict[str, t.Any]", record)


def used(playbook: str) -> tuple[str, str]:
    """Whether the worker's kubelet uses what is on its disk, by the newest report, and how that is known."""
    (reader,) = client(playbook, WORKER)["readers"]
    return reader["in_use"], reader["proof"]


def stale(playbook: str) -> list[str]:
    """The hosts whose copy is older than its original, by the newest report."""
    records = [record for record in cluster.newest_report(playbook)["records"] if record["name"] == USER]
    assert {record["host"] for record in records} == {FILES, OTHER}
    return [record["host"] for record in records for finding in record["findings"] if finding["code"] == "stale_copy"]


@pytest.fixture(name="old", scope="module")
def fixture_old() -> t.Iterator[str]:
    """The administrator's kubeconfig as it was before any rotation, on the workers."""
    server = re.search(r"server: \S+", cluster.on_node("cat", "/etc/kubernetes/admin.conf"))
    assert server
    content = re.sub(r"server: \S+", server[0], pathlib.Path(cluster.kubeconfig()).read_text())
    for node in ha.WORKERS:
        write(node, COPY, content)
    yield content
    for node in ha.WORKERS:
        cluster.on_node("rm", COPY, node=node)


@pytest.fixture(name="inventory", scope="module")
def fixture_inventory(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One worker has a second name for its copy: what is said of the nodes counts for it, too. The other is told which files to look at."""
    host, files = {"ansible_host": cluster.address(WORKER)}, {"certs_rotate_kubeconfig_copies": [COPY]}
    path = tmp_path_factory.mktemp("inventory") / "files.json"
    groups = {"kubeconfig_hosts": {"hosts": {FILES: host}}, "nodes": {"hosts": {FILES: {}, OTHER: files}}}
    path.write_text(json.dumps({"all": {"children": groups}}))
    return str(path)


def test_kubelets_and_copies_on_workers_are_renewed_and_nobody_notices(old: str, inventory: str) -> None:
    """Kubelets by the cluster's own signer, as there is no key of a CA on a worker; copies where a control-plane node has one.

    A worker has its turn when the one before is proven.
    """
    nodes = (*ha.NODES, *ha.WORKERS)
    before, containers, holders = {node: fingerprint(node) for node in nodes}, cluster.containers("app=holder"), ha.holders()
    assert cluster.on_node("find", "/etc/kubernetes", "-name", "*.key", node=WORKER) == ""
    cluster.playbook("rotate", "-i", inventory, "-e", json.dumps(SELECTED))
    assert all(fingerprint(node) != before[node] for node in nodes)
    assert (cluster.containers("app=holder"), ha.holders()) == (containers, holders)
    report = cluster.newest_report("rotate")
    for node in nodes:
        certificate, *users = report["results"][node]["certificates"]
        assert [user["name"] for user in users] == [USER] * (node == OTHER)
        print(f"{node}: kubelet {report['results'][node]['components'][0]['away_seconds']} s away")
        assert (certificate["in_use"], certificate["proof"]) == ("true", "identity")
        assert certificate["after"]["fingerprint_sha256"] == fingerprint(node)
        cluster.kubectl("wait", "--for=condition=Ready", f"node/{node}", "--timeout=30s")
    turns = ha.turns(nodes)
    assert {node for _begin, _end, node in turns[-2:]} == set(ha.WORKERS)
    assert all(ended <= begun for (_begun, ended, _node), (begun, _ended, _next) in zip(turns, turns[1:])), turns
    assert [node for _begin, _end, node in turns] == sorted(nodes, key=began)

    keys = {data_of(cluster.on_node("cat", "/etc/kubernetes/admin.conf", node=node), "key") for node in ha.NODES} | {data_of(old, "key")}
    for node, name in ((WORKER, FILES), (OTHER, OTHER)):
        content = cluster.on_node("cat", COPY, node=node)
        certificate, key = data_of(content, "certificate"), data_of(content, "key")
        assert seen_by_api(node, COPY) == ("kubernetes-admin", [credential_id(certificate)])
        assert certificate != data_of(old, "certificate")
        assert key not in keys, "made there"
        keys.add(key)
        renewed = report["results"][name]["certificates"][-1]
        assert (renewed["name"], renewed["in_use"], renewed["proof"]) == (USER, "true", "identity")


@pytest.mark.usefixtures("old")
def test_the_workers_run_is_put_back() -> None:
    """With the node's own identity, as it has no other; what was renewed under its second name in the same run stays."""
    new, content = fingerprint(WORKER), cluster.on_node("cat", COPY, node=WORKER)
    cluster.playbook("rollback", "--limit", WORKER)
    assert fingerprint(WORKER) != new
    cluster.kubectl("wait", "--for=condition=Ready", f"node/{WORKER}", "--timeout=30s")
    assert cluster.on_node("cat", COPY, node=WORKER) == content


@pytest.fixture(name="expired", scope="module")
def fixture_expired() -> dict[str, str]:
    """The other worker's kubelet has nothing but an expired certificate, and does not run. What its node ran before."""
    holders, now = ha.holders(), datetime.now(timezone.utc)
    exchange_behind_its_back(OTHER, now - timedelta(days=366), now - timedelta(days=1))
    cluster.on_node("systemctl", "restart", "kubelet", node=OTHER)
    return holders


def join_again() -> None:
    """As kubeadm join does it: the kubelet is given a token and no certificate, and gets one with it."""
    kept = "/etc/kubernetes/bootstrap-kubelet.conf"
    token = cluster.on_node("kubeadm", "--kubeconfig", "/etc/kubernetes/admin.conf", "token", "create", "--ttl", "10m").strip()
    script = f"""
    cp /etc/kubernetes/kubelet.conf {kept}
    kubectl config --kubeconfig {kept} set-credentials joining --token "$0"
    kubectl config --kubeconfig {kept} set-context --current --user joining
    systemctl stop kubelet
    rm /etc/kubernetes/kubelet.conf {CURRENT}
    systemctl start kubelet
    """
    cluster.on_node("sh", "-ec", script, token, node=WORKER)
    ha.wait_for(lambda: cluster.on_node("readlink", CURRENT, node=WORKER, check=False), 60)
    cluster.on_node("rm", kept, node=WORKER)
    cluster.kubectl("wait", "--for=condition=Ready", f"node/{WORKER}", "--timeout=60s")


@pytest.mark.usefixtures("expired")
def test_one_that_the_kubelet_has_got_itself_is_known_to_be_used() -> None:
    """The file is newer than its process. Without a control-plane node nobody can ask it."""
    join_again()
    cluster.playbook("inspect", "--limit", WORKER)
    assert used("inspect") == ("unknown", "none")
    (problem,) = cluster.newest_report("inspect")["problems"]
    assert problem["code"] == "kubelet_not_asked"
    cluster.playbook("inspect")
    assert used("inspect") == ("true", "metrics")


def exchange_behind_its_back(node: str, begins: datetime, ends: datetime) -> None:
    """Another certificate for the worker's own key, signed as by hand, in the place where its kubelet looks when it starts."""
    subject = f"/O=system:nodes/CN=system:node:{node}"
    request = cluster.on_node("openssl", "req", "-new", "-key", CURRENT, "-subj", subject, node=node)
    sign = (
        'cd $(mktemp -d); touch index; echo "$0" >settings; openssl ca -batch -notext -config settings -in /dev/stdin '
        "-cert /etc/kubernetes/pki/ca.crt -keyfile /etc/kubernetes/pki/ca.key -startdate $1 -enddate $2"
    )
    dates = (f"{when:%Y%m%d%H%M%SZ}" for when in (begins, ends))
    certificate = cluster.on_node("sh", "-ec", sign, SETTINGS, *dates, stdin=request)
    put = "umask 077; { cat; sed -n '/BEGIN .*PRIVATE/,$p' $0; } > $0.other; mv $0.other ${0%-current.pem}-by-hand.pem; "
    cluster.on_node("sh", "-c", put + "ln -sfn ${0%-current.pem}-by-hand.pem $0", CURRENT, stdin=certificate, node=node)


@pytest.mark.usefixtures("expired")
def test_one_that_was_exchanged_behind_its_back_is_found_and_the_kubelet_restarted(old: str, inventory: str) -> None:
    """The next run takes the plan's word for it, and only restarts that kubelet. The one that has expired holds nobody up."""
    led = cluster.on_node("readlink", CURRENT, node=WORKER).strip()
    now = datetime.now(timezone.utc)
    exchange_behind_its_back(WORKER, now, now + timedelta(days=200))
    put, started = fingerprint(WORKER), began(WORKER)
    write(OTHER, COPY, old)
    cluster.playbook("inspect", "-i", inventory)
    assert used("inspect") == ("false", "metrics")
    assert stale("inspect") == [OTHER]
    cluster.playbook("rotate", "-e", json.dumps({**SELECTED, "certs_rotate_force": False, "certs_rotate_renew_before_days": 1}))
    report = cluster.newest_report("rotate")
    expected = {WORKER: "activate", OTHER: "report"}
    assert {entry["host"]: entry["action"] for entry in report["plan"] if entry["action"] != "none"} == expected
    (certificate,) = report["results"][WORKER]["certificates"]
    assert (certificate["in_use"], certificate["proof"]) == ("true", "identity")
    assert used("rotate")[0] == "true"
    assert fingerprint(WORKER) == put
    assert began(WORKER) > started
    cluster.on_node("ln", "-sfn", led, CURRENT, node=WORKER)
    cluster.on_node("systemctl", "restart", "kubelet", node=WORKER)
    cluster.kubectl("wait", "--for=condition=Ready", f"node/{WORKER}", "--timeout=30s")


def test_one_that_has_expired_comes_back_by_the_way_out_that_is_told(expired: dict[str, str]) -> None:
    """The inspection and the run before have told it. What kubeadm makes by it is enough for a kubelet that runs no more."""
    record = client("inspect", OTHER)
    told = {finding["code"]: finding for finding in record["findings"]}
    assert (record["status"], record["renewable"], told["cannot_renew_itself"]["severity"]) == ("expired", False, "critical")
    (command,) = re.findall(
        r"new kubelet.conf where the CA's key is \((.*)\) and restart the kubelet", told["cannot_renew_itself"]["remedy"]
    )
    (entry,) = (entry for entry in cluster.newest_report("rotate")["plan"] if (entry["host"], entry["name"]) == (OTHER, "kubelet-client"))
    assert (entry["action"], entry["code"]) == ("report", "not_renewable")
    assert command in entry["reason"]
    assert OTHER not in cluster.newest_report("rotate")["results"]
    cluster.kubectl("wait", "--for=condition=Ready=Unknown", f"node/{OTHER}", "--timeout=60s")

    made = cluster.on_node("env", "KUBECONFIG=/etc/kubernetes/admin.conf", "sh", "-c", command)
    put, expected = fingerprint(OTHER), re.search(r"server: \S+", cluster.on_node("cat", CONF, node=OTHER))
    assert expected
    assert expected[0] in made, "the cluster's endpoint"
    cluster.on_node("sh", "-c", f"umask 077; cat >{CONF}", stdin=made, node=OTHER)
    cluster.on_node("systemctl", "restart", "kubelet", node=OTHER)
    cluster.kubectl("wait", "--for=condition=Ready", f"node/{OTHER}", "--timeout=60s")
    ha.wait_for(lambda: fingerprint(OTHER) != put, 30)
    assert ha.holders() == expired

    cluster.playbook("inspect", "--limit", OTHER)
    record = client("inspect", OTHER)
    assert (record["status"], record["renewable"], record["findings"]) == ("ok", True, [])
    # What kubeadm has made embeds a certificate, until a rotation renews that.
    left = [(one["name"], said["code"]) for one in cluster.newest_report("inspect")["records"] for said in one["findings"]]
    assert left == [("kubelet.conf", "cannot_renew_itself")]
