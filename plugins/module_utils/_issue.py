# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A kubeconfig for somebody: who may have one, whether the one that is there will do, what goes into a new one.

Facts: a user is the subject's CN, its groups are the O's (apiserver/pkg/authentication/request/x509). Go writes the O's into one RDN
(crypto/x509/pkix, ToRDNSequence), kubeadm has O before CN, and its kubeconfigs have their keys in the alphabet's order.
"""

from __future__ import annotations

import base64
import math
import typing as t
from dataclasses import dataclass
from datetime import datetime, timedelta

from ansible_collections.certops.kubernetes.plugins.module_utils._deps import (
    CRYPTO_ERRORS,
    ExtendedKeyUsageOID,
    NameOID,
    ec,
    rsa,
    x509,
    yaml,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import (
    Kubeconfig,
    parse_kubeconfig,
    replace_user_credentials,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._public_part import public_key_of
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import (
    Certificate,
    PrivateKey,
    chain_problem,
    describe,
    names_in,
    not_after,
    not_before,
    parse_certificates,
    pem,
    public_bytes,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_renew import (
    authority_key_identifier,
    check_can_sign,
    new_end,
    sign,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import describe_key, iso, render_name

MASTERS = "system:masters"
ALGORITHMS = {
    "RSA-2048": ("RSA", 2048),
    "RSA-3072": ("RSA", 3072),
    "RSA-4096": ("RSA", 4096),
    "ECDSA-P256": ("EC", 256),
    "ECDSA-P384": ("EC", 384),
}
LONGEST_HOURS = 87600  # ten years, as long as kubeadm's CA
_LONGEST_SHOWN = 100
_LONGEST_NAME = 64  # RFC 5280, ub-common-name and ub-organization-name


@dataclass(frozen=True)
class Wanted:
    """What the kubeconfig is to say. `algorithm` is one of ALGORITHMS, `authorities`: its certificate verifies under one of these."""

    user: str
    groups: tuple[str, ...]
    server: str
    ca_pem: bytes
    cluster: str
    context: str
    algorithm: str
    authorities: tuple[Certificate, ...]


@dataclass(frozen=True)
class Standing:
    """What is there. `because`: why it will not do, as a clause (None: it will). `keeps`: only certificate and key are to be exchanged.

    `foreign`: what of others would be lost if the file was written anew, as a clause.
    """

    certificate: Certificate | None
    because: str | None
    keeps: bool = False
    foreign: str | None = None


def check_names(user: str, groups: t.Sequence[str], *, by_api: bool, allow_masters: bool) -> None:
    """Raises CertopsError for a user or a group for whom no kubeconfig is made."""
    for what, name in (("user", user), *(("group", group) for group in groups)):
        if not name or len(name) > _LONGEST_NAME or not name.isprintable() or name != name.strip():
            raise CertopsError(
                "%r cannot be a %s in a certificate. Remedy: 1 to %d printable characters, no space at either end."
                % (name[:100], what, _LONGEST_NAME)
            )
        if name.startswith("system:") and not (what == "group" and name == MASTERS):
            raise CertopsError(
                "The %s %s is refused: names that begin with system: are Kubernetes' own, and whoever had one could pass for a part of "
                "the cluster. Remedy: choose another name, and grant it what it needs by role bindings." % (what, name)
            )
    if MASTERS not in groups:
        return
    if by_api:
        raise CertopsError(
            "The group system:masters is refused: the API server's admission (CertificateSubjectRestriction) lets nobody ask for it. "
            "Remedy: bind cluster-admin to a group of your own. Only signer=ca can make such a certificate."
        )
    if not allow_masters:
        raise CertopsError(
            "The group system:masters is refused: it bypasses RBAC, so that no permission can be taken from its members before their "
            "certificates end. Remedy: bind cluster-admin to a group of your own, or say allow_system_masters: true."
        )


def check_times(validity_hours: int, renew_before_hours: int | None) -> None:
    """Raises CertopsError for times that make no sense together."""
    if not 1 <= validity_hours <= LONGEST_HOURS:
        raise CertopsError("validity_hours is %d. Remedy: 1 to %d." % (validity_hours, LONGEST_HOURS))
    if renew_before_hours is not None and not 0 <= renew_before_hours < validity_hours:
        raise CertopsError(
            "renew_before_hours is %d and validity_hours %d, so that each new certificate would be due at once. "
            "Remedy: choose less, or leave it out: then it is a third of the validity." % (renew_before_hours, validity_hours)
        )


def check_end(authorities: t.Sequence[Certificate], now: datetime, validity_hours: int) -> None:
    """Raises CertopsError when the validity goes beyond the end of the CA that lives longest."""
    last = max(authorities, key=not_after)
    end = not_after(last)
    if now + timedelta(hours=validity_hours) > end:
        left = math.floor((end - now).total_seconds() / 3600)
        raise CertopsError(
            "The CA %s ends at %s, in %d hours, before a certificate of %d hours would. Remedy: %s."
            % (
                render_name(last.subject),
                iso(end),
                left,
                validity_hours,
                "choose validity_hours of no more than that" if left > 0 else "rotate the CA",
            )
        )


def subject_of(user: str, groups: t.Sequence[str]) -> t.Any:
    """The subject (an x509.Name) as Go writes it. Raises CertopsError."""
    try:
        organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in sorted(set(groups))]
        rdns = [x509.RelativeDistinguishedName(organizations)] if organizations else []
        return x509.Name([*rdns, x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, user)])])
    except CRYPTO_ERRORS as exc:
        raise CertopsError("%s and its groups cannot be a certificate's subject: %s. Remedy: choose other names." % (user, exc)) from exc


def new_key(algorithm: str) -> PrivateKey:
    """A private key of one of ALGORITHMS."""
    kind, bits = ALGORITHMS[algorithm]
    if kind == "RSA":
        return rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return ec.generate_private_key({256: ec.SECP256R1, 384: ec.SECP384R1}[bits]())


def sign_client(
    subject: t.Any, public_key: t.Any, ca_cert: Certificate, ca_key: PrivateKey, now: datetime, validity_seconds: int
) -> Certificate:
    """A client certificate like those that kubeadm makes. Raises CertopsError."""
    usages = ("digital_signature", "key_encipherment")
    others = ("content_commitment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    try:
        check_can_sign(ca_cert, ca_key, now)
        extensions = [
            (x509.KeyUsage(**dict.fromkeys(usages, True), **dict.fromkeys(others, False)), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
            (x509.BasicConstraints(ca=False, path_length=None), True),
        ]
        authority = authority_key_identifier(ca_cert)
        if authority is not None:
            extensions.append((authority, False))
        made = sign(subject, public_key, extensions, ca_cert, ca_key, (now, new_end(ca_cert, now, validity_seconds)))
        same_issuer = names_in(made)[0] == names_in(ca_cert)[1]
    except CRYPTO_ERRORS as exc:
        raise CertopsError("The CA %s cannot sign with what is installed here: %s." % (render_name(ca_cert.subject), exc)) from None
    if not same_issuer:
        raise CertopsError(
            "The name of the CA %s is written in a way that the cryptography library of this node cannot repeat. Remedy: take signer=api."
            % render_name(ca_cert.subject)
        )
    return made


def certificate_problem(certificate: Certificate, public_key: t.Any, wanted: Wanted, now: datetime) -> str | None:
    """Why a certificate is not the wanted one, as a clause; None if it is. `public_key` is that of the key beside it."""
    described = describe(certificate)
    attributes = sorted((attribute.oid.dotted_string, str(attribute.value)) for attribute in certificate.subject)
    names = [(NameOID.COMMON_NAME.dotted_string, wanted.user)]
    names += [(NameOID.ORGANIZATION_NAME.dotted_string, group) for group in set(wanted.groups)]
    if attributes != sorted(names):
        return "its certificate is for %s" % (described.subject or "nobody")
    try:
        if public_bytes(certificate.public_key()) != public_bytes(public_key):
            return "its certificate and its key do not belong together"
    except CRYPTO_ERRORS:
        return "its key is of a kind that is not known here"
    if describe_key(public_key) != ALGORITHMS[wanted.algorithm]:
        return "its key is no %s" % wanted.algorithm
    problem = chain_problem(certificate, wanted.authorities)
    if problem is not None:
        return "its certificate does not verify under the cluster's CA: %s" % problem
    if "clientAuth" not in described.extended_key_usages:
        return "its certificate is not for clients"
    if now < described.not_before:
        return "its certificate is valid only from %s on" % iso(described.not_before)
    if now >= described.not_after:
        return "its certificate ended at %s" % iso(described.not_after)
    return None


def judge(data: bytes, path: str, wanted: Wanted, now: datetime, renew_before_hours: int | None) -> Standing:
    """Whether the file that is there will do. Nothing that it holds is an error."""
    try:
        config = parse_kubeconfig(data, path)
    except CertopsError as error:
        clause = "it cannot be read as a kubeconfig: %s" % str(error).rstrip(".")
        return Standing(None, clause, foreign=clause)
    several = max(len(config.clusters), len(config.users), len(config.contexts)) > 1
    foreign = "it has other clusters, users or contexts than its own" if several else None
    try:
        problem, certificate = _frame_problem(config, wanted), _certificate_in(config)
    except CertopsError as error:
        return Standing(None, str(error).rstrip("."), foreign=foreign)
    if problem is not None:
        return Standing(certificate, problem, foreign=foreign)
    try:
        key = public_key_of(config.users[wanted.user].client_key_data or b"", path)
        problem = certificate_problem(certificate, key, wanted, now) or _age_problem(certificate, now, renew_before_hours)
    except CertopsError as error:
        problem = str(error).rstrip(".")
    return Standing(certificate, problem, keeps=True, foreign=foreign)


def _frame_problem(config: Kubeconfig, wanted: Wanted) -> str | None:
    """What of the file differs, certificate and key aside."""
    cluster, user = config.current_cluster(), config.current_user()
    found = {"context": config.current_context, "cluster": cluster.name, "user": user.name, "server": cluster.server}
    for what, name in found.items():
        if name != getattr(wanted, what):
            return "its %s is %s" % (what, _shown(name))
    if cluster.ca_data is None or cluster.ca_data.strip() != wanted.ca_pem.strip():
        return "it trusts another CA"
    if user.client_certificate_data is None or user.client_key_data is None or user.token or user.exec:
        return "its user identifies itself otherwise than by an embedded certificate"
    return None


def _shown(text: str | None) -> str:
    """What somebody else wrote, fit for a message."""
    if text is None:
        return "not said"
    return text if text.isprintable() and len(text) <= _LONGEST_SHOWN else ascii(text)[:_LONGEST_SHOWN]


def _certificate_in(config: Kubeconfig) -> Certificate | None:
    """The certificate of the current user, which can be described. Raises CertopsError."""
    data = config.current_user().client_certificate_data
    if data is None:
        return None
    certificate = parse_certificates(data, config.source)[0]
    describe(certificate, config.source)
    return certificate


def _age_problem(certificate: Certificate, now: datetime, renew_before_hours: int | None) -> str | None:
    left = not_after(certificate) - now
    lifetime = not_after(certificate) - not_before(certificate)
    least = lifetime / 3 if renew_before_hours is None else timedelta(hours=renew_before_hours)
    if left > least:
        return None
    return "its certificate has %d hours left, not more than %d" % (left // timedelta(hours=1), least // timedelta(hours=1))


def kubeconfig_for(wanted: Wanted, certificate: Certificate, key_pem: bytes, old: bytes | None, path: str) -> bytes:
    """The file's content. `old`: a file that keeps all but its certificate and key. Raises CertopsError."""
    if old is not None:
        return replace_user_credentials(old, wanted.user, pem(certificate), key_pem, path)
    cluster = {"certificate-authority-data": _encoded(wanted.ca_pem), "server": wanted.server}
    user = {"client-certificate-data": _encoded(pem(certificate)), "client-key-data": _encoded(key_pem)}
    document = {
        "apiVersion": "v1",
        "clusters": [{"cluster": cluster, "name": wanted.cluster}],
        "contexts": [{"context": {"cluster": wanted.cluster, "user": wanted.user}, "name": wanted.context}],
        "current-context": wanted.context,
        "kind": "Config",
        "users": [{"name": wanted.user, "user": user}],
    }
    return str(yaml.safe_dump(document, default_flow_style=False, allow_unicode=True, width=math.inf)).encode()


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


__all__ = (
    "ALGORITHMS",
    "LONGEST_HOURS",
    "MASTERS",
    "Standing",
    "Wanted",
    "certificate_problem",
    "check_end",
    "check_names",
    "check_times",
    "judge",
    "kubeconfig_for",
    "new_key",
    "sign_client",
    "subject_of",
)
