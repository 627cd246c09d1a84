# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Copies of kubeconfigs: what somebody made of admin.conf with `cp` stays valid when admin.conf is renewed.

A copy is known by what it says, not by where it lies: a user with a client certificate of the same key, or of the same subject and signed
by the same CA. Only the certificate and the key of that user change, whatever else is in the file; where the kubeconfig names files for
them, these are replaced. Certificates are public: nobody gets a key who does not hold that of the copy's certificate already, but for
files that are root's alone.
"""

from __future__ import annotations

import os
import stat
import time
import typing as t
from dataclasses import dataclass, field

from ansible_collections.certops.kubernetes.plugins.module_utils._files import MissingFile, read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig, replace_user_credentials
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig_records import (
    is_stale,
    matching_files,
    may_become_valid,
    same_key,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._places import place_of, read_as, read_place
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import RENEW, NewFile, look_at
from ansible_collections.certops.kubernetes.plugins.module_utils._replaceable import replace_problems
from ansible_collections.certops.kubernetes.plugins.module_utils._users_files import left_as_it_is
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import chain_problem, parse_certificates

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import UserCredential
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node
    from ansible_collections.certops.kubernetes.plugins.module_utils._places import Place
    from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Renewal


_MOST_FILES = 500  # as an inspection looks at
_LONGEST_SECONDS = 60.0  # for all of them, while the node waits for its renewal


@dataclass(frozen=True)
class Identity:
    """A client certificate in a kubeconfig of this node, the CAs that it is signed by, and what its copies are to hold, as PEM.

    `renewed`: by this run, so that all copies are out of date; else only those are that are older than it.
    """

    leaf: t.Any
    cas: tuple[t.Any, ...]
    certificate: bytes
    key: bytes = field(repr=False)
    renewed: bool


@dataclass(frozen=True)
class Copies:
    """The files to write, which of them make which kubeconfig valid, and sentences about those that are left alone."""

    files: tuple[NewFile, ...] = ()
    written: dict[str, frozenset[str]] = field(default_factory=dict)
    left: tuple[str, ...] = ()


def find_copies(node: Node, made: Sequence[Renewal], patterns: Sequence[str]) -> Copies:
    """The new content of each file among `patterns` (paths, `~` and wildcards) that has a copy of a kubeconfig of this node.

    `made` is what this run renews. A copy never keeps a run from what it is there for: never raises for what lies there.
    """
    identities = _identities(node, made) if patterns else []
    files: dict[str, NewFile] = {}
    written: dict[str, frozenset[str]] = {}
    left = []
    deadline = time.monotonic() + _LONGEST_SECONDS
    for path, _named in matching_files(patterns, node)[:_MOST_FILES] if identities else ():
        if time.monotonic() > deadline:
            left.append(left_as_it_is(path, "The files before it took longer than %g s. Remedy: name fewer files." % _LONGEST_SECONDS))
            break
        try:
            new = _new_files(path, identities)
            problems = replace_problems([file.path for file in new if file.by is None])
        except MissingFile:
            continue
        except CertopsError as error:
            new, problems = [], [] if _is_folder(path) else [str(error)]
        if problems:
            left.append(left_as_it_is(path, " ".join(problems)))
        elif new:
            files.update({file.path: file for file in new})
            written[path] = frozenset(file.path for file in new)
    return Copies(tuple(files.values()), written, tuple(left))


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return True


def _identities(node: Node, made: Sequence[Renewal]) -> list[Identity]:
    renewals = {one.item.name: one for one in made if one.item.action == RENEW}
    found = []
    for credential in node.credentials.values():
        if credential.kind != "kubeconfig" or credential.ca not in node.credentials or credential.managed_by is not None:
            continue
        one = renewals.get(credential.name)
        try:
            present = look_at(credential)
            authority = node.credentials[str(credential.ca)].cert_path
            cas = tuple(parse_certificates(read_bounded(authority), authority))
            # Of what is only predicted there is nothing new yet; the old one has the same size.
            data = one.files[0].data if one is not None and one.item.after["fingerprint_sha256"] else present.data
            user = parse_kubeconfig(data, credential.cert_path).current_user()
        except CertopsError:
            continue  # what cannot be read has no copies, and is told elsewhere
        certificate, key = t.cast(bytes, user.client_certificate_data), t.cast(bytes, user.client_key_data)
        found.append(Identity(present.leaf, cas, certificate, key, one is not None))
    return found


def _new_files(path: str, identities: Sequence[Identity]) -> list[NewFile]:
    place = place_of(path)
    if place.problem is not None:
        raise CertopsError("%s, so that root must not write there. Remedy: its owner copies the original again." % place.problem)
    if place.by is None and os.path.islink(path):
        raise CertopsError("It is a symbolic link and was not looked into. Remedy: name the file itself.")
    seen = read_place(place)
    data = seen.data
    users = parse_kubeconfig(data, path).users
    files: list[NewFile] = []
    changed = False
    for name in sorted(users):
        leaf, identity = _identity_of(users[name], path, place, identities)
        if identity is None:
            continue
        if not may_become_valid(
            leaf, _key_of(users[name], path, place), None if users[name].client_key_data is None else seen.attributes, place.by
        ):
            raise CertopsError("Its user %s does not hold the private key of its certificate. Remedy: copy the original again." % name)
        if users[name].client_certificate_data is not None:
            data, changed = replace_user_credentials(data, name, identity.certificate, identity.key, path), True
        else:
            files += pair_files(users[name], path, place, identity)
    return [*files, NewFile(place.path, data, by=place.by)] if changed else files


def _key_of(user: UserCredential, path: str, place: Place) -> bytes:
    """Read with the rights of the kubeconfig's owner: what only root may read proves nothing for others."""
    return user.client_key_data if user.client_key_data is not None else read_as(_named(str(user.client_key), path), place.by)


def _identity_of(user: UserCredential, path: str, place: Place, identities: Sequence[Identity]) -> tuple[t.Any, Identity | None]:
    """The user's certificate, and of which identity it is a copy that is out of date."""
    try:
        if user.client_certificate_data is not None:
            leaf = parse_certificates(user.client_certificate_data, path)[0] if user.client_key_data is not None else None
        elif user.client_certificate is not None and user.client_key is not None and user.client_key_data is None:
            leaf = parse_certificates(read_as(_named(user.client_certificate, path), place.by), path)[0]
        else:
            leaf = None
    except CertopsError:
        return None, None
    for identity in identities:
        is_copy = leaf is not None and (
            same_key(leaf, identity.leaf) or (leaf.subject == identity.leaf.subject and chain_problem(leaf, identity.cas) is None)
        )
        if is_copy:
            return leaf, identity if identity.renewed or is_stale(leaf, identity.leaf) else None
    return leaf, None


def _named(name: str, path: str) -> str:
    return os.path.normpath(os.path.join(os.path.dirname(path), name))


def pair_files(user: UserCredential, path: str, place: Place, identity: Identity) -> list[NewFile]:
    """The files that a kubeconfig names, the key first. Raises CertopsError unless both are where the kubeconfig's owner decides."""
    key, certificate = _named(str(user.client_key), path), _named(str(user.client_certificate), path)
    if key == certificate:
        raise CertopsError("Its user %s has certificate and key in one file, %s. Remedy: copy the original again." % (user.name, key))
    files = []
    for name, content in ((key, identity.key), (certificate, identity.certificate)):
        there = place_of(name)
        if there.by != place.by or there.problem or (there.by is None and os.path.islink(name)):
            raise CertopsError(
                "The file %s, which its user %s names, is not where the kubeconfig's owner alone decides. Remedy: copy the original again."
                % (name, user.name)
            )
        read_place(there)
        files.append(NewFile(there.path, content, by=there.by))
    return files


__all__ = ("Copies", "Identity", "find_copies", "pair_files")
