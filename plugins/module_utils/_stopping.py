# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Stop one process and prove that it is gone; systemd units. No container tool is needed.

A PID may be given to another process at any time. Where the kernel and Python have it (Linux 5.3, Python 3.9), the process is held
by a pidfd; elsewhere its start time is compared right before each signal.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._api import parse_go_duration
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._processes import listens, process_alive

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Component, Process

# How long the kernel may take to end a process after SIGKILL.
_KILL_SECONDS = 10.0
_POLL_SECONDS = 0.02
# An API server closes its listener within 0.3 s of the signal, or of the end of its --shutdown-delay-duration (docs/restarts.md).
_LISTENER_SECONDS = 5.0
# For requests that it had accepted by then, before etcd is taken away from under it.
_IN_FLIGHT_SECONDS = 1.0
_SYSTEMCTL_SECONDS = 10.0


class _Handle:
    """A process that is signalled and waited for, and never confused with a later one of the same PID."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._descriptor = _pidfd(process.pid)
        # Only after the pidfd is open does the check hold for what the pidfd stands for.
        self.alive = process_alive(process)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process is gone meanwhile. Raises CertopsError without permission."""
        try:
            if self._descriptor is not None:
                signal.pidfd_send_signal(self._descriptor, number)
            elif process_alive(self._process):
                os.kill(self._process.pid, number)
        except ProcessLookupError:
            pass
        except PermissionError as exc:
            raise CertopsError("process %d may not be signalled: run this as root (become: true)" % self._process.pid) from exc

    def gone_within(self, seconds: float) -> bool:
        """Wait until the process has ended, for so many seconds at most."""
        if self._descriptor is not None:
            poll = select.poll()
            poll.register(self._descriptor, select.POLLIN)
            if not poll.poll(max(0.0, seconds) * 1000):
                return False
        deadline = time.monotonic() + seconds
        while process_alive(self._process):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def close(self) -> None:
        """Let go of the process."""
        if self._descriptor is not None:
            os.close(self._descriptor)


def stop_process(process: Process, stop_timeout: float, drain: t.Callable[[float], float] | None = None) -> bool:
    """SIGTERM, wait at most `stop_timeout` seconds, SIGKILL, and prove that the process is gone.

    `drain` is called after the SIGTERM with that time, and returns what is left of it. Returns whether it had to be killed. Raises
    CertopsError when it may not be signalled or cannot be ended.
    """
    handle = _Handle(process)
    try:
        if not handle.alive:
            return False
        handle.send(signal.SIGTERM)
        if handle.gone_within(drain(stop_timeout) if drain else stop_timeout):
            return False
        handle.send(signal.SIGKILL)
        if not handle.gone_within(_KILL_SECONDS):
            raise CertopsError(
                "process %d (%s) is still there %g s after SIGKILL: look at its state in /proc/%d/status (a hanging disk?)"
                % (process.pid, os.path.basename(process.argv[0]) if process.argv else "?", _KILL_SECONDS, process.pid)
            )
        return True
    finally:
        handle.close()


class Drain:
    """What happens between an API server's SIGTERM and its end."""

    def __init__(self, component: Component, meanwhile: t.Callable[[], object] | None = None) -> None:
        """`meanwhile` is what is to be done when it takes no more connections and has had a moment to answer the last ones."""
        self._ports = [endpoint.port for endpoint in component.endpoints]
        self._pid = component.process.pid if component.process else 0
        self._delay = shutdown_delay_seconds(component)
        self._meanwhile = meanwhile

    def __call__(self, stop_timeout: float) -> float:
        """Wait until it takes no more connections, do what is to be done meanwhile; the seconds that are left of its time."""
        deadline = time.monotonic() + self._delay + _LISTENER_SECONDS
        while any(listens(self._pid, port) for port in self._ports) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        closed = time.monotonic()
        if self._meanwhile:
            time.sleep(min(stop_timeout, _IN_FLIGHT_SECONDS))
            self._meanwhile()
        return max(0.0, stop_timeout - (time.monotonic() - closed))


def shutdown_delay_seconds(component: Component) -> float:
    """How long an API server goes on taking requests after a SIGTERM (its --shutdown-delay-duration; kubeadm sets none, which is 0)."""
    try:
        return parse_go_duration(component.flag("shutdown-delay-duration") or "0s")
    except CertopsError:
        return 0.0


def restart_unit(unit: str, timeout: float) -> None:
    """`systemctl restart UNIT`. Raises CertopsError with systemd's words when it fails."""
    _systemctl(["restart", unit], timeout)


def restart_unit_within(unit: str, process: Process | None, stop_timeout: float) -> bool:
    """Have systemd restart a unit, whose process may take `stop_timeout` seconds to end before it is killed, as `stop_process` does it.

    Returns whether it had to be killed. The start is systemd's and not waited for; that it failed before, even too often, does not
    count. Raises CertopsError.
    """
    with contextlib.suppress(CertopsError):  # of a unit that did not fail there is nothing to forget
        _systemctl(["reset-failed", unit], _SYSTEMCTL_SECONDS)
    _systemctl(["restart", "--no-block", unit], _SYSTEMCTL_SECONDS)
    return stop_process(process, stop_timeout) if process is not None else False


def _systemctl(arguments: list[str], timeout: float) -> None:
    command = " ".join(["systemctl", *arguments])
    try:
        result = subprocess.run(  # pylint: disable=ansible-bad-function  # there is no AnsibleModule in here
            ["systemctl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise CertopsError("%s did not end within %g s: see `journalctl -u %s`" % (command, timeout, arguments[-1])) from exc
    except OSError as exc:
        raise CertopsError("%s cannot be run (%s)" % (command, exc.strerror)) from exc
    if result.returncode != 0:
        words = " ".join(result.stdout.decode("utf-8", "replace").split())[:300]
        raise CertopsError("%s failed (%s): see `journalctl -u %s`" % (command, words, arguments[-1]))


def _pidfd(pid: int) -> int | None:
    if not hasattr(os, "pidfd_open") or not hasattr(signal, "pidfd_send_signal"):
        return None
    try:
        return int(os.pidfd_open(pid))
    except OSError:  # an old kernel, or no such process: the start time decides
        return None


__all__ = ("Drain", "restart_unit", "restart_unit_within", "shutdown_delay_seconds", "stop_process")
