# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Running processes of Kubernetes' components, read from `/proc`, and what a process sees at a path.

A node may run API servers of other people's clusters as ordinary pods (vcluster, Kamaji), or whole clusters in containers
(kind). Three facts tell ours from theirs: the argument vector, the pod's UID in the cgroup (a static pod's is 32 hexadecimal
digits, Kubernetes `pkg/kubelet/config/common.go` applyDefaults; an ordinary pod's is a UUID), and how deeply the process is
nested in PID namespaces. What systemd runs has its unit's name in the cgroup.
"""

from __future__ import annotations

import os
import re
import time
import typing as t
from dataclasses import dataclass
from datetime import datetime, timezone

from ansible_collections.certops.kubernetes.plugins.module_utils._model import Process

if t.TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# cgroupfs driver: ".../pod<uid>/<container>"; systemd driver: "kubepods-burstable-pod<uid, dashes as underscores>.slice".
_POD_UID = re.compile(r"pod([0-9a-f]{32}|[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(?=/|\.slice|:|$)")
_NUMBER = re.compile(r"[0-9]{1,15}\Z")  # more clock ticks than the machine's lifetime has
# What a service of the system runs; what it has put into control groups below its own (a container) is not the service's.
_SERVICE = re.compile(r"/system\.slice/(?:[^/]+\.slice/)*([^/]+\.service)$")
_ENDED = ("Z", "X")  # a zombie, and one that is being removed
_MAX_CMDLINE_BYTES = 256 * 1024
# A container has a PID namespace of its own below the node's; a cluster inside a container is one level deeper.
_DEEPEST_NESTING = 2


@dataclass(frozen=True)
class RunningProcess:
    """A process with what tells whose it is."""

    process: Process
    pod_uid: str | None  # of the innermost pod that its cgroup names; None: in no pod
    nesting: int  # levels of PID namespaces from ours down to its own; 1: the same as ours
    service: str | None = None  # the unit of this node's systemd that runs it
    parent: int = 0  # the PID of the process that started it

    @property
    def argv(self) -> tuple[str, ...]:
        """The argument vector."""
        return self.process.argv

    @property
    def program(self) -> str:
        """The program's name without its folder."""
        return os.path.basename(self.process.argv[0])

    @property
    def in_static_pod(self) -> bool:
        """Whether its cgroup is that of a static pod."""
        return self.pod_uid is not None and len(self.pod_uid) == 32


def list_processes(proc: str = "/proc", names: Collection[str] | None = None) -> list[RunningProcess]:
    """The running processes, oldest PID first; `names` keeps those whose program has one of these base names.

    Processes that end while they are looked at are left out. Kernel threads and zombies have no argument vector and are left out.
    """
    pids = sorted(int(entry) for entry in _entries(proc) if _NUMBER.match(entry))
    found = (_read_process(proc, pid, names) for pid in pids)
    return [process for process in found if process is not None]


def find_process(argv: Sequence[str], proc: str = "/proc") -> Process | None:
    """The process of this node's static pod (or unit) that runs exactly this command, or None.

    The first word is compared by its base name. Of several, one in a static pod wins, then the youngest.
    """
    if not argv:
        return None
    running = own_processes(list_processes(proc, [os.path.basename(argv[0])]), proc)
    chosen = choose(argv, running, exact=True)
    return chosen.process if chosen else None


def own_processes(running: Sequence[RunningProcess], proc: str = "/proc") -> list[RunningProcess]:
    """Those that can be this node's: not in an ordinary pod (but for our own, when we run in one), not in a cluster within a container.

    Nor a component's child that is about to execute a program (`mount`, `iptables`): until then the kernel shows its parent's words for it.
    """
    ours = pod_uid(_read(os.path.join(proc, "self", "cgroup")))
    words = {candidate.process.pid: candidate.argv for candidate in running}
    return [
        candidate
        for candidate in running
        if candidate.nesting <= _DEEPEST_NESTING
        and (candidate.pod_uid is None or candidate.in_static_pod or candidate.pod_uid == ours)
        and words.get(candidate.parent) != candidate.argv
    ]


def choose(argv: Sequence[str], running: Sequence[RunningProcess], *, exact: bool) -> RunningProcess | None:
    """The one of `running` that runs this command.

    With `exact`, every word must agree. Without, a process of a static pod with the same program is accepted as well: its
    manifest may have been changed since it started.
    """
    same_program = [candidate for candidate in running if _same_program(argv, candidate.argv)]
    alike = [candidate for candidate in same_program if tuple(candidate.argv[1:]) == tuple(argv[1:])]
    if not alike and not exact:
        alike = [candidate for candidate in same_program if candidate.in_static_pod]
    return max(alike, key=lambda candidate: (candidate.in_static_pod, candidate.process.start_ticks), default=None)


def process_alive(process: Process, proc: str = "/proc") -> bool:
    """Whether this very process still runs (a later one with the same PID has another start time; a zombie does not run)."""
    stat = _parse_stat(_read(os.path.join(proc, str(process.pid), "stat")))
    return stat is not None and stat.state not in _ENDED and stat.start_ticks == process.start_ticks


def seen_inode(pid: int, path: str, proc: str = "/proc") -> tuple[int, int] | None:
    """(st_dev, st_ino) of what a process sees at a path of its own mount namespace; None when that cannot be seen."""
    try:
        found = os.stat(os.path.join(proc, str(pid), "root", path.lstrip("/")))
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def listens(pid: int, port: int, proc: str = "/proc") -> bool:
    """Whether somebody listens on a TCP port in a process' network; false when the process is gone.

    proc(5): listening sockets (state 0A) come first in these tables, so that what is beyond the read limit does not matter.
    """
    for table in ("tcp", "tcp6"):
        for line in _read(os.path.join(proc, str(pid), "net", table)).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 3 and fields[3] == "0A" and fields[1].endswith(":%04X" % port):
                return True
    return False


def pod_uid(cgroup: str) -> str | None:
    """The UID of the innermost pod that a `/proc/PID/cgroup` names (cgroup v1 or v2, cgroupfs or systemd driver), with dashes."""
    found: list[str] = []
    for line in cgroup.split("\n"):  # not splitlines(): a name may hold what Unicode takes for a line's end
        uids = _POD_UID.findall(line)
        if len(uids) > 0:
            found.append(uids[-1])
    return found[0].replace("_", "-") if found else None


def environment(pid: int, prefix: str, proc: str = "/proc") -> dict[str, str]:
    """The variables with that prefix which a process was started with; others are nobody's business here."""
    entries = _read(os.path.join(proc, str(pid), "environ")).split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry.startswith(prefix) and "=" in entry)


def _same_program(wanted: Sequence[str], argv: Sequence[str]) -> bool:
    return bool(wanted) and bool(argv) and os.path.basename(wanted[0]) == os.path.basename(argv[0])


def _read_process(proc: str, pid: int, names: Collection[str] | None) -> RunningProcess | None:
    folder = os.path.join(proc, str(pid))
    words = _read(os.path.join(folder, "cmdline")).split("\0")
    if words and words[-1] == "":
        words.pop()
    if not words or (names is not None and os.path.basename(words[0]) not in names):
        return None
    stat = _parse_stat(_read(os.path.join(folder, "stat")))
    if stat is None or stat.state in _ENDED:
        return None
    status = _read(os.path.join(folder, "status"))
    uid, gid = _runs_as("Uid", status), _runs_as("Gid", status)
    started = _wall_clock(stat.start_ticks)
    process = Process(pid=pid, start_ticks=stat.start_ticks, argv=tuple(words), started_at=started, uid=uid, gid=gid)
    cgroup, nesting = _read(os.path.join(folder, "cgroup")), _nesting(status)
    # A process of a container that looks like one of a unit is that of a systemd in there.
    return RunningProcess(process, pod_uid(cgroup), nesting, _service(cgroup) if nesting == 1 else None, stat.parent)


def _service(cgroup: str) -> str | None:
    """The unit that a `/proc/PID/cgroup` names (cgroup v1, where systemd's own hierarchy says it, or v2)."""
    for line in cgroup.splitlines():
        found = _SERVICE.search(line)
        if found and line.split(":", 2)[1] in ("", "name=systemd"):
            return found.group(1)
    return None


class _Stat(t.NamedTuple):
    state: str
    parent: int
    start_ticks: int


def _parse_stat(text: str) -> _Stat | None:
    """From `/proc/PID/stat`: proc(5) fields 3, 4 and 22 (clock ticks since boot), counted after the name's bracket."""
    fields = text[text.rfind(")") + 1 :].split()
    if len(fields) < 20 or not _NUMBER.match(fields[1]) or not _NUMBER.match(fields[19]):
        return None
    return _Stat(fields[0], int(fields[1]), int(fields[19]))


def _wall_clock(ticks: int) -> datetime:
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return datetime.fromtimestamp(booted + ticks / os.sysconf("SC_CLK_TCK"), tz=timezone.utc)


def _nesting(status: str) -> int:
    """How many PIDs a process has, from our PID namespace down to its own (`NSpid`, proc(5), since Linux 4.1)."""
    for line in status.split("\n"):
        if line.startswith("NSpid:"):
            return max(1, len(line.split()) - 1)
    return 1


def _runs_as(what: str, status: str) -> int | None:
    """The effective `Uid` or `Gid`. The owner of `/proc/PID` is root's where a program has file capabilities, as kube-apiserver has."""
    for line in status.split("\n"):
        words = line.split()
        if line.startswith(what + ":") and len(words) > 2 and _NUMBER.match(words[2]):
            return int(words[2])
    return None


def _entries(proc: str) -> list[str]:
    try:
        return os.listdir(proc)
    except OSError:
        return []


def _read(path: str) -> str:
    """A small file of `/proc` as text; "" when the process has gone or may not be looked at."""
    try:
        with open(path, "rb") as stream:
            return stream.read(_MAX_CMDLINE_BYTES).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


__all__ = (
    "RunningProcess",
    "choose",
    "environment",
    "find_process",
    "list_processes",
    "listens",
    "own_processes",
    "pod_uid",
    "process_alive",
    "seen_inode",
)
