# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Leader election Leases of the controller manager and the scheduler: read them, and release the one of a dead leader."""

from __future__ import annotations

import copy
import typing as t
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiError

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Process

# Hosts' clocks may differ by this much before a lease is called stale.
CLOCK_SKEW_SECONDS = 5
# A lease's times are microseconds, a process' start is known to a clock tick and boot time to a second.
_START_PRECISION = timedelta(seconds=2)
_HOST_NAME_MAX = 63


@dataclass(frozen=True)
class Lease:
    """Who leads, since when, and when that was last confirmed."""

    name: str
    holder: str  # "" when nobody holds it; client-go writes "<host name>_<uuid>"
    acquired: datetime | None
    renewed: datetime | None
    duration_seconds: int
    document: dict[str, t.Any] = field(repr=False, compare=False, default_factory=dict)

    def fresh(self, now: datetime) -> bool:
        """Whether somebody holds it and has renewed it within its duration, clock skew allowed for."""
        if not self.holder or self.renewed is None:
            return False
        return abs((now - self.renewed).total_seconds()) <= self.duration_seconds + CLOCK_SKEW_SECONDS

    def held_by(self, process: Process, host_name: str) -> bool:
        """Whether this process of this host holds it: host name of the holder, and acquired after the process began."""
        if self.holder.rpartition("_")[0] != host_name[:_HOST_NAME_MAX] or self.acquired is None:
            return False
        return self.acquired >= process.started_at - _START_PRECISION


def get_lease(client: ApiClient, name: str, namespace: str = "kube-system") -> Lease:
    """Read a Lease. Raises ApiError (`status` 404 when it does not exist)."""
    path = _path(name, namespace)
    return lease_of(client.json("GET", path), name, "GET https://%s%s" % (client.server, path))


def lease_of(document: t.Any, name: str, asked: str) -> Lease:
    """A Lease as the API describes it; `asked` is the request, for messages. Raises ApiError for what is none."""
    spec = (document.get("spec") or {}) if isinstance(document, dict) else None
    if not isinstance(spec, dict):
        raise ApiError("%s: what it answers is no Lease" % asked)
    holder, duration = spec.get("holderIdentity") or "", spec.get("leaseDurationSeconds") or 0
    if not isinstance(holder, str) or not isinstance(duration, int):
        raise ApiError("%s: the Lease's holder or duration is garbled" % asked)
    return Lease(
        name=name,
        holder=holder,
        acquired=_time(spec.get("acquireTime")),
        renewed=_time(spec.get("renewTime")),
        duration_seconds=duration,
        document=document,
    )


def release_lease(client: ApiClient, name: str, expected_holder: str, namespace: str = "kube-system") -> bool:
    """Release a dead leader's Lease as client-go's leader election does on its own way out; True if it was released.

    Nothing is written unless `expected_holder` still holds it; the resource version makes the server refuse (409) when anybody wrote
    in between. Like client-go's `release()`: no holder, a duration of 1 s, both times now, the number of transitions kept.
    Raises ApiError when the API cannot be asked.
    """
    lease = get_lease(client, name, namespace)
    if not expected_holder or lease.holder != expected_holder:
        return False
    document = copy.deepcopy(lease.document)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    document["spec"].update(holderIdentity="", leaseDurationSeconds=1, renewTime=now, acquireTime=now)
    try:
        client.json("PUT", _path(name, namespace), document)
    except ApiError as exc:
        if exc.status == 409:  # somebody else was faster: then there is a leader
            return False
        raise
    return True


def _path(name: str, namespace: str) -> str:
    return "/apis/coordination.k8s.io/v1/namespaces/%s/leases/%s" % (namespace, name)


def _time(text: t.Any) -> datetime | None:
    """A MicroTime of the API, aware; None for what is none."""
    for layout in ("%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ"):
        try:
            return datetime.strptime(str(text), layout).replace(tzinfo=timezone.utc)
        except ValueError:
            continue
    return None


__all__ = ("CLOCK_SKEW_SECONDS", "Lease", "get_lease", "lease_of", "release_lease")
