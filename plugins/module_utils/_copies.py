# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Copies of kubeconfigs: what somebody made of admin.conf with `cp` stays valid when admin.conf is renewed.

A copy is known by what it says, not by where it lies: a user with a client certificate of the same subject, signed by the same CA. Only
the certificate and the key of that user change, whatever else is in the file.
"""

from __future__ import annotations

import glob
import os
import stat
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.certops.kubernetes.plugins.module_utils._files import final_target, read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig, replace_user_credentials
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import RENEW, NewFile, look_at
from ansible_collections.certops.kubernetes.plugins.module_utils._replaceable import replace_problems
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import chain_problem, parse_certificates

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import UserCredential
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node
    from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Renewal


@dataclass(frozen=True)
class Identity:
    """A client certificate in a kubeconfig of this node, and the CAs that it is signed by."""

    leaf: t.Any
    cas: tuple[t.Any, ...]


def candidates(patterns: Sequence[str], originals: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files to look into, each once, and sentences about those that are left alone.

    A pattern is a path, `~` and wildcards allowed. Written is only where nobody but root could put a link in a file's way: this runs as
    root, and whoever owns the folder could make it write elsewhere.
    """
    known = {final_target(path) for path in originals}
    found, left = [], []
    for path in sorted({match for pattern in patterns for match in glob.glob(os.path.expanduser(pattern))}):
        if final_target(path) in known:
            continue
        owner = _who_else_writes(path)
        if os.path.islink(path):
            left.append("%s is a symbolic link and was not looked into. Remedy: name the file itself." % path)
        elif owner:
            left.append(
                "%s was left as it is: %s, so that root must not write there. Remedy: its owner copies the original again." % (path, owner)
            )
        else:
            found.append(path)
    return found, left


def _who_else_writes(path: str) -> str | None:
    """Why somebody who is not root decides what lies at a path; None if nobody else does. Links in its folders are followed."""
    folder = place = os.path.realpath(os.path.dirname(path))
    while True:
        seen = os.stat(place)
        if seen.st_uid not in (0, os.geteuid()):
            return "%s belongs to the user %d" % (place, seen.st_uid)
        # In a sticky folder, such as /tmp above it, others cannot exchange what belongs to root; in the file's own they need not.
        sticky = seen.st_mode & stat.S_ISVTX and place != folder
        if seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
            return "others may write to %s" % place
        if place == "/":
            return None
        place = os.path.dirname(place)


def users_of(data: bytes, path: str, identity: Identity) -> list[UserCredential]:
    """The users of a kubeconfig that are a copy of an identity, by their names. Raises CertopsError when it is no kubeconfig."""
    users = parse_kubeconfig(data, path).users
    return [users[name] for name in sorted(users) if _is_copy(users[name], path, identity)]


def _is_copy(user: UserCredential, path: str, identity: Identity) -> bool:
    if user.client_certificate_data is None or user.client_key_data is None:
        return False
    try:
        leaf = parse_certificates(user.client_certificate_data, path)[0]
    except CertopsError:
        return False
    return bool(leaf.subject == identity.leaf.subject) and chain_problem(leaf, identity.cas) is None


def renewed_copies(paths: Sequence[str], renewed: Sequence[tuple[Identity, bytes, bytes]]) -> tuple[list[NewFile], list[str]]:
    """The new content of each file that has a copy of a renewed identity, and sentences about what could not be made valid.

    `renewed`: the identity before, its new certificate and its new key, as PEM. A copy never keeps a run from what it is there for.
    """
    files, left = [], []
    for path in paths:
        try:
            data, is_copy = read_bounded(path), False
            for identity, certificate, key in renewed:
                for user in users_of(data, path, identity):
                    data, is_copy = replace_user_credentials(data, user.name, certificate, key, path), True
            problems = replace_problems([path]) if is_copy else []
        except CertopsError as error:
            problems = [str(error)]
        if problems:
            left.append("The copy %s was left as it is. %s" % (path, " ".join(problems)))
        elif is_copy:
            files.append(NewFile(path, data))
    return files, left


def with_copies(node: Node, made: Sequence[Renewal], patterns: Sequence[str]) -> tuple[list[Renewal], list[str], list[str]]:
    """The renewals with the copies of their kubeconfigs among what is to be written, the copies' paths, and what is left alone and why."""
    renewed = [_renewed(node, one) for one in made if one.item.action == RENEW and node.credentials[one.item.name].kind == "kubeconfig"]
    if not renewed:
        return list(made), [], []
    originals = [credential.cert_path for credential in node.credentials.values() if credential.kind == "kubeconfig"]
    paths, left = candidates(patterns, originals)
    files, problems = renewed_copies(paths, renewed)
    *others, last = made
    return [*others, replace(last, files=(*last.files, *files))], [file.path for file in files], [*left, *problems]


def _renewed(node: Node, one: Renewal) -> tuple[Identity, bytes, bytes]:
    credential = node.credentials[one.item.name]
    present = look_at(credential)
    authority = node.credentials[str(credential.ca)].cert_path
    identity = Identity(present.leaf, tuple(parse_certificates(read_bounded(authority), authority)))
    # Of what is only predicted there is nothing new yet; the old one has the same size.
    data = one.files[0].data if one.item.after["fingerprint_sha256"] else present.data
    user = parse_kubeconfig(data, credential.cert_path).current_user()
    return identity, t.cast(bytes, user.client_certificate_data), t.cast(bytes, user.client_key_data)


__all__ = ("Identity", "candidates", "renewed_copies", "users_of", "with_copies")
