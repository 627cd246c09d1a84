# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A kubeconfig on a host without the cluster's CA key, such as a bastion: a new key is made there and waits there, only a request travels.

What was signed is tried out at the kubeconfig's own API server before anything is written: who is refused there keeps what he had. Nothing
runs on such a host that would have to be restarted or proven, so that a run's files are all replaced, or, when it was stopped in between,
put back by the next one: what was there before is valid to its own end.
"""

from __future__ import annotations

import dataclasses
import time
import typing as t
from dataclasses import dataclass, field
from datetime import timedelta

from ansible_collections.certops.kubernetes.plugins.module_utils import _journal as journaling
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, ApiError, address_of_url, whoami
from ansible_collections.certops.kubernetes.plugins.module_utils._copied_user import with_credentials
from ansible_collections.certops.kubernetes.plugins.module_utils._deps import NameOID
from ansible_collections.certops.kubernetes.plugins.module_utils._holders import Holder, all_holders, server_of
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Item, Journal, ReplacedFile, StateFolder, sha256
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._pending import forget_keys, keep_key, kept_pending_key
from ansible_collections.certops.kubernetes.plugins.module_utils._places import Place, replace_in_place
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import RENEW, NewFile, facts
from ansible_collections.certops.kubernetes.plugins.module_utils._replacement import holds, put_if_unchanged
from ansible_collections.certops.kubernetes.plugins.module_utils._requests import SigningRequest
from ansible_collections.certops.kubernetes.plugins.module_utils._signals import deferred_signals
from ansible_collections.certops.kubernetes.plugins.module_utils._tls_credentials import Identity
from ansible_collections.certops.kubernetes.plugins.module_utils._users_files import back_up_copy, holds_users, restore_copy
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import (
    load_private_key,
    not_after,
    parse_certificates,
    pem,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_renew import key_to_pem, new_key_like
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_request import (
    answer_problem,
    make_request,
    prove_renewal,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso, shown_sentence

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import Certificate

_API_TIMEOUT_SECONDS = 10.0
_LONGEST_SECONDS = 120.0  # for all servers, which a kubeconfig's owner chooses: nobody keeps the others, and the cluster's lock, waiting
_UNPROVEN = {"in_use": "unknown", "proof": "none", "message": None}
_PROVEN = {"in_use": "true", "proof": "identity", "message": None}


@dataclass(frozen=True)
class Run:
    """One call: which run it belongs to, on which host, when, and how many backups are kept."""

    run_id: str
    host: str
    pid: int
    now: datetime
    keep_backups: int = 10


@dataclass
class Outcome:
    """What came of it for each user: `requests` to be signed, `renewed` as a rotation returns it, and sentences about the others.

    `recovered`: what was done about a run that had been stopped.
    """

    requests: list[SigningRequest] = field(default_factory=list)
    renewed: list[dict[str, t.Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    recovered: list[dict[str, t.Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Accepted:
    """A user, what was signed for whom and proven to be right, and whether the API takes it."""

    held: Holder
    new: Certificate
    key: bytes = field(repr=False)
    proof: dict[str, t.Any] = field(default_factory=dict)


def look_for(names: t.Sequence[str], validity_seconds: int, now: datetime) -> Outcome:
    """What `ask_for` would ask for, with its refusals. Nothing is written."""
    outcome = Outcome()
    for held in all_holders(names, outcome.problems):
        after = dict.fromkeys(("serial", "fingerprint_sha256", "not_before"))
        end = min([now + timedelta(seconds=validity_seconds), *(not_after(one) for one in held.authorities)])
        before = facts(held.leaf)
        outcome.renewed.append(_renewed(held.name, before, {**before, **after, "not_after": iso(end)}, {}))
    return outcome


def ask_for(state: StateFolder, run: Run, names: t.Sequence[str], validity_seconds: int) -> Outcome:
    """A request for each of these users (`PATH#USER`); the new keys wait in this host's state folder.

    One is made for users who name the same files. Raises CertopsError when nothing can be made here at all.
    """
    outcome = Outcome()
    with deferred_signals(), state.lock(run.run_id, run.pid, iso(run.now)):
        outcome.recovered = _settle(state, run)
        forget_keys(state)
        for held in all_holders(names, outcome.problems):
            try:
                outcome.requests.append(_request(state, run, held, validity_seconds))
            except CertopsError as error:
                outcome.problems.append(shown_sentence("Nothing was asked for %s. %s" % (held.name, error)))
    return outcome


def _request(state: StateFolder, run: Run, held: Holder, validity_seconds: int) -> SigningRequest:
    key = new_key_like(held.leaf)
    request = make_request(held.leaf.subject, key)
    proof = prove_renewal(request, held.key)
    keep_key(state, run.run_id, held.name, key_to_pem(key, held.key))
    return SigningRequest(held.name, request, pem(held.leaf), validity_seconds, proof)


def look_into(state: StateFolder, run: Run, certificates: t.Mapping[str, bytes]) -> Outcome:
    """What `put_into` would put where, with its refusals but for the API server's. Nothing is written."""
    outcome = Outcome()
    for one in _all_accepted(state, run, certificates, outcome.problems):
        outcome.renewed.append(_renewed(one.held.name, facts(one.held.leaf), facts(one.new), {}))
    return outcome


def put_into(state: StateFolder, run: Run, certificates: t.Mapping[str, bytes], ask: t.Callable[[Identity], str] | None = None) -> Outcome:
    """Put what was signed, by `PATH#USER`, and the keys that wait for it, into their kubeconfigs, each as far as it goes.

    `ask` is whom the API server of an identity sees. Raises CertopsError when no run can begin here.
    """
    outcome = Outcome()
    with deferred_signals(), state.lock(run.run_id, run.pid, iso(run.now)):
        outcome.recovered = _settle(state, run)
        tried, deadline = [], time.monotonic() + _LONGEST_SECONDS
        for one in _all_accepted(state, run, certificates, outcome.problems):
            try:
                in_time = time.monotonic() < deadline
                tried.append(dataclasses.replace(one, proof=_tried(one, (ask or _seen_by_api) if in_time else _too_late)))
            except CertopsError as error:
                outcome.problems.append(shown_sentence(str(error)))
        if tried:
            _write(state, run, tried, outcome)
        forget_keys(state)
        state.retain(max(1, run.keep_backups))
    return outcome


def _all_accepted(state: StateFolder, run: Run, certificates: t.Mapping[str, bytes], problems: list[str]) -> t.Iterator[_Accepted]:
    for held in all_holders(list(certificates), problems):
        try:
            yield _accepted(state, run, held, certificates[held.name])
        except CertopsError as error:
            problems.append(shown_sentence(str(error)))


def _accepted(state: StateFolder, run: Run, held: Holder, certificate_pem: bytes) -> _Accepted:
    key_pem = kept_pending_key(state, run.run_id, held.name)
    if key_pem is None:
        raise CertopsError("No key waits on this host for %s, which was left as it is. Remedy: run the playbook again." % held.name)
    new = parse_certificates(certificate_pem, "what was signed for %s" % held.name)[0]
    problem = answer_problem(new, held.leaf, load_private_key(key_pem, "the key that waits"), held.authorities, run.now)
    if problem:
        raise CertopsError(
            "The certificate that was signed for %s is not taken: %s. What it has was left as it is. Remedy: look at who signed it."
            % (held.name, problem)
        )
    return _Accepted(held, new, key_pem)


def _tried(one: _Accepted, ask: t.Callable[[Identity], str]) -> dict[str, t.Any]:
    """How it is known that the kubeconfig's API server takes it; that it cannot be asked is told. Raises CertopsError when it does not."""
    held = one.held
    try:
        server, ca_pem = server_of(held)
        seen = ask(Identity(held.name, pem(one.new), one.key, ca_pem, server))
    except CertopsError as error:
        if isinstance(error, ApiError) and error.status == 401:
            raise CertopsError(
                "The API server of %s does not take the certificate that was signed for it, so that what it has was left as it is: %s. "
                "Remedy: is the CA that signed it in the API server's --client-ca-file?" % (held.name, error)
            ) from error
        message = "Whether the API server takes the new certificate of %s is not known: %s" % (held.name, str(error).rstrip("."))
        return {**_UNPROVEN, "message": "%s." % shown_sentence(message)}
    user = [str(name.value) for name in one.new.subject.get_attributes_for_oid(NameOID.COMMON_NAME)][-1:]
    if [seen] != user:
        raise CertopsError(
            "The API server of %s sees %r behind the certificate that was signed for %r, so that what it has was left as it is. "
            "Remedy: is there a proxy that ends TLS before the API server?" % (held.name, seen, user)
        )
    return dict(_PROVEN)


def _too_late(_identity: Identity) -> str:
    raise CertopsError("the servers before it took longer than %g s." % _LONGEST_SECONDS)


def _seen_by_api(identity: Identity) -> str:
    return whoami(ApiClient(address_of_url(identity.server or ""), identity, timeout=_API_TIMEOUT_SECONDS))[0]


def _write(state: StateFolder, run: Run, tried: t.Sequence[_Accepted], outcome: Outcome) -> None:
    """Back up and replace, one kubeconfig with its files after the other; each that fails is put back, and told."""
    run_id = state.new_run_id(run.run_id)
    wholes = []
    for path in dict.fromkeys(one.held.place.path for one in tried):
        users = [one for one in tried if one.held.place.path == path]
        try:
            files = _new_files(users)
            replaced = [back_up_copy(file, "%s/backup" % state.folder(run_id)) for file in files]
            wholes.append((users, files, replaced))
        except CertopsError as error:
            outcome.problems.append(_left(path, error))
    items = {one.held.name: Item(one.held.name, RENEW, facts(one.held.leaf), facts(one.new)) for one in tried}
    journal = Journal(
        run_id=run_id,
        host=run.host,
        started_at=iso(run.now),
        state=journaling.APPLYING,
        restart="never",
        kind=journaling.COPIES,
        files=tuple(replaced for _users, _files, all_replaced in wholes for replaced in all_replaced),
        items=tuple(items[one.held.name] for users, _files, _replaced in wholes for one in users),
    )
    if not journal.files:
        state.discard_unborn()
        return
    state.save(journal)
    kept: list[ReplacedFile] = []
    done: list[_Accepted] = []
    for users, files, replaced in wholes:
        try:
            for file, old in zip(files, replaced):
                _replace(file, old)
        except CertopsError as error:
            notes = [note for old in replaced for note in [restore_copy(old)] if note]
            outcome.problems.append(" ".join([_left(users[0].held.place.path, error), *notes]))
            continue
        kept += replaced
        done += users
    ended = journaling.COMMITTED if done else journaling.ROLLED_BACK
    state.save(
        dataclasses.replace(
            journal, state=ended, finished_at=iso(run.now), files=tuple(kept), items=tuple(items[one.held.name] for one in done)
        )
    )
    outcome.renewed += [_renewed(one.held.name, items[one.held.name].before, items[one.held.name].after, one.proof) for one in done]


def _new_files(users: t.Sequence[_Accepted]) -> list[NewFile]:
    """The files of one kubeconfig that are to be replaced: those that it names, each key first, then itself."""
    whole = users[0].held.file
    data, changed = whole.data, False
    named: list[NewFile] = []
    for one in users:
        data, files = with_credentials(whole, data, one.held.user, one.held.leaf, pem(one.new), one.key)
        named, changed = [*named, *files], changed or not files
    return [*named, NewFile(whole.place.path, data, by=whole.by, made_from=sha256(whole.data))] if changed else named


def _replace(file: NewFile, replaced: ReplacedFile) -> None:
    if file.by is None:
        put_if_unchanged(replaced, file.data)
    else:
        replace_in_place(Place(file.path, file.by), file.data, str(replaced.sha256_before))


def _left(path: str, error: CertopsError) -> str:
    return shown_sentence("%s was left as it is. %s" % (path, error))


def _renewed(name: str, before: dict[str, t.Any], after: dict[str, t.Any], proof: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"name": name, "action": RENEW, "before": before, "after": after, **(proof or _UNPROVEN)}


def _settle(state: StateFolder, run: Run) -> list[dict[str, t.Any]]:
    """End what an earlier run was stopped in. Raises CertopsError for one that has more to it than files."""
    ended = []
    state.discard_unborn()
    for journal in state.unfinished():
        if journal.kind != journaling.COPIES:
            raise CertopsError(
                "Run %s was stopped half-way on this host, and is none that renewed kubeconfigs alone. "
                "Remedy: run certops.kubernetes.rotate on it as a node of its cluster first." % journal.run_id
            )
        written = all(holds(file, file.sha256_after) if file.by is None else holds_users(file) for file in journal.files)
        notes = [] if written else [note for file in journal.files for note in [restore_copy(file)] if note]
        outcome = journaling.COMMITTED if written else journaling.ROLLED_BACK
        message = "Run %s had been stopped while it was %s; %s." % (
            journal.run_id,
            journal.state,
            "all was written" if written else "its files were put back",
        )
        cause = None if written else " ".join([message, *notes])
        state.save(dataclasses.replace(journal, state=outcome, finished_at=iso(run.now), cause=cause))
        ended.append({"run_id": journal.run_id, "found": journal.state, "state": outcome, "message": " ".join([message, *notes])})
    return ended


__all__ = ("Outcome", "Run", "ask_for", "look_for", "look_into", "put_into")
