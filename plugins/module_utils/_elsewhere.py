# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A kubeconfig on a host without the cluster's CA key, such as a bastion: a new key is made there and waits there, only a request travels.

There is no transaction: certificate and key are in one file, which is replaced at once, and the old certificate is valid to its own end
whatever happens. A backup is kept like a run's.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.certops.kubernetes.plugins.module_utils import _journal as journaling
from ansible_collections.certops.kubernetes.plugins.module_utils._files import replace_file
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Item, Journal, ReplacedFile, StateFolder
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig, replace_user_credentials
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig_records import authorities_of, read_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._pending import forget_keys, keep_key, kept_pending_key
from ansible_collections.certops.kubernetes.plugins.module_utils._places import place_of, read_place, replace_in_place
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import RENEW, NewFile, facts
from ansible_collections.certops.kubernetes.plugins.module_utils._replacement import back_up
from ansible_collections.certops.kubernetes.plugins.module_utils._requests import SigningRequest
from ansible_collections.certops.kubernetes.plugins.module_utils._signals import deferred_signals
from ansible_collections.certops.kubernetes.plugins.module_utils._users_files import back_up_users
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import load_private_key, parse_certificates, pem
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_renew import key_to_pem, new_key_like
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_request import answer_problem, make_request, proves_key
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._places import Place


@dataclass(frozen=True)
class Run:
    """One call: which run it belongs to, on which host, when, and how many backups are kept."""

    run_id: str
    host: str
    pid: int
    now: datetime
    keep_backups: int = 10


@dataclass(frozen=True)
class _Held:
    """A user in a kubeconfig, and what is known of whom."""

    name: str
    place: Place
    user: str
    leaf: t.Any
    authorities: tuple[t.Any, ...]
    data: bytes = field(repr=False)
    key: bytes = field(repr=False)


def ask_for(state: StateFolder, run: Run, names: t.Sequence[str], validity_seconds: int) -> list[SigningRequest]:
    """A request for each of these users (`PATH#USER`); the new keys wait in this host's state folder. Raises CertopsError."""
    held = [_held(name) for name in names]
    made = []
    with deferred_signals(), state.lock(run.run_id, run.pid, iso(run.now)):
        forget_keys(state)
        for one in held:
            key = new_key_like(one.leaf)
            keep_key(state, run.run_id, one.name, key_to_pem(key, one.key))
            made.append(SigningRequest(one.name, make_request(one.leaf.subject, key), pem(one.leaf), validity_seconds))
    return made


def look_for(names: t.Sequence[str]) -> list[dict[str, t.Any]]:
    """What `ask_for` would ask for, with its refusals: each user's name and present certificate. Nothing is written."""
    return [{"name": one.name, "before": facts(one.leaf)} for one in map(_held, names)]


def put_into(state: StateFolder, run: Run, certificates: t.Mapping[str, bytes]) -> list[dict[str, t.Any]]:
    """Put what was signed, by `PATH#USER`, and the keys that wait for it, into their kubeconfigs; returns what changed for each.

    Raises CertopsError when something is not what was asked for, before any file is written.
    """
    with deferred_signals(), state.lock(run.run_id, run.pid, iso(run.now)):
        for name, certificate in certificates.items():
            _accepted(state, run, _held(name), certificate)
        # Looked at again, since two users may be in one file.
        done = [_written(state, run, *_accepted(state, run, _held(name), certificate)) for name, certificate in certificates.items()]
        forget_keys(state)
        state.retain(max(1, run.keep_backups))
    return done


def _held(name: str) -> _Held:
    file, user_name = None, ""
    for index in (index for index, letter in enumerate(name) if letter == "#"):
        try:
            file, user_name = read_kubeconfig(name[:index]), name[index + 1 :]
        except CertopsError:
            if index == name.rindex("#"):
                raise
            continue
        break
    user = file.config.users.get(user_name) if file is not None else None
    if file is None or user is None:
        raise CertopsError("%s is no user of a kubeconfig on this host. Remedy: make the plan again." % name)
    if user.client_certificate_data is None or user.client_key_data is None:
        raise CertopsError("%s has no certificate and key embedded. Remedy: embed them (kubectl config set-credentials)." % name)
    authorities = tuple(authorities_of(file, user))
    if not authorities:
        raise CertopsError(
            "The kubeconfig of %s does not hold its cluster's CA, so that an answer could not be verified. Remedy: embed it." % name
        )
    leaf = parse_certificates(user.client_certificate_data, name)[0]
    if not proves_key(leaf, user.client_key_data):
        raise CertopsError(
            "%s does not hold the private key of its certificate, which anybody may have. Remedy: have a new one made." % name
        )
    return _Held(name, place_of(file.path), user_name, leaf, authorities, file.data, user.client_key_data)


def _accepted(state: StateFolder, run: Run, held: _Held, certificate_pem: bytes) -> tuple[_Held, bytes, t.Any]:
    """The user, the kubeconfig's new content and the new certificate."""
    key_pem = kept_pending_key(state, run.run_id, held.name)
    if key_pem is None:
        raise CertopsError("No key waits on this host for %s. Nothing was changed. Remedy: run the playbook again." % held.name)
    new = parse_certificates(certificate_pem, "what was signed for %s" % held.name)[0]
    problem = answer_problem(new, held.leaf, load_private_key(key_pem, "the key that waits"), held.authorities, run.now)
    if problem:
        raise CertopsError("The certificate that was signed for %s is not taken: %s. Nothing was changed." % (held.name, problem))
    return held, replace_user_credentials(held.data, held.user, pem(new), key_pem, held.place.path), new


def _written(state: StateFolder, run: Run, held: _Held, data: bytes, new: t.Any) -> dict[str, t.Any]:
    run_id = state.new_run_id(run.run_id)
    file = NewFile(held.place.path, data, by=held.place.by)
    backup_root = "%s/backup" % state.folder(run_id)
    replaced: ReplacedFile = back_up(file, backup_root) if file.by is None else back_up_users(file, backup_root)
    if file.by is None:
        replace_file(file.path, data, replaced.attributes)
    else:
        replace_in_place(held.place, data, str(replaced.sha256_before))
    on_disk = parse_kubeconfig(read_place(held.place).data, held.name).users[held.user]
    if on_disk.client_certificate_data != pem(new):
        raise CertopsError("%s was changed by somebody else meanwhile. Remedy: run again." % held.name)
    before, after = facts(held.leaf), facts(new)
    state.save(
        Journal(
            run_id=run_id,
            host=run.host,
            started_at=iso(run.now),
            finished_at=iso(run.now),
            state=journaling.COMMITTED,
            restart="never",
            kind=journaling.COPIES,
            files=(replaced,),
            items=(Item(held.name, RENEW, before, after),),
        )
    )
    return {"name": held.name, "action": RENEW, "before": before, "after": after}


__all__ = ("Run", "ask_for", "look_for", "put_into")
