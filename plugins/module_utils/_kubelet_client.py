# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Make the kubelet a new client certificate, in memory: the cluster's signer signs it, or this node's CA when the old one has expired.

What is written is what the kubelet itself writes when it renews: a new file with a date in its name, and the link that leads to it
(client-go, util/certificate/certificate_store.go). A kubeconfig that embeds its certificate is made to name that link, as kubeadm's phase
kubelet-finalize does it, so that the kubelet can renew what it names.
"""

from __future__ import annotations

import os
import typing as t
from datetime import timedelta

from ansible_collections.certops.kubernetes.plugins.module_utils._files import final_target, read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Item
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import name_user_file, replace_user_credentials
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_api import (
    KUBELET_CREDENTIAL,
    KUBELETS,
    own_identity,
    trusted_authorities,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_use import current_path
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import KUBELET
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
    own = [item for item in wanted if item.name in KUBELETS and item.action == RENEW]
    made = renewals(node, [item for item in wanted if item not in own], policy, predict)
    beside: Renewal | None = None
    for item in sorted(own, key=lambda one: KUBELETS.index(one.name)):
        try:
            beside = _renewed(node, item, policy, ask, predict, beside)
        except CertopsError as error:
            raise CertopsError("Refused, nothing was changed. %s: %s" % (item.name, error)) from error
        made.append(beside)
    order = [item.name for item in wanted]
    return sorted(made, key=lambda one: order.index(one.item.name))


def _renewed(node: Node, item: Wanted, policy: Policy, ask: AskSigner, predict: bool, beside: Renewal | None) -> Renewal:
    """`beside`: the renewal of the file that the kubelet uses, if this run makes that too."""
    credential = node.credentials.get(item.name)
    if credential is None:
        raise CertopsError("this node's kubelet has no such client certificate. Remedy: make the plan again.")
    present = look_at(credential)
    check_fingerprint(item, present)
    before = facts(present.leaf)
    if credential.kind != "kubeconfig":
        made = _made(node, present, policy, ask, predict)
        return Renewal(Item(item.name, RENEW, before, made.after), _files(credential, made.certificate, made.key, policy))
    path = current_path(node.components.get(KUBELET))
    _check_same_client(node.credentials.get(KUBELET_CREDENTIAL), present)
    conf = final_target(credential.cert_path)
    try:
        named = name_user_file(present.data, str(present.user), path, credential.cert_path)
    except CertopsError as error:
        return _embedded_again(item, present, _made(node, present, policy, ask, predict), str(error))
    if beside is not None:
        after, files = beside.item.after, beside.files
    else:
        made = _made(node, present, policy, ask, predict)
        after, files = made.after, _dated(path, made.certificate + made.key, policy.now)
    before, after = dict(before, kept_in=credential.cert_path), dict(after, kept_in=path)
    return Renewal(Item(item.name, RENEW, before, after), (*files, NewFile(conf, named)))


def _check_same_client(used: Credential | None, present: Present) -> None:
    """Refuse (CertopsError) to make another client of a kubelet than the one that it is by the file that it uses."""
    try:
        leaf = parse_certificates(read_bounded(used.cert_path), used.cert_path)[0] if used is not None else None
    except CertopsError:
        return  # a link that leads nowhere
    if used is not None and leaf is not None and leaf.subject != present.leaf.subject:
        raise CertopsError(
            "%s is for %s, and %s for %s. Remedy: find out which of them this node is, and move the other one away."
            % (used.cert_path, describe(leaf).subject, present.credential.cert_path, describe(present.leaf).subject)
        )


def _embedded_again(item: Wanted, present: Present, made: _Made, why: str) -> Renewal:
    """Renewed where it is, for a kubeconfig that is written in no way that this knows to convert."""
    data = present.data
    path = present.credential.cert_path
    if made.after["fingerprint_sha256"] is not None:
        data = replace_user_credentials(data, str(present.user), made.certificate + present.tail, made.key, path)
    note = "%s embeds its new certificate again, which the kubelet cannot renew by itself: %s" % (path, why)
    return Renewal(Item(item.name, RENEW, facts(present.leaf), made.after), (NewFile(final_target(path), data),), note)


class _Made(t.NamedTuple):
    """A new certificate's facts, and both as PEM; of one that is only predicted, what its predecessor has."""

    after: dict[str, t.Any]
    certificate: bytes
    key: bytes


def _made(node: Node, present: Present, policy: Policy, ask: AskSigner, predict: bool) -> _Made:
    credential = present.credential
    # The cluster takes no request from a client whose certificate has expired.
    if credential.kind == "kubeconfig":
        expired = own_identity(node, policy.now).expired(policy.now)
    else:
        expired = not_after(present.leaf) <= policy.now
    signer = load_signer(node, credential, policy.now) if expired else None
    old_key = kept_key(present) if policy.keep_private_key else None
    if predict:
        limit = policy.now + timedelta(seconds=policy.validity_seconds)
        end = new_end(signer.certificate, policy.now, policy.validity_seconds) if signer else limit
        after = dict(facts(present.leaf), serial=None, fingerprint_sha256=None, not_before=None, not_after=iso(end))
        return _Made(after, present.data, present.key_data)
    if signer is not None:
        made = renew(present.leaf, signer.certificate, signer.key, policy.now, policy.validity_seconds, old_key, present.key_data)
        certificate_pem, key_pem = made.certificate_pem, made.private_key_pem
    else:
        key = old_key if old_key is not None else new_key_like(present.leaf)
        certificate_pem = _signed(node, present, key, policy, ask)
        key_pem = key_to_pem(key, present.key_data)
    return _Made(facts(parse_certificates(certificate_pem, credential.cert_path)[0]), certificate_pem, key_pem)


def _signed(node: Node, present: Present, key: t.Any, policy: Policy, ask: AskSigner) -> bytes:
    """What the cluster's signer gives for this key. Raises CertopsError when it gives nothing, or another one than was asked for."""
    usages = _USAGES_RSA if describe(present.leaf).key_algorithm == "RSA" else _USAGES
    answer = ask(node, make_request(present.leaf.subject, key), usages, policy.validity_seconds)
    certificates = parse_certificates(answer, "what the cluster's signer gave")
    problem = answer_problem(certificates[0], present.leaf, key, trusted_authorities(node), policy.now)
    if problem is not None:
        raise CertopsError(
            "the certificate that the cluster's signer gave is not taken: %s. Remedy: look at the kube-controller-manager's "
            "--cluster-signing-cert-file, and at the CA on this node." % problem
        )
    return b"".join(pem(certificate) for certificate in certificates)


def _files(credential: Credential, certificate_pem: bytes, key_pem: bytes, policy: Policy) -> tuple[NewFile, ...]:
    """As the kubelet has them: a dated file behind a link, one file, or one for each."""
    if in_one_file(credential):
        return _dated(credential.cert_path, certificate_pem + key_pem, policy.now)
    certificate = NewFile(final_target(credential.cert_path), certificate_pem)
    if policy.keep_private_key:
        return (certificate,)
    return NewFile(final_target(str(credential.key_path)), key_pem), certificate


def _dated(path: str, both: bytes, now: datetime) -> tuple[NewFile, ...]:
    """A new file, and the link that leads to it; where a file lies in the link's place, that one."""
    if os.path.lexists(path) and not os.path.islink(path):
        return (NewFile(final_target(path), both),)
    folder = final_target(os.path.dirname(path))
    link = os.path.join(folder, os.path.basename(path))
    dated = _free_name(folder, now)
    leads = os.path.join(os.path.dirname(path), os.path.basename(dated))
    return NewFile(dated, both), NewFile(link, os.fsencode(leads), link=True)


def _free_name(folder: str, now: datetime) -> str:
    """The name that the kubelet would give a file that it wrote now; a second later where that is taken."""
    while True:
        path = os.path.join(folder, now.strftime(KUBELET_CREDENTIAL + "-%Y-%m-%d-%H-%M-%S.pem"))
        if not os.path.lexists(path):
            return path
        now += timedelta(seconds=1)


__all__ = ("AskSigner", "all_renewals")
