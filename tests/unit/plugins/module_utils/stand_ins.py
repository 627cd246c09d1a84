# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand-in components: real processes that carry a component's name and flags, and a kubelet that starts them again."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._model import Process
from ansible_collections.certops.kubernetes.plugins.module_utils._processes import RunningProcess, list_processes

if t.TYPE_CHECKING:
    from collections.abc import Collection

_OBEDIENT = "import time; print(flush=True); time.sleep(60)"
_STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
# Tells the processes of this test run from those of clusters, sandboxes and other test runs on the same machine.
_MARK = "--id=%d-" % os.getpid()
_number = itertools.count()


def start(name: str, stubborn: bool = False, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a process whose program is called `name`, and return when it runs; a stubborn one ignores SIGTERM."""
    program = _STUBBORN if stubborn else _OBEDIENT
    process = subprocess.Popen([name, "-c", program, *arguments], executable=sys.executable, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def look_up(pid: int) -> Process:
    """The process as discovery sees it."""
    return next(running.process for running in list_processes() if running.process.pid == pid)


def list_own_processes(proc: str = "/proc", names: Collection[str] | None = None) -> list[RunningProcess]:
    """`list_processes`, as on a machine where nothing but this test's kubelets start components."""
    return [running for running in list_processes(proc, names) if any(word.startswith(_MARK) for word in running.argv)]


class Kubelet:
    """Starts a component again `delay` seconds after it ended; not before `cleared` is set, with `backs_off`."""

    def __init__(self, name: str, stubborn: bool = False, delay: float = 0.05, backs_off: bool = False) -> None:
        self._name, self._stubborn, self._delay = name, stubborn, delay
        self._argument = "%s%d" % (_MARK, next(_number))  # no other test's process has the same command line
        self.cleared = threading.Event()
        if not backs_off:
            self.cleared.set()
        self._stopping = threading.Event()
        self.on_end: t.Callable[[], None] = lambda: None
        self.on_start: t.Callable[[], None] = lambda: None
        self._current = start(name, stubborn, self._argument)
        self._thread = threading.Thread(target=self._supervise, daemon=True)

    def __enter__(self) -> Kubelet:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self.cleared.set()
        self._kill()
        self._thread.join(10)
        self._kill()  # what was being started meanwhile, which the next test would take for its own

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # before Python 3.10 when the thread has just waited for it
            self._current.kill()

    def process(self) -> Process:
        """The one that runs; others may see a successor before it has said that it runs."""
        deadline = time.monotonic() + 30
        while self._current.poll() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        return look_up(self._current.pid)

    def _supervise(self) -> None:
        while not self._stopping.is_set():
            self._current.wait()
            assert self._current.stdout is not None
            self._current.stdout.close()
            if self._stopping.is_set():
                return
            self.on_end()
            time.sleep(self._delay)
            self.cleared.wait()
            if self._stopping.is_set():
                return
            self._current = start(self._name, self._stubborn, self._argument)
            self.on_start()
