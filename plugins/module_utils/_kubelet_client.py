# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Make the kubelet a new client certificate, in memory: the cluster's signer signs it, or this node's CA when the old one has expired.

What is written is what the kubelet itself writes when it renews: a new file with a date in its name, and the link that leads to it
(client-go, util/certificate/certificate_store.go).
"""

from __future__ import annotations

import os
import typing as t
from datetime import timedelta

from ansible_collections.certops.kubernetes.plugins.module_utils._files import final_target, read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Item
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_api import KUBELET_CREDENTIAL
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import (
    RENEW,
    NewFile,
    Policy,
    Renewal,
    Wanted,
    check_fingerprint,
    facts,
    in_one_file,
    kept_key,
    look_at,
    renewals,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._signers import load_signer
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import describe, not_after, parse_certificates, pem
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_renew import key_to_pem, new_end, new_key_like, renew
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_request import answer_problem, make_request
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential, Node
    from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Present

# The node, a request as PEM, its usages, for how many seconds at most; the certificate as PEM.
AskSigner = t.Callable[["Node", bytes, t.Sequence[str], int], bytes]

_USAGES = ("digital signature", "client auth")
_USAGES_RSA = ("digital signature", "key encipherment", "client auth")


def all_renewals(node: Node, wanted: t.Sequence[Wanted], policy: Policy, ask: AskSigner, predict: bool = False) -> list[Renewal]:
    """What to write for each item, in the plan's order.

    The kubelet's client certificate is asked for last, when nothing stands against the others; with `predict` nobody is asked and nothing
    is made. Raises CertopsError; nothing was changed then.
    """
    own = [item for item in wanted if item.name == KUBELET_CREDENTIAL and item.action == RENEW]
    made = renewals(node, [item for item in wanted if item not in own], policy, predict)
    try:
        made.extend(_renewed(node, item, policy, ask, predict) for item in own)
    except CertopsError as error:
        raise CertopsError("Refused, nothing was changed. %s: %s" % (KUBELET_CREDENTIAL, error)) from error
    order = [item.name for item in wanted]
    return sorted(made, key=lambda one: order.index(one.item.name))


def _renewed(node: Node, item: Wanted, policy: Policy, ask: AskSigner, predict: bool) -> Renewal:
    credential = node.credentials.get(item.name)
    if credential is None:
        raise CertopsError("this node's kubelet has no client certificate in a file. Remedy: make the plan again.")
    present = look_at(credential)
    check_fingerprint(item, present)
    before = facts(present.leaf)
    # The cluster takes no request from a client whose certificate has expired.
    signer = load_signer(node, credential, policy.now) if not_after(present.leaf) <= policy.now else None
    if predict:
        limit = policy.now + timedelta(seconds=policy.validity_seconds)
        end = new_end(signer.certificate, policy.now, policy.validity_seconds) if signer else limit
        after = dict(before, serial=None, fingerprint_sha256=None, not_before=None, not_after=iso(end))
        return Renewal(Item(item.name, RENEW, before, after), _files(credential, present.data, present.key_data, policy.now))
    old_key = kept_key(present) if policy.keep_private_key else None
    if signer is not None:
        made = renew(present.leaf, signer.certificate, signer.key, policy.now, policy.validity_seconds, old_key, present.key_data)
        certificate_pem, key_pem = made.certificate_pem, made.private_key_pem
    else:
        key = old_key if old_key is not None else new_key_like(present.leaf)
        certificate_pem = _signed(node, present, key, policy, ask)
        key_pem = key_to_pem(key, present.key_data)
    after = facts(parse_certificates(certificate_pem, credential.cert_path)[0])
    return Renewal(Item(item.name, RENEW, before, after), _files(credential, certificate_pem, key_pem, policy.now))


def _signed(node: Node, present: Present, key: t.Any, policy: Policy, ask: AskSigner) -> bytes:
    """What the cluster's signer gives for this key. Raises CertopsError when it gives nothing, or another one than was asked for."""
    usages = _USAGES_RSA if describe(present.leaf).key_algorithm == "RSA" else _USAGES
    answer = ask(node, make_request(present.leaf.subject, key), usages, policy.validity_seconds)
    certificates = parse_certificates(answer, "what the cluster's signer gave")
    ca = node.credentials.get(present.credential.ca or "")
    trusted = parse_certificates(read_bounded(ca.cert_path), ca.cert_path) if ca is not None else []
    problem = answer_problem(certificates[0], present.leaf, key, trusted, policy.now)
    if problem is not None:
        raise CertopsError(
            "the certificate that the cluster's signer gave is not taken: %s. Remedy: look at the kube-controller-manager's "
            "--cluster-signing-cert-file, and at the CA on this node." % problem
        )
    return b"".join(pem(certificate) for certificate in certificates)


def _files(credential: Credential, certificate_pem: bytes, key_pem: bytes, now: datetime) -> tuple[NewFile, ...]:
    """As the kubelet has them: a dated file behind a link, one file, or one for each."""
    if not in_one_file(credential):
        key_path = final_target(str(credential.key_path))
        return NewFile(key_path, key_pem), NewFile(final_target(credential.cert_path), certificate_pem)
    both = certificate_pem + key_pem
    if not os.path.islink(credential.cert_path):
        return (NewFile(final_target(credential.cert_path), both),)
    folder = final_target(os.path.dirname(credential.cert_path))
    link = os.path.join(folder, os.path.basename(credential.cert_path))
    dated = _free_name(folder, now)
    leads = os.path.join(os.path.dirname(credential.cert_path), os.path.basename(dated))
    return NewFile(dated, both), NewFile(link, os.fsencode(leads), link=True)


def _free_name(folder: str, now: datetime) -> str:
    """The name that the kubelet would give a file that it wrote now; a second later where that is taken."""
    while True:
        path = os.path.join(folder, now.strftime(KUBELET_CREDENTIAL + "-%Y-%m-%d-%H-%M-%S.pem"))
        if not os.path.lexists(path):
            return path
        now += timedelta(seconds=1)


__all__ = ("AskSigner", "all_renewals")
