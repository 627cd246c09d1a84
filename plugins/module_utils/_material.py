# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What lies in the files of a credential, read once and bounded: certificates, whether the key belongs to them, whose the files are.

Nothing of a private key leaves this file: only whether it is there, whether it matches, and its owner and mode.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.certops.kubernetes.plugins.module_utils._deps import CRYPTO_ERRORS
from ansible_collections.certops.kubernetes.plugins.module_utils._files import Attributes, MissingFile, read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import ETCD, HOT
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._pem import pem_blocks
from ansible_collections.certops.kubernetes.plugins.module_utils._public_part import public_key_of
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import (
    Certificate,
    CertificateFacts,
    chain_problem,
    describe,
    parse_certificates,
    public_bytes,
    public_key_id,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import describe_key

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential


@dataclass(frozen=True)
class Material:
    """The content of a credential's files.

    `certificates` is empty when there are none to be read; `problem` and `problem_code` (missing, unreadable) then say why.
    `key_state` is matching, mismatch, missing, unreadable or none (no key belongs to it); `key_problem` explains.
    `key_id` is (SHA-256 of the public key, algorithm, bits) of a signing key. `attributes`: whose each file is, by its path.
    """

    certificates: tuple[Certificate, ...] = ()
    facts: CertificateFacts | None = None
    problem_code: str | None = None
    problem: str | None = None
    key_state: str = "none"
    key_problem: str | None = None
    key_id: tuple[str, str, int | None] | None = None
    other_users: int = 0
    attributes: t.Mapping[str, Attributes] = field(default_factory=dict)

    @property
    def leaf(self) -> Certificate | None:
        """The first certificate: the one that is used."""
        return self.certificates[0] if self.certificates else None


@functools.lru_cache(maxsize=512)
def link_problem(certificate: Certificate, issuer: Certificate) -> str | None:
    """Why a certificate does not verify under another one; None if it does. Computed once: it costs most of an inspection's time."""
    return chain_problem(certificate, [issuer])


def issuers_of(certificate: Certificate, candidates: t.Sequence[Certificate]) -> list[Certificate]:
    """Those of the candidates under which the certificate verifies."""
    return [candidate for candidate in candidates if link_problem(certificate, candidate) is None]


def read_material(credential: Credential) -> Material:
    """Look at a credential's files. Garbage in them is part of the result, never an error."""
    found = _signing_key(credential) if credential.kind == "signing-key" else _certificates(credential)
    return replace(found, attributes=attributes_by_path(credential.cert_path, credential.key_path))


def _certificates(credential: Credential) -> Material:
    users = 0
    try:
        if credential.kind == "kubeconfig":
            certificate_data, key_data, users = _from_kubeconfig(credential.cert_path)
        else:
            certificate_data, key_data = read_bounded(credential.cert_path), None
        certificates = tuple(parse_certificates(certificate_data, credential.cert_path))
        facts = describe(certificates[0], credential.cert_path)
    except MissingFile as error:
        return Material(problem_code="missing", problem=str(error))
    except CertopsError as error:
        return Material(problem_code="unreadable", problem=str(error))
    state, problem = _key_state(credential, certificates, key_data)
    return Material(certificates, facts, key_state=state, key_problem=problem, other_users=users)


def _from_kubeconfig(path: str) -> tuple[bytes, bytes | None, int]:
    """(certificate, key, number of further users) of the current user. Raises CertopsError."""
    config = parse_kubeconfig(read_bounded(path), path)
    user = config.current_user()
    if user.client_certificate_data is None:
        raise CertopsError("the user of the current context of %s has no client certificate embedded" % path)
    return user.client_certificate_data, user.client_key_data, len(config.users) - 1


def _key_state(credential: Credential, certificates: t.Sequence[Certificate], embedded: bytes | None) -> tuple[str, str | None]:
    if credential.key_path is None:
        return "none", None
    if credential.kind == "kubeconfig" and embedded is None:
        return "missing", "the user of the current context of %s has no key embedded" % credential.key_path
    try:
        key = public_key_of(embedded if embedded is not None else read_bounded(credential.key_path), credential.key_path)
    except MissingFile as error:
        return "missing", str(error)
    except CertopsError as error:
        return "unreadable", str(error)
    # A CA file may be a bundle, in any order; of a pair, the first certificate is the one that is shown.
    candidates = certificates if credential.kind == "ca" else certificates[:1]
    return ("matching" if any(_has_key(certificate, key) for certificate in candidates) else "mismatch"), None


def _has_key(certificate: Certificate, public_key: t.Any) -> bool:
    try:
        return public_bytes(certificate.public_key()) == public_bytes(public_key)
    except CRYPTO_ERRORS:
        return False


def _signing_key(credential: Credential) -> Material:
    try:
        public = read_bounded(credential.cert_path)
        key_id = public_key_id(public, credential.cert_path)
    except MissingFile as error:
        return Material(problem_code="missing", problem=str(error))
    except CertopsError as error:
        return Material(problem_code="unreadable", problem=str(error))
    if credential.key_path is None:
        return Material(key_id=key_id)
    try:
        signing_id = _identity_of(public_key_of(read_bounded(credential.key_path), credential.key_path))
        known = {public_key_id(block, credential.cert_path)[0] for _label, block in pem_blocks(public, credential.cert_path)}
    except MissingFile as error:
        return Material(key_id=key_id, key_state="missing", key_problem=str(error))
    except CertopsError as error:
        return Material(key_id=key_id, key_state="unreadable", key_problem=str(error))
    # The file of public keys may hold several; the one that signs now names the record.
    if signing_id[0] in known:
        return Material(key_id=signing_id, key_state="matching")
    return Material(key_id=key_id, key_state="mismatch")


def _identity_of(public_key: t.Any) -> tuple[str, str, int | None]:
    return (hashlib.sha256(public_bytes(public_key)).hexdigest(), *describe_key(public_key))


def watched_links(credential: Credential) -> list[tuple[str, int, str]]:
    """(path, number of names, who watches it) of each of a credential's files that has several names and is watched by its inode."""
    watchers = [reader.component for reader in credential.readers if reader.reload == HOT and reader.component != ETCD]
    paths = dict.fromkeys(path for path in (credential.cert_path, credential.key_path) if path is not None)
    return [(path, names, watchers[0]) for path in paths for names in (_names(path),) if watchers and names > 1]


def _names(path: str) -> int:
    try:
        found = os.stat(path)
    except OSError:
        return 0
    return found.st_nlink if stat.S_ISREG(found.st_mode) else 0


def attributes_by_path(*paths: str | None) -> dict[str, Attributes]:
    """Owner, group and mode of the regular files among these, symbolic links followed, each once; nothing of labels."""
    found = {}
    for path in dict.fromkeys(path for path in paths if path is not None):
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            continue  # that it cannot be read is told already
        if stat.S_ISREG(status.st_mode):
            found[path] = Attributes(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    return found


__all__ = ("Material", "attributes_by_path", "issuers_of", "link_problem", "read_material", "watched_links")
