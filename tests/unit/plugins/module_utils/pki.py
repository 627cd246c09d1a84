# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificate authorities and certificates for tests, made with cryptography 3.4 and later, shaped as kubeadm shapes them."""

from __future__ import annotations

import functools
import ipaddress
import typing as t
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

# Longer than all tests take: some hold the time at which they were loaded for now
CERTIFICATE_BACKDATE = timedelta(hours=2)


@dataclass(frozen=True)
class Pair:
    """A certificate with its private key, as PEM and as objects of cryptography."""

    cert: t.Any
    key: t.Any

    @functools.cached_property
    def cert_pem(self) -> bytes:
        return bytes(self.cert.public_bytes(serialization.Encoding.PEM))

    @functools.cached_property
    def key_pem(self) -> bytes:
        return key_to_pem(self.key)


def key_to_pem(key: t.Any, pkcs8: bool = False) -> bytes:
    """PKCS#1 or SEC 1 as kubeadm writes it, or PKCS#8; Ed25519 has PKCS#8 only."""
    form = serialization.PrivateFormat.TraditionalOpenSSL
    if pkcs8 or isinstance(key, ed25519.Ed25519PrivateKey):
        form = serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


def public_key_to_pem(key: t.Any) -> bytes:
    """The public half of a private key as kubeadm writes sa.pub."""
    return bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))


def new_key(kind: str = "EC-256") -> t.Any:
    """A new private key: EC-256, EC-384, EC-521, Ed25519, RSA-<bits> (always the same one for a size: they are slow to make)."""
    algorithm, _dash, bits = kind.partition("-")
    if algorithm == "RSA":
        return _rsa_key(int(bits))
    if algorithm == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key({"256": ec.SECP256R1(), "384": ec.SECP384R1(), "521": ec.SECP521R1()}[bits])


@functools.lru_cache(maxsize=None)
def _rsa_key(bits: int) -> t.Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def signature_hash(key: t.Any) -> t.Any:
    """The hash that Go's crypto/x509 takes by default for signatures with this key; None where the key leaves no choice."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return {384: hashes.SHA384(), 521: hashes.SHA512()}.get(key.curve.key_size, hashes.SHA256())
    return hashes.SHA256()


def make_name(cn: str | None, organization: str | None = None) -> t.Any:
    """A subject in the order of Go's pkix.Name: O, then CN."""
    attributes = []
    if organization is not None:
        attributes.append(x509.NameAttribute(x509.oid.NameOID.ORGANIZATION_NAME, organization))
    if cn is not None:
        attributes.append(x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, cn))
    return x509.Name(attributes)


def make_san(text: str) -> t.Any:
    """ "DNS:name", "IP:address", "URI:…" or "email:…" as cryptography's GeneralName."""
    kind, _colon, value = text.partition(":")
    if kind == "IP":
        return x509.IPAddress(ipaddress.ip_address(value))
    kinds: dict[str, t.Callable[[str], t.Any]] = {"DNS": x509.DNSName, "URI": x509.UniformResourceIdentifier, "email": x509.RFC822Name}
    return kinds[kind](value)


def key_usage(*names: str) -> t.Any:
    """A key usage with exactly the named ones."""
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: name in names for name in every})


def _sign(
    subject: t.Any,
    issuer: t.Any,
    public_key: t.Any,
    ca_key: t.Any,
    validity: tuple[datetime, datetime],
    serial: int | None,
    extensions: t.Sequence[tuple[t.Any, bool]],
) -> t.Any:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(ca_key, signature_hash(ca_key))


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)


def make_ca(
    cn: str = "kubernetes",
    *,
    key: str | t.Any = "EC-256",
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    extensions: t.Sequence[tuple[t.Any, bool]] | None = None,
) -> Pair:
    """A self-signed CA like kubeadm's, valid from five minutes ago for ten years unless told otherwise.

    `key` is a kind for new_key() or a private key; `extensions` replaces kubeadm's.
    """
    private_key = new_key(key) if isinstance(key, str) else key
    start = not_before or _now() - CERTIFICATE_BACKDATE
    end = not_after or start + timedelta(days=3650)
    if extensions is None:
        extensions = (
            (key_usage("digital_signature", "key_encipherment", "key_cert_sign"), True),
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (x509.SubjectKeyIdentifier.from_public_key(private_key.public_key()), False),
            (x509.SubjectAlternativeName([x509.DNSName(cn)]), False),
        )
    name = make_name(cn)
    return Pair(_sign(name, name, private_key.public_key(), private_key, (start, end), None, extensions), private_key)


def leaf_extensions(ca: Pair, usages: t.Sequence[str], sans: t.Sequence[str]) -> list[tuple[t.Any, bool]]:
    """kubeadm's extensions of a leaf, in its order."""
    oids = {"server": x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, "client": x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH}
    extensions: list[tuple[t.Any, bool]] = [
        (key_usage("digital_signature", "key_encipherment"), True),
        (x509.ExtendedKeyUsage([oids[usage] for usage in usages]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), False),
    ]
    if sans:
        extensions.append((x509.SubjectAlternativeName([make_san(san) for san in sans]), False))
    return extensions


def make_leaf(
    ca: Pair,
    cn: str,
    *,
    organization: str | None = None,
    usages: t.Sequence[str] = ("client",),
    sans: t.Sequence[str] = (),
    key: str | t.Any = "EC-256",
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    serial: int | None = None,
    subject: t.Any = None,
    extensions: t.Sequence[tuple[t.Any, bool]] | None = None,
) -> Pair:
    """A certificate like kubeadm's, signed by `ca`, valid from five minutes ago for a year unless told otherwise.

    usages: "server", "client". sans: as make_san() takes them. `subject` (an x509.Name) replaces cn and organization,
    `extensions` (value, critical) replaces kubeadm's.
    """
    private_key = new_key(key) if isinstance(key, str) else key
    start = not_before or _now() - CERTIFICATE_BACKDATE
    end = not_after or start + timedelta(days=365)
    cert = _sign(
        subject if subject is not None else make_name(cn, organization),
        ca.cert.subject,
        private_key.public_key(),
        ca.key,
        (start, end),
        serial,
        leaf_extensions(ca, usages, sans) if extensions is None else extensions,
    )
    return Pair(cert, private_key)


def sign_request(ca: Pair, request_pem: bytes, seconds: int, limit: int = 365 * 86400) -> bytes:
    """What kube-controller-manager's signer makes of a request for a client: the subject as it is, never beyond the CA, as PEM."""
    request = x509.load_pem_x509_csr(request_pem)
    assert request.is_signature_valid
    start = _now() - timedelta(minutes=5)
    seconds = min(seconds, limit)
    end = _now() + timedelta(seconds=seconds) - (timedelta(0) if seconds < 8 * 3600 else timedelta(minutes=5))
    usage = (key_usage("digital_signature"), True)
    extensions = [usage, *leaf_extensions(ca, ("client",), ())[1:]]
    return Pair(_sign(request.subject, ca.cert.subject, request.public_key(), ca.key, (start, end), None, extensions), None).cert_pem
