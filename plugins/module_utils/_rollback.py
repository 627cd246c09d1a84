# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Put the backup of an earlier run back: a transaction like a rotation, whose new files are the old ones."""

from __future__ import annotations

import dataclasses
import os
import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils import _journal as journaling
from ansible_collections.certops.kubernetes.plugins.module_utils._files import MissingFile, final_target, read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Item, Journal, ReplacedFile, StateFolder, sha256
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_api import (
    KUBELET_CONF,
    KUBELET_CREDENTIAL,
    kubelet_kubeconfig,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_switches import is_setting, restore_problem
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._proof import disk_problem
from ansible_collections.certops.kubernetes.plugins.module_utils._recovery import outlook
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import (
    ACTIVATE,
    RESTART,
    RESTORE,
    NewFile,
    Renewal,
    facts,
    look_at,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._replacement import content, holds, way_back
from ansible_collections.certops.kubernetes.plugins.module_utils._result import empty_result, predicted_result
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import (
    Request,
    check_before,
    commit,
    expected_restarts,
    failed_checks,
    finish_unfinished,
    refuse_held,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._signals import deferred_signals
from ansible_collections.certops.kubernetes.plugins.module_utils._transaction import Limits, Transaction
from ansible_collections.certops.kubernetes.plugins.module_utils._users_files import holds_users
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential, Node
    from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import NodeAccess

_UNKNOWN_FACTS = {"subject": None, "serial": None, "not_before": None, "not_after": None, "fingerprint_sha256": None}


@dataclass(frozen=True)
class RollbackRequest:
    """What the user wants. `run_id` None: the newest rotation that ended well. `new_run_id` names this run itself."""

    run_id: str | None
    new_run_id: str
    ignore_missing: bool = False  # a node without that run is left alone
    restart: str = "auto"
    allow_expired: bool = False
    keep_backups: int = 10
    health_seconds: float = 15.0

    def as_run(self) -> Request:
        """The same as a run of its own."""
        return Request(self.new_run_id, (), restart=self.restart, keep_backups=self.keep_backups)


def roll_back(access: NodeAccess, state: StateFolder, request: RollbackRequest, limits: Limits) -> dict[str, t.Any]:
    """Put a run's files back; returns the module's result. Raises RotationFailed or CertopsError (nothing was changed)."""
    return dict(_roll_back(access, state, request, limits), runs=_kept_runs(state))


def _roll_back(access: NodeAccess, state: StateFolder, request: RollbackRequest, limits: Limits) -> dict[str, t.Any]:
    if not state.exists():
        return _nothing(state, request)
    with deferred_signals() as stop_requested, state.lock(request.new_run_id, access.pid, iso(access.now())):
        transaction = Transaction(access, state, limits, stop_requested)
        recovered = finish_unfinished(state, transaction, request.new_run_id)
        journal = _chosen(state, request)
        node = access.discover()
        made = _restorations(access, node, journal, request) if journal else []
        if not made:
            result = _nothing(state, request) if journal is None else dict(empty_result(request.new_run_id), restored_run_id=journal.run_id)
            return dict(result, changed=bool(recovered), recovered=[entry.report() for entry in recovered])
        check_before(access, state, node, made, request.restart)
        # What is not well may be why somebody goes back, so it is no reason to refuse; it must only not get worse.
        transaction.unwell_before = failed_checks(access, node, made, request.health_seconds)
        result = commit(access, state, transaction, made, request.as_run(), kind=journaling.ROLLBACK, recovered=recovered)
        notes = ["The node was not well before: %s." % message for message in transaction.unwell_before.values()]
        return dict(result, restored_run_id=journal.run_id if journal else None, warnings=[*notes, *result["warnings"]])


def predict_rollback(access: NodeAccess, state: StateFolder, request: RollbackRequest) -> dict[str, t.Any]:
    """What `roll_back` would do, with its refusals; nothing at all is written. Raises CertopsError."""
    return dict(_predict_rollback(access, state, request), runs=_kept_runs(state))


def _predict_rollback(access: NodeAccess, state: StateFolder, request: RollbackRequest) -> dict[str, t.Any]:
    if not state.exists():
        return _nothing(state, request)
    refuse_held(state)
    journal = _chosen(state, request)
    if journal is None:
        return _nothing(state, request)
    node = access.discover()
    made = _restorations(access, node, journal, request)
    check_before(access, state, node, made, request.restart)
    touched = expected_restarts(access, node, made, request.restart)
    result = predicted_result(request.new_run_id, made, touched, outlook(state), request.restart)
    return dict(result, restored_run_id=journal.run_id)


def _kept_runs(state: StateFolder) -> list[str]:
    return [journal.run_id for journal in state.journals()]


def _nothing(state: StateFolder, request: RollbackRequest) -> dict[str, t.Any]:
    if request.run_id is None:
        warning = "No rotation was ever committed on this node, so there is nothing to put back."
    elif request.ignore_missing:
        warning = "There is no run %s on this node, so there is nothing to put back." % request.run_id
    else:
        raise CertopsError("There is no run %s on this node: %s has none. Remedy: name another one." % (request.run_id, state.runs_path))
    return dict(empty_result(request.new_run_id), restored_run_id=None, warnings=[warning])


def _chosen(state: StateFolder, request: RollbackRequest) -> Journal | None:
    if request.run_id is None:
        return state.newest_rotation()
    try:
        return state.load(request.run_id)
    except MissingFile as error:
        if request.ignore_missing:
            return None
        known = ", ".join(_kept_runs(state)) or "none"
        raise CertopsError(
            "There is no run %s on this node; its runs are: %s. Remedy: name one of them." % (request.run_id, known),
        ) from error


def _restorations(access: NodeAccess, node: Node, journal: Journal, request: RollbackRequest) -> list[Renewal]:
    """What to write to have the run's old files again; empty when they are there already. Raises CertopsError.

    Empty, too, for a run that only renewed kubeconfigs whose originals are on other nodes: what was there is not put back.
    """
    if journal.kind == journaling.COPIES:
        return []
    files = _contents(node, journal)
    items = [item for item in journal.items if item.action not in (ACTIVATE, RESTART)]
    problems = [problem for item in items for problem in _changed_since(journal, item)]
    if all(_holds(file) for file in files if file.by is None) and not problems:
        return []
    problems += [problem for item in items for problem in _problems(access, node, journal, item, request.allow_expired)]
    if problems:
        raise CertopsError("Refused, nothing was changed: the backup of run %s cannot be used. %s" % (journal.run_id, " ".join(problems)))
    return [
        Renewal(Item(item.name, RESTORE, _facts_now(node, item), item.before), files if index == 0 else ())
        for index, item in enumerate(items)
    ]


def _contents(node: Node, journal: Journal) -> tuple[NewFile, ...]:
    """The old contents, each verified against the journal's hash."""
    contents = []
    own = {final_target(path) for one in node.credentials.values() for path in (one.cert_path, one.key_path) if path}
    own.add(final_target(kubelet_kubeconfig(node)))
    for file in way_back(journal.files):
        if file.link and KUBELET_CREDENTIAL not in journal.names and not holds(file, file.sha256_after):
            continue  # the kubelet has renewed its certificate since
        if file.backup is None:
            if file.link and holds(file, file.sha256_after):
                contents.append(NewFile(file.path, b"", link=True, gone=True))
            continue  # there was no such file; the new one does no harm
        is_copy = file.by is not None or (file.path not in own and not file.link)
        if is_copy and not (holds(file, file.sha256_after) if file.by is None else holds_users(file)):
            continue  # somebody has changed it since: the rest of it is theirs
        data = read_bounded(file.backup)
        if sha256(data) != file.sha256_before:
            raise CertopsError(
                "The backup %s is damaged (its hash is not the one in the journal). Remedy: name another run." % file.backup,
            )
        contents.append(NewFile(file.path, data, file.link, file.by, file.sha256_after if is_copy else None))
    return tuple(contents)


def _holds(file: NewFile) -> bool:
    try:
        return content(file.path, file.link) == file.data and not file.gone
    except MissingFile:
        return file.gone
    except CertopsError:
        return False


def _changed_since(journal: Journal, item: Item) -> list[str]:
    """Why a file with a setting is not put back; a certificate's is, whatever is in it now."""
    if not is_setting(item.name):
        return []
    problem = restore_problem(journal, item, lambda file: holds(file, file.sha256_after) or holds(file, file.sha256_before))
    return [problem] if problem else []


def _problems(access: NodeAccess, node: Node, journal: Journal, item: Item, allow_expired: bool) -> list[str]:
    """Why an old certificate would not do: expired, not under the present CA, not with its key."""
    if is_setting(item.name):
        return []
    credential = _as_it_was(node, item.name)
    if credential is None:
        return ["%s is not found on this node any more." % item.name]
    problems = []
    end = item.before["not_after"]
    if not allow_expired and end is not None and end <= iso(access.now()):
        problems.append("%s expired at %s. Remedy: rotate instead, or say allow_expired: true." % (item.name, end))
    old = dataclasses.replace(node, credentials={**node.credentials, item.name: _in_backup(credential, journal)})
    problem = disk_problem(old, item, str(item.before["fingerprint_sha256"]))
    if problem:
        problems.append("%s: %s." % (item.name, problem))
    return problems


def _as_it_was(node: Node, name: str) -> Credential | None:
    """A credential of the node; one that the run moved out of a kubeconfig as it was in there."""
    found = node.credential(name)
    if found is None or name in node.credentials or name != KUBELET_CONF:
        return found
    path = kubelet_kubeconfig(node)
    return dataclasses.replace(found, name=name, kind="kubeconfig", cert_path=path, key_path=path)


def _in_backup(credential: Credential, journal: Journal) -> Credential:
    """The same credential as it lies in the backup, or where its link led; what the run did not replace lies where it is."""
    links = {file.path: _target(file) for file in journal.files if file.link and file.backup is not None}
    backups = {file.path: file.backup for file in journal.files if file.backup is not None and not file.link}

    def before(path: str) -> str:
        # In the journal a link's folder has its own links followed.
        led = links.get(os.path.join(final_target(os.path.dirname(path)), os.path.basename(path)), path)
        return backups.get(final_target(led), led)

    key_path = credential.key_path
    return dataclasses.replace(credential, cert_path=before(credential.cert_path), key_path=None if key_path is None else before(key_path))


def _target(file: ReplacedFile) -> str:
    """Where a link led before the run."""
    led = os.fsdecode(read_bounded(str(file.backup)))
    return os.path.join(os.path.dirname(file.path), led)


def _facts_now(node: Node, item: Item) -> dict[str, t.Any]:
    if is_setting(item.name):
        return item.after
    try:
        credential = node.credential(item.name)
        return facts(look_at(credential).leaf) if credential is not None else dict(_UNKNOWN_FACTS)
    except CertopsError:
        return dict(_UNKNOWN_FACTS)


__all__ = ("RollbackRequest", "predict_rollback", "roll_back")
