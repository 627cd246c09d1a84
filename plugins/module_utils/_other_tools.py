# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What else changes certificates on this node, or takes it away, right now or in a moment, as sentences.

A `kubeadm` that runs; the renewal that kubespray and KubeKey leave on a node (both call its units k8s-certs-renew); a shutdown that has
begun, or that somebody has scheduled.
"""

from __future__ import annotations

import os
import subprocess
import typing as t
from datetime import datetime, timedelta, timezone

from ansible_collections.certops.kubernetes.plugins.module_utils._files import read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._processes import list_processes, own_processes

# What `shutdown -r +10` leaves for systemd-logind (its source: src/login/logind-dbus.c)
SCHEDULED_SHUTDOWN = "/run/systemd/shutdown/scheduled"
RENEWAL_SERVICE = "k8s-certs-renew.service"
RENEWAL_TIMER = "k8s-certs-renew.timer"
SHUTDOWN = "shutdown.target"
# A rotation of one node, a slow start of its components included, has ended by then.
TIMER_MARGIN = timedelta(minutes=15)

_KUBEADM_CHANGES = ("certs", "init", "join", "reset", "upgrade")
_SYSTEMCTL_TIMEOUT_SECONDS = 10
_PROPERTIES = "Id,ActiveState,Job,NextElapseUSecRealtime"
_UNITS = (RENEWAL_SERVICE, RENEWAL_TIMER, SHUTDOWN)
_BUSY = ("active", "activating", "reloading", "deactivating")


def running_kubeadm(proc: str = "/proc") -> list[str]:
    """The processes of kubeadm on this node that may change certificates, as sentences."""
    return [
        "kubeadm %s is running (pid %d)" % (process.argv[1], process.process.pid)
        for process in own_processes(list_processes(proc, ["kubeadm"]), proc)
        if process.nesting == 1 and len(process.argv) > 1 and process.argv[1] in _KUBEADM_CHANGES
    ]


def scheduled_shutdown(now: datetime, path: str = SCHEDULED_SHUTDOWN) -> list[str]:
    """A shutdown or reboot that is scheduled for a time before a rotation has surely ended, as a sentence."""
    try:
        said = _properties(read_bounded(path).decode("utf-8", "replace"))
        at = datetime.fromtimestamp(int(said["USEC"]) // 1000000, timezone.utc)
    except (CertopsError, KeyError, ValueError, OverflowError, OSError):
        return []  # nothing is scheduled, or nothing that systemd would understand
    mode = said.get("MODE", "shutdown")
    if mode.startswith("dry-") or at - now > TIMER_MARGIN:
        return []
    when = (at.strftime("%Y-%m-%dT%H:%M:%SZ"), TIMER_MARGIN.total_seconds() // 60)
    return ["a %s of this node is scheduled for %s, in less than %d minutes (`shutdown -c` calls it off)" % (mode, *when)]


def systemd_obstacles(now: datetime) -> list[str]:
    """What systemd does now or soon that a rotation must not meet, asked once. A node without systemd has nothing of the kind."""
    try:
        result = subprocess.run(  # pylint: disable=ansible-bad-function  # there is no AnsibleModule in here
            ["systemctl", "show", "--property=" + _PROPERTIES, *_UNITS],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SYSTEMCTL_TIMEOUT_SECONDS,
            check=False,
            # systemctl writes times in its own time zone and language; --timestamp=unix is not known before systemd 248.
            env=dict(os.environ, TZ="UTC", LC_ALL="C"),
        )
    except FileNotFoundError:
        return []
    except (OSError, subprocess.TimeoutExpired) as exc:
        return ["systemctl does not say whether %s is about to renew certificates (%s)" % (RENEWAL_TIMER, exc)]
    return obstacles_in(result.stdout.decode("utf-8", "replace"), now)


def obstacles_in(shown: str, now: datetime) -> list[str]:
    """The sentences that follow from what `systemctl show` printed of our units."""
    units = {unit.get("Id", ""): unit for unit in map(_properties, shown.split("\n\n"))}
    found = []
    if _busy(units.get(SHUTDOWN, {})):
        found.append("the node is shutting down or rebooting (%s)" % SHUTDOWN)
    if _busy(units.get(RENEWAL_SERVICE, {})):
        found.append("%s, the renewal that kubespray or KubeKey installed, is running" % RENEWAL_SERVICE)
    timer = units.get(RENEWAL_TIMER, {})
    fires = _time(timer.get("NextElapseUSecRealtime", ""))
    if timer.get("ActiveState") == "active" and fires is not None and fires - now <= TIMER_MARGIN:
        found.append(
            "%s, the renewal that kubespray or KubeKey installed, starts at %s, in less than %d minutes (`systemctl stop %s` holds it off)"
            % (RENEWAL_TIMER, fires.strftime("%Y-%m-%dT%H:%M:%SZ"), TIMER_MARGIN.total_seconds() // 60, RENEWAL_TIMER)
        )
    return found


def _properties(block: str) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)


def _busy(unit: t.Mapping[str, str]) -> bool:
    return unit.get("ActiveState") in _BUSY or unit.get("Job", "") not in ("", "0")


def _time(text: str) -> datetime | None:
    """A time such as "Mon 2026-12-07 03:00:00 UTC"; None for none (empty while the service runs, "n/a", "infinity")."""
    try:
        return datetime.strptime(text.strip()[4:], "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


__all__ = (
    "RENEWAL_SERVICE",
    "RENEWAL_TIMER",
    "SCHEDULED_SHUTDOWN",
    "SHUTDOWN",
    "TIMER_MARGIN",
    "obstacles_in",
    "running_kubeadm",
    "scheduled_shutdown",
    "systemd_obstacles",
)
