# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Leases: those of leader election are read, and that of a dead leader is released; the one of a run is made, renewed and deleted."""

from __future__ import annotations

import copy
import typing as t
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiError
from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Process

# Hosts' clocks may differ by this much before a lease is called stale.
CLOCK_SKEW_SECONDS = 5
# A lease's times are microseconds, a process' start is known to a clock tick and boot time to a second.
_START_PRECISION = timedelta(seconds=2)
_HOST_NAME_MAX = 63
_LONGEST_HOLDER = 1024
_LONGEST_DURATION = 2**31 - 1  # an int32 in the API


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
    whole = isinstance(duration, int) and not isinstance(duration, bool)
    if not isinstance(holder, str) or len(holder) > _LONGEST_HOLDER or not whole or not 0 <= duration <= _LONGEST_DURATION:
        raise ApiError("%s: the Lease's holder or duration is garbled" % asked)
    return Lease(
        name=name,
        holder=holder,
        acquired=parse_api_time(spec.get("acquireTime")),
        renewed=parse_api_time(spec.get("renewTime")),
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
    return replace_lease(client, name, document, namespace)  # where somebody else was faster there is a leader


def create_lease(client: ApiClient, document: dict[str, t.Any], namespace: str) -> bool:
    """Make a Lease; False when there is one by now. Raises ApiError."""
    return _unless_changed(lambda: client.json("POST", _path("", namespace), document))


def replace_lease(client: ApiClient, name: str, document: dict[str, t.Any], namespace: str) -> bool:
    """Write a Lease that was read before; False when somebody else wrote it in between, or removed it. Raises ApiError."""
    return _unless_changed(lambda: client.json("PUT", _path(name, namespace), document))


def delete_lease(client: ApiClient, lease: Lease, namespace: str) -> bool:
    """Delete a Lease as it was read; False when somebody else wrote it in between, or removed it. Raises ApiError."""
    preconditions = {key: dig(lease.document, "metadata", key) for key in ("uid", "resourceVersion")}
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
    return _unless_changed(lambda: client.json("DELETE", _path(lease.name, namespace), options))


def _unless_changed(write: t.Callable[[], object]) -> bool:
    try:
        write()
    except ApiError as exc:
        if exc.status in (404, 409):
            return False
        raise
    return True


def _path(name: str, namespace: str) -> str:
    path = "/apis/coordination.k8s.io/v1/namespaces/%s/leases" % quote(namespace, safe="")
    return "%s/%s" % (path, quote(name, safe="")) if name else path


def parse_api_time(value: t.Any) -> datetime | None:
    """A Time or MicroTime of the API, aware; None for what is none."""
    for layout in ("%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ"):
        try:
            return datetime.strptime(value if isinstance(value, str) else "", layout).replace(tzinfo=timezone.utc)
        except ValueError:
            continue
    return None


__all__ = (
    "CLOCK_SKEW_SECONDS",
    "Lease",
    "create_lease",
    "delete_lease",
    "get_lease",
    "lease_of",
    "parse_api_time",
    "release_lease",
    "replace_lease",
)
