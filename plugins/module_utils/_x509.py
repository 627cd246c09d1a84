# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Certificates and keys: read, describe, match, verify. Bytes and values in, values out.

A parsed certificate and a private key are objects of `cryptography`, typed as Any, since that library may be missing.
Works with cryptography 3.4 and later, so nothing newer than that is used without a way around it.
"""

from __future__ import annotations

import binascii
import hashlib
import typing as t
import warnings
from dataclasses import dataclass
from datetime import datetime, timezone

from ansible_collections.certops.kubernetes.plugins.module_utils._deps import (
    CRYPTO_ERRORS,
    InvalidSignature,
    UnsupportedAlgorithm,
    ec,
    ed25519,
    hashes,
    padding,
    rsa,
    serialization,
    x509,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._pem import der_element, der_of_block, nothing_found, pem_blocks
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import (
    describe_extended_key_usage,
    describe_key,
    describe_signature_algorithm,
    render_name,
    render_san,
)

# A PEM block of an RSA key of 16384 bits has 12 700 bytes, and OpenSSL uses no longer one (OPENSSL_RSA_MAX_MODULUS_BITS). To load a key the
# library proves that its factors are prime: of a megabyte for hours.
_LONGEST_KEY_BLOCK = 16 * 1024

Certificate = t.Any  # cryptography.x509.Certificate
PrivateKey = t.Any  # one of cryptography's private keys


@dataclass(frozen=True)
class CertificateFacts:
    """What a certificate says about itself.

    subject, issuer: RFC 4514's escaping and attribute names, but in the order of the certificate's own sequence
    (`O=kubeadm:cluster-admins,CN=kubernetes-admin`), as kubectl's and OpenSSL's users know it; an empty name is "".
    sans: "DNS:…", "IP:…", "URI:…", "email:…", and "other:<kind>" for the kinds that Kubernetes has no use for.
    serial: lower-case hex without leading zeros. fingerprint_sha256: lower-case hex of the DER's SHA-256.
    key_algorithm, key_bits: None where the library on this node does not know the kind of key.
    """

    subject: str
    issuer: str
    sans: tuple[str, ...]
    serial: str
    fingerprint_sha256: str
    key_algorithm: str | None
    key_bits: int | None
    signature_algorithm: str
    not_before: datetime
    not_after: datetime
    is_ca: bool
    extended_key_usages: tuple[str, ...]


def parse_certificates(data: bytes, source: str) -> list[Certificate]:
    """All certificates of a PEM file, in its order; `source` is what messages call it.

    Other blocks (a private key beside the certificate) and text around the blocks are ignored, as Kubernetes ignores them.
    Raises CertopsError if there is no certificate, or if one of them cannot be read.
    """
    blocks = [block for label, block in pem_blocks(data, source) if label == "CERTIFICATE"]
    if not blocks:
        raise nothing_found(data, source, "certificate")
    return [_parsed(block, number, source) for number, block in enumerate(blocks, 1)]


def certificates_in(data: bytes, source: str) -> list[Certificate | CertopsError]:
    """Each certificate of a bundle, in its order, with an error in the place of one that cannot be read, and of what should be there."""
    found: list[Certificate | CertopsError] = []
    try:
        for label, block in pem_blocks(data, source):
            if label != "CERTIFICATE":
                continue
            try:
                found.append(_parsed(block, len(found) + 1, source))
            except CertopsError as error:
                found.append(error)
    except CertopsError as error:
        found.append(error)
    return found or [nothing_found(data, source, "certificate")]


def _parsed(block: bytes, number: int, source: str) -> Certificate:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            certificate = x509.load_der_x509_certificate(der_of_block(block))
            not_before(certificate), not_after(certificate)  # read only when they are asked for
            return certificate
    except CRYPTO_ERRORS as exc:
        raise CertopsError(
            "Certificate number %d in %s cannot be read: %s. Restore the file from a backup or write it anew."
            % (number, source, _reason(exc))
        ) from exc


def _reason(exc: Exception) -> str:
    """The library's explanation on one line, without a full stop; its type where it has no words."""
    if isinstance(exc, binascii.Error):
        return "what is between its first and last line is not base64"
    return " ".join(str(exc).split()).rstrip(".")[:200] or type(exc).__name__


def _as_utc(value: datetime) -> datetime:
    return value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)


def not_before(cert: Certificate) -> datetime:
    """The start of a certificate's validity, in UTC, timezone-aware."""
    return _as_utc(cert.not_valid_before_utc if hasattr(cert, "not_valid_before_utc") else cert.not_valid_before)


def not_after(cert: Certificate) -> datetime:
    """The end of a certificate's validity, in UTC, timezone-aware."""
    return _as_utc(cert.not_valid_after_utc if hasattr(cert, "not_valid_after_utc") else cert.not_valid_after)


def extension_value(cert: Certificate, kind: t.Any) -> t.Any:
    """The value of an extension of the given class of cryptography.x509, or None if the certificate has none."""
    for extension in cert.extensions:
        if isinstance(extension.value, kind):
            return extension.value
    return None


def is_ca(cert: Certificate) -> bool:
    """Whether the certificate may sign others, by its basic constraints."""
    constraints = extension_value(cert, x509.BasicConstraints)
    return bool(constraints is not None and constraints.ca)


def _describe_certificate_key(cert: Certificate) -> tuple[str | None, int | None]:
    try:
        return describe_key(cert.public_key())
    except UnsupportedAlgorithm:
        return None, None


def der(cert: Certificate) -> bytes:
    """The certificate's DER."""
    return bytes(cert.public_bytes(serialization.Encoding.DER))


def pem(cert: Certificate) -> bytes:
    """The certificate as PEM."""
    return bytes(cert.public_bytes(serialization.Encoding.PEM))


def fingerprint(cert: Certificate) -> str:
    """Lower-case hex of the SHA-256 of the certificate's DER."""
    return hashlib.sha256(der(cert)).hexdigest()


def describe(cert: Certificate, source: str = "a certificate") -> CertificateFacts:
    """What the certificate says. Raises CertopsError if one of its fields cannot be read; `source` is used in its text."""
    try:
        with warnings.catch_warnings():
            # The library complains about serial numbers of zero and the like; that is no reason to print anything.
            warnings.simplefilter("ignore")
            return _describe(cert)
    except CRYPTO_ERRORS as exc:
        raise CertopsError("%s has a field that cannot be read: %s. Write it anew." % (source, _reason(exc))) from exc


def _describe(cert: Certificate) -> CertificateFacts:
    algorithm, bits = _describe_certificate_key(cert)
    usages = extension_value(cert, x509.ExtendedKeyUsage)
    return CertificateFacts(
        subject=render_name(cert.subject),
        issuer=render_name(cert.issuer),
        sans=tuple(render_san(name) for name in extension_value(cert, x509.SubjectAlternativeName) or ()),
        serial="%x" % cert.serial_number,
        fingerprint_sha256=fingerprint(cert),
        key_algorithm=algorithm,
        key_bits=bits,
        signature_algorithm=describe_signature_algorithm(cert.signature_algorithm_oid),
        not_before=not_before(cert),
        not_after=not_after(cert),
        is_ca=is_ca(cert),
        extended_key_usages=tuple(describe_extended_key_usage(u) for u in usages or ()),
    )


def public_bytes(public_key: t.Any) -> bytes:
    """A public key's SubjectPublicKeyInfo as DER, by which keys are compared."""
    return bytes(public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


def load_private_key(data: bytes, source: str) -> PrivateKey:
    """The first private key of a PEM file (PKCS#1, SEC 1 or PKCS#8, without a passphrase).

    Raises CertopsError, whose text never shows anything of the content.
    """
    for label, block in pem_blocks(data, source):
        if label == "ENCRYPTED PRIVATE KEY" or b"Proc-Type: 4,ENCRYPTED" in block:
            raise CertopsError(
                "The private key in %s is encrypted, and Kubernetes cannot ask for a passphrase. Write it without one." % source
            )
        if label.endswith("PRIVATE KEY") and len(block) > _LONGEST_KEY_BLOCK:
            raise CertopsError(
                "The private key in %s is larger than one of 16384 bits, and longer ones cannot be used. Is this the right file?" % source
            )
        if label.endswith("PRIVATE KEY"):
            try:
                return serialization.load_pem_private_key(block, password=None)
            except CRYPTO_ERRORS:
                # Without the cause: a library's text about a private key has no place in a message or a traceback.
                raise CertopsError("The private key in %s cannot be read. Restore it from a backup." % source) from None
    raise nothing_found(data, source, "private key")


def _load_any_public_key(data: bytes, source: str) -> t.Any:
    for label, block in pem_blocks(data, source):
        if label.endswith("PRIVATE KEY"):
            return load_private_key(data, source).public_key()
        try:
            if label == "CERTIFICATE":
                return x509.load_der_x509_certificate(der_of_block(block)).public_key()
            if label in ("PUBLIC KEY", "RSA PUBLIC KEY"):
                return serialization.load_pem_public_key(block)
        except CRYPTO_ERRORS as exc:
            raise CertopsError("The public key in %s cannot be read: %s. Restore it from a backup." % (source, _reason(exc))) from exc
    raise nothing_found(data, source, "key")


def public_key_id(data: bytes, source: str) -> tuple[str, str, int | None]:
    """(lower-case hex of the SHA-256 of the public key's SubjectPublicKeyInfo, algorithm, bits).

    Works for a private key, a public key or a certificate in PEM, the first of them in the file. Raises CertopsError.
    """
    key = _load_any_public_key(data, source)
    return (hashlib.sha256(public_bytes(key)).hexdigest(), *describe_key(key))


def key_ids_equal(a_pem: bytes, b_pem: bytes) -> bool:
    """Whether two PEM files (each a private key, a public key or a certificate) hold the same key. Raises CertopsError."""
    return public_key_id(a_pem, "the first key")[0] == public_key_id(b_pem, "the second key")[0]


def key_matches(cert: Certificate, key: PrivateKey) -> bool:
    """Whether a private key belongs to a certificate."""
    try:
        return public_bytes(cert.public_key()) == public_bytes(key.public_key())
    except CRYPTO_ERRORS:
        return False


def _pss_paddings(cert: Certificate) -> t.Iterator[tuple[t.Any, t.Any]]:
    """(padding, hash) to try for an RSA-PSS signature; its parameters can only be read since cryptography 41."""
    parameters = getattr(cert, "signature_algorithm_parameters", None)
    if parameters is not None:
        yield parameters, cert.signature_hash_algorithm
        return
    for algorithm in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
        yield padding.PSS(padding.MGF1(algorithm), algorithm.digest_size), algorithm


def _verify_rsa(cert: Certificate, public_key: t.Any) -> None:
    if describe_signature_algorithm(cert.signature_algorithm_oid) != "rsassaPss":
        public_key.verify(cert.signature, cert.tbs_certificate_bytes, padding.PKCS1v15(), cert.signature_hash_algorithm)
        return
    for used_padding, algorithm in _pss_paddings(cert):
        try:
            public_key.verify(cert.signature, cert.tbs_certificate_bytes, used_padding, algorithm)
        except InvalidSignature:
            continue
        return
    raise InvalidSignature


def signed_by(cert: Certificate, ca_cert: Certificate) -> bool:
    """Whether the certificate's signature was made with the key of `ca_cert`: really computed, for RSA, EC and Ed25519.

    Nothing else is looked at, see `chain_problem`. Raises CertopsError if the library on this node cannot check that signature.
    """
    try:
        public_key = ca_cert.public_key()
        if isinstance(public_key, rsa.RSAPublicKey):
            _verify_rsa(cert, public_key)
        elif isinstance(public_key, ec.EllipticCurvePublicKey):
            public_key.verify(cert.signature, cert.tbs_certificate_bytes, ec.ECDSA(cert.signature_hash_algorithm))
        elif isinstance(public_key, ed25519.Ed25519PublicKey):
            public_key.verify(cert.signature, cert.tbs_certificate_bytes)
        else:
            raise CertopsError(
                "Signatures of a %s key cannot be checked here, and Kubernetes does not know them." % describe_key(public_key)[0]
            )
    except InvalidSignature:
        return False
    except CRYPTO_ERRORS as exc:
        raise CertopsError("The signature of a certificate cannot be checked on this node: %s." % _reason(exc)) from exc
    return True


def _link_problem(cert: Certificate, ca_cert: Certificate) -> str | None:
    """What speaks against `ca_cert` as the issuer of `cert`, whose issuer has its name."""
    name = render_name(ca_cert.subject)
    if not signed_by(cert, ca_cert):
        return "it was not signed with the key of its CA %s: that CA has the same name, but another key" % name
    if not is_ca(ca_cert):
        return "%s, which signed it, is not a CA certificate" % name
    usage = extension_value(ca_cert, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        return "%s, which signed it, has a key usage that does not allow signing certificates" % name
    wanted = extension_value(cert, x509.AuthorityKeyIdentifier)
    offered = extension_value(ca_cert, x509.SubjectKeyIdentifier)
    if wanted is not None and offered is not None and wanted.key_identifier not in (None, offered.digest):
        return "its authority key identifier names another key than that of its CA %s, so OpenSSL refuses it" % name
    return None


def _listed(names: t.Sequence[str]) -> str:
    shown = ["%s…" % name[:200] if len(name) > 200 else name for name in names[:3]]
    return " or ".join(shown) + (" and %d more" % (len(names) - 3) if len(names) > 3 else "")


def chain_problem(cert: Certificate, cas: t.Sequence[Certificate]) -> str | None:
    """Why none of `cas` is the issuer of the certificate, as a clause that can follow "…: "; None if one of them is.

    Looks at name, signature, CA flag, key usage and key identifiers, not at dates. Never raises for what the certificates hold.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            same_name = [ca for ca in cas if ca.subject == cert.issuer]
            if not same_name:
                known = _listed(sorted({render_name(ca.subject) for ca in cas}))
                return "its issuer is %s, but %s" % (render_name(cert.issuer), "the CA is " + known if known else "no CA is known")
            problems = [_link_problem(cert, ca) for ca in same_name]
    except CertopsError as exc:
        return str(exc).rstrip(".")
    except CRYPTO_ERRORS as exc:
        return "it or its CA has a field that cannot be read: %s" % _reason(exc)
    return None if None in problems else problems[0]


def names_in(cert: Certificate) -> tuple[bytes, bytes]:
    """(issuer, subject) as they are written in the certificate, byte for byte (RFC 5280, 4.1). Raises ValueError for what is none."""
    rest = der_element(cert.tbs_certificate_bytes, 0x30)[0]
    if rest[:1] == b"\xa0":
        rest = der_element(rest, 0xA0)[1]
    found = []
    for tag in (0x02, 0x30, 0x30, 0x30, 0x30):  # serial number, algorithm, issuer, validity, subject
        content, rest = der_element(rest, tag)
        found.append(content)
    return found[2], found[4]


__all__ = (
    "Certificate",
    "CertificateFacts",
    "PrivateKey",
    "certificates_in",
    "chain_problem",
    "der",
    "describe",
    "extension_value",
    "fingerprint",
    "is_ca",
    "key_ids_equal",
    "key_matches",
    "load_private_key",
    "names_in",
    "not_after",
    "not_before",
    "parse_certificates",
    "pem",
    "public_bytes",
    "public_key_id",
    "signed_by",
)
