# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What comes of a gate's answer: on, wait, or stop; each check has its own time limit. Pure functions for the controller."""

from __future__ import annotations

import typing as t

PASSED = "passed"
WAITING = "waiting"
FAILED = "failed"
_WELL_ENOUGH = ("healthy", "expired_only")
_NO_ANSWER = "no answer"

Answer = t.Mapping[str, t.Any]


def gate_outcome(
    health: Answer,
    gate: str,
    previous: Answer | None,
    now: float,
    limit: int,
    limits: t.Mapping[str, int] | None = None,
) -> dict[str, t.Any]:
    """The answer of `cluster_health_info`, with what comes of it: `state` is passed, waiting or failed, `line` says why.

    `gate` is "before" or "after"; `previous` is what came of the last answer at any gate, or None. `now` is Unix time. A check that is not
    as it should be is waited for `limit` seconds, or for as long as `limits` has for its name; the first whose time is over ends the wait.
    """
    waits_on = previous is not None and previous.get("gate") == gate and previous.get("state") == WAITING
    since = float(previous["since"]) if previous is not None and waits_on else now
    waited = max(0.0, now - since)
    outcome = {key: health.get(key) for key in ("verdict", "msg", "checks", "unreachable") if key in health}
    outcome.update(gate=gate, since=since, waited_seconds=round(waited, 1))
    if health.get("verdict") in _WELL_ENOUGH:
        return dict(outcome, state=PASSED, line=str(health.get("msg")))
    failed = _failed_checks(health)
    over = [name for name in failed if waited >= (limits or {}).get(name, limit)]
    last = max((limits or {}).get(name, limit) for name in failed)
    reason = "; ".join(failed.values())
    if over:
        return dict(outcome, state=FAILED, line="%s (waited for %d s)" % (reason, waited))
    return dict(outcome, state=WAITING, line="Waiting, %d of %d s: %s" % (waited, last, reason))


def _failed_checks(health: Answer) -> dict[str, str]:
    """The message of each failed check by its name; an answer without checks is one of its own."""
    found = {check["name"]: str(check["message"]) for check in health.get("checks") or () if not check["ok"]}
    return found or {_NO_ANSWER: " ".join(str(health.get("msg") or _NO_ANSWER).split())}


__all__ = ("FAILED", "PASSED", "WAITING", "gate_outcome")
