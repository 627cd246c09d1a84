# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What the modules for signing across nodes call: ask on one node, sign on another. Keys stay where they are."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._files import MissingFile, final_target, read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig_records import originals_of
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._pending import forget_keys, keep_key
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import kept_key, look_at
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import validity_seconds
from ansible_collections.certops.kubernetes.plugins.module_utils._signals import deferred_signals
from ansible_collections.certops.kubernetes.plugins.module_utils._signers import load_authority
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import (
    chain_problem,
    key_matches,
    load_private_key,
    parse_certificates,
    pem,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_renew import key_to_pem, new_key_like
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_request import grant_request, is_proven, make_request
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso, render_name

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._journal import StateFolder
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node
    from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import NodeAccess
    from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Present


@dataclass(frozen=True)
class SigningRequest:
    """What travels to the node that has the CA's key. Nothing in it is secret."""

    name: str
    request: bytes  # PKCS#10
    certificate: bytes  # the one to be renewed
    validity_seconds: int
    proof: bytes | None = None  # that whoever asks has the key of `certificate`, as `prove_renewal` makes it

    def plain(self) -> dict[str, t.Any]:
        """As JSON knows it."""
        proof = {} if self.proof is None else {"proof": self.proof.decode()}
        return {
            "name": self.name,
            "request": self.request.decode(),
            "certificate": self.certificate.decode(),
            "validity_seconds": self.validity_seconds,
            **proof,
        }


def request_signatures(
    access: NodeAccess, state: StateFolder, run_id: str, names: t.Sequence[str], keep_private_key: bool, validity_days: int | None
) -> list[SigningRequest]:
    """The requests for what another node signs in this run; the new keys wait here. Raises CertopsError."""
    with deferred_signals(), state.lock(run_id, access.pid, iso(access.now())):
        node = access.discover()
        return make_requests(node, state, run_id, names, validity_seconds(access, node, validity_days), keep_private_key)


def make_requests(
    node: Node, state: StateFolder, run_id: str, names: t.Sequence[str], validity_seconds: int, keep_private_key: bool
) -> list[SigningRequest]:
    """A request for each of these certificates (one for a file that has two names); new keys wait in the node's state folder.

    The caller holds the node's lock. Raises CertopsError.
    """
    presents = _to_be_signed_elsewhere(node, names)
    forget_keys(state)
    made = []
    for name, present in presents.items():
        if keep_private_key:
            key = kept_key(present)
        else:
            key = new_key_like(present.leaf)
            keep_key(state, run_id, name, key_to_pem(key, present.key_data or None))
        made.append(SigningRequest(name, make_request(present.leaf.subject, key), pem(present.leaf), validity_seconds))
    return made


def _to_be_signed_elsewhere(node: Node, names: t.Sequence[str]) -> dict[str, Present]:
    presents, problems, paths = {}, [], set()
    for name in names:
        credential = node.credentials.get(name)
        if credential is None:
            problems.append("%s: this node has no certificate of that name. Remedy: make the plan again." % name)
            continue
        try:
            present = look_at(credential)
            load_authority(node, present.credential, present.leaf)
        except CertopsError as error:
            problems.append("%s: %s" % (name, error))
            continue
        if final_target(credential.cert_path) not in paths:
            presents[name] = present
            paths.add(final_target(credential.cert_path))
    if problems:
        raise CertopsError("Nothing was made. %s" % " ".join(problems))
    return presents


def sign_requests(node: Node, requests: t.Sequence[SigningRequest], now: datetime, *, copies_only: bool = False) -> dict[str, bytes]:
    """Name -> new certificate as PEM. Only what a CA of this node has signed before is signed again. Raises CertopsError.

    `copies_only`: whoever asks is no node of the cluster, so that nothing is believed. Only the identity of a kubeconfig of this node is
    signed, for somebody who proves that he has the key of it.
    """
    authorities, problems = _authorities(node)
    signed = {}
    for request in requests:
        old = parse_certificates(request.certificate, "the request for %s" % request.name)[0]
        if copies_only:
            _check_copy(node, request, old)
        for certificate, _key_path, key in authorities:
            if chain_problem(old, [certificate]) is None:
                signed[request.name] = grant_request(request.request, old, certificate, key, now, request.validity_seconds)
                break
        else:
            known = ", ".join(sorted({path for _certificate, path, _key in authorities})) or "none"
            what = "No CA whose key is on this node has signed %s (keys of CAs here: %s)." % (request.name, known)
            raise CertopsError(" ".join([what, *problems]))
    return signed


def _check_copy(node: Node, request: SigningRequest, old: t.Any) -> None:
    originals = [one for one in originals_of(node) if one.name != "kubelet.conf"]
    if old.subject not in [one.leaf.subject for one in originals]:
        raise CertopsError(
            "%s is for %s, whom no kubeconfig of this node is for (%s): it is not signed. Remedy: have a kubeconfig issued "
            "(certops.kubernetes.issue_kubeconfig)."
            % (request.name, render_name(old.subject), ", ".join(one.path for one in originals) or "there is none")
        )
    if request.proof is None or not is_proven(old, request.request, request.proof):
        raise CertopsError(
            "The request for %s was not signed with the key of the certificate that is to be renewed, which anybody may have: it is not "
            "signed. Remedy: run the playbook again; look at that host if it says so again." % request.name
        )


def _authorities(node: Node) -> tuple[list[tuple[t.Any, str, t.Any]], list[str]]:
    """(certificate, path of its key, the key) of each CA that this node can sign with, and why others are of no use."""
    usable, problems = [], []
    for credential in node.credentials.values():
        if credential.kind != "ca" or credential.key_path is None:
            continue
        try:
            key = load_private_key(read_bounded(credential.key_path), credential.key_path)
            certificates = parse_certificates(read_bounded(credential.cert_path), credential.cert_path)
        except MissingFile:
            continue  # its key is elsewhere
        except CertopsError as error:
            problems.append(str(error))
            continue
        usable += [(certificate, credential.key_path, key) for certificate in certificates if key_matches(certificate, key)]
    return usable, problems


__all__ = ("SigningRequest", "make_requests", "request_signatures", "sign_requests")
