# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Restart one component of a node and prove that it is back: the process is another one, it is ready, and it has a leader.

What is measured: `away_seconds` from the signal until the new process is ready; `leaderless_seconds` from the signal until somebody
else is seen to lead. How long a component is away is written down in `docs/restarts.md`.
"""

from __future__ import annotations

import contextlib
import os
import time
import typing as t
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from ansible_collections.certops.kubernetes.plugins.module_utils._access import OWN_KUBECONFIG, expired_credentials, leader_client
from ansible_collections.certops.kubernetes.plugins.module_utils._discovery import discover
from ansible_collections.certops.kubernetes.plugins.module_utils._etcd_leadership import hand_over
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import KUBELET
from ansible_collections.certops.kubernetes.plugins.module_utils._lease import Lease, get_lease, release_lease
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._processes import choose, list_processes, own_processes, process_alive
from ansible_collections.certops.kubernetes.plugins.module_utils._readiness import readiness_probe
from ansible_collections.certops.kubernetes.plugins.module_utils._stopping import (
    Drain,
    restart_unit,
    restart_unit_within,
    stop_process,
)

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Component, Node, Process
    from ansible_collections.certops.kubernetes.plugins.module_utils._readiness import Probe

# How long a component may take to end by itself after SIGTERM (measured: docs/restarts.md).
# The API server never does while clients hold watches, and etcd takes seven seconds while API servers watch it, with its listeners
# closed: they are given just enough for the requests in flight. etcd may be killed at any time, what it confirmed is on disk.
STOP_TIMEOUT_SECONDS = {
    "kube-apiserver": 2.0,
    "etcd": 1.0,
    "kube-controller-manager": 5.0,
    "kube-scheduler": 5.0,
    "kubelet": 30.0,
}
# A stopped static pod's container runs again within about a second. One that had been started within the kubelet's back-off window
# (twice its maximum of five minutes) is delayed by 10, 20, 40 s and so on, so after this long the back-off is to blame. Any other one
# is merely slow, and a kubelet restart would make it slower: it is tried only when nothing else is left to try.
BACK_OFF_SUSPECTED_SECONDS = 5.0
BACK_OFF_UNLIKELY_SECONDS = 20.0
_BACK_OFF_WINDOW = timedelta(minutes=10)
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Restart:
    """What a restart did and how long it took."""

    component: str
    pid_before: int | None  # None: it was not running
    pid_after: int | None
    away_seconds: float
    leaderless_seconds: float | None  # None: it has no leader, or its leader could not be seen before; 0.0: another one led
    forced: bool  # it did not end within the stop timeout and was killed
    lease_released: bool = False
    back_off_cleared: bool = False
    led_by: str | None = None  # the member of etcd that leads in its place


def restart_component(
    component: Component,
    stop_timeout: float | None = None,
    start_timeout: float = 120.0,
    node: Node | None = None,
    meanwhile: t.Callable[[], object] | None = None,
) -> Restart:
    """Restart a component of this node and wait until it is back, ready, and (controller manager, scheduler) has a leader.

    `stop_timeout` None: the component's own default (STOP_TIMEOUT_SECONDS); an API server's counts from when it takes no more connections.
    `node` None: it is discovered. `meanwhile` is called when an API server takes no more connections, before it is ended: whatever it
    does to what the API server needs, no request notices. A component that is not running is only waited for. Raises CertopsError when
    it cannot be stopped or is not back within `start_timeout` seconds.
    """
    now = datetime.now(timezone.utc)
    node = node or discover(now)
    if component.process is None or not process_alive(component.process):
        # It may have been started again by itself since it was discovered.
        component = replace(component, process=_running(component))
    timeout = STOP_TIMEOUT_SECONDS.get(component.name, 5.0) if stop_timeout is None else stop_timeout
    led_by = _hand_over(node, component, now)
    watch = _Watch(node, component, start_timeout)
    if component.unit and component.name == KUBELET:
        watch.begin()
        restart_unit(component.unit, timeout=timeout + start_timeout)
        forced = False
    elif component.unit:
        watch.begin()
        forced = restart_unit_within(component.unit, component.process, timeout)
    elif component.process is not None:
        watch.begin()
        forced = stop_process(component.process, timeout, Drain(component, meanwhile) if component.name == "kube-apiserver" else None)
        watch.leadership.release()
    else:
        watch.begin()
        if meanwhile:
            meanwhile()
        forced = False
    return replace(watch.wait_until_back(forced), led_by=led_by)


def _hand_over(node: Node, component: Component, now: datetime) -> str | None:
    """Whoever leads etcd instead of a member that is about to be stopped. When that fails, the others elect one a little later."""
    with contextlib.suppress(CertopsError):
        return hand_over(node, now) if component.name == "etcd" and component.process else None
    return None


def clear_backoff(node: Node, start_timeout: float = 60.0) -> None:
    """Restart the kubelet, so that it forgets how often it had to start a container; running pods are not touched.

    Refused (CertopsError) when the kubelet's client certificate has expired, because then it would not start again.
    """
    kubelet = node.components.get("kubelet")
    if kubelet is None or not kubelet.unit:
        raise CertopsError(
            "the kubelet of this node is no systemd unit, so its back-off cannot be cleared by a restart: wait for it to pass"
        )
    expired = expired_credentials(node, ("kubelet-client", "kubelet.conf"), datetime.now(timezone.utc))
    if expired:
        raise CertopsError(
            "%s has expired: a kubelet that is restarted now would not start again, so it is left alone" % ", ".join(expired)
        )
    restart_component(kubelet, start_timeout=start_timeout, node=node)


def _running(component: Component) -> Process | None:
    """The process of this component that runs at this moment; the youngest, if there are several."""
    argv = component.process.argv if component.process else (component.name,)
    running = own_processes(list_processes(names=[os.path.basename(argv[0])]))
    if component.unit:
        # A kubelet may put itself into another control group than its unit's, and there is but one; of etcd there may be several.
        own = [one for one in running if one.pod_uid is None and (component.name == KUBELET or one.service == component.unit)]
        outside = [candidate.process for candidate in own]
        return max(outside, key=lambda process: process.start_ticks, default=None)
    # Not every word must agree: the manifest may have been changed while the old process ran.
    chosen = choose(argv, running, exact=False)
    return chosen.process if chosen else None


class _Leadership:
    """The Lease of a component that elects a leader: before, and after its process was stopped."""

    def __init__(self, node: Node, component: Component) -> None:
        self._client: ApiClient | None = None
        self._name = component.flag("leader-elect-resource-name") or component.name
        self._namespace = component.flag("leader-elect-resource-namespace") or "kube-system"
        self.lost: Lease | None = None  # the Lease that the stopped process held
        self.nobody_led = False
        self.released = False
        self.problem = ""
        if component.name not in OWN_KUBECONFIG or component.flag("leader-elect") == "false":
            return
        try:
            self._client = leader_client(node, component.name, datetime.now(timezone.utc), timeout=2.0)
            before = self._read()
            self.nobody_led = not before.fresh(datetime.now(timezone.utc))
            if component.process is not None and before.held_by(component.process, os.uname().nodename):
                self.lost = before
        except CertopsError as exc:
            # It cannot be seen who leads, so nothing is released and nothing is waited for: the gate judges.
            self._client, self.problem = None, str(exc)

    @property
    def seen(self) -> bool:
        """Whether there is a leader to wait for."""
        return self._client is not None

    def release(self) -> None:
        """Release the Lease that the stopped process, now proven gone, still holds (a scheduler has released it itself)."""
        if self._client is None or self.lost is None:
            return
        try:
            self.released = release_lease(self._client, self._name, self.lost.holder, self._namespace)
        except CertopsError as exc:
            self.problem = str(exc)  # no harm: the Lease expires by itself

    def restored(self) -> bool:
        """Whether somebody leads now who is not the stopped process. Never raises; `problem` says what was seen."""
        try:
            lease = self._read()
        except CertopsError as exc:
            self.problem = str(exc)
            return False
        self.problem = "Lease %s is held by %r, renewed at %s" % (self._name, lease.holder, lease.renewed)
        dead = self.lost is not None and lease.holder == self.lost.holder
        return not dead and lease.fresh(datetime.now(timezone.utc))

    def _read(self) -> Lease:
        return get_lease(t.cast("ApiClient", self._client), self._name, self._namespace)


class _Watch:
    """Watches a component that is being restarted come back, and takes the times."""

    def __init__(self, node: Node, component: Component, start_timeout: float) -> None:
        self._node = node
        self._component = component
        self._start_timeout = start_timeout
        self.leadership = _Leadership(node, component)
        self._probe = readiness_probe(node, component.name, datetime.now(timezone.utc))
        self._dependent = self._ready_dependent()
        self._old = component.process
        self._new: Process | None = None
        self._seen = "no new process"
        self._began = self._gone = 0.0
        self._ready_after: float | None = None
        self._led_after: float | None = None
        self._back_off_suspected = self._back_off_cleared = False
        recent = self._old is None or datetime.now(timezone.utc) - self._old.started_at < _BACK_OFF_WINDOW
        self._patience = BACK_OFF_SUSPECTED_SECONDS if recent else BACK_OFF_UNLIKELY_SECONDS

    def begin(self) -> None:
        """The component is about to be stopped: the clock starts."""
        self._began = time.monotonic()

    def wait_until_back(self, forced: bool) -> Restart:
        """The component is stopped: wait until it is back. Raises CertopsError when it is not within the time given."""
        self._gone = time.monotonic()
        while not self._look():
            waited = time.monotonic() - self._gone
            if waited > self._start_timeout:
                raise self._not_back()
            if self._new is None and waited > self._patience and not self._back_off_suspected:
                self._clear_back_off()
            time.sleep(_POLL_SECONDS)
        return Restart(
            component=self._component.name,
            pid_before=self._old.pid if self._old else None,
            pid_after=self._new.pid if self._new else None,
            away_seconds=round(t.cast("float", self._ready_after), 3),
            leaderless_seconds=self._leaderless(),
            forced=forced,
            lease_released=self.leadership.released,
            back_off_cleared=self._back_off_cleared,
        )

    def _look(self) -> bool:
        """One look at process, health and leader; True when all are as they should be."""
        if self.leadership.seen and self._led_after is None and self.leadership.restored():
            self._led_after = self._elapsed()
        if self._new is not None and not process_alive(self._new):
            self._seen = "process %d started and ended again" % self._new.pid
            self._new = self._ready_after = None
        if self._new is None:
            self._new = self._find_new()
        if self._new is not None and self._ready_after is None:
            self._ask()
        if self._ready_after is None or (self.leadership.seen and self._led_after is None):
            return False
        return self._dependent_is_ready()

    def _ready_dependent(self) -> Probe | None:
        """What must be ready again after etcd was away, if it was before: the API server needs a moment to connect again."""
        if self._component.name != "etcd" or "kube-apiserver" not in self._node.components:
            return None
        try:
            probe = readiness_probe(self._node, "kube-apiserver", datetime.now(timezone.utc))
            probe()
        except CertopsError:
            return None
        return probe

    def _dependent_is_ready(self) -> bool:
        if self._dependent is None:
            return True
        try:
            self._dependent()
        except CertopsError as exc:
            self._seen = str(exc)
            return False
        return True

    def _ask(self) -> None:
        try:
            self._probe()
        except CertopsError as exc:
            self._seen = str(exc)
        else:
            self._ready_after = self._elapsed()

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _find_new(self) -> Process | None:
        """The component's process, if it is not the stopped one."""
        found = _running(self._component)
        if found is None or (self._old and (found.pid, found.start_ticks) == (self._old.pid, self._old.start_ticks)):
            return None
        return found

    def _clear_back_off(self) -> None:
        """Once, and only for a static pod: its kubelet waits longer after each stop within ten minutes."""
        self._back_off_suspected = True
        if self._component.unit:
            return
        try:
            clear_backoff(self._node)
            self._back_off_cleared = True
        except CertopsError as exc:
            self._seen = "%s; %s" % (self._seen, exc)

    def _leaderless(self) -> float | None:
        if not self.leadership.seen:
            return None
        if self.leadership.lost is None and not self.leadership.nobody_led:
            return 0.0
        return round(t.cast("float", self._led_after), 3)

    def _not_back(self) -> CertopsError:
        name = self._component.name
        leaderless = self._ready_after is not None and self.leadership.seen and self._led_after is None
        what = "has no leader" if leaderless else "is not ready" if self._ready_after is None else "is ready, but not the API server,"
        seen = self.leadership.problem if leaderless else self._seen
        where = (
            "`journalctl -u %s`" % self._component.unit
            if self._component.unit
            else "`crictl ps -a --name %s` and `journalctl -u kubelet`" % name
        )
        return CertopsError(
            "%s %s %g s after it was stopped (process %s before, %s now); last seen: %s; look at %s"
            % (name, what, self._start_timeout, self._old.pid if self._old else "none", self._new.pid if self._new else "none", seen, where)
        )


__all__ = ("STOP_TIMEOUT_SECONDS", "Restart", "clear_backoff", "restart_component")
