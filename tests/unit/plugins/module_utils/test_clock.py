# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._clock import (
    BACKDATED_SECONDS,
    clock_bounds,
    clock_findings,
    clock_obstacles,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_renew import BACKDATE

NOON = 1795608000.0  # 2026-11-25T12:00:00Z


def bounds(low: float, high: float | None = None) -> dict[str, float]:
    """What is known of a clock; exactly that much, unless told."""
    return {"ahead_at_least": low, "ahead_at_most": low if high is None else high}


def test_the_threshold_is_what_certificates_are_backdated_by() -> None:
    assert BACKDATE.total_seconds() == BACKDATED_SECONDS


def test_the_time_that_the_task_took_is_no_difference() -> None:
    node = {"now": "2026-11-25T12:00:03Z", "seconds_taken": 4.0}
    # Asked at noon, begun three seconds later, answered after nine.
    assert clock_bounds(node, NOON, NOON + 9) == {"ahead_at_least": -2.0, "ahead_at_most": 4.0}
    # The same on a node that is a minute ahead.
    ahead = {"now": "2026-11-25T12:01:03Z", "seconds_taken": 4.0}
    assert clock_bounds(ahead, NOON, NOON + 9) == {"ahead_at_least": 58.0, "ahead_at_most": 64.0}


@pytest.mark.parametrize(
    "node", [{}, {"now": "noon", "seconds_taken": 1}, {"now": None, "seconds_taken": None}, {"now": "2026-11-25T12:00:03Z"}]
)
def test_a_node_that_does_not_tell_its_time(node: dict[str, t.Any]) -> None:
    assert clock_bounds(node, NOON, NOON + 1) is None


@pytest.mark.parametrize(
    ("known", "severity", "said"),
    [
        (bounds(6), "warning", "The clock of a is at least 6 seconds ahead of that of the controller."),
        (bounds(-90, -80.5), "warning", "The clock of a is at least 80 seconds behind that of the controller."),
        (bounds(601, 700), "critical", "The clock of a is at least 10 minutes ahead of that of the controller."),
        (bounds(-4000, -3900), "critical", "The clock of a is at least 65 minutes behind that of the controller."),
    ],
)
def test_a_clock_that_differs_from_the_controllers(known: dict[str, float], severity: str, said: str) -> None:
    (found,) = clock_findings({"a": known, "b": bounds(0), "lost": None})
    assert (found["code"], found["severity"], found["message"], found["host"]) == ("clock_skew", severity, said, "a")
    assert found["remedy"]


@pytest.mark.parametrize("known", [bounds(5), bounds(-5), bounds(-300, 400), bounds(-1, 3000), bounds(-3000, 1)])
def test_what_is_not_certain_is_not_said(known: dict[str, float]) -> None:
    assert clock_findings({"a": known}) == []


def test_clocks_that_differ_from_each_other() -> None:
    (found,) = clock_findings({"a": bounds(4), "b": bounds(0), "c": bounds(-4, -3)})
    assert (found["host"], found["severity"]) == ("a", "warning")
    assert found["message"] == "The clock of a is at least 7 seconds ahead of that of c."
    assert clock_findings({"a": bounds(4, 9), "b": bounds(-1, 0)}) == []


def test_a_controller_whose_own_clock_is_wrong() -> None:
    found = clock_findings({"a": bounds(900), "b": bounds(899, 903)})
    assert [one["host"] for one in found] == ["a", "b"]
    assert all("the controller's may be the wrong one" in one["message"] for one in found)
    (alone,) = clock_findings({"a": bounds(900)})
    assert "wrong one" not in alone["message"]
    apart = clock_findings({"a": bounds(900), "b": bounds(800)})
    assert all("wrong one" not in one["message"] for one in apart)


def test_only_a_clock_beyond_the_backdating_is_an_obstacle() -> None:
    assert clock_obstacles({"a": bounds(299), "b": bounds(0), "c": {}}) == []
    (sentence,) = clock_obstacles({"a": bounds(-400), "b": bounds(0)})
    assert sentence.startswith(
        "The clock of a is at least 6 minutes behind that of the controller. New certificates are valid from 5 minutes"
    )
