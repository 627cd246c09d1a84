# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an inspection found, in numbers and in words."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._summary import (
    RECORD_KEYS,
    certificate_records,
    inspection_summary,
    record_level,
    summary_lines,
)
from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import record


def finding(severity: str, code: str = "key_mismatch") -> dict[str, str]:
    """One finding."""
    return {"code": code, "severity": severity, "message": "Something is wrong.", "remedy": "Mend it."}


def test_records_carry_the_inventory_name() -> None:
    """A node does not know what the inventory calls it."""
    (one,) = certificate_records({"cp1": {"certificates": [record("apiserver", host="localhost.localdomain")]}})
    assert one["host"] == "cp1"


@pytest.mark.parametrize(
    ("result", "status", "code", "said"),
    [
        (
            {"unreachable": True, "msg": "Connection\n timed out"},
            "unreachable",
            "unreachable",
            "cp1 could not be reached: Connection timed out",
        ),
        (
            {"failed": True, "msg": "cryptography is missing"},
            "unreadable",
            "inspection_failed",
            "could not be inspected: cryptography is missing",
        ),
        ({}, "unreadable", "inspection_failed", "no answer"),
    ],
)
def test_a_node_without_an_answer_is_a_record(result: dict[str, t.Any], status: str, code: str, said: str) -> None:
    """With every key, so that nothing downstream needs to care."""
    (one,) = certificate_records({"cp1": result})
    assert set(one) == set(RECORD_KEYS)
    assert (one["host"], one["name"], one["status"], one["findings"][0]["code"]) == ("cp1", "node", status, code)
    assert said in one["findings"][0]["message"]
    assert record_level(one) == "critical"


@pytest.mark.parametrize(
    ("status", "severities", "level"),
    [
        ("ok", [], "ok"),
        ("ok", ["info"], "ok"),
        ("ok", ["info", "warning"], "warning"),
        ("ok", ["warning", "critical"], "critical"),
        ("warning", [], "warning"),
        ("critical", ["warning"], "critical"),
        ("missing", [], "critical"),
        ("not_yet_valid", [], "critical"),
        ("expired", ["critical"], "expired"),
    ],
)
def test_findings_count_beside_the_date(status: str, severities: list[str], level: str) -> None:
    """A certificate with a year left is critical when its key is another one's."""
    assert record_level(record("apiserver", status=status, findings=[finding(severity) for severity in severities])) == level


@pytest.mark.parametrize(
    ("fail_on", "failed_at"),
    [("never", []), ("warning", ["warning", "critical", "expired"]), ("critical", ["critical", "expired"]), ("expired", ["expired"])],
)
@pytest.mark.parametrize("worst", ["ok", "warning", "critical", "expired"])
def test_the_exit_policy(fail_on: str, failed_at: list[str], worst: str) -> None:
    """From that level on the run fails."""
    artifact = inspection_summary([record("a"), record("b", status=worst)], fail_on)["artifact"]
    assert artifact["worst"] == worst
    assert artifact["failed"] is (worst in failed_at)


def test_an_unreachable_node_is_counted_and_fails_at_critical() -> None:
    """It is no certificate, but it is a node."""
    records = certificate_records({"cp1": {"certificates": [record("a"), record("b")]}, "cp2": {"unreachable": True, "msg": "gone"}})
    artifact = inspection_summary(records, "critical")["artifact"]
    counted = {key: artifact[key] for key in ("certificates", "nodes", "unreachable", "worst", "failed")}
    assert counted == {"certificates": 2, "nodes": 2, "unreachable": 1, "worst": "critical", "failed": True}


def test_the_next_end_is_the_first_one_ahead() -> None:
    """What has expired already is not next."""
    records = [record("gone", -3, status="expired"), record("late", 300), record("soon", 12), record("sa", None)]
    artifact = inspection_summary(records)["artifact"]
    assert (artifact["next_name"], artifact["next_not_after"]) == ("soon on unknown", records[2]["not_after"])
    assert artifact["counts"]["expired"] == 1


def test_nothing_at_all_is_no_traceback() -> None:
    """An empty list of records has a summary too."""
    summary = inspection_summary([])
    assert summary["artifact"]["worst"] == "ok"
    assert summary["artifact"]["next_not_after"] is None
    assert summary["headline"] == "0 certificates on 0 nodes"


def test_problems_of_nodes_count() -> None:
    """A manifest that cannot be read is a finding without a certificate."""
    summary = inspection_summary([record("a")], "critical", [finding("critical", "manifest_unreadable")])
    assert (summary["artifact"]["worst"], summary["artifact"]["findings"], summary["artifact"]["failed"]) == ("critical", 1, True)
    assert "critical: Something is wrong. Mend it." in summary["lines"]


def test_the_table_has_the_worst_first() -> None:
    """One line each, columns aligned, findings with their remedy below."""
    records = [record("fine"), record("dead", -1, status="expired"), record("odd", 200, findings=[finding("critical")])]
    lines = summary_lines(records)
    assert [line.split()[0] for line in lines] == ["NAME", "dead", "odd", "fine", "odd"]
    assert lines[0].index("NODE") == lines[1].index("unknown")
    assert lines[-1] == "odd on unknown: critical: Something is wrong. Mend it."


def test_a_long_table_is_cut_to_what_is_wrong() -> None:
    """Nobody reads a thousand lines."""
    lines = summary_lines([record("name%d" % number) for number in range(1000)] + [record("bad", 1, status="critical")])
    assert [line.split()[0] for line in lines] == ["NAME", "bad", "…"]
    assert "1000 more" in lines[-1]
