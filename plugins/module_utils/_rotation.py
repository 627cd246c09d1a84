# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What the modules call: rotate certificates of this node, or put an earlier run's backup back.

Finish what was left unfinished, check everything that can be known, make the new material in memory, then one transaction.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils import _journal as journaling
from ansible_collections.certops.kubernetes.plugins.module_utils._copies import find_copies
from ansible_collections.certops.kubernetes.plugins.module_utils._files import room_problem
from ansible_collections.certops.kubernetes.plugins.module_utils._in_memory_restarts import restarts_for
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Journal, StateFolder, Touched
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_client import all_renewals
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_switches import changes_for, kubeadm_warnings
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._names import refreshed_names
from ansible_collections.certops.kubernetes.plugins.module_utils._pending import forget_keys, kept_pending_key
from ansible_collections.certops.kubernetes.plugins.module_utils._proof import disk_problem
from ansible_collections.certops.kubernetes.plugins.module_utils._recovery import Recovered, outlook, recover
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import (
    ACTIVATE,
    CONFIGURE,
    RENEW,
    RESTART,
    NewFile,
    Policy,
    Renewal,
    Wanted,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._replaceable import link_warnings, replace_problems
from ansible_collections.certops.kubernetes.plugins.module_utils._restarts import NEVER, decide, record_processes
from ansible_collections.certops.kubernetes.plugins.module_utils._result import (
    RotationFailed,
    empty_result,
    predicted_result,
    result_of,
    together,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._self_signed import SELF_SIGNED_DAYS
from ansible_collections.certops.kubernetes.plugins.module_utils._signals import deferred_signals
from ansible_collections.certops.kubernetes.plugins.module_utils._transaction import Limits, NodeNotRestored, Transaction
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node
    from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import NodeAccess

_DAY_SECONDS = 86400
_DEFAULT_VALIDITY_SECONDS = 365 * _DAY_SECONDS
_SPARE_BYTES = 256 * 1024  # journals, and what a directory itself may grow
_HEALTH_POLL_SECONDS = 0.5
SWITCHED = "-kubelet"  # behind the id of a run: its settings of the kubelet


@dataclass(frozen=True)
class Request:
    """What the user wants. `validity_days` None: the cluster's own, else 365."""

    run_id: str
    items: tuple[Wanted, ...]
    restart: str = "auto"
    keep_private_key: bool = False
    validity_days: int | None = None
    keep_backups: int = 10
    copies: tuple[str, ...] = ()  # paths and wildcards of kubeconfigs that become valid with their original
    health_seconds: float = 15.0  # how long the node may take to be healthy before the run begins


def rotate(access: NodeAccess, state: StateFolder, request: Request, limits: Limits) -> dict[str, t.Any]:
    """Rotate; returns the module's result. Raises RotationFailed (it has a result too) or CertopsError (nothing was changed)."""
    if not request.items and not state.exists():
        return empty_result(request.run_id)
    with deferred_signals() as stop_requested, state.lock(request.run_id, access.pid, iso(access.now())):
        transaction = Transaction(access, state, limits, stop_requested)
        recovered = finish_unfinished(state, transaction, request.run_id)
        result = _renew(access, state, request, transaction, recovered)
        settings = [item.name for item in request.items if item.action == CONFIGURE]
        return _switch(access, state, request, Transaction(access, state, limits, stop_requested), settings, result) if settings else result


def _renew(
    access: NodeAccess, state: StateFolder, request: Request, transaction: Transaction, recovered: t.Sequence[Recovered]
) -> dict[str, t.Any]:
    """What is due of certificates, in one transaction."""
    wanted, done = _still_wanted([item for item in request.items if item.action != CONFIGURE], recovered)
    wanted = [_with_pending_key(state, request, item) for item in wanted]
    forget_keys(state)  # from here on it is in memory, and soon where it belongs; a run that fails asks for another one
    nothing = dict(empty_result(request.run_id), changed=bool(recovered), recovered=[entry.report() for entry in recovered])
    if not wanted and not request.copies:
        return dict(nothing, warnings=done)
    node = access.discover()
    made, notes = _make(access, node, wanted, request)
    copies = find_copies(node, made, request.copies)
    if not made and not copies.files:
        return dict(nothing, warnings=[*done, *notes, *copies.left])
    check_before(access, state, node, made, request.restart, copies.files)
    refuse_unhealthy(access, node, made, request.health_seconds)
    linked = link_warnings(file.path for file in [*unique_files(made), *copies.files] if file.by is None)
    transaction.together = tuple(copies.written.values())
    kind = journaling.ROTATION if made else journaling.COPIES
    result = commit(access, state, transaction, made, request, kind=kind, recovered=recovered, copies=copies.files)
    valid = [path for path, files in copies.written.items() if not transaction.left.keys() & files]
    result.update(copies=valid, warnings=[*done, *notes, *linked, *copies.left, *result["warnings"]])
    return result


def _switch(
    access: NodeAccess, state: StateFolder, request: Request, transaction: Transaction, names: t.Sequence[str], before: dict[str, t.Any]
) -> dict[str, t.Any]:
    """Then the settings of the kubelet, as a run of its own: whatever becomes of it, what was renewed stays. `before` is its result."""
    try:
        node, made, done = _switches(access, names)
        if made:
            check_before(access, state, node, made, request.restart)
            refuse_unhealthy(access, node, made, request.health_seconds)
            node, made, done = _switches(access, names)  # that may have taken a while, in which somebody else may have changed the file
        if not made:
            return dict(before, warnings=[*before["warnings"], *done])
        switch = dataclasses.replace(request, run_id=request.run_id + SWITCHED)
        own = commit(access, state, transaction, made, switch, kind=journaling.SETTINGS)
    except CertopsError as error:
        message = "%s What was renewed before stays." % error if before["changed"] else str(error)
        if isinstance(error, RotationFailed):
            raise RotationFailed(message, together(before, error.result)) from error
        if not before["changed"]:
            raise
        raise RotationFailed(message, before) from error
    own["warnings"].extend([*done, *kubeadm_warnings(node, made)])
    return dict(together(before, own), settings_run_id=own["run_id"])


def _switches(access: NodeAccess, names: t.Sequence[str]) -> tuple[Node, list[Renewal], list[str]]:
    node = access.discover()
    return (node, *changes_for(node, names, access.expired(node, sorted(node.credentials))))


def predict(access: NodeAccess, state: StateFolder, request: Request) -> dict[str, t.Any]:
    """What `rotate` would do, with its refusals; nothing at all is written. Raises CertopsError."""
    refuse_held(state)
    unfinished = outlook(state)
    node = access.discover()
    items = [item for item in request.items if item.action != CONFIGURE]
    made, notes = _make(access, node, items, request, predict=True)
    copies = find_copies(node, made, request.copies)
    renewed = {item.name for item in items}
    expired = [name for name in access.expired(node, sorted(node.credentials)) if name not in renewed]
    settings, on = changes_for(node, [item.name for item in request.items if item.action == CONFIGURE], expired)
    made, notes = [*made, *settings], [*notes, *on, *kubeadm_warnings(node, settings)]
    check_before(access, state, node, made, request.restart, copies.files)
    result = predicted_result(request.run_id, made, expected_restarts(access, node, made, request.restart), unfinished, request.restart)
    changed = result["changed"] or bool(copies.files)
    return dict(result, copies=list(copies.written), changed=changed, warnings=[*notes, *copies.left])


def _make(
    access: NodeAccess, node: Node, items: t.Sequence[Wanted], request: Request, predict: bool = False
) -> tuple[list[Renewal], list[str]]:
    """What comes of each item, and what needs nothing any more, as sentences. Raises CertopsError."""
    in_files = [item for item in items if item.action != RESTART]
    policy = _policy(access, node, request) if in_files else None
    made = all_renewals(node, with_names(access, node, in_files), policy, access.ask_signer, predict) if policy else []
    in_memory = [item for item in items if item.action == RESTART]
    said = [one.note for one in made if one.note]
    if not in_memory:
        return made, said
    restarts, notes = restarts_for(node, access.inspect(node), in_memory)
    return [*made, *restarts], [*said, *notes]


def expected_restarts(access: NodeAccess, node: Node, made: t.Sequence[Renewal], restart: str) -> tuple[Touched, ...]:
    """The components that read these certificates, and which of them would have to be restarted as far as can be known now."""
    items = [one.item for one in made]
    touched = record_processes(node, [item.name for item in items])
    renewed = {item.name for item in items if item.action != ACTIVATE}
    records = [record for record in access.inspect(node) if record.name not in renewed]  # after the change nothing is known of these
    return decide(touched, items, node, records, restart)


def commit(
    access: NodeAccess,
    state: StateFolder,
    transaction: Transaction,
    made: t.Sequence[Renewal],
    request: Request,
    *,
    kind: str = journaling.ROTATION,
    recovered: t.Sequence[Recovered] = (),
    copies: t.Sequence[NewFile] = (),
) -> dict[str, t.Any]:
    """One transaction, from the backup to the result. Raises RotationFailed when it did not end well."""
    node = access.discover()
    items = tuple(one.item for one in made)
    journal = Journal(
        run_id=state.new_run_id(request.run_id),
        host=access.host,
        started_at=iso(access.now()),
        state=journaling.PREPARED,
        restart=request.restart,
        kind=kind,
        items=items,
        components=record_processes(node, [item.name for item in items]),
    )
    files = (*unique_files(made), *copies)
    try:
        journal = transaction.prepare(journal, files)
    except CertopsError as error:
        with contextlib.suppress(CertopsError):  # the next run removes it, too
            state.discard(journal.run_id)
        raise CertopsError("Nothing was changed. %s" % error) from error
    try:
        outcome = transaction.run(journal, files)
    except NodeNotRestored as error:
        result = dict(result_of(error.journal, (), recovered), rolled_back=error.files_restored)
        raise RotationFailed(str(error), dict(result, warnings=[*result["warnings"], *transaction.left.values()])) from error
    result = result_of(outcome.journal, outcome.proofs, recovered)
    result["warnings"].extend(transaction.left.values())
    if outcome.cause is not None:
        raise RotationFailed("The node was rolled back and proven to be as before. The cause: %s" % outcome.cause, result)
    try:
        state.retain(max(1, request.keep_backups))
    except CertopsError as error:
        result["warnings"].append(str(error))
    return result


def unique_files(made: t.Sequence[Renewal]) -> tuple[NewFile, ...]:
    """The files to write, each once, in order."""
    files: dict[str, NewFile] = {}
    for one in made:
        for file in one.files:
            files.setdefault(file.path, file)
    return tuple(files.values())


def finish_unfinished(state: StateFolder, transaction: Transaction, run_id: str) -> list[Recovered]:
    """End what earlier runs left. Raises RotationFailed when that did not end well: nothing new is begun on such a node."""
    try:
        ended = recover(state, transaction)
    except NodeNotRestored as error:
        result = dict(empty_result(run_id), rolled_back=error.files_restored)
        raise RotationFailed("An earlier run was stopped half-way and could not be ended. %s" % error, result) from error
    failed = [entry for entry in ended if entry.failed]
    if failed:
        result = dict(empty_result(run_id), changed=True, rolled_back=True, recovered=[entry.report() for entry in ended])
        raise RotationFailed(" ".join(entry.message for entry in failed), result)
    return ended


def _still_wanted(items: t.Sequence[Wanted], recovered: t.Sequence[Recovered]) -> tuple[list[Wanted], list[str]]:
    """The plan was made before the recovery: leave out what that has just renewed, follow what it has put back, and renew that too."""
    current, known, renewed = {}, {}, {}
    for entry in recovered:
        current.update(entry.current)
        known.update(entry.known)
        renewed.update({name: entry.run_id for name in entry.current if entry.state == journaling.COMMITTED})
    wanted, notes = [], []
    for item in items:
        if item.action != ACTIVATE and item.name in renewed:
            notes.append(
                "%s was renewed by the run %s, which was carried forward; it was not renewed again." % (item.name, renewed[item.name])
            )
        elif item.fingerprint_sha256 in known.get(item.name, ()):
            wanted.append(dataclasses.replace(item, fingerprint_sha256=current[item.name]))
        else:
            wanted.append(item)
    names = {item.name for item in items}
    for entry in recovered if items else ():
        for name in entry.taken_back:
            if name not in names:
                wanted.append(Wanted(name, RENEW, entry.current[name]))
                notes.append("%s had been renewed by the run %s, which was put back; it was renewed again." % (name, entry.run_id))
    return wanted, notes


def _with_pending_key(state: StateFolder, request: Request, item: Wanted) -> Wanted:
    if item.signed_by is None or request.keep_private_key:
        return item
    return dataclasses.replace(item, pending_key=kept_pending_key(state, request.run_id, item.name))


def with_names(access: NodeAccess, node: Node, items: t.Sequence[Wanted]) -> list[Wanted]:
    """Each item that is to have its names refreshed with the names that it gets. Raises CertopsError when these are not known."""
    configuration = access.configuration(node) if any(item.refresh_sans for item in items) else None
    named, problems = [], []
    for item in items:
        credential = node.credentials.get(item.name)
        try:
            names = refreshed_names(credential, node, configuration) if item.refresh_sans and credential is not None else None
            named.append(dataclasses.replace(item, names=names))
        except CertopsError as error:
            problems.append("%s: %s" % (item.name, error))
    if problems:
        raise CertopsError("Refused, nothing was changed. " + " ".join(problems))
    return named


def _policy(access: NodeAccess, node: Node, request: Request) -> Policy:
    own = (request.validity_days or SELF_SIGNED_DAYS) * _DAY_SECONDS
    return Policy(access.now(), validity_seconds(access, node, request.validity_days), request.keep_private_key, own)


def validity_seconds(access: NodeAccess, node: Node, validity_days: int | None) -> int:
    """How long new certificates are valid: as asked for, else as the cluster has it, else a year."""
    if validity_days is not None:
        return validity_days * _DAY_SECONDS
    return access.validity_seconds(node) or _DEFAULT_VALIDITY_SECONDS


def refuse_held(state: StateFolder) -> None:
    """Refuse (CertopsError) while another run holds the node; for check mode, which takes no lock."""
    holder = state.holder()
    if holder is not None:
        raise CertopsError("Another run of certops changes this node right now (%s). Remedy: wait until it has ended." % holder)


def check_before(
    access: NodeAccess, state: StateFolder, node: Node, made: t.Sequence[Renewal], restart: str, copies: t.Sequence[NewFile] = ()
) -> None:
    """Refuse (CertopsError) what can be known before anything is changed. What can be left, such as a copy, is no reason to refuse."""
    problems = ["%s: wait until it has ended, then run again." % sentence for sentence in access.other_tools()]
    for one in made:
        if one.item.action == ACTIVATE and restart != NEVER:
            problem = disk_problem(node, one.item, str(one.item.before["fingerprint_sha256"]))
            if problem:
                problems.append("%s is not activated, a restarted component could not use it: %s." % (one.item.name, problem))
    files = [file for file in unique_files(made) if not file.may_be_left]
    problems.extend(replace_problems([file.path for file in files]))
    problems.extend(room_problems(state, files, copies))
    if problems:
        raise CertopsError("Refused, nothing was changed. " + " ".join(problems))


def room_problems(state: StateFolder, files: t.Sequence[NewFile], copies: t.Sequence[NewFile] = ()) -> list[str]:
    """Why there is no room for new files, backups (those of `copies`, too) and journals."""
    size = sum(len(file.data) for file in files)
    directories = sorted({os.path.dirname(file.path) for file in files})
    found = [room_problem(directory, size + _SPARE_BYTES, len(files) + 1) for directory in directories]
    backed_up = size + sum(len(file.data) for file in copies)
    found.append(room_problem(state.path, 2 * backed_up + _SPARE_BYTES, 2 * (len(files) + len(copies)) + 10))
    return [problem for problem in found if problem]


def refuse_unhealthy(access: NodeAccess, node: Node, made: t.Sequence[Renewal], seconds: float) -> None:
    """A node may be degraded by expired certificates that this run cures, or that others renew; by nothing else. Raises CertopsError."""
    failed = failed_checks(access, node, made, seconds)
    if failed:
        raise CertopsError(
            "Refused, nothing was changed: the node is not healthy (%s). Remedy: cure that first." % "; ".join(failed.values())
        )


def failed_checks(access: NodeAccess, node: Node, made: t.Sequence[Renewal], seconds: float) -> dict[str, str]:
    """What is not well on the node, message by check, after waiting for so long; empty when it is well, but for what this run cures."""
    names = [one.item.name for one in made]
    others = [name for name in sorted(node.credentials) if node.credentials[name].managed_by is not None]
    deadline = access.monotonic() + seconds
    while True:
        health = access.health(node, [*names, *access.expired(node, others)])
        if health.verdict != "unhealthy":
            return {}
        if access.monotonic() > deadline:
            return {check.name: check.message for check in health.checks if not check.ok}
        access.sleep(_HEALTH_POLL_SECONDS)
        node = access.discover()


__all__ = (
    "Request",
    "check_before",
    "commit",
    "expected_restarts",
    "failed_checks",
    "finish_unfinished",
    "predict",
    "refuse_held",
    "refuse_unhealthy",
    "room_problems",
    "rotate",
    "unique_files",
    "validity_seconds",
    "with_names",
)
