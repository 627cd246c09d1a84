# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kubeconfigs on hosts outside of the cluster: whose they are, what is due of them, and who may sign it."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._elsewhere_records import believed
from ansible_collections.certops.kubernetes.plugins.module_utils._order import rotation_order
from ansible_collections.certops.kubernetes.plugins.module_utils._plan import rotation_plan
from ansible_collections.certops.kubernetes.plugins.module_utils._policy import OPTIONS, policy
from ansible_collections.certops.kubernetes.plugins.module_utils._report import plan_lines
from ansible_collections.certops.kubernetes.plugins.module_utils._summary import certificate_records
from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import authority, record

BLUE, GREEN = "c" * 64, "9" * 64
NAME = "/home/jane/.kube/config#admin"
ADMIN = {"source": "kubeconfig", "usage": "client", "subject": "O=kubeadm:cluster-admins,CN=kubernetes-admin", "component": "user"}


def original(days: int = 300, begins: str = "2026-01-01", **values: t.Any) -> dict[str, t.Any]:
    """admin.conf of a control-plane node."""
    fixed = {**ADMIN, "path": "/etc/kubernetes/admin.conf", "not_before": "%sT00:00:00Z" % begins, "fingerprint_sha256": "1" * 64}
    return record("admin.conf", days, **{**fixed, **values})


def user(days: int = 300, begins: str = "2026-01-01", **values: t.Any) -> dict[str, t.Any]:
    """As `certificate_info` tells of a user in a kubeconfig on a host where there is no CA."""
    fixed = {
        **ADMIN,
        "path": NAME.partition("#")[0],
        "not_before": "%sT00:00:00Z" % begins,
        "fingerprint_sha256": "1" * 64,
        "cluster": None,
        "ca": None,
        "renewable": False,
        "externally_managed": True,
        "issuer": "CN=kubernetes",
        "node": None,
    }
    return record(values.pop("name", NAME), days, **{**fixed, **values})


def inspections(
    one: dict[str, t.Any], *nodes: list[dict[str, t.Any]], ca: str | None = BLUE, signs: t.Sequence[str] = ("ca",)
) -> dict[str, dict[str, t.Any]]:
    """What `certificate_info` returned: the bastion before the control-plane nodes cp1, cp2 …"""
    found: dict[str, dict[str, t.Any]] = {"bastion": {"certificates": [one], "node": {"issued_by": {one["name"]: ca} if ca else {}}}}
    for number, records in enumerate(nodes, 1):
        found["cp%d" % number] = {"certificates": [authority(), *records], "node": {"signs": list(signs)}}
    return found


def judged(results: dict[str, dict[str, t.Any]], **values: t.Any) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    """The bastion's record after the comparison, and its plan entry."""
    records = certificate_records(results)
    (found,) = [one for one in records if one["host"] == "bastion"]
    names = [name for name in OPTIONS if name.startswith("certs_rotate_")]
    made = rotation_plan(
        records,
        policy({name: values.get(name[len("certs_rotate_") :], "") for name in names}),
        {host: result["node"] for host, result in results.items()},
    )
    (entry,) = [one for one in made if one["host"] == "bastion"]
    return found, entry


def codes(found: dict[str, t.Any]) -> list[str]:
    """Codes of its findings."""
    return [finding["code"] for finding in found["findings"]]


def test_what_is_due_is_signed_where_the_original_and_the_key_of_its_ca_are() -> None:
    results = inspections(user(10), [], [original()])
    found, entry = judged(results)
    assert (entry["action"], entry["code"], entry["signed_by"], entry["ends_after"]) == ("renew", "due", "cp2", 365)
    assert found["cluster"] == "kubernetes"
    assert plan_lines([entry]) == [
        "bastion: renew %s: 10 days left, less than 30 days; the new one has 365 days; signed on cp2, which has the key of its CA" % NAME
    ]
    assert judged(inspections(user(300), [original()]))[1]["action"] == "none"
    assert judged(inspections(user(300), [original()]), force="true")[1]["action"] == "renew"


def test_a_copy_of_what_was_renewed() -> None:
    """It is found, and due whatever its age; with several control planes only if it is older than each one's."""
    renewed = original(begins="2026-06-01", fingerprint_sha256="2" * 64)
    found, entry = judged(inspections(user(300), [renewed]))
    assert (codes(found), found["status"]) == (["stale_copy"], "warning")
    assert "is a copy of /etc/kubernetes/admin.conf on cp1 from before that was renewed" in found["findings"][0]["message"]
    assert (entry["action"], entry["code"]) == ("renew", "stale_copy")
    assert entry["reason"] == "its original was renewed since it was made"
    assert judged(inspections(user(300), [renewed], [original()]))[1]["action"] == "none", "it may be of the other one"
    of_its_own = user(300, begins="2026-07-01", fingerprint_sha256="3" * 64)
    found, entry = judged(inspections(of_its_own, [renewed]))
    assert (codes(found), entry["action"]) == ([], "none"), "renewed since, with another key: nothing more is due"


@pytest.mark.parametrize("ca", [BLUE, GREEN])
def test_a_name_forges_no_finding(ca: str) -> None:
    """It is as the file's owner wants it."""
    one = user(300, name="/home/jane/.kube/config#x\nok: all is well")
    found, _entry = judged(inspections(one, [original(begins="2026-06-01", fingerprint_sha256="2" * 64)], ca=ca))
    (finding,) = found["findings"]
    assert finding["code"] == ("stale_copy" if ca == BLUE else "foreign_copy")
    assert "\n" not in finding["message"]


def test_a_copy_of_what_is_going_to_be_renewed() -> None:
    """In the same run: the next one has nothing to do."""
    _found, entry = judged(inspections(user(31), [original(29)]))
    assert (entry["action"], entry["reason"]) == ("renew", "its original is renewed, too")


def test_hosts_outside_of_the_cluster_follow_in_the_order_of_the_plan() -> None:
    results = inspections(user(10), [original(10)])
    nodes = {host: result["node"] for host, result in results.items()}
    names = [name for name in OPTIONS if name.startswith("certs_rotate_")]
    plan = rotation_plan(certificate_records(results), policy(dict.fromkeys(names, "")), nodes)
    assert rotation_order(list(reversed(plan)), nodes) == ["cp1", "bastion"]


def test_what_another_clusters_ca_signed_is_left_alone() -> None:
    finding = {"code": "expired", "severity": "critical", "message": "", "remedy": "Renew it."}
    found, entry = judged(inspections(user(-5, status="expired", findings=[finding]), [original()], ca=GREEN))
    assert [(one["code"], one["severity"]) for one in found["findings"]] == [("expired", "warning"), ("foreign_copy", "info")]
    assert (entry["action"], entry["signed_by"]) == ("report", None)
    assert entry["reason"] == "expired 5 days ago; not renewed: no CA of a node of this run signed it"


@pytest.mark.parametrize(
    ("results", "because"),
    [
        (
            inspections(user(10), [original(subject="CN=other")]),
            "no kubeconfig of a control-plane node is for O=kubeadm:cluster-admins,CN=",
        ),
        (inspections(user(10, externally_managed=False), [original()]), "it does not hold the key of its certificate"),
        (inspections(user(10), [original()], signs=()), "the key of its CA is on no control-plane node of this run that has its original"),
        (
            inspections(user(10), [original(), authority(name="ca[2]", fingerprint_sha256=GREEN)], ca=GREEN),
            "the key of its CA is on no control-plane node of this run that has its original",
        ),
        (inspections(user(10), [original()], ca=None), "no CA in its kubeconfig signed it"),
        (inspections(user(10)), "no control-plane node of this run tells whose it is"),
    ],
)
def test_what_is_reported_with_the_reason(results: dict[str, dict[str, t.Any]], because: str) -> None:
    """An identity that no node has ends with its certificate; nothing else takes it back."""
    found, entry = judged(results)
    assert (entry["action"], entry["signed_by"]) == ("report", None)
    assert entry["reason"].startswith("10 days left, less than 30 days; not renewed: %s" % because)
    assert not found["externally_managed"]


def test_a_host_of_etcd_is_no_host_outside() -> None:
    """It has no CA of the cluster either, but its turn is another one."""
    results = inspections(user(10), [original()])
    results["bastion"]["certificates"].append(record("etcd/server", 300, component="etcd", ca="etcd/ca"))
    records = certificate_records(results)
    names = [name for name in OPTIONS if name.startswith("certs_rotate_")]
    plan = rotation_plan(records, policy(dict.fromkeys(names, "")), {host: result["node"] for host, result in results.items()})
    assert [one["action"] for one in plan if one["name"] == NAME] == ["report"]


def test_what_such_a_host_claims_to_have_is_not_believed() -> None:
    claims: dict[str, t.Any] = {"signs": ["ca"], "leads": ["kube-scheduler"], "signing_seconds": 60, "certificate_validity_seconds": 60}
    claims["kubelet_to_ask"] = "kubelet-client"
    node = {**claims, "kubelet_settings": {"kubelet:rotateCertificates": {}}, "issued_by": {NAME: BLUE}, "unfinished_run": None}
    result = believed({"certificates": [authority(), user(10), original()], "node": node, "problems": []})
    assert [one["name"] for one in result["certificates"]] == [NAME]
    assert (result["node"]["issued_by"], result["problems"]) == ({NAME: BLUE}, [])
    assert not any(result["node"][claim] for claim in (*claims, "kubelet_settings"))


def test_the_kubelets_own_identity_is_none_of_a_person() -> None:
    kubelet = original(component="kubelet")
    assert judged(inspections(user(10), [{**kubelet, "name": "kubelet.conf"}]))[1]["action"] == "report"


def test_a_node_that_looks_at_kubeconfigs_itself_is_not_judged_twice() -> None:
    copy = user(10, name="/root/.kube/config#admin", ca="ca", externally_managed=False, cluster="kubernetes")
    results = {"cp1": {"certificates": [authority(), original(), copy], "node": {"signs": ["ca"]}}}
    assert certificate_records(results)[2] == {**copy, "host": "cp1"}
