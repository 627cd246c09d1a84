# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates byte by byte (X.690, RFC 5280): read without any library, and written as no library would write them."""

from __future__ import annotations

import base64
import dataclasses
import typing as t

from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

BOOLEAN, INTEGER, BITS, OCTETS, OID, UTC_TIME, GENERALIZED_TIME, SEQUENCE, SET = 1, 2, 3, 4, 6, 0x17, 0x18, 0x30, 0x31
UTF8, PRINTABLE, TELETEX, IA5, UNIVERSAL, BMP = 12, 19, 20, 22, 28, 30
CN, ORGANIZATION = "2.5.4.3", "2.5.4.10"


def tlv(tag: int, *parts: bytes) -> bytes:
    """An element of these parts."""
    content = b"".join(parts)
    size = len(content)
    length = (
        bytes([size]) if size < 128 else bytes([0x80 | (size.bit_length() + 7) // 8]) + size.to_bytes((size.bit_length() + 7) // 8, "big")
    )
    return bytes([tag]) + length + content


def integer(number: int) -> bytes:
    """An INTEGER of any size and sign."""
    return tlv(INTEGER, number.to_bytes((number + (number < 0)).bit_length() // 8 + 1, "big", signed=True))


def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER."""
    first, second, *rest = map(int, dotted.split("."))
    encoded = bytearray()
    for arc in (40 * first + second, *rest):
        septets = [arc & 0x7F]
        while arc > 0x7F:
            arc >>= 7
            septets.insert(0, 0x80 | arc & 0x7F)
        encoded += bytes(septets)
    return tlv(OID, bytes(encoded))


def time(text: str) -> bytes:
    """A time as it is given; four digits of a year make it a GeneralizedTime."""
    return tlv(GENERALIZED_TIME if len(text) >= 15 else UTC_TIME, text.encode())


def name(*attributes: tuple[str, int, bytes]) -> bytes:
    """A distinguished name of one attribute (dotted type, tag and bytes of its value) for each RDN."""
    return tlv(SEQUENCE, *(tlv(SET, tlv(SEQUENCE, oid(dotted), tlv(tag, value))) for dotted, tag, value in attributes))


def common_name(text: str) -> bytes:
    """The name of one who has no more than that."""
    return name((CN, UTF8, text.encode()))


@dataclasses.dataclass(frozen=True)
class Fields:
    """What is in a certificate, each part as its bytes; `extensions` are (OID, critical, value), both as bytes."""

    subject: bytes
    issuer: bytes
    public_key: bytes
    serial: bytes = dataclasses.field(default_factory=lambda: integer(4711))
    not_before: bytes = dataclasses.field(default_factory=lambda: time("260101000000Z"))
    not_after: bytes = dataclasses.field(default_factory=lambda: time("270101000000Z"))
    extensions: tuple[tuple[bytes, bool, bytes], ...] = ()
    version: bytes = b"\xa0\x03\x02\x01\x02"  # [0] of the INTEGER 2: version 3; empty: version 1

    def outline(self) -> tuple[bytes, bytes, bytes, tuple[tuple[bytes, bool, bytes], ...]]:
        """What a renewal keeps, but for the key and its identifiers."""
        kept = (oid("2.5.29.35"), oid("2.5.29.14"))
        return self.version, self.subject, self.issuer, tuple(extension for extension in self.extensions if extension[0] not in kept)


def elements(data: bytes) -> t.Iterator[tuple[int, bytes, bytes]]:
    """(tag, content, the whole element) of each element that lies in the data."""
    start = 0
    while start < len(data):
        size, head = data[start + 1], 2
        if size & 0x80:
            head += size & 0x7F
            size = int.from_bytes(data[start + 2 : start + head], "big")
        end = start + head + size
        assert end <= len(data)
        yield data[start], data[start + head : end], data[start:end]
        start = end


def fields_of(certificate: bytes) -> Fields:
    """The parts of a certificate's DER."""
    ((tag, body, _whole),) = elements(certificate)
    assert tag == SEQUENCE
    to_be_signed = next(elements(body))[1]
    parts = [whole for _tag, _content, whole in elements(to_be_signed)]
    version = parts.pop(0) if parts[0][0] == 0xA0 else b""
    serial, _algorithm, issuer, validity, subject, public_key, *further = parts
    not_before, not_after = (whole for _tag, _content, whole in elements(next(elements(validity))[1]))
    extensions = [content for whole in further for tag, content, _whole in elements(whole) if tag == 0xA3]
    return Fields(
        subject=subject,
        issuer=issuer,
        public_key=public_key,
        serial=serial,
        not_before=not_before,
        not_after=not_after,
        extensions=tuple(map(_extension, elements(next(elements(extensions[0]))[1]))) if extensions else (),
        version=version,
    )


def _extension(element: tuple[int, bytes, bytes]) -> tuple[bytes, bool, bytes]:
    identifier, *critical, value = (whole for _tag, _content, whole in elements(element[1]))
    # Anything but zero is true in BER, which OpenSSL reads as well.
    return identifier, any(boolean[2:] != b"\0" for boolean in critical), next(elements(value))[1]


def extension(dotted: str, value: bytes, critical: bool = False) -> tuple[bytes, bool, bytes]:
    """An extension of any kind with any bytes as its value."""
    return oid(dotted), critical, value


def public_key_of(key: t.Any) -> bytes:
    """A private key's SubjectPublicKeyInfo."""
    return bytes(key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


_ALGORITHMS = {"ec": "1.2.840.10045.4.3.2", "rsa": "1.2.840.113549.1.1.11", "ed25519": "1.3.101.112", "sha1": "1.2.840.113549.1.1.5"}


def signed(fields: Fields, ca_key: t.Any, sha1: bool = False) -> bytes:
    """The DER of a certificate of these fields, signed with SHA-256 (or with Ed25519; `sha1`, for RSA: with SHA-1)."""
    kind = "ec" if isinstance(ca_key, ec.EllipticCurvePrivateKey) else "ed25519" if isinstance(ca_key, ed25519.Ed25519PrivateKey) else "rsa"
    algorithm = tlv(SEQUENCE, oid(_ALGORITHMS["sha1" if sha1 else kind]), b"\x05\x00" if kind == "rsa" else b"")
    extensions = [
        tlv(SEQUENCE, identifier, b"\x01\x01\xff" if critical else b"", tlv(OCTETS, value))
        for identifier, critical, value in fields.extensions
    ]
    validity = tlv(SEQUENCE, fields.not_before, fields.not_after)
    further = tlv(0xA3, tlv(SEQUENCE, *extensions)) if extensions else b""
    to_be_signed = tlv(
        SEQUENCE, fields.version, fields.serial, algorithm, fields.issuer, validity, fields.subject, fields.public_key, further
    )
    if kind == "ec":
        signature = ca_key.sign(to_be_signed, ec.ECDSA(hashes.SHA256()))
    elif kind == "rsa":
        signature = ca_key.sign(to_be_signed, padding.PKCS1v15(), hashes.SHA1() if sha1 else hashes.SHA256())
    else:
        signature = ca_key.sign(to_be_signed)
    return tlv(SEQUENCE, to_be_signed, algorithm, tlv(BITS, b"\0", signature))


def leaf_of(ca: pki.Pair, key: t.Any, **parts: t.Any) -> bytes:
    """The DER of a certificate that a CA signs for a key; `parts` are those of Fields that shall differ."""
    values = {"subject": common_name("x"), "issuer": ca.cert.subject.public_bytes(), "public_key": public_key_of(key), **parts}
    return signed(Fields(**values), ca.key)


def pem(der: bytes, label: str = "CERTIFICATE") -> bytes:
    """A PEM block as Go writes it: 64 characters a line."""
    text = base64.b64encode(der)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return b"\n".join([b"-----BEGIN %s-----" % label.encode(), *lines, b"-----END %s-----" % label.encode(), b""])
