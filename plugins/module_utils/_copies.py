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

import time
import typing as t
from dataclasses import dataclass, field

from ansible_collections.certops.kubernetes.plugins.module_utils._copied_user import with_credentials
from ansible_collections.certops.kubernetes.plugins.module_utils._files import MissingFile, read_bounded, sha256
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig_files import MOST_FILES, matching_files
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig_records import (
    is_original,
    is_stale,
    material,
    read_kubeconfig,
    same_key,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import RENEW, NewFile, look_at
from ansible_collections.certops.kubernetes.plugins.module_utils._users_files import left_as_it_is
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import chain_problem, parse_certificates
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import shown_sentence

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import UserCredential
    from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig_records import KubeconfigFile
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node
    from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Renewal


_MOST_BYTES = 16 * 1024 * 1024  # of all new contents: they are in memory, and backed up where the node needs the room
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
    listing = matching_files(patterns if identities else (), node)
    left = [shown_sentence("The copies %s were left as they are. %s" % unread) for unread in listing.unread.items()]
    if len(listing.files) > MOST_FILES:
        left.append(left_as_it_is(listing.files[MOST_FILES][0], "Only %d files are looked into. Remedy: name fewer files." % MOST_FILES))
    deadline = time.monotonic() + _LONGEST_SECONDS
    for path, _named in listing.files[:MOST_FILES]:
        if time.monotonic() > deadline or sum(len(file.data) for file in files.values()) > _MOST_BYTES:
            why = "The files before it took longer than %g s, or more than %d bytes. Remedy: name fewer files."
            left.append(left_as_it_is(path, why % (_LONGEST_SECONDS, _MOST_BYTES)))
            break
        try:
            new, refused = _new_files(path, identities, deadline)
        except MissingFile:
            continue
        except CertopsError as error:
            new, refused = [], [str(error)]
        left += [left_as_it_is(path, why) for why in refused]
        if new:
            files.update({file.path: file for file in new})
            written[path] = frozenset(file.path for file in new)
    return Copies(tuple(files.values()), written, tuple(left))


def _identities(node: Node, made: Sequence[Renewal]) -> list[Identity]:
    renewals = {one.item.name: one for one in made if one.item.action == RENEW}
    found = []
    for credential in node.credentials.values():
        if not is_original(credential, node):
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


def _new_files(path: str, identities: Sequence[Identity], deadline: float) -> tuple[list[NewFile], list[str]]:
    """What to write for a kubeconfig, and why users in it are left. Raises CertopsError when it cannot be looked into."""
    file = read_kubeconfig(path)
    files: list[NewFile] = []
    refused: list[str] = []
    data, changed = file.data, False
    for _name, user in sorted(file.config.users.items()):
        if time.monotonic() > deadline:
            raise CertopsError("It took too long, with the files before it. Remedy: take users out of it that nobody needs.")
        leaf, identity = _identity_of(user, file, identities)
        if identity is None:
            continue
        try:
            data, named = with_credentials(file, data, user, leaf, identity.certificate, identity.key)
            files, changed = [*files, *named], changed or not named
        except CertopsError as error:
            refused.append(str(error))
    if changed:
        files.append(NewFile(file.place.path, data, by=file.by, made_from=sha256(file.data)))
    return files, refused


def _identity_of(user: UserCredential, file: KubeconfigFile, identities: Sequence[Identity]) -> tuple[t.Any, Identity | None]:
    """The user's certificate, and of which identity it is a copy that is out of date."""
    try:
        leaf = parse_certificates(material(file, user.client_certificate_data, user.client_certificate), file.path)[0]
    except CertopsError:
        return None, None
    for identity in identities:
        if same_key(leaf, identity.leaf) or (leaf.subject == identity.leaf.subject and chain_problem(leaf, identity.cas) is None):
            return leaf, identity if identity.renewed or is_stale(leaf, identity.leaf) else None
    return leaf, None


__all__ = ("Copies", "Identity", "find_copies")
