# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What an inspection found, in numbers and in plain words: pure functions of certificate records."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils import _model
from ansible_collections.certops.kubernetes.plugins.module_utils._clock import clock_findings
from ansible_collections.certops.kubernetes.plugins.module_utils._elsewhere_records import compared
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_answers import with_answers
from ansible_collections.certops.kubernetes.plugins.module_utils._model import SCHEMA_VERSION, Finding
from ansible_collections.certops.kubernetes.plugins.module_utils._shared import shared_findings

Record = t.Mapping[str, t.Any]
RECORD_KEYS = tuple(field.name for field in dataclasses.fields(_model.Record))

# From good to bad. `level` is what the exit policy compares, `rank` orders tables.
STATUSES = ("ok", "warning", "critical", "missing", "unreadable", "unreachable", "not_yet_valid", "expired")
LEVELS = ("ok", "warning", "critical", "expired")
TABLE_LIMIT = 300  # more lines than this nobody reads; then only what is wrong is listed


def certificate_records(
    results: t.Mapping[str, t.Mapping[str, t.Any]], kubelet_answers: t.Sequence[t.Mapping[str, t.Any]] | None = None
) -> list[dict[str, t.Any]]:
    """The records of all hosts from `certificate_info`'s results by inventory name.

    A node that was not reached, or where the module failed, becomes one record named `node` that says so. Kubeconfigs on hosts outside of
    the cluster are compared with what its nodes have. `kubelet_answers` are what kubelets of workers told on control-plane nodes.
    """
    results = with_answers(results, kubelet_answers)
    records: list[dict[str, t.Any]] = []
    for host, result in results.items():
        if "certificates" in result:
            records += [dict(record, host=host) for record in result["certificates"]]
        else:
            records.append(_node_record(host, result))
    return compared(records, {host: result.get("node") or {} for host, result in results.items()})


def node_problems(
    results: t.Mapping[str, t.Mapping[str, t.Any]], kubelet_answers: t.Sequence[t.Mapping[str, t.Any]] | None = None
) -> list[dict[str, t.Any]]:
    """Findings about nodes rather than certificates, each with its host: what `certificate_info` found, what their clocks tell, and
    what they should have alike.

    And why kubelets of workers did not tell what they use, by `kubelet_answers`.
    """
    results = with_answers(results, kubelet_answers)
    found = [dict(problem, host=host) for host, result in results.items() for problem in result.get("problems") or ()]
    records = [dict(record, host=host) for host, result in results.items() for record in result.get("certificates") or ()]
    return found + clock_findings({host: result.get("clock") for host, result in results.items()}) + shared_findings(records)


def _node_record(host: str, result: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    said = " ".join(str(result.get("msg") or "no answer").split())
    record: dict[str, t.Any] = dict.fromkeys(RECORD_KEYS)
    record.update(host=host, name="node", component="node", renewable=False, externally_managed=False)
    record.update(readers=[], schema_version=SCHEMA_VERSION)
    if result.get("unreachable"):
        message, remedy = "%s could not be reached: %s" % (host, said), "Check the connection: ansible -m ping %s" % host
        finding = Finding("unreachable", "critical", message, remedy)
    else:
        message = "%s could not be inspected: %s" % (host, said)
        finding = Finding("inspection_failed", "critical", message, "Mend the cause, then inspect again.")
    record["status"] = "unreachable" if result.get("unreachable") else "unreadable"
    record["not_renewable_because"] = finding.message
    record["findings"] = [dataclasses.asdict(finding)]
    return record


def record_level(record: Record) -> str:
    """How bad a record is, its findings included: ok, warning, critical or expired."""
    status = record["status"]
    level = status if status in LEVELS else "critical"
    for finding in record["findings"]:
        if finding["severity"] in LEVELS:
            level = max(level, finding["severity"], key=LEVELS.index)
    return str(level)


def inspection_summary(
    records: t.Sequence[Record], fail_on: str = "never", problems: t.Sequence[t.Mapping[str, t.Any]] = ()
) -> dict[str, t.Any]:
    """Counts, the worst, the next end date, and whether the exit policy `fail_on` fails the run.

    `problems` are findings about nodes rather than certificates. Key `artifact` is what a scheduler reads; `lines` is for people.
    """
    counts = {status: sum(1 for record in records if record["status"] == status) for status in STATUSES}
    levels = [record_level(record) for record in records]
    levels += [problem["severity"] for problem in problems if problem["severity"] in LEVELS]
    worst = max(levels, key=LEVELS.index, default="ok")
    ahead = [record for record in records if record["seconds_left"] is not None and record["seconds_left"] > 0]
    following = min(ahead, key=lambda record: int(record["seconds_left"]), default=None)
    artifact = {
        "schema_version": SCHEMA_VERSION,
        "certificates": len(records) - sum(1 for record in records if record["name"] == "node"),
        "nodes": len({record["host"] for record in records}),
        "counts": counts,
        "unreachable": counts["unreachable"],
        "findings": sum(len(record["findings"]) for record in records) + len(problems),
        "worst": worst,
        "next_not_after": following["not_after"] if following else None,
        "next_name": "%s on %s" % (following["name"], following["host"]) if following else None,
        "fail_on": fail_on,
        "failed": fail_on != "never" and LEVELS.index(worst) >= LEVELS.index(fail_on),
    }
    return {"artifact": artifact, "headline": _headline(artifact, following), "lines": summary_lines(records, problems)}


def _headline(artifact: t.Mapping[str, t.Any], following: Record | None) -> str:
    parts = ["%d certificates on %d node%s" % (artifact["certificates"], artifact["nodes"], "" if artifact["nodes"] == 1 else "s")]
    parts += ["%d %s" % (count, status.replace("_", " ")) for status, count in artifact["counts"].items() if count]
    if following:
        parts.append("next to expire: %s, %s (%s days left)" % (artifact["next_name"], following["not_after"], following["days_left"]))
    return "; ".join(parts)


def summary_lines(records: t.Sequence[Record], problems: t.Sequence[t.Mapping[str, t.Any]] = ()) -> list[str]:
    """A table in plain words, the worst first; each finding below it with its remedy."""
    shown = sorted(records, key=_badness)
    left_out = 0
    if len(shown) > TABLE_LIMIT:
        shown = [record for record in shown if record_level(record) != "ok"]
        left_out = len(records) - len(shown)
    rows = [("NAME", "NODE", "EXPIRES", "DAYS LEFT", "STATUS", "FINDINGS")]
    rows += [_row(record) for record in shown]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    if left_out:
        lines.append("… and %d more that are fine" % left_out)
    for record in shown:
        lines += ["%s on %s: %s" % (record["name"], record["host"], finding_text(finding)) for finding in record["findings"]]
    return lines + [finding_text(problem) for problem in problems]


def finding_text(finding: t.Mapping[str, t.Any]) -> str:
    """A finding in one line: how bad, what, and what to do."""
    return ("%s: %s %s" % (finding["severity"], finding["message"], finding["remedy"] or "")).strip()


def _row(record: Record) -> tuple[str, str, str, str, str, str]:
    days = record["days_left"]
    return (
        record["name"],
        record["host"],
        record["not_after"] or "-",
        "-" if days is None else str(days),
        record["status"].replace("_", " "),
        ", ".join(finding["code"] for finding in record["findings"]) or "-",
    )


def _badness(record: Record) -> tuple[int, int, float, str, str]:
    left = record["seconds_left"]
    return (
        -LEVELS.index(record_level(record)),
        -STATUSES.index(record["status"]) if record["status"] in STATUSES else 0,
        float("inf") if left is None else left,
        record["host"],
        record["name"],
    )


__all__ = (
    "LEVELS",
    "RECORD_KEYS",
    "STATUSES",
    "certificate_records",
    "inspection_summary",
    "node_problems",
    "record_level",
    "summary_lines",
)
