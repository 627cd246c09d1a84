# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kubeconfigs on nodes that have no original: compared with the control plane of their own cluster, and with nothing else."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._order import rotation_order
from ansible_collections.certops.kubernetes.plugins.module_utils._plan import rotation_items, rotation_plan
from ansible_collections.certops.kubernetes.plugins.module_utils._policy import OPTIONS, policy
from ansible_collections.certops.kubernetes.plugins.module_utils._summary import certificate_records
from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import authority, record

BLUE, GREEN = "c" * 64, "9" * 64
NAME = "/root/.kube/config#admin"
ADMIN = {"source": "kubeconfig", "usage": "client", "subject": "O=kubeadm:cluster-admins,CN=kubernetes-admin", "component": "user"}
Results = t.Dict[str, t.Dict[str, t.Any]]


def control_plane(begins: str = "2026-06-01", ca: str = BLUE, serial: str = "2", days: int = 300) -> dict[str, t.Any]:
    """What `certificate_info` returns on a node with admin.conf and the key of its CA."""
    made = {"path": "/etc/kubernetes/admin.conf", "not_before": "%sT00:00:00Z" % begins, "fingerprint_sha256": serial * 64}
    admin = record("admin.conf", days, **{**ADMIN, **made})
    return {"certificates": [authority(fingerprint_sha256=ca), admin], "node": {"signs": ["ca"]}}


def worker(ca: str = BLUE, own: t.Sequence[dict[str, t.Any]] = (), days: int = 300, **values: t.Any) -> dict[str, t.Any]:
    """What it returns on a worker with a copy that was made in January."""
    made = {"path": "/root/.kube/config", "not_before": "2026-01-01T00:00:00Z", "fingerprint_sha256": "1" * 64, "externally_managed": True}
    told = {"not_renewable_because": "this node has no kubeconfig that it can be a copy of", "renewable": False}
    copy = record(NAME, days, **{**ADMIN, **made, **told, **values})
    kubelet = [record("kubelet-client", component="kubelet"), authority(component="kubelet", fingerprint_sha256=ca)]
    return {"certificates": [*(own or kubelet), copy], "node": {"signs": [], "issued_by": {NAME: ca}}}


def judged(results: Results, **values: t.Any) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    """The copy's record on the worker after the comparison, and its plan entry."""
    records = certificate_records(results)
    (found,) = [one for one in records if (one["host"], one["name"]) == ("worker", NAME)]
    names = [name for name in OPTIONS if name.startswith("certs_rotate_")]
    asked = policy({name: values.get(name[len("certs_rotate_") :], "") for name in names})
    made = rotation_plan(records, asked, {host: result["node"] for host, result in results.items()})
    (entry,) = [one for one in made if (one["host"], one["name"]) == ("worker", NAME)]
    return found, entry


def codes(found: dict[str, t.Any]) -> list[str]:
    """Codes of its findings."""
    return [finding["code"] for finding in found["findings"]]


def test_a_stale_copy_is_found_and_signed_where_its_original_is() -> None:
    """It is renewed by a request, and not with an original that the node has not."""
    found, entry = judged({"worker": worker(), "cp": control_plane()})
    (finding,) = found["findings"]
    assert (finding["code"], found["status"]) == ("stale_copy", "warning")
    assert "is a copy of /etc/kubernetes/admin.conf on cp from before that was renewed" in finding["message"]
    assert finding["remedy"].startswith("certops.kubernetes.rotate renews it")
    assert (entry["action"], entry["code"], entry["signed_by"]) == ("renew", "stale_copy", "cp")
    assert judged({"worker": worker(), "cp": control_plane()}, select="[?name=='kubelet-client']")[1]["action"] == "none"


def test_one_that_is_up_to_date_has_no_finding() -> None:
    """Nor is it due, until its original is or itself."""
    found, entry = judged({"worker": worker(), "cp": control_plane("2026-01-01", serial="1")})
    assert (codes(found), found["status"], entry["action"]) == ([], "ok", "none")
    _found, entry = judged({"worker": worker(days=31), "cp": control_plane("2026-01-01", serial="1", days=29)})
    assert (entry["action"], entry["reason"]) == ("renew", "its original is renewed, too")
    assert judged({"worker": worker(days=10), "cp": control_plane()})[1]["code"] == "due"
    of_its_own = worker(not_before="2026-07-01T00:00:00Z", fingerprint_sha256="3" * 64)
    assert codes(judged({"worker": of_its_own, "cp": control_plane()})[0]) == []


def test_where_the_key_of_the_ca_is_nowhere_it_is_told_and_nothing_done() -> None:
    control = control_plane()
    control["node"]["signs"] = []
    found, entry = judged({"worker": worker(), "cp": control})
    assert codes(found) == ["stale_copy"]
    assert (entry["action"], entry["signed_by"]) == ("report", None)


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"cp-green": control_plane(ca=GREEN)},
        {"worker2": worker()},
        {"signer": {"certificates": [authority(component="kubelet")], "node": {"signs": ["ca"]}}},
    ],
    ids=["alone", "another cluster", "a worker beside it", "somebody with the key and no original"],
)
def test_without_its_own_control_plane_nothing_is_said(others: Results) -> None:
    """Neither whose it is nor whose it is not, and nobody signs it."""
    alone = worker(days=10)
    found, entry = judged({"worker": alone, **others})
    assert found == {**alone["certificates"][-1], "host": "worker", "externally_managed": False}
    assert (entry["action"], entry["signed_by"]) == ("report", None)
    assert entry["reason"].endswith("not renewed: this node has no kubeconfig that it can be a copy of")


def test_each_worker_is_compared_with_its_own_cluster() -> None:
    """Of several in one inventory."""
    blue, green = control_plane("2026-01-01", serial="1"), control_plane(ca=GREEN)
    assert codes(judged({"worker": worker(), "cp-green": green, "cp": blue})[0]) == []
    found, entry = judged({"cp": blue, "worker": worker(ca=GREEN), "cp-green": green})
    assert (codes(found), entry["signed_by"]) == (["stale_copy"], "cp-green")


def test_a_worker_where_nothing_else_is_due_follows_after_all_nodes() -> None:
    """Also after one that leads the cluster; a plan's items for the node are without it."""
    results: Results = {"worker": worker(), "cp": control_plane(days=10)}
    results["cp"]["node"]["leads"] = ["kube-controller-manager"]
    asked = policy({name: "" for name in OPTIONS if name.startswith("certs_rotate_")})
    nodes = {host: result["node"] for host, result in results.items()}
    plan = rotation_plan(certificate_records(results), asked, nodes)
    assert rotation_order(plan, nodes) == ["cp", "worker"]
    assert rotation_items(plan, "worker") == []
    assert [item["name"] for item in rotation_items(plan, "cp")] == ["admin.conf"]


@pytest.mark.parametrize(("address", "actions"), [("192.0.2.7", ["none", "renew"]), ("192.0.2.8", ["renew", "renew"])])
def test_a_worker_with_a_second_name_is_renewed_under_that(address: str, actions: list[str]) -> None:
    """Two names of one machine are no two runs in one folder."""
    files = worker(cluster=None, ca=BLUE)
    files["certificates"] = [dict(files["certificates"][-1], ca=None)]
    results: Results = {"worker": worker(), "files": files, "cp": control_plane()}
    results["worker"]["node"]["address"], results["files"]["node"]["address"] = "192.0.2.7", address
    records = certificate_records(results)
    asked = policy({name: "" for name in OPTIONS if name.startswith("certs_rotate_")})
    plan = rotation_plan(records, asked, {host: result["node"] for host, result in results.items()})
    found = {entry["host"]: entry for entry in plan if entry["name"] == NAME}
    assert [found[host]["action"] for host in ("worker", "files")] == actions
    assert ("files" in found["worker"]["reason"], found["worker"]["apart"]) == (actions[0] == "none", actions[0] == "renew")


def test_what_the_worker_has_found_foreign_stays_so() -> None:
    """Even where the run has the nodes of that other cluster."""
    foreign = {"code": "foreign_copy", "severity": "info", "message": "", "remedy": ""}
    other = worker(ca=BLUE, findings=[foreign], externally_managed=False)
    other["certificates"][-1]["ca"] = None
    other["node"]["issued_by"] = {NAME: GREEN}
    found, entry = judged({"worker": other, "cp": control_plane(), "cp-green": control_plane(ca=GREEN)})
    assert (codes(found), entry["action"]) == (["foreign_copy"], "none")


@pytest.mark.parametrize(("issuer", "expected"), [(BLUE, ["stale_copy"]), ("8" * 64, ["foreign_copy"])])
def test_a_host_of_etcd_is_known_by_the_ca_of_etcd(issuer: str, expected: list[str]) -> None:
    """It has not the CA of the cluster: the kubeconfig names it."""
    etcd: dict[str, t.Any] = {"name": "etcd/ca", "fingerprint_sha256": "e" * 64}
    host = worker(own=[record("etcd/server", component="etcd"), authority(component="etcd", **etcd)], ca=issuer)
    host["certificates"][-1]["ca"] = None
    control = control_plane()
    control["certificates"].append(authority(component="kube-apiserver", **etcd))
    found, entry = judged({"worker": host, "cp": control})
    assert codes(found) == expected
    assert entry["action"] == ("renew" if issuer == BLUE else "none")
