# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""On the controller: who this run is, for the cluster's lock, and whether the run that holds it has ended without letting it go."""

from __future__ import annotations

import getpass
import multiprocessing
import os
import socket
import typing as t

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def run_holder(run: t.Mapping[str, t.Any], playbook: str, job_id: t.Any = "", user: t.Any = "") -> dict[str, str]:
    """The holder as `cluster_lock` takes it. `run` has id and started_at; `job_id` and `user` are AWX' own, where it is AWX."""
    return {
        "run_id": str(run["id"]),
        "since": str(run["started_at"]),
        "playbook": playbook,
        "user": str(user or _user()),
        "controller": socket.gethostname(),
        "job_id": str(job_id or ""),
        "process": controller_process(),
    }


def controller_process(proc: str = "/proc", pid: int | None = None) -> str:
    """This controller's process, as "BOOT:PID NAMESPACE:PID:START": so that one machine can tell later whether it still runs.

    "" where that cannot be told, as on systems without /proc.
    """
    pid = pid or _main_process()
    try:
        with open(_BOOT_ID if proc == "/proc" else os.path.join(proc, "boot_id"), encoding="ascii") as stream:
            boot = stream.read().strip()
        namespace = os.readlink(os.path.join(proc, "self", "ns", "pid")).strip("pid:[]")
    except OSError:
        return ""
    started = _start(proc, pid)
    return "%s:%s:%d:%s" % (boot, namespace, pid, started) if started else ""


def holder_has_ended(holder: t.Mapping[str, t.Any], proc: str = "/proc") -> bool:
    """Whether the run that holds a lock is known to have ended: it was started on this very machine, and its process is gone."""
    process, own = str(holder.get("process") or "").split(":"), controller_process(proc).split(":")
    if len(process) != 4 or len(own) != 4 or process[:2] != own[:2] or not process[2].isdigit():
        return False
    return _start(proc, int(process[2])) != process[3]


def _main_process() -> int:
    """Ansible renders templates in processes of their own, which end with their task."""
    parent = multiprocessing.parent_process()
    return parent.pid if parent is not None and parent.pid else os.getpid()


def _start(proc: str, pid: int) -> str:
    """Field 22 of proc(5)'s stat; "" when there is no such process, or it has ended and is only not buried yet."""
    try:
        with open(os.path.join(proc, str(pid), "stat"), encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if not fields or fields[0] in ("Z", "X") else fields[19]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such user in passwd, as in some containers
        return "uid %d" % os.getuid()


__all__ = ("controller_process", "holder_has_ended", "run_holder")
