# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which kubelets are asked where, and what their answers make of the records of workers."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_answers import kubelet_questions, with_answers
from ansible_collections.certops.kubernetes.plugins.module_utils._plan import rotation_plan
from ansible_collections.certops.kubernetes.plugins.module_utils._policy import OPTIONS, policy
from ansible_collections.certops.kubernetes.plugins.module_utils._report import run_report
from ansible_collections.certops.kubernetes.plugins.module_utils._summary import certificate_records, node_problems
from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import authority, reader, record

NOW, END = "2026-11-24T02:30:00Z", "2027-11-24T02:00:00Z"
SAME = {"ahead_at_least": -1.0, "ahead_at_most": 1.0}
FITS = ("2027-11-24T01:59:58Z", "2027-11-24T02:00:03Z")
OTHER = ("2027-11-24T02:10:00Z", "2027-11-24T02:10:05Z")
Results = t.Dict[str, t.Dict[str, t.Any]]


def worker(name: str = "node-w1", ask: str | None = "kubelet-client", **values: t.Any) -> dict[str, t.Any]:
    """What `certificate_info` returned for a worker."""
    reads = dict(reader("kubelet", "self", "unknown"), proof="none")
    fixed = {"component": "kubelet", "path": "/current.pem", "not_after": END, "readers": [reads]}
    client = record("kubelet-client", 300, **{**fixed, "node": name, **values.pop("client", {})})
    node: dict[str, t.Any] = {"name": name, "now": NOW, "kubelet_to_ask": ask, "components": {"kubelet": {}}}
    result = {"certificates": [client, authority(node=name, not_after="2036-01-01T00:00:00Z")], "node": node, "problems": [], "clock": SAME}
    return {**result, **values}


def control_plane(**values: t.Any) -> dict[str, t.Any]:
    """And for a control-plane node."""
    node: dict[str, t.Any] = {"name": "node-cp", "now": NOW, "kubelet_to_ask": None, "components": {"kube-apiserver": {}}}
    return {"certificates": [authority(**values)], "node": node, "problems": [], "clock": SAME}


def answers(told: dict[str, t.Any], looked: str = NOW, host: str = "cp", **values: t.Any) -> list[dict[str, t.Any]]:
    """What `kubelet_info` returned for a question; told are two times by node, or a reason."""
    kubelets = []
    for node, said in told.items():
        earliest, latest, reason = (None, None, said) if isinstance(said, str) else (*said, None)
        kubelets.append({"node": node, "earliest_end": earliest, "latest_end": latest, "reason": reason})
    return [{"item": {"host": host, "nodes": dict.fromkeys(told, [looked])}, "kubelets": kubelets, **values}]


def judged(results: Results, found: list[dict[str, t.Any]] | None) -> tuple[dict[str, t.Any], tuple[str, str], list[str]]:
    """The record of w1's kubelet, what is known of it, and why nothing is."""
    (one,) = [one for one in certificate_records(results, found) if one["host"] == "w1" and one["name"] == "kubelet-client"]
    (reads,) = one["readers"]
    return one, (reads["in_use"], reads["proof"]), [problem["message"] for problem in node_problems(results, found)]


def of(*workers: dict[str, t.Any]) -> Results:
    """Workers w1, w2 …, and a control-plane node after them."""
    return {**{"w%d" % number: one for number, one in enumerate(workers, 1)}, "cp": control_plane()}


def test_the_first_control_plane_node_of_the_same_ca_asks_those_that_are_not_proven() -> None:
    green: dict[str, t.Any] = {"fingerprint_sha256": "9" * 64}
    results: Results = {
        "w1": worker("node-w1"),
        "proven": worker("node-w2", ask=None),
        "gone": {"unreachable": True, "msg": "gone"},
        "green-w": {**worker("node-w3"), "certificates": [worker("node-w3")["certificates"][0], authority(**green)]},
        "green-cp": control_plane(**green),
        "cp1": control_plane(),
        "cp2": control_plane(),
        "w4": worker("node-w4", now="later"),
        "red-w": {**worker("node-w5"), "certificates": [worker("node-w5")["certificates"][0], authority(fingerprint_sha256="8" * 64)]},
    }
    askers = ["green-cp", "cp1", "cp2"]
    assert kubelet_questions(results, list(results), askers) == [
        {"host": "cp1", "nodes": {"node-w1": [NOW], "node-w4": [NOW]}},
        {"host": "green-cp", "nodes": {"node-w3": [NOW]}},
    ]
    assert kubelet_questions(results, ["w4", "cp1"], askers) == [{"host": "cp1", "nodes": {"node-w4": [NOW]}}]


def test_a_worker_that_says_it_has_an_api_server_is_not_to_ask() -> None:
    """It would answer for the others, and have their kubelets restarted."""
    results = {"liar": control_plane(), **of(worker())}
    assert kubelet_questions(results, list(results), ["cp"]) == [{"host": "cp", "nodes": {"node-w1": [NOW]}}]
    assert judged(results, answers({"node-w1": FITS}))[1] == ("true", "metrics")


def test_clusters_may_call_their_nodes_alike() -> None:
    """Also when they are looked at in the same second."""
    green: dict[str, t.Any] = {"fingerprint_sha256": "9" * 64}
    foreign = worker()
    foreign["certificates"][1] = authority(**green)
    results = {**of(worker()), "green-w": foreign, "green-cp": control_plane(**green)}
    assert kubelet_questions(results, list(results), ["cp", "green-cp"]) == [
        {"host": "cp", "nodes": {"node-w1": [NOW]}},
        {"host": "green-cp", "nodes": {"node-w1": [NOW]}},
    ]
    assert judged(results, answers({"node-w1": FITS}) + answers({"node-w1": OTHER}, host="green-cp"))[1] == ("true", "metrics")


def test_who_gives_anothers_name_takes_no_answer_from_it() -> None:
    liar = worker()
    liar["node"]["now"] = "2026-11-24T02:31:00Z"
    results = of(worker(), liar)
    (question,) = kubelet_questions(results, list(results), ["cp"])
    assert question == {"host": "cp", "nodes": {"node-w1": [NOW, "2026-11-24T02:31:00Z"]}}
    assert judged(results, [dict(answers({"node-w1": FITS})[0], item=question)])[1] == ("true", "metrics")


def test_who_asked_then_need_not_be_the_first_now() -> None:
    """With the clock of the one that asked."""
    results = {"back": {**control_plane(), "clock": {"ahead_at_least": 100.0, "ahead_at_most": 101.0}}, **of(worker())}
    assert judged(results, answers({"node-w1": FITS}))[1] == ("true", "metrics")


@pytest.mark.parametrize(("looked", "known"), [("2027-09-24T02:00:00Z", "unknown"), ("2026-12-24T02:00:00Z", "false")])
def test_a_later_end_may_be_of_a_renewal_since_the_look(looked: str, known: str) -> None:
    """A kubelet renews its certificate when most of its time has passed; a restart would do nothing then."""
    one = worker(client={"not_before": "2026-11-24T02:00:00Z"})
    one["node"]["now"] = looked
    _record, (in_use, _proof), problems = judged(of(one), answers({"node-w1": OTHER}, looked))
    assert in_use == known
    assert [problem.endswith("renewed it since it was looked at.") for problem in problems] == [True] * (known == "unknown")


@pytest.mark.parametrize("ahead", [-6.3e10, 1e308, float("inf"), float("nan")])
def test_a_node_that_tells_nonsense_of_its_clock_stops_nothing(ahead: float) -> None:
    one = worker(clock={"ahead_at_least": ahead, "ahead_at_most": ahead})
    assert certificate_records(of(one), answers({"node-w1": ("9999-12-31T23:59:58Z", "9999-12-31T23:59:59Z")}))


def test_each_host_is_asked_about_once() -> None:
    """Else one that shows thousands would take all the time there is."""
    liar = worker()
    liar["certificates"] += [dict(liar["certificates"][0], node="node-%d" % number) for number in range(9)]
    assert kubelet_questions(of(liar), ["w1"], ["cp"]) == [{"host": "cp", "nodes": {"node-w1": [NOW]}}]


def test_a_node_whose_name_is_none_is_not_asked() -> None:
    assert kubelet_questions(of(worker(client={"node": ["node-w1"]})), ["w1"], ["cp"]) == []


def test_a_ca_that_follows_another_one_is_the_same_cluster() -> None:
    """While a CA is exchanged, nodes have both, in whatever order."""
    results = of(worker())
    results["cp"]["certificates"] = [authority(fingerprint_sha256="9" * 64), authority(name="ca[2]")]
    assert [one["host"] for one in kubelet_questions(results, ["w1"], ["cp"])] == ["cp"]


def test_the_same_end_proves_that_it_is_used() -> None:
    one, known, problems = judged(of(worker()), answers({"node-w1": FITS}))
    assert (known, one["findings"], one["status"], problems) == (("true", "metrics"), [], "ok", [])


@pytest.mark.parametrize("told", [OTHER, (None, None)])
def test_another_end_or_none_proves_that_it_is_not(told: t.Any) -> None:
    """With the same finding as of a kubelet on a control-plane node, in the report too; and the plan restarts it."""
    results, found = of(worker()), answers({"node-w1": told})
    one, known, problems = judged(results, found)
    assert (known, one["status"], problems) == (("false", "metrics"), "warning", [])
    assert [finding["code"] for finding in one["findings"]] == ["process_has_older_file"]
    assert "(/current.pem on node-w1)" in one["findings"][0]["message"]
    names = [name for name in OPTIONS if name.startswith("certs_rotate_")]
    plan = rotation_plan(certificate_records(results, found), policy(dict.fromkeys(names, "")))
    (entry,) = [entry for entry in plan if entry["name"] == "kubelet-client"]
    assert (entry["action"], entry["restarts"]) == ("activate", ["kubelet"])
    run = {"id": "x", "playbook": "inspect", "started_at": None, "written_at": None, "check_mode": False}
    assert one in run_report(run, results, kubelet_answers=found)["records"]


def test_without_questions_nothing_changes() -> None:
    results = of(worker())
    assert with_answers(results, None) is results
    assert judged(results, None)[1:] == (("unknown", "none"), [])


@pytest.mark.parametrize(
    ("ahead", "told", "known"),
    [
        (400.0, ("2027-11-24T01:53:18Z", "2027-11-24T01:53:23Z"), ("true", "metrics")),
        (-400.0, ("2027-11-24T02:06:38Z", "2027-11-24T02:06:43Z"), ("true", "metrics")),
        (400.0, FITS, ("false", "metrics")),
    ],
)
def test_a_clock_that_is_wrong_is_no_evidence(ahead: float, told: tuple[str, str], known: tuple[str, str]) -> None:
    """The kubelet counts what is left by its own clock, and who asks adds that to another one."""
    clock = {"ahead_at_least": ahead - 1, "ahead_at_most": ahead + 1}
    assert judged(of(worker(clock=clock)), answers({"node-w1": told}))[1] == known


@pytest.mark.parametrize(
    ("values", "told", "why"),
    [
        ({"clock": None}, FITS, "how its clock differs from that of cp is not known"),
        ({"clock": {"ahead_at_least": -90.0, "ahead_at_most": 90.0}}, FITS, "not known well enough"),
        ({}, ("soon", "later"), "the end that it tells is no time"),
        ({}, 'GET https://cp/api/v1/nodes/node-w1/proxy/metrics: HTTP 403 (nodes "node-w1" is forbidden)', "nodes NAME is forbidden"),
        ({"client": {"not_after": "2036-01-01T00:00:00Z"}}, ("2035-12-31T23:59:58Z", "2036-01-01T00:00:03Z"), "ends with its CA"),
    ],
)
def test_what_is_not_certain_stays_unknown_with_the_reason(values: t.Any, told: t.Any, why: str) -> None:
    one, known, problems = judged(of(worker(**values)), answers({"node-w1": told}))
    assert (known, one["findings"], one["status"]) == (("unknown", "none"), [], "ok")
    (said,) = problems
    assert said.startswith("Whether the kubelet of w1 uses the client certificate on disk is not known: ")
    assert why in said


def test_a_wide_range_still_tells_that_it_is_another_one() -> None:
    clock = {"ahead_at_least": -90.0, "ahead_at_most": 90.0}
    assert judged(of(worker(clock=clock)), answers({"node-w1": OTHER}))[1] == ("false", "metrics")


def test_an_answer_is_about_the_look_that_it_was_asked_for() -> None:
    """A node that was changed since is looked at again, and asked again."""
    old, new = answers({"node-w1": OTHER}, "2026-11-24T02:00:00Z"), answers({"node-w1": FITS})
    assert judged(of(worker()), old)[1:] == (
        ("unknown", "none"),
        ["Whether the kubelet of w1 uses the client certificate on disk is not known: it was not asked."],
    )
    assert judged(of(worker()), [*new, *old])[1] == ("true", "metrics")


def test_a_question_that_failed_and_why_is_said_once() -> None:
    workers = [worker("node-w%d" % number) for number in range(1, 9)]
    names = dict.fromkeys(("node-w%d" % number for number in range(1, 9)), [NOW])
    results = of(*workers)
    failed = [{"item": {"host": "cp", "nodes": names}, "failed": True, "msg": "No kubelet\ncould be asked."}]
    (problem,) = node_problems(results, failed)
    assert "of w1, w2, w3, w4, w5 and 3 more uses" in problem["message"]
    assert problem["message"].endswith("not known: No kubelet could be asked.")
    assert (problem["severity"], problem["host"]) == ("info", "w1")
    assert "on cp" in problem["remedy"]


@pytest.mark.parametrize(
    "reason",
    [
        "error trying to reach service: dial tcp 10.0.0.%d:10250: i/o timeout",
        "error trying to reach service: dial tcp [fd00::%d]:10250: connect: no route to host",
        "error trying to reach service: read tcp 10.0.0.9:4100%d->10.0.0.1:10250: i/o timeout",
        "error trying to reach service: dial tcp: lookup node-w%d on 10.96.0.10:53: no such host",
    ],
)
def test_an_api_server_that_reaches_no_kubelet_is_told_of_once(reason: str) -> None:
    """A firewall between them would fill a page, as it names the address of each."""
    results = of(*(worker("node-w%d" % number) for number in (1, 2)))
    (problem,) = node_problems(results, answers({"node-w%d" % number: reason % number for number in (1, 2)}))
    assert "of w1, w2 uses" in problem["message"]
    assert problem["message"].endswith(reason.rsplit(":", 1)[1] + ".")


def test_without_a_control_plane_node_that_is_said_once() -> None:
    results: Results = {"w1": worker("node-w1"), "w2": worker("node-w2")}
    assert kubelet_questions(results, ["w1", "w2"], []) == []
    (problem,) = node_problems(results, [])
    assert "of w1, w2 uses the client certificate on disk is not known: no control-plane node" in problem["message"]
    assert problem["remedy"] == "Let the run cover a control-plane node of that cluster."
