# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Prove that a certificate is what it should be: on disk, with its key and its CA, and in each process that reads it."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._files import read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import SELF
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import look_at
from ansible_collections.certops.kubernetes.plugins.module_utils._restarts import readers_of
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import (
    fingerprint,
    key_matches,
    load_private_key,
    parse_certificates,
    signed_by,
)

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Item
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential, Node, Record
    from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import NodeAccess


@dataclass(frozen=True)
class Proof:
    """What is known about one certificate after the change. `readers`: (component, reload, in_use, proof)."""

    name: str
    in_use: str  # true | false | unknown
    proof: str
    readers: tuple[tuple[str, str, str, str], ...]
    message: str = ""


def disk_problem(node: Node, item: Item, expected: str) -> str | None:
    """Why what lies on disk is not the certificate with this fingerprint, with its key and under its CA; None when it is."""
    credential = node.credential(item.name)
    if credential is None:
        return "%s is not found on this node any more" % item.name
    try:
        present = look_at(credential)
        actual = fingerprint(present.leaf)
        if actual != expected:
            return "%s holds the certificate %s, expected %s" % (credential.cert_path, actual, expected)
        if not key_matches(present.leaf, load_private_key(present.key_data, credential.key_path or credential.cert_path)):
            return "the key %s does not belong to the certificate %s" % (credential.key_path or "in the same file", credential.cert_path)
        if not _chains(node, credential, present.leaf):
            return "%s is not signed by the CA %s that is on this node" % (credential.cert_path, credential.ca)
    except CertopsError as error:
        return str(error)
    return None


def _chains(node: Node, credential: Credential, leaf: t.Any) -> bool:
    ca = node.credentials.get(credential.ca or "")
    if ca is None:
        return True  # a CA that is not on this node cannot be asked
    return any(signed_by(leaf, authority) for authority in parse_certificates(read_bounded(ca.cert_path), ca.cert_path))


def prove_item(access: NodeAccess, node: Node, records: t.Sequence[Record], item: Item, expected: str) -> Proof:
    """The best proof that there is for each reader of a certificate, and the sum of them."""
    readers = [(reader.component, reader.reload, reader.in_use, reader.proof) for reader in readers_of(records, item.name)]
    message = ""
    if not readers or any(_wants_more(reload, in_use) for _component, reload, in_use, _proof in readers):
        way = access.client_proof(node, item.name, expected)
        message = way.message
        if not readers:
            return Proof(item.name, way.in_use, way.proof, (), message)
        readers = [
            (component, reload, way.in_use, way.proof)
            if _wants_more(reload, in_use) and way.in_use != "unknown"
            else (component, reload, in_use, proof)
            for component, reload, in_use, proof in readers
        ]
    in_use = _sum_of([reader[2] for reader in readers])
    proof = next(reader[3] for reader in readers if reader[2] == in_use)
    return Proof(item.name, in_use, proof, tuple(readers), message)


def _wants_more(reload: str, in_use: str) -> bool:
    """Of a client that renews itself, that it has the certificate does not say yet that the server takes it."""
    return in_use == "unknown" or (reload == SELF and in_use == "true")


def _sum_of(states: t.Sequence[str]) -> str:
    """One "false" spoils it, and one "unknown" keeps it from being "true"."""
    return next((state for state in ("false", "unknown") if state in states), "true")


__all__ = ("Proof", "disk_problem", "prove_item")
