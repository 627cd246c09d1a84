# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After the rotation, seen with tools that are not the collection's: openssl, curl, ps, stat."""

from __future__ import annotations

import base64
import json
import re
import typing as t

import node
import pytest

YEAR_ALMOST = str(360 * 86400)


def public_key(*argv: str) -> str:
    """What openssl prints as a public key."""
    return node.run("openssl", *argv).stdout


@pytest.mark.parametrize(("pair", "ca"), node.PAIRS.items())
def test_pair_is_renewed(pair: str, ca: str) -> None:
    """Another certificate, valid for a year, of the same CA, that matches its key; modes as before."""
    pki = node.path("/etc/kubernetes/pki")
    certificate, key = pki / f"{pair}.crt", pki / f"{pair}.key"
    node.run("openssl", "x509", "-checkend", YEAR_ALMOST, "-noout", "-in", str(certificate))
    node.run("openssl", "verify", "-x509_strict", "-CAfile", str(pki / f"{ca}.crt"), str(certificate))
    assert public_key("x509", "-pubkey", "-noout", "-in", str(certificate)) == public_key("pkey", "-pubout", "-in", str(key))
    assert (certificate.stat().st_mode & 0o777, key.stat().st_mode & 0o777) == (0o644, 0o600)
    before = node.recall("snapshot.json")
    for path in (f"/etc/kubernetes/pki/{pair}.crt", f"/etc/kubernetes/pki/{pair}.key"):
        assert node.snapshot_of(path)[2:5] == before[path][2:5], "mode and owner"
        assert node.snapshot_of(path)[5] != before[path][5], "content"


@pytest.mark.parametrize("config", node.KUBECONFIGS)
def test_kubeconfig_is_renewed_and_every_other_byte_kept(config: str) -> None:
    """Two scalars differ and nothing else."""
    before, after = node.recall("kubeconfigs.json")[config], node.path(f"/etc/kubernetes/{config}").read_text()
    scalars = re.compile(r"(client-(?:certificate|key)-data: )(\S+)")
    assert scalars.sub(r"\1", before) == scalars.sub(r"\1", after)
    assert all(old != new for old, new in zip(scalars.findall(before), scalars.findall(after)))
    certificate = base64.b64decode(dict(scalars.findall(after))["client-certificate-data: "]).decode()
    seen = node.STATE / "kubeconfig.crt"
    seen.write_text(certificate)
    node.run("openssl", "x509", "-checkend", YEAR_ALMOST, "-noout", "-in", str(seen))
    node.run("openssl", "verify", "-x509_strict", "-CAfile", str(node.path("/etc/kubernetes/pki/ca.crt")), str(seen))
    assert node.path(f"/etc/kubernetes/{config}").stat().st_mode & 0o777 == 0o600


def test_nothing_else_changed() -> None:
    """CAs, service-account keys, the kubelet's own files, manifests: content, time, inode; and no file is left over."""
    before, after = node.recall("snapshot.json"), node.snapshot()
    renewed = {f"/etc/kubernetes/pki/{pair}.{end}" for pair in node.PAIRS for end in ("crt", "key")}
    renewed |= {f"/etc/kubernetes/{config}" for config in node.KUBECONFIGS}
    renewed |= {
        f"{node.KUBELET_CLIENT}-current.pem",
        *(name for name in after.keys() - before.keys() if name.startswith(node.KUBELET_CLIENT)),
    }
    assert len(renewed) == 2 * len(node.PAIRS) + len(node.KUBECONFIGS) + 2
    folders = {"/etc/kubernetes", "/etc/kubernetes/pki", "/etc/kubernetes/pki/etcd", "/var/lib", "/var/lib/kubelet/pki"}
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name) and not name.startswith("/var/lib/certops")}
    assert changed == renewed | folders


@pytest.mark.parametrize(("pair", "port"), [("apiserver", 6443), ("etcd/server", 2379), ("etcd/peer", 2380)])
def test_ports_serve_what_lies_on_disk(pair: str, port: int) -> None:
    """By fingerprint."""
    script = "openssl s_client -connect $0 </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256"
    served = node.on_node("sh", "-c", script, f"{node.ADDRESS}:{port}")
    on_disk = node.run("openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", str(node.path(f"/etc/kubernetes/pki/{pair}.crt")))
    assert served == on_disk.stdout != ""


def test_only_what_does_not_reload_was_restarted() -> None:
    """The controller-manager, the scheduler and the kubelet; the decoy is untouched."""
    before, after = node.recall("processes.json"), node.processes()
    assert {name for name in before if before[name] != after[name]} == {"kube-controller-manager", "kube-scheduler", "kubelet"}
    assert node.on_node("ps", "-o", "comm=", "-p", str(node.recall("decoy.json"))).strip() == "kube-controller"


@pytest.mark.parametrize(
    ("component", "config"), [("kube-controller-manager", "controller-manager.conf"), ("kube-scheduler", "scheduler.conf")]
)
def test_restarted_processes_see_the_new_file(component: str, config: str) -> None:
    """The inode behind their mount is the file's."""
    paths = [f"/etc/kubernetes/{config}", f"/proc/{node.processes()[component]}/root/etc/kubernetes/{config}"]
    mine, theirs = node.on_node("stat", "-L", "-c", "%d:%i", *paths).split()
    assert mine == theirs


def test_the_kubelet_has_another_client_certificate() -> None:
    """Behind its link, signed by the cluster, the same node's, in a file for root alone."""
    leads = node.on_node("readlink", f"{node.KUBELET_CLIENT}-current.pem").strip()
    assert leads not in node.recall("snapshot.json")
    seen = node.path(leads)
    node.run("openssl", "x509", "-checkend", YEAR_ALMOST, "-noout", "-in", str(seen))
    node.run("openssl", "verify", "-CAfile", str(node.path("/etc/kubernetes/pki/ca.crt")), str(seen))
    assert "CN = system:node:sandbox" in node.run("openssl", "x509", "-subject", "-noout", "-nameopt", "space_eq", "-in", str(seen)).stdout
    assert public_key("x509", "-pubkey", "-noout", "-in", str(seen)) == public_key("pkey", "-pubout", "-in", str(seen))
    assert seen.stat().st_mode & 0o777 == 0o600


def test_everybody_is_let_in_and_leads() -> None:
    """The new credentials work, each on its way."""
    url = f"https://{node.ADDRESS}:6443"
    leases = url + "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    assert node.ask("admin.conf", url + "/api/v1/namespaces/default") == 200
    assert node.ask("super-admin.conf", url + "/readyz/etcd") == 200
    assert node.ask("admin.conf", url + "/api/v1/nodes/sandbox/proxy/healthz") == 200
    assert node.ask("controller-manager.conf", leases + "/kube-controller-manager") == 200
    assert node.ask("scheduler.conf", leases + "/kube-scheduler") == 200


def test_the_lock_of_the_cluster_is_let_go() -> None:
    """Nobody has to wait for it to end."""
    lock = f"https://{node.ADDRESS}:6443/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/certops-rotation"
    assert node.ask("admin.conf", lock) == 404


def test_the_run_is_kept_for_root_alone() -> None:
    """Journal, backups, modes."""
    kept = node.path("/var/lib/certops")
    assert kept.stat().st_mode & 0o777 == 0o700
    assert [str(entry) for entry in kept.rglob("*") if entry.stat().st_mode & 0o077] == []
    assert node.newest_journal()["state"] == "committed"
    before = node.recall("kubeconfigs.json")["admin.conf"]
    backups = [entry for entry in kept.rglob("admin.conf") if entry.is_file()]
    assert before in [entry.read_text() for entry in backups]


def test_the_second_run_had_nothing_to_do() -> None:
    """The idempotence step came last, and reported no change."""
    report: dict[str, t.Any] = node.newest_report("rotate")
    assert [entry["name"] for entry in report["plan"] if entry["action"] in ("renew", "activate")] == []
    assert not any(json.loads(json.dumps(result)).get("changed") for result in report["results"].values())
