# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A run as its report tells it, and a plan in plain words: pure functions of what the modules returned."""

from __future__ import annotations

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._gate import PASSED
from ansible_collections.certops.kubernetes.plugins.module_utils._model import SCHEMA_VERSION
from ansible_collections.certops.kubernetes.plugins.module_utils._order import etcd_hosts, is_due, rotation_order
from ansible_collections.certops.kubernetes.plugins.module_utils._summary import certificate_records, inspection_summary, node_problems

Result = t.Mapping[str, t.Any]

# Only these leave a module's result for a report; a key that is not named here cannot slip in.
RESULT_KEYS = ("changed", "run_id", "state", "certificates", "components", "copies", "rolled_back", "recovered")
HEALTH_KEYS = ("verdict", "checks", "waited_seconds")
FAILED_STATES = ("failed", "rolled_back", "refused", "unreachable")


def run_report(
    run: t.Mapping[str, t.Any],
    inspections: t.Mapping[str, Result],
    plan: t.Sequence[Result] = (),
    obstacles: t.Sequence[str] = (),
    rotations: t.Mapping[str, Result] | None = None,
    gates_before: t.Mapping[str, Result] | None = None,
    gates_after: t.Mapping[str, Result] | None = None,
    kubelet_answers: t.Sequence[Result] | None = None,
) -> dict[str, t.Any]:
    """The JSON report of a run, made of module results by inventory name.

    `run` has id, playbook, started_at, written_at, check_mode. `inspections` are the newest: a node is inspected again after its
    rotation. A host that did not come to a step has an empty result there, or none. `kubelet_answers` are what kubelets of workers told.
    """
    rotations, gates_before, gates_after = _made(rotations), _made(gates_before), _made(gates_after)
    records = certificate_records(inspections, kubelet_answers)
    problems = node_problems(inspections, kubelet_answers)
    nodes = {
        host: _node_state(
            inspections[host],
            [entry for entry in plan if entry["host"] == host],
            bool(run["check_mode"]),
            (gates_before.get(host), rotations.get(host), gates_after.get(host)),
        )
        for host in inspections
    }
    summary = inspection_summary(records, problems=problems)
    applied = {host: result for host, result in rotations.items() if not run["check_mode"] and _touched(result)}
    return {
        "schema_version": SCHEMA_VERSION,
        "run": dict(run, state=_run_state(obstacles, nodes), obstacles=list(obstacles), nodes=nodes),
        "summary": {key: value for key, value in summary["artifact"].items() if key not in ("fail_on", "failed", "schema_version")},
        "headline": summary["headline"],
        "records": records,
        "problems": problems,
        "plan": list(plan),
        "results": {host: _result(result) for host, result in applied.items()},
        "gates": {
            host: {"before": _some(gates_before.get(host), HEALTH_KEYS), "after": _some(gates_after.get(host), HEALTH_KEYS)}
            for host in gates_before
        },
    }


def _made(results: t.Mapping[str, Result] | None) -> dict[str, Result]:
    return {host: result for host, result in (results or {}).items() if result and not result.get("skipped")}


def _node_state(
    inspection: Result, plan: t.Sequence[Result], check_mode: bool, steps: tuple[Result | None, Result | None, Result | None]
) -> dict[str, t.Any]:
    """How far a node came, and in its own words why no further."""
    before, rotation, after = steps
    if "certificates" not in inspection and rotation is None:
        return {"state": "unreachable" if inspection.get("unreachable") else "failed", "message": _message(inspection)}
    if not any(is_due(entry) for entry in plan):
        return {"state": "nothing_due", "message": None}
    if before is not None and before.get("verdict") not in ("healthy", "expired_only"):
        return {"state": "refused", "message": _message(before)}
    if rotation is not None and (rotation.get("failed") or rotation.get("unreachable")):
        # Files that were put back are not a node that was: its journal says `failed` when that could not be proven.
        proven = rotation.get("rolled_back") and rotation.get("state") != "failed"
        return {"state": "rolled_back" if proven else "failed", "message": _message(rotation)}
    if check_mode or rotation is None:
        return {"state": "planned", "message": None}
    if after is None:
        return {"state": "rotated", "message": "not yet proven healthy"}
    if after.get("verdict") != "healthy" and after.get("state") != PASSED:
        return {"state": "failed", "message": _message(after)}
    apart = {entry["name"] for entry in plan if entry.get("apart")}
    if apart and apart.isdisjoint(certificate["name"] for certificate in rotation.get("certificates") or ()):
        return {"state": "rotated", "message": "its kubeconfigs are renewed after all nodes"}
    return {"state": "done", "message": None}


def _message(result: Result) -> str:
    return " ".join(str(result.get("msg") or "no answer").split())


def _run_state(obstacles: t.Sequence[str], nodes: t.Mapping[str, Result]) -> str:
    states = [node["state"] for node in nodes.values()]
    if obstacles:
        return "refused"
    if any(state in FAILED_STATES for state in states):
        return "failed"
    if "rotated" in states or ("planned" in states and "done" in states):
        return "running"
    return "planned" if "planned" in states else "done"


def _touched(result: Result) -> bool:
    return bool(result.get("changed") or result.get("failed") or result.get("rolled_back"))


def _result(result: Result) -> dict[str, t.Any]:
    kept = _some(result, RESULT_KEYS) or {}
    if result.get("failed"):
        kept["failed"] = True
        kept["message"] = _message(result)
    return kept


def _some(result: Result | None, keys: t.Sequence[str]) -> dict[str, t.Any] | None:
    return None if result is None else {key: result[key] for key in keys if key in result}


def plan_lines(plan: t.Sequence[Result], nodes: t.Mapping[str, Result] | None = None) -> list[str]:
    """A plan in plain words: the nodes' order, what is done to each item and why, what is reported, and how many need nothing.

    `nodes` is what `certificate_info` says of each host's node.
    """
    lines: list[str] = []
    for entry in sorted(plan, key=lambda entry: (_rank(entry), entry["host"])):
        if entry["action"] != "none" or entry["code"] == "not_selected":
            lines.append(_plan_line(entry))
    quiet = len(plan) - len(lines)
    order = rotation_order(plan, nodes)
    if not order:
        lines.insert(0, "Nothing is due.")
    elif len(order) > 1:
        lines.insert(0, _order_line(order, nodes or {}, etcd_hosts(plan)))
    if quiet:
        lines.append("%d other%s need%s nothing." % (quiet, "" if quiet == 1 else "s", "s" if quiet == 1 else ""))
    if any(entry["action"] == "renew" and entry["name"] == "apiserver-kubelet-client" for entry in plan):
        lines.append(
            "Open exec, attach, logs -f and port-forward streams are cut once within five minutes: the API server drops its connections "
            "to kubelets when its client certificate for them changes. Requests are not affected."
        )
    return lines


def _order_line(hosts: t.Sequence[str], nodes: t.Mapping[str, Result], etcd_only: t.Collection[str]) -> str:
    words = []
    for host in hosts:
        leads = (nodes.get(host) or {}).get("leads") or ()
        words.append("%s (leads %s)" % (host, " and ".join(leads)) if leads else "%s (etcd)" % host if host in etcd_only else host)
    return "Order: %s" % ", ".join(words)


def _rank(entry: Result) -> int:
    return ("repair", "renew", "restore", "activate", "restart", "configure", "copy", "report", "none").index(entry["action"])


def _plan_line(entry: Result) -> str:
    action = "leave" if entry["action"] == "none" else entry["action"]
    line = "%s: %s %s: %s" % (entry["host"], action, _one_line(entry["name"]), entry["reason"])
    if entry["ends_after"] is not None:
        line += "; the new one has %d days" % entry["ends_after"]
    if entry["signed_by"]:
        line += "; signed on %s, which has the key of its CA" % entry["signed_by"]
    if entry["restarts"]:
        line += "; restarts %s" % ", ".join(entry["restarts"])
    return line


def rotation_lines(result: Result) -> list[str]:
    """What a rotation or a rollback of one node did, in plain words."""
    lines = [_certificate_line(certificate) for certificate in result.get("certificates") or ()]
    lines += ["renewed the copy %s" % _one_line(path) for path in result.get("copies") or ()]
    lines += [_component_line(component) for component in result.get("components") or ()]
    lines += ["finished what an earlier run left: %s" % _one_line(entry) for entry in result.get("recovered") or ()]
    return lines or ["Nothing was done."]


def _certificate_line(certificate: Result) -> str:
    after, before = certificate.get("after") or {}, certificate.get("before") or {}
    if "setting" in after:
        value, path = after["value"] or "not set", after["path"]
        return "%s %s: %s in %s, before %s" % (certificate.get("action"), certificate["name"], value, path, before["value"] or "not set")
    line = "%s %s" % (certificate.get("action") or "", certificate["name"])
    if after.get("not_after"):
        line += ": valid until %s" % after["not_after"]
        if before.get("not_after") and before["not_after"] != after["not_after"]:
            line += ", before until %s" % before["not_after"]
    if certificate.get("in_use") in ("true", "false"):
        line += "; in use: %s (%s)" % (certificate.get("in_use"), _one_line(certificate["proof"]))
    return line.strip()


def _component_line(component: Result) -> str:
    line = "%s: %s" % (component["name"], {"none": "not restarted"}.get(component["action"], component["action"]))
    if component.get("away_seconds") is not None:
        line += ", away for %.1f seconds" % component["away_seconds"]
    if component.get("because"):
        line += "; %s" % _one_line(component["because"])
    return line


def approval_lines(result: Result) -> list[str]:
    """What `kubelet_serving_approval` returned: what was approved (in check mode: would be), what is left alone and why, or why neither."""
    done = [
        "approve %s: node %s asks for its own names%s" % (one["request"], one["node"], _until(one["not_after"]))
        for one in result.get("approved") or ()
    ]
    left = ["leave %s of %s: %s" % (one["request"], one["requester"], one["reason"]) for one in result.get("left_alone") or ()]
    failed = [_one_line("requests of kubelets were not looked at, or not all: %s" % result["msg"])] if result.get("msg") else []
    return done + left + failed


def _until(end: str | None) -> str:
    return "" if end is None else "; its certificate is valid until %s" % end


def _one_line(value: t.Any) -> str:
    if isinstance(value, t.Mapping):
        return ", ".join("%s %s" % (key, _one_line(item)) for key, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return ", ".join(_one_line(item) for item in value)
    return " ".join(str(value).split())


__all__ = ("approval_lines", "plan_lines", "rotation_lines", "run_report")
