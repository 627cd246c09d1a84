# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The lock on a whole cluster: one run at a time changes its certificates, wherever that run was started and whatever its limit.

It is a Lease in kube-system, which every step of the run renews. While the API cannot be asked, the same words lie in a file on each
control-plane node. Whoever says nothing for long enough has lost it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import typing as t
from dataclasses import dataclass
from datetime import timedelta, timezone

from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiError
from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig, parse_json
from ansible_collections.certops.kubernetes.plugins.module_utils._files import (
    Attributes,
    MissingFile,
    explain,
    make_private_directory,
    read_bounded,
    replace_file,
    sync_directory,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._lease import (
    create_lease,
    delete_lease,
    get_lease,
    parse_api_time,
    replace_lease,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient
    from ansible_collections.certops.kubernetes.plugins.module_utils._lease import Lease

NAME = "certops-rotation"
NAMESPACE = "kube-system"
ANNOTATION = "certops.kubernetes/holder"
ANY = "any"
LEASE_SECONDS = 300  # a run that lives renews it every half minute
# Nobody renews the file of a node while another one has its turn, and an expired cluster is slow.
FILE_SECONDS = 1800
_ATTEMPTS = 5
_LEASE = "Lease %s/%s" % (NAMESPACE, NAME)


@dataclass(frozen=True)
class Holder:
    """The run that holds the lock: its id, when it began (ISO 8601, UTC), who started it, and from where.

    `process` names the controller's process so that the same controller can tell later whether it still runs (`_run_holder.py`).
    """

    run_id: str
    since: str
    playbook: str = ""
    user: str = ""
    controller: str = ""
    job_id: str = ""
    process: str = ""

    def __str__(self) -> str:
        """Who, since when and from where, in words."""
        by = " by %s" % self.user if self.user else ""
        at = " on %s" % self.controller if self.controller else ""
        job = ", AWX job %s" % self.job_id if self.job_id else ""
        return "run %s (%s, started at %s%s%s%s)" % (self.run_id, self.playbook or "a playbook", self.since, by, at, job)


@dataclass(frozen=True)
class Claim:
    """What is written down: the holder, when it last said that it goes on, and how long that counts."""

    holder: Holder
    renewed: datetime
    seconds: int

    def fresh(self, now: datetime) -> bool:
        """Whether its holder must be taken to be alive. A claim from a future beyond any clock's error is as good as none."""
        return abs((now - self.renewed).total_seconds()) <= self.seconds

    @property
    def until(self) -> datetime:
        """When it ends if it is not renewed."""
        return self.renewed + timedelta(seconds=self.seconds)


class Held(CertopsError):
    """Another run holds the lock."""

    def __init__(self, claim: Claim, where: str) -> None:
        """Say who, since when and from where, and what to do."""
        super().__init__(
            "Refused, nothing was changed: another run changes the certificates of this cluster, %s. It last said so at %s (%s). "
            "Remedy: wait until it has ended; if it says nothing it counts as dead after %s. If you are sure that it is dead, run "
            "again with certs_rotate_take_over_lock=true." % (claim.holder, iso(claim.renewed), where, iso(claim.until))
        )
        self.holder = claim.holder


@dataclass(frozen=True)
class Kept:
    """Where the lock is now: `lease` or `file`; "" when it was only looked at."""

    kept_in: str
    taken_over: tuple[str, ...] = ()  # whose it was before, as sentences
    because: str = ""  # why it is no Lease


def hold(client: ApiClient | CertopsError, folder: str, holder: Holder, now: datetime, take_over: str = "") -> Kept:
    """Take the lock, or renew it; `client` may be the reason why the API cannot be asked. `folder` is where a node keeps its locks.

    `take_over` is the id of a run whose lock may be taken although it has not expired, or `any`. Raises Held when another run has it,
    CertopsError when it can be kept nowhere.
    """
    path = _file_in(folder)
    with _alone(folder):
        before = _claim_in_file(path)
        notes = _may_take(before, holder, now, take_over, path)
        try:
            notes += _hold_lease(_asked(client), Claim(holder, now, LEASE_SECONDS), take_over)
            kept = Kept("lease", tuple(dict.fromkeys(notes)))
        except ApiError as error:
            kept = Kept("file", tuple(notes), str(error))
        if kept.kept_in == "file" or before is not None:
            _write(path, Claim(holder, now, FILE_SECONDS))
    return kept


def renew(client: ApiClient | CertopsError, folder: str, holder: Holder, now: datetime) -> None:
    """Say that the run goes on, wherever it holds the lock. An API that cannot be asked now is asked the next time. Raises Held."""
    path = _file_in(folder)
    with _alone(folder):
        before = _claim_in_file(path)
        _may_take(before, holder, now, "", path)
        with contextlib.suppress(ApiError):
            _hold_lease(_asked(client), Claim(holder, now, LEASE_SECONDS), "")
        if before is not None:
            _write(path, Claim(holder, now, FILE_SECONDS))


def foresee(client: ApiClient | CertopsError, folder: str, holder: Holder, now: datetime, take_over: str = "") -> Kept:
    """Whether `hold` would be refused; nothing is written. Raises Held."""
    path = _file_in(folder)
    notes = _may_take(_claim_in_file(path), holder, now, take_over, path)
    with contextlib.suppress(ApiError):
        notes += _may_take(_claim_in(get_lease(_asked(client), NAME, NAMESPACE)), holder, now, take_over, _LEASE)
    return Kept("", tuple(dict.fromkeys(notes)))


def release(client: ApiClient | CertopsError, folder: str, run_id: str) -> bool:
    """Let the lock go wherever this run has it; True if it had it. What cannot be released ends by itself. Raises CertopsError."""
    path = _file_in(folder)
    released = False
    if os.path.isdir(folder):
        with _alone(folder):
            claim = _claim_in_file(path)
            if claim is not None and claim.holder.run_id == run_id:
                _remove(path)
                released = True
    with contextlib.suppress(ApiError):
        lease = get_lease(_asked(client), NAME, NAMESPACE)
        claim = _claim_in(lease)
        if claim is not None and claim.holder.run_id == run_id:
            released = delete_lease(_asked(client), lease, NAMESPACE) or released
    return released


def _file_in(folder: str) -> str:
    return os.path.join(folder, "cluster-lock.json")


def _asked(client: ApiClient | CertopsError) -> ApiClient:
    if isinstance(client, CertopsError):
        raise ApiError(str(client))
    return client


def _may_take(claim: Claim | None, holder: Holder, now: datetime, take_over: str, where: str) -> list[str]:
    """Nothing when the lock is free or ours, a sentence when it is taken from somebody. Raises Held."""
    if claim is None or claim.holder.run_id == holder.run_id:
        return []
    if claim.fresh(now) and take_over not in (ANY, claim.holder.run_id):
        raise Held(claim, where)
    why = "its lock was taken over as asked" if claim.fresh(now) else "it has said nothing since %s" % iso(claim.renewed)
    return ["The lock of the cluster was held by %s; %s." % (claim.holder, why)]


def _hold_lease(client: ApiClient, claim: Claim, take_over: str) -> list[str]:
    """Make or renew the Lease; a write that meets another one is tried again. Raises Held, or ApiError when the API cannot be asked."""
    for _attempt in range(_ATTEMPTS):
        try:
            lease = get_lease(client, NAME, NAMESPACE)
        except ApiError as error:
            if error.status != 404:
                raise
            if create_lease(client, _document(claim, {}), NAMESPACE):
                return []
            continue
        notes = _may_take(_claim_in(lease), claim.holder, claim.renewed, take_over, _LEASE)
        if replace_lease(client, NAME, _document(claim, lease.document), NAMESPACE):
            return notes
    raise CertopsError("The lock of the cluster (%s) is written by somebody else all the time. Remedy: look who does that." % _LEASE)


def _document(claim: Claim, before: dict[str, t.Any]) -> dict[str, t.Any]:
    known, annotations = dig(before, "metadata"), dig(before, "metadata", "annotations")
    metadata = {**(known if isinstance(known, dict) else {}), "name": NAME, "namespace": NAMESPACE}
    words = json.dumps(dataclasses.asdict(claim.holder), sort_keys=True)
    metadata["annotations"] = {**(annotations if isinstance(annotations, dict) else {}), ANNOTATION: words}
    spec = {"holderIdentity": claim.holder.run_id, "leaseDurationSeconds": claim.seconds, "renewTime": _micro_time(claim.renewed)}
    spec["acquireTime"] = claim.holder.since[:-1] + ".000000Z"
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def _claim_in(lease: Lease) -> Claim | None:
    """The claim of a Lease; None when nobody holds it. What somebody else wrote into it is a claim all the same."""
    if not lease.holder or lease.renewed is None:
        return None
    unknown = Holder(lease.holder, "an unknown time")
    try:
        words = str(dig(lease.document, "metadata", "annotations", ANNOTATION)).encode("utf-8", "replace")
        holder = _holder_from(parse_json(words, "the holder of the lock"))
    except (TypeError, CertopsError):
        holder = unknown
    return Claim(holder if holder.run_id == lease.holder else unknown, lease.renewed, lease.duration_seconds)


def _claim_in_file(path: str) -> Claim | None:
    """The claim of a node's file; None when there is none or it makes no sense. Raises CertopsError for one that cannot be read."""
    try:
        data = read_bounded(path)
    except MissingFile:
        return None
    try:
        document = parse_json(data, path)
        holder, renewed, seconds = _holder_from(dig(document, "holder")), parse_api_time(dig(document, "renewed")), dig(document, "seconds")
    except (TypeError, CertopsError):
        return None
    return Claim(holder, renewed, seconds) if renewed is not None and isinstance(seconds, int) else None


def _holder_from(values: t.Any) -> Holder:
    if not isinstance(values, dict) or "run_id" not in values or "since" not in values:
        raise TypeError("no holder")
    known = {field.name: values[field.name] for field in dataclasses.fields(Holder) if field.name in values}
    if not all(isinstance(value, str) for value in known.values()):
        raise TypeError("a field is no text")
    return Holder(**known)


def _micro_time(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _write(path: str, claim: Claim) -> None:
    document = {"holder": dataclasses.asdict(claim.holder), "renewed": _micro_time(claim.renewed), "seconds": claim.seconds}
    replace_file(path, (json.dumps(document, indent=2, sort_keys=True) + "\n").encode(), Attributes(0o600, os.geteuid(), os.getegid()))


def _remove(path: str) -> None:
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sync_directory(os.path.dirname(path))
    except OSError as error:
        raise explain(error, "remove", path) from error


@contextlib.contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Between reading and writing nobody else writes on this node."""
    make_private_directory(folder)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise explain(error, "open", folder) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


__all__ = (
    "ANY",
    "FILE_SECONDS",
    "LEASE_SECONDS",
    "NAME",
    "NAMESPACE",
    "Claim",
    "Held",
    "Holder",
    "Kept",
    "foresee",
    "hold",
    "release",
    "renew",
)
