# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rotation leaves behind, seen with openssl, kubeadm and kubectl."""

from __future__ import annotations

import json
import re

import cluster
import observe
import pytest

ONE_YEAR_DAYS = 365
LEAVES = {
    "apiserver.crt": "ca.crt",
    "apiserver-kubelet-client.crt": "ca.crt",
    "apiserver-etcd-client.crt": "etcd/ca.crt",
    "front-proxy-client.crt": "front-proxy-ca.crt",
    "etcd/server.crt": "etcd/ca.crt",
    "etcd/peer.crt": "etcd/ca.crt",
    "etcd/healthcheck-client.crt": "etcd/ca.crt",
}
KUBECONFIGS = ("admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf")
SERVED = {6443: "apiserver.crt", 2379: "etcd/server.crt", 2380: "etcd/peer.crt"}


def openssl(*argv: str, stdin: str | None = None) -> str:
    """Standard output of the node's openssl."""
    return cluster.on_node("openssl", *argv, stdin=stdin)


def test_kubeadm_sees_a_year_ahead_everywhere() -> None:
    """`kubeadm certs check-expiration` knows all ten items, and each has its year."""
    seen = json.loads(cluster.on_node("kubeadm", "certs", "check-expiration", "-o", "json"))
    residual = {item["name"]: item["residualTime"] / 86400 for item in seen["certificates"] if not item.get("missing")}
    assert len(residual) >= len(LEAVES) + len(KUBECONFIGS)
    assert {name: days for name, days in residual.items() if not ONE_YEAR_DAYS - 1 < days <= ONE_YEAR_DAYS} == {}


@pytest.mark.parametrize(("leaf", "ca"), LEAVES.items())
def test_each_pair_matches_and_verifies(leaf: str, ca: str) -> None:
    """The certificate has its key's public half, and openssl verifies it under its CA."""
    pki = "/etc/kubernetes/pki"
    key = openssl("pkey", "-in", f"{pki}/{leaf[:-4]}.key", "-pubout")
    assert openssl("x509", "-in", f"{pki}/{leaf}", "-noout", "-pubkey") == key
    assert "OK" in openssl("verify", "-CAfile", f"{pki}/{ca}", f"{pki}/{leaf}")
    assert cluster.on_node("stat", "-c", "%a %U:%G", f"{pki}/{leaf[:-4]}.key").split() == ["600", "root:root"]


def test_nothing_is_found_on_a_node_of_kubeadm() -> None:
    """No false alarm about what it made, and what was renewed after it."""
    report = cluster.newest_report("rotate")
    found = {(record["name"], finding["code"]) for record in report["records"] for finding in record["findings"]}
    assert found == set()
    assert report["problems"] == []


def test_the_copy_of_admin_conf_is_valid() -> None:
    """The API server takes it for the administrator's, and it is no other file than before: who may read it is the same."""
    assert "kubernetes-admin" in cluster.kubectl("auth", "whoami", "-o", "json", config="/root/.kube/config")
    assert cluster.on_node("cmp", "/root/.kube/config", "/etc/kubernetes/admin.conf") == ""
    assert cluster.on_node("stat", "-c", "%a", "/root/.kube/config").strip() == "640"


@pytest.mark.parametrize(("port", "leaf"), SERVED.items())
def test_each_port_serves_what_lies_on_disk(port: int, leaf: str) -> None:
    """A handshake on the node's own address."""
    shown = cluster.on_node(
        "sh", "-c", f"openssl s_client -connect {cluster.node_address()}:{port} </dev/null 2>/dev/null | openssl x509 -noout -serial"
    )
    assert shown == openssl("x509", "-in", f"/etc/kubernetes/pki/{leaf}", "-noout", "-serial")


@pytest.mark.parametrize("config", KUBECONFIGS)
def test_each_kubeconfig_is_let_in_with_its_new_certificate(config: str) -> None:
    """The API server shows the certificate's fingerprint as the credential's id."""
    path = f"/etc/kubernetes/{config}"
    review = json.loads(cluster.kubectl("auth", "whoami", "-o", "json", config=path))
    data = re.search(r"client-certificate-data: (\S+)", cluster.on_node("cat", path))
    assert data
    der = cluster.on_node("sh", "-c", "base64 -d | openssl x509 -outform DER | sha256sum | cut -d' ' -f1", stdin=data[1])
    assert review["status"]["userInfo"]["extra"]["authentication.kubernetes.io/credential-id"] == [f"X509SHA256={der.strip()}"]


def test_the_old_admin_conf_still_works() -> None:
    """Nobody is locked out who has a copy from before: the CA is the same."""
    old = (cluster.STATE / "admin.conf").read_text()
    assert old != cluster.on_node("cat", "/etc/kubernetes/admin.conf")
    cluster.on_node("sh", "-c", "umask 077; cat >/run/old-admin.conf", stdin=old)
    assert "namespace/default" in cluster.kubectl("get", "namespace", "default", "-o", "name", config="/run/old-admin.conf")


def test_only_what_does_not_reload_was_restarted() -> None:
    """The API server and etcd are the same processes as before; the others are new ones."""
    before, after = json.loads((cluster.STATE / "processes.json").read_text()), observe.processes()
    same = {name for name in before if before[name] == after[name]}
    assert same == {"kube-apiserver", "etcd"}
    assert all(after.values())


def test_the_new_processes_have_the_new_files() -> None:
    """The inode behind the single-file mount is the host's."""
    for component, config in (("kube-controller-manager", "controller-manager.conf"), ("kube-scheduler", "scheduler.conf")):
        pid = cluster.on_node("pgrep", "-x", component[:15]).strip()
        host = cluster.on_node("stat", "-c", "%d:%i", f"/etc/kubernetes/{config}")
        assert cluster.on_node("stat", "-L", "-c", "%d:%i", f"/proc/{pid}/root/etc/kubernetes/{config}") == host


def test_the_lock_of_the_cluster_is_let_go() -> None:
    """Nobody has to wait for it to end."""
    leases = cluster.kubectl("get", "leases", "-n", "kube-system", "-o", "name").split()
    assert "lease.coordination.k8s.io/kube-scheduler" in leases
    assert "lease.coordination.k8s.io/certops-rotation" not in leases


def test_nothing_is_left_in_the_manifests_folder_or_beside_the_files() -> None:
    """Backups and temporary files lie elsewhere."""
    assert cluster.on_node("find", "/etc/kubernetes", "-name", ".*", "-type", "f", "-o", "-name", "*~", "-o", "-name", "*.bak") == ""
    assert cluster.on_node("stat", "-c", "%a", "/var/lib/certops").strip() == "700"


def test_the_report_tells_the_same() -> None:
    """Time away of the two restarted components, in seconds, and who was left alone."""
    reports = [report for report in all_rotations() if report["results"]]
    assert reports, "no report of a run that changed something"
    text = json.dumps(reports[0]["results"])
    assert "away_seconds" in text
    assert "kube-controller-manager" in text


def all_rotations() -> list[dict[str, object]]:
    """Each JSON report of the rotate playbook."""
    reports = [json.loads(path.read_text()) for path in cluster.REPORTS.rglob("*.json")]
    return [report for report in reports if report["run"]["playbook"] == "rotate"]
