# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of a run, and plans and results in words."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._plan import rollback_plan, rotation_plan
from ansible_collections.certops.kubernetes.plugins.module_utils._policy import policy
from ansible_collections.certops.kubernetes.plugins.module_utils._report import approval_lines, plan_lines, rotation_lines, run_report
from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import authority, reader, record

RUN = {"id": "r1", "playbook": "rotate", "started_at": "x", "written_at": "y", "check_mode": False}
INSPECTED = {"certificates": [record("apiserver", 10)], "problems": []}
DUE = [{"host": "a", "action": "renew"}]
HEALTHY = {"verdict": "healthy", "msg": "fine", "checks": []}
SICK = {"verdict": "unhealthy", "msg": "etcd has no leader", "checks": []}
DONE = {"changed": True, "run_id": "r1", "certificates": [], "components": [], "rolled_back": False, "secret": "x"}
PUT_BACK = {"failed": True, "rolled_back": True, "msg": "kube-scheduler did not come back; rolled back"}


def report(check_mode: bool = False, **steps: t.Any) -> dict[str, t.Any]:
    """A report about node `a`, where something is due."""
    by_host: dict[str, t.Any] = {name: {"a": result} for name, result in steps.items()}
    return run_report({**RUN, "check_mode": check_mode}, {"a": INSPECTED}, plan=DUE, **by_host)


@pytest.mark.parametrize(
    ("steps", "state", "run_state"),
    [
        ({}, "planned", "planned"),
        ({"rotations": {}, "gates_before": {}}, "planned", "planned"),
        ({"gates_before": SICK}, "refused", "failed"),
        ({"gates_before": HEALTHY, "rotations": PUT_BACK}, "rolled_back", "failed"),
        ({"gates_before": HEALTHY, "rotations": {**PUT_BACK, "state": "failed"}}, "failed", "failed"),
        ({"gates_before": HEALTHY, "rotations": {"failed": True, "msg": "no"}}, "failed", "failed"),
        ({"gates_before": HEALTHY, "rotations": {"unreachable": True, "msg": "no"}}, "failed", "failed"),
        ({"gates_before": HEALTHY, "rotations": DONE}, "rotated", "running"),
        ({"gates_before": HEALTHY, "rotations": DONE, "gates_after": SICK}, "failed", "failed"),
        ({"gates_before": {"verdict": "expired_only"}, "rotations": DONE, "gates_after": HEALTHY}, "done", "done"),
        ({"check_mode": True, "gates_before": HEALTHY, "rotations": DONE, "gates_after": {"skipped": True}}, "planned", "planned"),
    ],
)
def test_how_far_a_node_came(steps: dict[str, t.Any], state: str, run_state: str) -> None:
    """The state follows from what there is a result of."""
    made = report(**steps)
    assert (made["run"]["nodes"]["a"]["state"], made["run"]["state"]) == (state, run_state)


@pytest.mark.parametrize(("renewed", "state"), [([], "rotated"), ([{"name": "/root/.kube/config#me"}], "done")])
def test_a_node_whose_kubeconfigs_wait_for_the_others_is_not_done(renewed: list[dict[str, t.Any]], state: str) -> None:
    """A run that is stopped between its two turns does not look as if it had ended."""
    plan: list[dict[str, t.Any]] = [*DUE, {"host": "a", "name": "/root/.kube/config#me", "action": "renew", "apart": True}]
    healthy = {"a": HEALTHY}
    rotations = {"a": {**DONE, "certificates": renewed}}
    made = run_report(RUN, {"a": INSPECTED}, plan, rotations=rotations, gates_before=healthy, gates_after=healthy)
    assert made["run"]["nodes"]["a"]["state"] == state


def test_a_failed_node_keeps_its_cause_and_the_others_wait() -> None:
    """The report of a failed run says what is still to be done."""
    made = run_report(
        RUN, {"a": INSPECTED, "b": INSPECTED}, plan=[*DUE, {"host": "b", "action": "renew"}], rotations={"a": PUT_BACK, "b": {}}
    )
    assert made["run"]["nodes"] == {
        "a": {"state": "rolled_back", "message": PUT_BACK["msg"]},
        "b": {"state": "planned", "message": None},
    }
    assert made["results"] == {"a": {"rolled_back": True, "failed": True, "message": PUT_BACK["msg"]}}


def test_between_two_nodes_a_run_is_running() -> None:
    """One is done, one waits."""
    healthy = {"a": HEALTHY}
    plan = [*DUE, {"host": "b", "action": "renew"}]
    made = run_report(RUN, {"a": INSPECTED, "b": INSPECTED}, plan, rotations={"a": DONE}, gates_before=healthy, gates_after=healthy)
    assert made["run"]["state"] == "running"


def test_only_known_keys_of_results_get_in() -> None:
    """So that nothing slips into a report by accident."""
    made = report(gates_before=HEALTHY, rotations=DONE, gates_after=HEALTHY)
    assert set(made["results"]["a"]) == {"changed", "run_id", "certificates", "components", "rolled_back"}
    assert made["gates"] == {"a": {"before": {"verdict": "healthy", "checks": []}, "after": {"verdict": "healthy", "checks": []}}}
    json.dumps(made)


def test_results_are_empty_when_nothing_was_changed() -> None:
    """In check mode, and on nodes where nothing was due."""
    assert report(check_mode=True, rotations=DONE)["results"] == {}
    assert report(rotations={"changed": False})["results"] == {}


def test_nodes_that_were_not_reached_are_in_it() -> None:
    """With what was said, and what stands against the run."""
    made = run_report(RUN, {"a": {"unreachable": True, "msg": "gone"}, "b": {}}, obstacles=["No."])
    assert made["run"]["nodes"]["a"] == {"state": "unreachable", "message": "gone"}
    assert made["run"]["nodes"]["b"]["state"] == "failed"
    assert (made["run"]["state"], made["run"]["obstacles"]) == ("refused", ["No."])
    assert made["summary"]["unreachable"] == 1


def test_problems_name_their_host() -> None:
    """A finding about a node belongs to it."""
    problem = {"code": "x", "severity": "warning", "message": "m", "remedy": "r"}
    made = run_report(RUN, {"a": {"certificates": [], "problems": [problem]}})
    assert made["problems"] == [{**problem, "host": "a"}]


def plan_of(*records: dict[str, t.Any], **values: t.Any) -> list[dict[str, t.Any]]:
    """A plan with the role's defaults."""
    names = ("renew_before_days", "select", "force", "restart", "validity_days")
    return rotation_plan(list(records), policy({"certs_rotate_" + name: values.get(name, "") for name in names}))


def test_a_plan_in_words() -> None:
    """What is done first, what is only reported next, then how many need nothing."""
    lines = plan_lines(
        plan_of(
            record("kubelet-client", 10, renewable=False, not_renewable_because="the kubelet renews it itself"),
            record("scheduler.conf", 10, readers=[reader("kube-scheduler", "restart")]),
            authority(),
        )
    )
    assert lines == [
        "unknown: renew scheduler.conf: 10 days left, less than 30 days; the new one has 365 days; restarts kube-scheduler",
        "unknown: report kubelet-client: 10 days left, less than 30 days; not renewed: the kubelet renews it itself",
        "1 other needs nothing.",
    ]


def test_a_plan_with_nothing_to_do_says_so() -> None:
    """Reported items are still listed."""
    assert plan_lines(plan_of(record("apiserver"), authority())) == ["Nothing is due.", "2 others need nothing."]


def test_the_order_of_several_nodes_is_said() -> None:
    """With the reason why a node waits for the others."""
    plan = [entry for host in ("a", "b") for entry in plan_of(record("apiserver", 10, host=host))]
    assert plan_lines(plan, {"a": {"leads": ["kube-scheduler"]}})[0] == "Order: b, a (leads kube-scheduler)"


def test_the_plan_says_that_streams_are_cut() -> None:
    """Renewing the API server's client certificate for kubelets ends open streams."""
    assert "port-forward streams are cut" in plan_lines(plan_of(record("apiserver-kubelet-client", 10)))[-1]


def test_what_was_done_in_words() -> None:
    """Old and new end, proof, and how long each component was away."""
    lines = rotation_lines(
        {
            "certificates": [
                {
                    "name": "a",
                    "action": "renew",
                    "before": {"not_after": "1"},
                    "after": {"not_after": "2"},
                    "in_use": "true",
                    "proof": "inode",
                },
                {
                    "name": "b",
                    "action": "activate",
                    "before": {"not_after": "2"},
                    "after": {"not_after": "2"},
                    "in_use": "unknown",
                    "proof": "none",
                },
            ],
            "components": [
                {"name": "etcd", "action": "none", "away_seconds": None, "because": ""},
                {"name": "kube-scheduler", "action": "restarted", "away_seconds": 1.94, "because": "it reads a"},
            ],
            "copies": ["/root/.kube/config"],
            "recovered": [{"run_id": "r0", "action": "undone"}],
        }
    )
    assert lines == [
        "renew a: valid until 2, before until 1; in use: true (inode)",
        "activate b: valid until 2",
        "renewed the copy /root/.kube/config",
        "etcd: not restarted",
        "kube-scheduler: restarted, away for 1.9 seconds; it reads a",
        "finished what an earlier run left: run_id r0, action undone",
    ]
    assert rotation_lines({"changed": False}) == ["Nothing was done."]


def test_a_rollback_s_plan_is_told_like_a_rotation_s() -> None:
    """Its entries have the same keys, so that whatever shows one plan shows the other."""
    facts = {"not_after": "2026-12-04T00:00:00Z", "serial": "1", "subject": "CN=x", "fingerprint_sha256": "a" * 64}
    certificates = [{"name": "apiserver", "before": facts, "after": facts}]
    foreseen = {"certificates": certificates, "restored_run_id": "run-1", "recovered": [{"run_id": "run-2"}]}
    plan = rollback_plan(foreseen, "a", [record("apiserver", 10, host="a")])
    rotation = plan_of(record("apiserver", 10, host="a"), authority(host="a"))
    assert {frozenset(entry) for entry in plan} == {frozenset(entry) for entry in rotation}
    told = plan_lines(plan)
    assert told[1] == "a: restore apiserver: run run-1 replaced it; the earlier one is valid until 2026-12-04T00:00:00Z"


def test_what_became_of_the_requests_of_kubelets() -> None:
    approved = [
        {"request": "csr-1", "node": "n1", "not_after": None},
        {"request": "csr-2", "node": "n2", "not_after": "2027-11-24T00:00:00Z"},
    ]
    left = [{"request": "csr-3", "requester": "jane", "reason": "jane asks for it, who is no kubelet"}]
    assert approval_lines({"approved": approved, "left_alone": left}) == [
        "approve csr-1: node n1 asks for its own names",
        "approve csr-2: node n2 asks for its own names; its certificate is valid until 2027-11-24T00:00:00Z",
        "leave csr-3 of jane: jane asks for it, who is no kubelet",
    ]
    assert approval_lines({"msg": "the API\nis away"}) == ["requests of kubelets were not looked at, or not all: the API is away"]
