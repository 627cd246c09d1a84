# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What a gate says: its checks, and the verdict over them."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

# Before the name of a certificate that lies on another node
ELSEWHERE = "elsewhere:"


@dataclass(frozen=True)
class Check:
    """One answer of the gate. `caused_by_expired`: names of the expired certificates that explain a failure.

    `tolerated` are those among them that no plan renews and that keep no other one from being renewed. `remark` is worth saying, but
    no failure.
    """

    name: str
    ok: bool
    message: str
    caused_by_expired: tuple[str, ...] = ()
    tolerated: tuple[str, ...] = ()
    remark: str | None = None


@dataclass(frozen=True)
class Health:
    """The gate's verdict: healthy, expired_only (nothing is wrong but what the plan cures) or unhealthy."""

    verdict: str
    checks: tuple[Check, ...]

    def summary(self) -> str:
        """The verdict and what led to it, in one line."""
        failed = [check.message for check in self.checks if not check.ok]
        said = "%s: %s" % (self.verdict, "; ".join(failed) if failed else ", ".join(check.name for check in self.checks))
        return "; ".join([said, *(check.remark for check in self.checks if check.remark)])


def judge(checks: t.Sequence[Check], planned: t.Iterable[str], planned_elsewhere: t.Iterable[str] = ()) -> Health:
    """The verdict. `planned` are certificates of this node that are about to be renewed, `planned_elsewhere` those of other nodes."""
    failed = [check for check in checks if not check.ok]
    cured = {*planned, *(ELSEWHERE + name for name in planned_elsewhere)}
    if not failed:
        verdict = "healthy"
    elif all(check.caused_by_expired and set(check.caused_by_expired) <= {*cured, *check.tolerated} for check in failed):
        verdict = "expired_only"
    else:
        verdict = "unhealthy"
    return Health(verdict, tuple(checks))


def explain(what: str, reason: object, causes: t.Sequence[str]) -> str:
    """What is wrong, why (None: nothing is known), and which expired certificates are to blame."""
    return "%s%s%s" % (what, ": %s" % reason if reason else "", blame(causes) if causes else "")


def blame(causes: t.Sequence[str]) -> str:
    """The expired certificates that explain a failure, as the end of a sentence."""
    words = ["%s of another node" % cause[len(ELSEWHERE) :] if cause.startswith(ELSEWHERE) else cause for cause in causes]
    return " (expired: %s; renewing cures it)" % ", ".join(words)


__all__ = ("ELSEWHERE", "Check", "Health", "blame", "explain", "judge")
