# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a killed process wrote is there all the same; what was written when the power fails is there only if it was synced.

No power is cut here. From the order of a run's calls it follows whether each step was on disk before the next one began.
"""

from __future__ import annotations

import os
import typing as t

# The lock says who holds it, to whoever asks meanwhile; after a power failure nobody does. The folder is there since the first run.
_NOT_KEPT = ("/var/lib/certops/lock", "/var/lib/certops")


def undurable(calls: t.Sequence[str], existing: t.Collection[str]) -> list[str]:
    """The calls whose effect was not on disk when something else was begun. `existing`: what was there before."""
    there = set(existing)
    problems = []
    for number, call in enumerate(calls):
        name, *paths = call.rpartition("#")[0].split(" ")
        if not paths or paths[-1] in _NOT_KEPT or (name.startswith("mkdir") and paths[-1] in there):
            continue
        there.add(paths[-1])
        if name in ("write", "pwrite64", "writev"):
            wanted = "fsync " + paths[0]
        elif name in ("rename", "renameat", "renameat2", "mkdir", "mkdirat"):
            wanted = "fsync " + os.path.dirname(paths[-1])
        elif name == "fsync" and _is_new(calls[:number], paths[0]):
            wanted = "fsync " + os.path.dirname(paths[0])
        else:
            continue
        if not _comes_first(wanted, calls[number + 1 :], paths[-1]):
            problems.append("%s is not followed by %s" % (call, wanted))
    return problems


def _is_new(before: t.Sequence[str], path: str) -> bool:
    return any(call.startswith("openat %s#" % path) for call in before)


def _comes_first(wanted: str, calls: t.Sequence[str], path: str) -> bool:
    """Whether this call comes before any that touches another path."""
    for call in calls:
        text = call.rpartition("#")[0]
        if text == wanted or (text.startswith("rename %s " % path) and wanted == "fsync " + os.path.dirname(path)):
            return True
        if path not in text.split(" ")[1:]:
            return False
    return False
