# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is due, and why: records and a policy in, plan out."""

from __future__ import annotations

import importlib.util
import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _selection
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._order import due_hosts, etcd_hosts, rotation_order
from ansible_collections.certops.kubernetes.plugins.module_utils._plan import (
    duration,
    rotation_items,
    rotation_plan,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._policy import OPTIONS, policy
from ansible_collections.certops.kubernetes.plugins.module_utils._report import plan_lines
from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import DAY, authority, reader, record

# Nodes have no jmespath, and need none: plans are made on the controller.
needs_jmespath = pytest.mark.skipif(
    importlib.util.find_spec("jmespath") is None, reason="jmespath is the controller's; this Python is one of nodes"
)
STALE = reader("kube-scheduler", "restart", "false")


def rotate_policy(**values: t.Any) -> dict[str, t.Any]:
    """The role's policy with some variables set."""
    names = [name for name in OPTIONS if name.startswith("certs_rotate_")]
    return policy({name: values.get(name[len("certs_rotate_") :], "") for name in names})


def entry(
    one: dict[str, t.Any], ca: dict[str, t.Any] | None = None, node: dict[str, t.Any] | None = None, **values: t.Any
) -> dict[str, t.Any]:
    """The plan's entry for one record beside its CA."""
    plan = rotation_plan([one, ca or authority()], rotate_policy(**values), {one["host"]: node or {}})
    return plan[0]


def test_a_copy_that_is_older_than_its_original_makes_its_node_due() -> None:
    finding = {"code": "stale_copy", "severity": "warning", "message": "", "remedy": ""}
    one = {**record("/root/.kube/config#admin", 200, renewable=False), "source": "kubeconfig", "findings": [finding]}
    found = entry(one)
    assert (found["action"], found["code"]) == ("copy", "stale_copy")
    assert due_hosts([found]) == [one["host"]]
    assert rotation_items([found], one["host"]) == []
    assert plan_lines([found]) == ["%s: copy /root/.kube/config#admin: its original was renewed since it was made" % one["host"]]
    (line,) = plan_lines([{**found, "name": "/root/.kube/config#x\ncp-2: renew apiserver"}])
    assert "\n" not in line, "a user in somebody's kubeconfig may have any name"


@pytest.mark.parametrize(
    ("seconds", "action", "code"),
    [
        (31 * DAY, "none", "not_due"),
        (30 * DAY, "none", "not_due"),
        (30 * DAY - 1, "renew", "due"),
        (1, "renew", "due"),
        (0, "renew", "due"),
        (-5 * DAY, "renew", "due"),
        (None, "none", "not_due"),
    ],
)
def test_what_has_fewer_days_left_is_renewed(seconds: int | None, action: str, code: str) -> None:
    """The threshold is exclusive, as `fewer than` says."""
    made = entry(record("apiserver", seconds_left=seconds))
    assert (made["action"], made["code"]) == (action, code)
    assert made["reason"]


def test_reasons_name_what_is_left_and_what_is_wanted() -> None:
    """A person reads them."""
    assert entry(record("apiserver", 10))["reason"] == "10 days left, less than 30 days"
    assert entry(record("apiserver", -2))["reason"] == "expired 2 days ago"
    assert entry(record("apiserver", 200))["reason"] == "200 days left"


def test_the_threshold_is_a_variable() -> None:
    """Certificates of a hundred days are due when a hundred and one are wanted."""
    assert entry(record("apiserver", 100), renew_before_days="101")["action"] == "renew"
    assert entry(record("apiserver", 100), renew_before_days=0)["action"] == "none"


@pytest.mark.parametrize(
    ("values", "ca_days", "node", "action", "code"),
    [
        ({}, 3000, {}, "renew", "due"),
        ({"validity_days": 20}, 3000, {}, "report", "validity_below_threshold"),
        ({"validity_days": 30}, 3000, {}, "report", "validity_below_threshold"),
        ({"validity_days": 31}, 3000, {}, "renew", "due"),
        ({}, 3000, {"certificate_validity_seconds": 240}, "report", "validity_below_threshold"),
        ({}, 3000, {"certificate_validity_seconds": 100 * DAY}, "renew", "due"),
        ({"validity_days": 90}, 3000, {"certificate_validity_seconds": 240}, "renew", "due"),
        ({}, 25, {}, "report", "ca_ends_first"),
        ({}, 30, {}, "report", "ca_ends_first"),
        ({}, 31, {}, "renew", "due"),
        ({}, -1, {}, "report", "ca_ends_first"),
        ({"force": "true", "validity_days": 20}, 3000, {}, "renew", "forced"),
        ({"force": "true"}, 25, {}, "renew", "forced"),
        ({"force": "true"}, -1, {}, "report", "ca_ends_first"),
    ],
)
def test_what_would_be_due_again_at_once_is_reported(
    values: dict[str, t.Any], ca_days: int, node: dict[str, t.Any], action: str, code: str
) -> None:
    """Neither a validity below the threshold nor a CA that ends first gives an endless renewal; force goes on, but never beyond the CA."""
    made = entry(record("apiserver", 10), authority(ca_days), node, **values)
    assert (made["action"], made["code"]) == (action, code)
    assert "renew the CA" in made["reason"] or code != "ca_ends_first" or "must be renewed first" in made["reason"]


def test_a_signer_of_the_cluster_has_its_own_validity() -> None:
    """What it would make too short is reported, not renewed in each run; one that has expired is signed by a CA of the node."""
    node = {"signing_seconds": 20 * DAY}
    made = entry(record("kubelet-client", 10), node=node)
    assert (made["action"], made["code"]) == ("report", "validity_below_threshold")
    assert "--cluster-signing-duration" in made["reason"]
    assert entry(record("kubelet-client", 10), node={"signing_seconds": 90 * DAY})["ends_after"] == 90
    assert entry(record("kubelet-client", 10, lifetime_days=20))["code"] == "validity_below_threshold", "nobody knows: as last time"
    assert entry(record("kubelet-client", 10, lifetime_days=90))["ends_after"] == 90
    assert entry(record("kubelet-client", -1), node=node)["action"] == "renew"
    assert entry(record("apiserver", 10), node=node)["ends_after"] == 365


def test_a_new_certificate_never_outlives_its_ca() -> None:
    """`ends_after` is the smaller of validity and what the CA has left."""
    assert entry(record("apiserver", 10), authority(100))["ends_after"] == 100
    assert entry(record("apiserver", 10), authority(1000))["ends_after"] == 365
    assert entry(record("apiserver", 100))["ends_after"] is None


def test_the_ca_of_the_same_host_counts() -> None:
    """Another node's CA says nothing about this one's."""
    records = [record("apiserver", 10, host="a"), authority(10, host="b"), authority(1000, host="a")]
    assert rotation_plan(records, rotate_policy())[0]["action"] == "renew"


@pytest.mark.parametrize(
    ("one", "action"),
    [
        (record("kubelet-client", 10, renewable=False, not_renewable_because="the kubelet renews it itself"), "report"),
        (record("kubelet-client", 100, renewable=False, not_renewable_because="the kubelet renews it itself"), "none"),
        (record("ca", 10, renewable=False, not_renewable_because="a CA"), "report"),
        (record("apiserver", None, renewable=False, status="unreadable", not_renewable_because="not a certificate"), "report"),
        (record("apiserver", None, renewable=False, status="missing", not_renewable_because="there is no such file"), "report"),
        (record("kubelet-serving[2]", 10, renewable=False, not_renewable_because="it follows kubelet-serving in the same file"), "none"),
        (record("served:10.0.0.1:6443", 10, renewable=False, source="served", not_renewable_because="follows from a file"), "none"),
        (record("sa", None, renewable=False, not_renewable_because="a signing key has no end"), "none"),
        (record("kubelet-client", 10, renewable=False, not_renewable_because="the kubelet's", readers=[STALE]), "report"),
    ],
)
@pytest.mark.parametrize("force", ["", "true"])
def test_what_cannot_be_renewed_is_never_touched(one: dict[str, t.Any], action: str, force: str) -> None:
    """Not by force either; it is reported when it is due or broken, with the reason."""
    made = entry(one, force=force)
    assert made["action"] == action
    assert one["not_renewable_because"] in made["reason"]
    assert made["restarts"] == []


def test_a_reader_with_an_older_file_makes_an_activation_due() -> None:
    """As after `restart: never`, or a run that was killed."""
    made = entry(record("scheduler.conf", 300, readers=[STALE]))
    assert (made["action"], made["code"], made["restarts"]) == ("activate", "activation_pending", ["kube-scheduler"])
    assert made["reason"] == "renewed on disk, but kube-scheduler still has the old one"


@pytest.mark.parametrize("in_use", ["true", "unknown"])
def test_unknown_is_no_reason_for_a_restart(in_use: str) -> None:
    """Only contrary evidence is."""
    assert entry(record("scheduler.conf", 300, readers=[reader("kube-scheduler", "restart", in_use)]))["action"] == "none"


def test_a_kubelet_that_is_shown_to_have_an_older_one_is_activated() -> None:
    """It renews its own one by itself, but what somebody else wrote it reads only when it starts."""
    made = entry(record("kubelet-client", 300, readers=[reader("kubelet", "self", "false")]))
    assert (made["action"], made["code"], made["restarts"]) == ("activate", "activation_pending", ["kubelet"])
    assert entry(record("kubelet-client", 300, readers=[reader("kubelet", "self", "unknown")]))["action"] == "none"


def test_the_reason_says_that_what_is_embedded_is_converted() -> None:
    made = entry(record("kubelet.conf", 3, readers=[reader("kubelet", "self", "unknown")]))
    assert (made["action"], made["code"], made["restarts"]) == ("renew", "due", ["kubelet"])
    assert made["reason"].endswith("; it is embedded, and will be in kubelet-client-current.pem, which the kubelet can renew")
    assert "embedded" not in entry(record("kubelet.conf", 300))["reason"]


def test_a_due_certificate_is_renewed_rather_than_activated() -> None:
    """One restart serves both."""
    assert entry(record("scheduler.conf", 10, readers=[STALE]))["action"] == "renew"


def test_restart_never_only_reports_what_is_pending() -> None:
    """So that a second run with it changes nothing."""
    made = entry(record("scheduler.conf", 300, readers=[STALE]), restart="never")
    assert (made["action"], made["code"], made["restarts"]) == ("report", "activation_pending", [])


@pytest.mark.parametrize(
    ("restart", "restarts"),
    [("auto", ["kube-scheduler", "kubelet"]), ("always", ["etcd", "kube-apiserver", "kube-scheduler", "kubelet"]), ("never", [])],
)
def test_restarts_follow_the_policy(restart: str, restarts: list[str]) -> None:
    """auto: what does not reload, and who renews for itself, because it did not write this one; always: every reader; never: none."""
    readers = [reader("kube-apiserver"), reader("etcd", in_use="unknown"), reader("kube-scheduler", "restart"), reader("kubelet", "self")]
    assert entry(record("mixed", 10, readers=readers), restart=restart)["restarts"] == restarts


@needs_jmespath
def test_select_narrows_what_is_due() -> None:
    """What is due but left out is said to be so; what is selected but not due stays."""
    records = [
        record("etcd/server", 10, component="etcd"),
        record("apiserver", 10),
        record("etcd/peer", 100, component="etcd"),
        authority(),
    ]
    plan = rotation_plan(records, rotate_policy(select="[?component=='etcd']"))
    assert [(made["action"], made["code"]) for made in plan[:3]] == [("renew", "due"), ("none", "not_selected"), ("none", "not_due")]
    assert "certs_rotate_select leaves it out" in plan[1]["reason"]


@needs_jmespath
def test_select_narrows_force_and_activation_too() -> None:
    """Force renews what is selected, nothing else."""
    records = [record("etcd/server", 300, component="etcd"), record("scheduler.conf", 300, readers=[STALE]), authority()]
    plan = rotation_plan(records, rotate_policy(select="[?component=='etcd']", force="yes"))
    assert [(made["action"], made["code"]) for made in plan[:2]] == [("renew", "forced"), ("none", "not_selected")]


@needs_jmespath
@pytest.mark.parametrize(
    "select", ["[0]", "[?name=='apiserver'].{host: host, name: name}", "sort_by(@, &name)[:1]", "[?contains(name, 'api')]"]
)
def test_select_may_be_any_expression_that_yields_records(select: str) -> None:
    """One record, some of their keys, functions."""
    plan = rotation_plan([record("apiserver", 10), record("scheduler.conf", 10)], rotate_policy(select=select))
    assert [made["action"] for made in plan] == ["renew", "none"]


@needs_jmespath
@pytest.mark.parametrize(
    ("select", "said"),
    [("[?component==", "must be a JMESPath expression"), ("[].name", "a list with 'apiserver' in it"), ("nothing", "it yields nothing")],
)
def test_a_bad_select_is_explained(select: str, said: str) -> None:
    """The message names the variable, the value and an example."""
    with pytest.raises(CertopsError) as caught:
        rotation_plan([record("apiserver", 10)], rotate_policy(select=select))
    assert str(caught.value).startswith("certs_rotate_select is ")
    assert said in str(caught.value)
    assert "[?component=='etcd']" in str(caught.value)


def test_select_without_jmespath_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who uses it needs the library."""
    monkeypatch.setattr(_selection, "jmespath", None)
    assert rotation_plan([record("apiserver", 10)], rotate_policy())[0]["action"] == "renew"
    with pytest.raises(CertopsError, match="needs the Python library jmespath on the controller"):
        rotation_plan([record("apiserver", 10)], rotate_policy(select="[]"))


def test_a_run_that_did_not_end_makes_its_node_due() -> None:
    """Even where no certificate is due any more."""
    plan = rotation_plan(
        [record("apiserver", 300, host="a")], rotate_policy(), {"a": {"unfinished_run": "r1"}, "b": {"unfinished_run": None}}
    )
    assert [(made["name"], made["action"]) for made in plan] == [("apiserver", "none"), ("run r1", "repair")]
    assert due_hosts(plan) == ["a"]
    assert rotation_items(plan, "a") == []


def test_items_are_what_the_module_takes() -> None:
    """Only what is done on that host; the fingerprint guards against a change since the plan."""
    records = [
        record("apiserver", 10, host="a"),
        record("scheduler.conf", 300, host="a", readers=[STALE]),
        record("apiserver", 10, host="b"),
    ]
    plan = rotation_plan(records, rotate_policy())
    same = {"fingerprint_sha256": "a" * 64, "signed_by": None, "refresh_sans": False, "certificate": None}
    assert rotation_items(plan, "a") == [
        {**same, "name": "apiserver", "action": "renew"},
        {**same, "name": "scheduler.conf", "action": "activate"},
    ]
    assert due_hosts(plan) == ["a", "b"]


def test_the_leaders_come_last() -> None:
    """The controller manager's the very last; the others in the plan's order."""
    plan = rotation_plan([record("apiserver", 10, host=host) for host in "abcd"], rotate_policy())
    nodes: dict[str, dict[str, t.Any]] = {
        "a": {"leads": ["kube-controller-manager"]},
        "b": {"leads": ["kube-scheduler"]},
        "c": {"leads": []},
    }
    assert rotation_order(plan, nodes) == ["c", "d", "b", "a"]
    assert rotation_order(plan) == ["a", "b", "c", "d"]


def test_only_hosts_where_something_is_done_are_in_the_order() -> None:
    """A leader where nothing is due is left alone."""
    plan = rotation_plan([record("apiserver", 10, host="a"), record("apiserver", 300, host="b")], rotate_policy())
    assert rotation_order(plan, {"b": {"leads": ["kube-scheduler"]}}) == ["a"]


def outside(**values: t.Any) -> list[dict[str, t.Any]]:
    """A control plane whose etcd, and its CA's key, are on hosts of their own; the CA of e-2 is another one."""
    client = record("apiserver-etcd-client", 10, host="cp", component="kube-apiserver", ca="etcd/ca", renewable=False)
    client.update({"externally_managed": True, "not_renewable_because": "the key of its CA is not on this node", **values})
    members = [record("etcd/server", 10, host=host, component="etcd", ca="etcd/ca") for host in ("e-1", "e-2", "e-3")]
    cas = [authority(name="etcd/ca", host=host, component="etcd") for host in ("e-1", "e-3")]
    cas.append(authority(name="etcd/ca", host="e-2", component="etcd", fingerprint_sha256="d" * 64))
    cas.append(authority(name="etcd/ca", host="cp"))
    return [client, record("apiserver", 10, host="cp"), *members, *cas]


SIGNERS = {"cp": {"signs": ["ca"]}, "e-2": {"signs": ["etcd/ca"]}, "e-1": {"signs": ["etcd/ca"]}, "e-3": {"signs": ["etcd/ca"]}}


def test_what_another_host_can_sign_is_renewed() -> None:
    """By the first host that has the key of this very CA."""
    plan = rotation_plan(outside(), rotate_policy(), SIGNERS)
    assert {made["name"]: made["signed_by"] for made in plan if made["host"] == "cp" and made["action"] == "renew"} == {
        "apiserver-etcd-client": "e-1",
        "apiserver": None,
    }
    (item,) = rotation_items(plan, "cp", [{"name": "apiserver-etcd-client", "certificate": "PEM"}])[:1]
    assert item == {
        "name": "apiserver-etcd-client",
        "action": "renew",
        "fingerprint_sha256": "a" * 64,
        "signed_by": "e-1",
        "refresh_sans": False,
        "certificate": "PEM",
    }


@pytest.mark.parametrize(
    ("values", "nodes"),
    [
        ({}, {"e-2": {"signs": ["etcd/ca"]}, "e-1": {"signs": []}}),
        ({}, {}),
        ({"findings": [{"code": "chain_invalid"}]}, SIGNERS),
        ({"externally_managed": False}, SIGNERS),
        ({"ca": None}, SIGNERS),
    ],
)
def test_what_no_host_of_the_run_can_sign_is_reported(values: dict[str, t.Any], nodes: dict[str, t.Any]) -> None:
    """Without its CA's key, or where this CA did not sign it."""
    made = rotation_plan(outside(**values), rotate_policy(), nodes)[0]
    assert (made["action"], made["code"], made["signed_by"]) == ("report", "not_renewable", None)


def test_what_another_host_can_sign_keeps_the_rules() -> None:
    """Not due, its CA's end, and an authority itself."""
    assert rotation_plan(outside(seconds_left=300 * DAY), rotate_policy(), SIGNERS)[0]["action"] == "none"
    records = outside()
    for one in records:
        if one["name"] == "etcd/ca":
            one.update(seconds_left=20 * DAY, externally_managed=True)
    plan = rotation_plan(records, rotate_policy(), SIGNERS)
    assert (plan[0]["action"], plan[0]["code"]) == ("report", "ca_ends_first")
    assert {made["action"] for made in plan if made["name"] == "etcd/ca"} == {"report"}


def test_the_hosts_of_etcd_come_first() -> None:
    """API servers need them; a control-plane node with etcd on it is none of them."""
    records = [*outside(), record("etcd/server", 10, host="cp", component="etcd")]
    plan = rotation_plan(records, rotate_policy())
    assert rotation_order(plan, {"cp": {"leads": ["kube-scheduler"]}}) == ["e-1", "e-2", "e-3", "cp"]
    assert etcd_hosts(plan) == {"e-1", "e-2", "e-3"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (90, "90 seconds"),
        (121, "2 minutes"),
        (7300, "2 hours"),
        (DAY, "1 day"),
        (DAY * 1.5, "36 hours"),
        (DAY * 400, "400 days"),
    ],
)
def test_durations_are_words(seconds: int, text: str) -> None:
    """As coarse as a person would say them."""
    assert duration(int(seconds)) == text
