# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Sign a certificate again: the same certificate with a new key, a new serial number and new dates.

The outcome equals that of `kubeadm certs renew` for the same certificate, and keeps more: the whole subject, every kind of
alternative name, key usage, extensions that nobody here knows, and the key's algorithm and size. Facts about kubeadm:
cmd/kubeadm/app/util/pkiutil/pki_helpers.go (NewSignedCert: serial numbers, dates, key forms),
cmd/kubeadm/app/constants/constants.go (CertificateBackdate), and crypto/x509 of Go (default hashes, key identifiers).
"""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import typing as t
import warnings
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from ansible_collections.certops.kubernetes.plugins.module_utils._deps import (
    CRYPTO_ERRORS,
    ec,
    ed25519,
    hashes,
    rsa,
    serialization,
    x509,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import (
    Certificate,
    PrivateKey,
    extension_value,
    is_ca,
    key_matches,
    names_in,
    not_after,
    not_before,
    pem,
    public_bytes,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import describe_key, iso, render_name

# kubeadm's CertificateBackdate: clocks of other nodes may be behind.
BACKDATE = timedelta(minutes=5)

# A shorter RSA key than this is not made again: OpenSSL's default security level refuses it.
_SHORTEST_RSA_KEY = 2048

# crypto/tls of Go (handshake_client.go, maxRSAKeySize): a longer one takes minutes to make, and then no client accepts it.
_LONGEST_RSA_KEY = 8192

# kubeadm draws serial numbers below 2^63.
_SERIAL_BITS = 63


@dataclass(frozen=True)
class Renewed:
    """A renewed certificate with its key. ca_limited: it ends before the wanted validity does, because its CA does."""

    certificate_pem: bytes
    private_key_pem: bytes = field(repr=False)
    not_after: datetime
    ca_limited: bool


def renew(
    cert: Certificate,
    ca_cert: Certificate,
    ca_key: PrivateKey,
    now: datetime,
    validity_seconds: int,
    private_key: PrivateKey | None = None,
    like: bytes | None = None,
    sans: t.Sequence[str] | None = None,
) -> Renewed:
    """Signs `cert` again with the CA, valid from five minutes before `now` for `validity_seconds` from `now`, never beyond the CA.

    now: timezone-aware. private_key: the key to keep; None: a new one of the same algorithm and size.
    like: the old key's PEM; a new key is written in the same form (PKCS#8 if that was PKCS#8), else as kubeadm writes it
    (PKCS#1 "RSA PRIVATE KEY", SEC 1 "EC PRIVATE KEY").
    sans: the alternative names (`DNS:…`, `IP:…`) that it gets instead of those that it has; None: it keeps them.
    Raises CertopsError if this CA cannot sign (not a CA, another key, not valid now), or if `cert` cannot be made again.
    """
    with _explained():
        key = private_key if private_key is not None else new_key_like(cert)
        renewed, ca_limited = _sign_again(cert, ca_cert, ca_key, (now, validity_seconds), key.public_key(), sans)
        return Renewed(
            certificate_pem=pem(renewed),
            private_key_pem=key_to_pem(key, like),
            not_after=not_after(renewed),
            ca_limited=ca_limited,
        )


def renew_for_key(
    cert: Certificate, ca_cert: Certificate, ca_key: PrivateKey, now: datetime, validity_seconds: int, public_key: t.Any
) -> bytes:
    """The same for a key whose private half is elsewhere: the new certificate as PEM."""
    with _explained():
        renewed, _ca_limited = _sign_again(cert, ca_cert, ca_key, (now, validity_seconds), public_key)
        return pem(renewed)


@contextlib.contextmanager
def _explained() -> t.Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except CRYPTO_ERRORS as exc:
        reason = " ".join(str(exc).split())[:200] or type(exc).__name__
        raise CertopsError("The certificate cannot be made again with what is installed on this node: %s." % reason.rstrip(".")) from None


def check_can_sign(ca_cert: Certificate, ca_key: PrivateKey, now: datetime) -> None:
    """Raises CertopsError for everything about a CA that would make its signatures worthless."""
    name = render_name(ca_cert.subject)
    if not is_ca(ca_cert):
        raise CertopsError("%s is not a CA certificate, so it cannot sign. Put the CA that signs first in its file." % name)
    usage = extension_value(ca_cert, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise CertopsError("The key usage of the CA %s does not allow it to sign certificates. Use the CA that does." % name)
    if not key_matches(ca_cert, ca_key):
        raise CertopsError(
            "The private key of the CA %s does not belong to its certificate. Put the CA that signs first in its file, "
            "or restore its key from a backup." % name
        )
    if now >= not_after(ca_cert):
        raise CertopsError("The CA %s ended on %s, so it cannot sign any more. Rotate the CA." % (name, iso(not_after(ca_cert))))
    if now < not_before(ca_cert):
        raise CertopsError("The CA %s is valid only from %s on. Correct this node's clock." % (name, iso(not_before(ca_cert))))


def _sign_again(
    cert: Certificate,
    ca_cert: Certificate,
    ca_key: PrivateKey,
    validity: tuple[datetime, int],
    public_key: t.Any,
    sans: t.Sequence[str] | None = None,
) -> tuple[Certificate, bool]:
    """The new certificate, and whether the CA's end made it shorter."""
    now, validity_seconds = validity
    if validity_seconds <= 0:
        raise CertopsError("A certificate cannot be renewed for %d seconds. Choose a validity above zero." % validity_seconds)
    check_can_sign(ca_cert, ca_key, now)
    if is_ca(cert):
        raise CertopsError("%s is a CA, and a CA is not renewed like a certificate. Rotate the CA." % render_name(cert.subject))
    end = new_end(ca_cert, now, validity_seconds)
    extensions = _extensions(cert, ca_cert, public_key)
    if sans is not None:
        extensions = _with_names(extensions, sans)
    renewed = sign(cert.subject, public_key, extensions, ca_cert, ca_key, (now, end))
    if names_in(renewed) != (names_in(ca_cert)[1], names_in(cert)[1]):
        raise CertopsError(
            "The names in %s or in its CA are written in a way that the cryptography library of this node cannot repeat. "
            "Renew it with kubeadm, or issue it anew with names in UTF-8." % render_name(cert.subject)
        )
    return renewed, validity_seconds > (end - _whole_seconds(now)).total_seconds()


def sign(
    subject: t.Any,
    public_key: t.Any,
    extensions: t.Sequence[tuple[t.Any, bool]],
    ca_cert: Certificate,
    ca_key: PrivateKey,
    validity: tuple[datetime, datetime],
) -> Certificate:
    """A certificate of this CA with exactly these extensions (value, critical), valid from `BACKDATE` before the first moment on.

    Raises what cryptography raises; whether the CA can sign is asked before (`check_can_sign`).
    """
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca_cert.subject)
        .public_key(public_key)
        .serial_number(1 + secrets.randbelow(2**_SERIAL_BITS - 1))
        .not_valid_before(max(_whole_seconds(validity[0]) - BACKDATE, not_before(ca_cert)))
        .not_valid_after(validity[1])
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(ca_key, signature_hash(ca_key))


def new_end(ca_cert: Certificate, now: datetime, validity_seconds: int) -> datetime:
    """The end of a certificate that is made now: after the validity, but never beyond the CA's own end."""
    # Not `now + timedelta`: a validity of thousands of years would run over the end of the calendar.
    if validity_seconds > (not_after(ca_cert) - _whole_seconds(now)).total_seconds():
        return not_after(ca_cert)
    return _whole_seconds(now) + timedelta(seconds=validity_seconds)


def _whole_seconds(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc).replace(microsecond=0)


def new_key_like(cert: Certificate) -> PrivateKey:
    """A new private key of the same algorithm and size as that of a certificate. Raises CertopsError."""
    public_key = cert.public_key()
    if isinstance(public_key, rsa.RSAPublicKey):
        if public_key.key_size > _LONGEST_RSA_KEY:
            raise CertopsError(
                "The certificate has an RSA key of %d bits, and programs in Go accept no more than %d. Issue it anew with a shorter key."
                % (public_key.key_size, _LONGEST_RSA_KEY)
            )
        return rsa.generate_private_key(public_exponent=65537, key_size=max(public_key.key_size, _SHORTEST_RSA_KEY))
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return ec.generate_private_key(public_key.curve)
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return ed25519.Ed25519PrivateKey.generate()
    raise CertopsError(
        "The certificate has a %s key, which Kubernetes does not support. Issue it anew with RSA or EC." % describe_key(public_key)[0]
    )


def signature_hash(key: PrivateKey) -> t.Any:
    """The hash that Go's crypto/x509 (signingParamsForKey) takes for a key, and so kubeadm; None where the key leaves no choice."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return {384: hashes.SHA384(), 521: hashes.SHA512()}.get(key.curve.key_size, hashes.SHA256())
    return hashes.SHA256()


def _extensions(cert: Certificate, ca_cert: Certificate, public_key: t.Any) -> list[tuple[t.Any, bool]]:
    """(extension, critical): those of the old certificate in their order; the key identifiers made anew where the keys are others.

    The authority key identifier is the CA's own subject key identifier; as in Go's x509.CreateCertificate there is none if
    the CA has none, and there is one, last, if only the old certificate had none.
    """
    authority = authority_key_identifier(ca_cert)
    result: list[tuple[t.Any, bool]] = []
    had_authority = False
    same_key = public_bytes(cert.public_key()) == public_bytes(public_key)
    for extension in cert.extensions:
        if isinstance(extension.value, x509.AuthorityKeyIdentifier):
            had_authority = True
            if authority is not None:
                result.append((authority, extension.critical))
        elif isinstance(extension.value, x509.SubjectKeyIdentifier) and not same_key:
            result.append((x509.SubjectKeyIdentifier.from_public_key(public_key), extension.critical))
        else:
            result.append((extension.value, extension.critical))
    if authority is not None and not had_authority:
        result.append((authority, False))
    return result


def _with_names(extensions: t.Sequence[tuple[t.Any, bool]], sans: t.Sequence[str]) -> list[tuple[t.Any, bool]]:
    """The same with these alternative names where the old ones were, or last if there were none."""
    names = x509.SubjectAlternativeName([_general_name(san) for san in sans])
    found = [(names, critical) if isinstance(value, x509.SubjectAlternativeName) else (value, critical) for value, critical in extensions]
    return found if any(value is names for value, _critical in found) else [*found, (names, False)]


def _general_name(san: str) -> t.Any:
    kind, _colon, name = san.partition(":")
    return x509.IPAddress(ipaddress.ip_address(name)) if kind == "IP" else x509.DNSName(name)


def authority_key_identifier(ca_cert: Certificate) -> t.Any:
    """The extension that names the key of this CA; None if the CA names none of its own."""
    own = extension_value(ca_cert, x509.SubjectKeyIdentifier)
    if own is None:
        return None
    return x509.AuthorityKeyIdentifier(key_identifier=own.digest, authority_cert_issuer=None, authority_cert_serial_number=None)


def key_to_pem(key: PrivateKey, like: bytes | None) -> bytes:
    """A private key as PEM, in the form of an old one (`like`); without one in kubeadm's."""
    form = serialization.PrivateFormat.TraditionalOpenSSL
    wants_pkcs8 = like is not None and b"-----BEGIN PRIVATE KEY-----" in like
    if wants_pkcs8 or isinstance(key, ed25519.Ed25519PrivateKey):
        form = serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


__all__ = (
    "BACKDATE",
    "Renewed",
    "authority_key_identifier",
    "check_can_sign",
    "key_to_pem",
    "new_end",
    "new_key_like",
    "renew",
    "renew_for_key",
    "sign",
    "signature_hash",
)
