# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The CA that signs a credential, read from this node's files."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.certops.kubernetes.plugins.module_utils._files import MissingFile, read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import (
    chain_problem,
    key_matches,
    load_private_key,
    not_after,
    not_before,
    parse_certificates,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential, Node


@dataclass(frozen=True)
class Signer:
    """A CA that this node can sign with."""

    certificate: t.Any
    key: t.Any = field(repr=False)


@dataclass(frozen=True)
class Authority:
    """A CA that only another node can sign with: its certificate, and all that lie in its file here."""

    certificate: t.Any
    certificates: tuple[t.Any, ...]


def load_signer(node: Node, credential: Credential, now: datetime) -> Signer:
    """The CA that signs a credential: the first certificate of its file that belongs to its key. Raises CertopsError."""
    ca = node.credentials.get(credential.ca or "")
    if ca is None or ca.key_path is None:
        raise CertopsError("the CA that signs it (%s) was not found on this node. Remedy: sign it where that CA is kept." % credential.ca)
    try:
        key_data = read_bounded(ca.key_path)
    except MissingFile as error:
        raise CertopsError(
            "the key of its CA is not on this node (%s). Remedy: sign it where that key is kept (external CA)." % ca.key_path,
        ) from error
    key = load_private_key(key_data, ca.key_path)
    certificates = parse_certificates(read_bounded(ca.cert_path), ca.cert_path)
    matching = [certificate for certificate in certificates if key_matches(certificate, key)]
    if not matching:
        raise CertopsError(
            "the CA key %s does not belong to the CA certificate %s. Remedy: put the right key there." % (ca.key_path, ca.cert_path),
        )
    if not_after(matching[0]) <= now:
        raise CertopsError("its CA %s ended at %s. Remedy: rotate the CA first." % (ca.cert_path, iso(not_after(matching[0]))))
    if not_before(matching[0]) > now:
        raise CertopsError(
            "its CA %s is valid only from %s on, and it is %s on this node. Remedy: correct this node's clock."
            % (ca.cert_path, iso(not_before(matching[0])), iso(now)),
        )
    return Signer(matching[0], key)


def load_authority(node: Node, credential: Credential, leaf: t.Any) -> Authority:
    """The CA that signed what is there, where its key is on another node. Raises CertopsError."""
    ca = node.credentials.get(credential.ca or "")
    if ca is None:
        raise CertopsError("the CA that signs it (%s) was not found on this node. Remedy: put its certificate there." % credential.ca)
    certificates = parse_certificates(read_bounded(ca.cert_path), ca.cert_path)
    issuer = next((certificate for certificate in certificates if chain_problem(leaf, [certificate]) is None), None)
    if issuer is None:
        problem = chain_problem(leaf, certificates)
        raise CertopsError("the CA %s did not sign it: %s. Remedy: put the right CA there." % (ca.cert_path, problem))
    return Authority(issuer, tuple(certificates))


__all__ = ("Authority", "Signer", "load_authority", "load_signer")
