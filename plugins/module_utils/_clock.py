# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Whether the clocks of nodes and controller agree: pure functions for the controller.

A clock that is read over a connection is known within bounds only, however long that took: what differs is said only where it is certain.
"""

from __future__ import annotations

import typing as t
from datetime import datetime, timezone

from ansible_collections.certops.kubernetes.plugins.module_utils._plan import duration

Bounds = t.Mapping[str, float]

# More than clocks that something keeps right differ, and less than makes a Lease look stale.
TOLERATED_SECONDS = 5
# New certificates are valid from so long before they are made; beyond it they are not valid yet for others.
BACKDATED_SECONDS = 300

CODE = "clock_skew"
_REMEDY = "Look at `timedatectl` and `chronyc tracking` on both, and let NTP keep them."


def clock_bounds(node: t.Mapping[str, t.Any], asked: float, answered: float) -> dict[str, float] | None:
    """How many seconds a node's clock is ahead of the controller's, at least and at most; None for a node that does not tell its time.

    `node` is what `certificate_info` says of it: `now` when it began, in whole seconds, and `seconds_taken`. `asked` and `answered` are the
    controller's Unix times before and after the task.
    """
    try:
        began = datetime.strptime(str(node["now"]), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp()
        taken = float(node["seconds_taken"])
    except (KeyError, TypeError, ValueError):
        return None
    low, high = sorted((began + taken - answered, began + 1 - asked))
    return {"ahead_at_least": round(low, 3), "ahead_at_most": round(high, 3)}


def clock_findings(clocks: t.Mapping[str, Bounds | None]) -> list[dict[str, t.Any]]:
    """What is wrong with the hosts' clocks, each against the controller's, and where that shows nothing, against each other's."""
    known = {host: bounds for host, bounds in clocks.items() if bounds}
    found = [(host, _certain(bounds), "of the controller") for host, bounds in known.items()]
    wrong = [(host, seconds, whose) for host, seconds, whose in found if abs(seconds) > TOLERATED_SECONDS]
    if not wrong and len(known) > 1:
        wrong = [entry for entry in [_farthest_apart(known)] if entry[1] > TOLERATED_SECONDS]
    together = len(wrong) == len(known) > 1 and _farthest_apart(known)[1] <= TOLERATED_SECONDS
    return [_finding(*entry, controller_alone=together) for entry in wrong]


def clock_obstacles(clocks: t.Mapping[str, Bounds | None]) -> list[str]:
    """Why clocks keep anything from being rotated, as sentences."""
    return [
        "%s New certificates are valid from %s before they are made, so nothing is rotated with such a clock. %s"
        % (finding["message"], duration(BACKDATED_SECONDS), finding["remedy"])
        for finding in clock_findings(clocks)
        if finding["severity"] == "critical"
    ]


def _certain(bounds: Bounds) -> float:
    """What of a difference is certain; negative for a clock that is behind."""
    return max(0.0, bounds["ahead_at_least"]) + min(0.0, bounds["ahead_at_most"])


def _farthest_apart(known: t.Mapping[str, Bounds]) -> tuple[str, float, str]:
    """The host whose clock is the most ahead, by how much at least, and of whose."""
    fast = max(known, key=lambda host: known[host]["ahead_at_least"])
    slow = min(known, key=lambda host: known[host]["ahead_at_most"])
    return fast, known[fast]["ahead_at_least"] - known[slow]["ahead_at_most"], "of %s" % slow


def _finding(host: str, seconds: float, whose: str, controller_alone: bool) -> dict[str, t.Any]:
    where = "ahead of" if seconds > 0 else "behind"
    message = "The clock of %s is at least %s %s that %s." % (host, duration(int(abs(seconds))), where, whose)
    if controller_alone:
        message += " All nodes agree with each other, so the controller's may be the wrong one."
    severity = "critical" if abs(seconds) > BACKDATED_SECONDS else "warning"
    return {"code": CODE, "severity": severity, "message": message, "remedy": _REMEDY, "host": host}


__all__ = ("BACKDATED_SECONDS", "TOLERATED_SECONDS", "clock_bounds", "clock_findings", "clock_obstacles")
