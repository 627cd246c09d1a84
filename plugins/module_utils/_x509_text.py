# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Words for what is in a certificate: names, alternative names, algorithms and usages as text.

The library's own renderings differ between its versions; these do not.
"""

from __future__ import annotations

import typing as t
from datetime import timezone

from ansible_collections.certops.kubernetes.plugins.module_utils._deps import ec, rsa, x509

if t.TYPE_CHECKING:
    from datetime import datetime

# RFC 4514 section 3, and the names that OpenSSL shows for the rest that people put into subjects.
_ATTRIBUTE_NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.42": "GN",
    "2.5.4.46": "dnQualifier",
    "1.2.840.113549.1.9.1": "emailAddress",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}

_SIGNATURE_ALGORITHMS = {
    "1.2.840.113549.1.1.4": "md5WithRSAEncryption",
    "1.2.840.113549.1.1.5": "sha1WithRSAEncryption",
    "1.2.840.113549.1.1.10": "rsassaPss",
    "1.2.840.113549.1.1.11": "sha256WithRSAEncryption",
    "1.2.840.113549.1.1.12": "sha384WithRSAEncryption",
    "1.2.840.113549.1.1.13": "sha512WithRSAEncryption",
    "1.2.840.113549.1.1.14": "sha224WithRSAEncryption",
    "1.2.840.10045.4.1": "ecdsa-with-SHA1",
    "1.2.840.10045.4.3.1": "ecdsa-with-SHA224",
    "1.2.840.10045.4.3.2": "ecdsa-with-SHA256",
    "1.2.840.10045.4.3.3": "ecdsa-with-SHA384",
    "1.2.840.10045.4.3.4": "ecdsa-with-SHA512",
    "1.2.840.10040.4.3": "dsa-with-SHA1",
    "2.16.840.1.101.3.4.3.2": "dsa-with-SHA256",
    "1.3.101.112": "ed25519",
    "1.3.101.113": "ed448",
}

_EXTENDED_KEY_USAGES = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "OCSPSigning",
    "2.5.29.37.0": "anyExtendedKeyUsage",
}

_SIZES_WITHOUT_CHOICE = {"Ed25519": 256, "Ed448": 456}


def _escape(value: t.Any) -> str:
    """An attribute's value as RFC 4514 section 2.4 escapes it; bytes as `#` and hex."""
    if isinstance(value, bytes):
        return "#" + value.hex()
    text = str(value).replace("\\", "\\\\")
    for character in ',+"<>;':
        text = text.replace(character, "\\" + character)
    text = _printable(text)
    if text[:1] in ("#", " "):
        text = "\\" + text
    if text.endswith(" ") and text != "\\ ":
        text = text[:-1] + "\\ "
    return text


def _printable(text: str) -> str:
    """The bytes of what would break lines and terminals in reports as backslash and hex, as RFC 4514 allows for any."""
    return "".join(c if c.isprintable() else "".join("\\%02x" % byte for byte in c.encode("utf-8", "surrogatepass")) for c in text)


def shown(text: str, most: int = 200) -> str:
    """What others wrote, fit for a sentence: one line, and not longer than people read (`most` characters)."""
    text = _printable(text)
    return "%s…" % text[:most] if len(text) > most else text


def shown_sentence(text: str) -> str:
    """The same of a whole message that has such words in it, also paths."""
    return shown(text, 1000)


def render_name(name: t.Any) -> str:
    """A distinguished name as text: see CertificateFacts in _x509.py."""
    return ",".join(
        "+".join("%s=%s" % (_ATTRIBUTE_NAMES.get(a.oid.dotted_string, a.oid.dotted_string), _escape(a.value)) for a in rdn)
        for rdn in name.rdns
    )


def render_san(name: t.Any) -> str:
    """A subject alternative name with its kind in front: see CertificateFacts in _x509.py."""
    if isinstance(name, x509.DNSName):
        return "DNS:%s" % _printable(name.value)
    if isinstance(name, x509.IPAddress):
        return "IP:%s" % name.value
    if isinstance(name, x509.UniformResourceIdentifier):
        return "URI:%s" % _printable(name.value)
    if isinstance(name, x509.RFC822Name):
        return "email:%s" % _printable(name.value)
    kind = type(name).__name__
    return "other:%s" % (kind[:1].lower() + kind[1:])


def describe_key(public_key: t.Any) -> tuple[str, int | None]:
    """(algorithm, bits) of a public key, e.g. ("RSA", 2048), ("EC", 256), ("Ed25519", 256)."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return "RSA", int(public_key.key_size)
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return "EC", int(public_key.curve.key_size)
    name = type(public_key).__name__.strip("_").replace("PublicKey", "")
    return name, getattr(public_key, "key_size", _SIZES_WITHOUT_CHOICE.get(name))


def describe_signature_algorithm(oid: t.Any) -> str:
    """`sha256WithRSAEncryption`, or the dotted number of an algorithm that has no name here."""
    return _SIGNATURE_ALGORITHMS.get(oid.dotted_string, str(oid.dotted_string))


def describe_extended_key_usage(oid: t.Any) -> str:
    """`serverAuth`, or the dotted number of a usage that has no name here."""
    return _EXTENDED_KEY_USAGES.get(oid.dotted_string, str(oid.dotted_string))


def iso(moment: datetime) -> str:
    """A time as every result shows it: 2026-11-24T01:50:00Z. Not strftime(), whose years before 1000 have less than four digits."""
    return moment.astimezone(timezone.utc).replace(tzinfo=None, microsecond=0).isoformat() + "Z"


__all__ = (
    "describe_extended_key_usage",
    "describe_key",
    "describe_signature_algorithm",
    "iso",
    "render_name",
    "render_san",
    "shown",
    "shown_sentence",
)
