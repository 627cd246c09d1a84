# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates of any content, written byte by byte: described as they were written, and renewed with nothing else changed."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
import typing as t
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _public_part, _x509, _x509_renew
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import der, pki
from hypothesis import assume, given, settings
from hypothesis import strategies as st

if t.TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 24, 1, 50, tzinfo=timezone.utc)
START, END = NOW - timedelta(days=300), NOW + timedelta(days=3000)
KINDS = ("EC-256", "EC-384", "EC-521", "Ed25519", "RSA-2048")
KEYS = {kind: pki.new_key(kind) for kind in KINDS}
CAS = {kind: pki.make_ca("authority " + kind, key=KEYS[kind], not_before=START, not_after=END) for kind in KINDS}
SKI, KEY_USAGE, SAN, CONSTRAINTS, AKI, EKU = ("2.5.29.%d" % number for number in (14, 15, 17, 19, 35, 37))

# --- any content ---

WORDS = st.text(st.characters(blacklist_categories=["Cs"], max_codepoint=0xFFFF), min_size=1, max_size=12)
LATIN = st.text("abcXYZ019 '()+,-./:=?", min_size=1, max_size=12)
STRINGS = st.one_of(
    st.tuples(st.just(der.UTF8), WORDS.map(str.encode)),
    st.tuples(st.just(der.UTF8), st.just("\U0001f511".encode())),
    st.tuples(st.just(der.BMP), WORDS.map(lambda text: text.encode("utf-16-be"))),
    st.tuples(st.just(der.UNIVERSAL), WORDS.map(lambda text: text.encode("utf-32-be"))),
    st.tuples(st.sampled_from([der.PRINTABLE, der.IA5, der.TELETEX]), LATIN.map(str.encode)),
)
TYPES = st.sampled_from(
    ["2.5.4.3", "2.5.4.10", "2.5.4.11", "2.5.4.7", "0.9.2342.19200300.100.1.25", "1.2.840.113549.1.9.1", "1.3.6.1.4.1.99999.1"]
)
# One of a kind in each RDN: the library takes "a" as UTF8String and "a" as PrintableString for the same, and refuses them.
RDNS = st.dictionaries(TYPES, STRINGS, min_size=1, max_size=3).map(
    lambda found: der.tlv(der.SET, *sorted(der.tlv(der.SEQUENCE, der.oid(kind), der.tlv(*string)) for kind, string in found.items()))
)
NAMES = st.lists(RDNS, max_size=4).map(lambda rdns: der.tlv(der.SEQUENCE, *rdns))

HOSTS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-.*_", min_size=1, max_size=20)
SANS = st.one_of(
    HOSTS.map(lambda host: ("DNS:" + host, der.tlv(0x82, host.encode()))),
    st.ip_addresses().map(lambda address: ("IP:%s" % address, der.tlv(0x87, address.packed))),
    HOSTS.map(lambda host: ("URI:https://" + host, der.tlv(0x86, b"https://" + host.encode()))),
    HOSTS.map(lambda host: ("email:a@" + host, der.tlv(0x81, b"a@" + host.encode()))),
    NAMES.map(lambda name: ("other:directoryName", der.tlv(0xA4, name))),
    st.binary(max_size=20).map(
        lambda data: ("other:otherName", der.tlv(0xA0, der.oid("1.2.3.5"), der.tlv(0xA0, der.tlv(der.OCTETS, data))))
    ),
    st.just(("other:registeredID", b"\x88\x03\x2a\x03\x04")),
)
PRIVATE_OIDS = st.integers(1, 10**9).map(lambda number: "1.3.6.1.4.1.99999.%d" % number)


def bits(number: int) -> bytes:
    """A BIT STRING of named bits as DER has it: without trailing zeros."""
    raw = number.to_bytes(2, "big").rstrip(b"\0")
    unused = (raw[-1] & -raw[-1]).bit_length() - 1 if raw else 0
    return der.tlv(der.BITS, bytes([unused]), raw)


class Extension(t.NamedTuple):
    """An extension, and what the description of the certificate says because of it."""

    oid: str
    value: bytes
    sans: tuple[str, ...] = ()
    usages: tuple[str, ...] = ()


KNOWN = st.tuples(
    # Key usages without keyCertSign; encipherOnly and decipherOnly need keyAgreement, so they are left out.
    st.none() | st.sampled_from([0x8000, 0x2000, 0xA000, 0xE000, 0x8800, 0x0200]).map(lambda number: Extension(KEY_USAGE, bits(number))),
    st.none()
    | st.lists(PRIVATE_OIDS | st.just("1.3.6.1.5.5.7.3.1"), min_size=1, max_size=3, unique=True).map(
        lambda oids: Extension(
            EKU, der.tlv(der.SEQUENCE, *map(der.oid, oids)), usages=tuple("serverAuth" if o[-7:] == "5.7.3.1" else o for o in oids)
        )
    ),
    st.none() | st.just(Extension(CONSTRAINTS, b"\x30\x00")),
    st.none()
    | st.lists(SANS, min_size=1, max_size=5).map(
        lambda names: Extension(SAN, der.tlv(der.SEQUENCE, *(name for _text, name in names)), sans=tuple(text for text, _name in names))
    ),
    st.none() | st.binary(min_size=1, max_size=30).map(lambda data: Extension(SKI, der.tlv(der.OCTETS, data))),
    st.none() | st.binary(min_size=1, max_size=30).map(lambda data: Extension(AKI, der.tlv(der.SEQUENCE, der.tlv(0x80, data)))),
    st.none() | st.just(Extension("2.5.29.32", der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, der.oid("1.2.3"))))),
    st.none() | st.just(Extension("1.3.6.1.5.5.7.1.24", b"\x30\x03\x02\x01\x05")),
)
UNKNOWN = st.dictionaries(PRIVATE_OIDS, st.binary(max_size=40), max_size=3).map(lambda found: [Extension(*pair) for pair in found.items()])


class Made(t.NamedTuple):
    """A certificate, what it was made of, and by which CA."""

    fields: der.Fields
    pem: bytes
    key: t.Any
    key_kind: str
    ca: pki.Pair
    extensions: tuple[Extension, ...]

    def parsed(self) -> t.Any:
        (certificate,) = _x509.parse_certificates(self.pem, "x.crt")
        return certificate


@st.composite
def certificates(draw: t.Any) -> Made:
    """A certificate with any names, numbers, dates and extensions, critical or not, in any order, for any kind of key under any other."""
    key_kind, ca_kind = draw(st.sampled_from(KINDS)), draw(st.sampled_from(KINDS))
    key = pki.new_key(key_kind)
    chosen = draw(st.permutations([*(extension for extension in draw(KNOWN) if extension), *draw(UNKNOWN)]))
    ca = CAS[ca_kind]
    fields = der.Fields(
        subject=draw(NAMES),
        issuer=ca.cert.subject.public_bytes(),
        public_key=der.public_key_of(key),
        serial=der.integer(draw(st.integers(1, 2**159 - 1) | st.just(1))),
        not_before=der.time(draw(st.datetimes(datetime(1950, 1, 1), datetime(2026, 11, 1))).strftime("%y%m%d%H%M%SZ")),
        not_after=der.time(draw(st.datetimes(datetime(2050, 1, 1), datetime(9999, 12, 31))).strftime("%Y%m%d%H%M%SZ")),
        extensions=tuple(der.extension(extension.oid, extension.value, draw(st.booleans())) for extension in chosen),
    )
    return Made(fields, der.pem(der.signed(fields, ca.key)), key, key_kind, ca, tuple(chosen))


def date_of(element: bytes) -> datetime:
    """The time in an element that der.time() made."""
    text = element[2:].decode()
    century = "" if len(text) == 15 else "19" if text[:2] >= "50" else "20"
    return datetime.strptime(century + text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)


@given(certificates())
def test_a_certificate_is_described_as_it_was_written(made: Made) -> None:
    certificate = made.parsed()
    facts = _x509.describe(certificate)
    assert _x509.der(certificate) == ssl.PEM_cert_to_DER_cert(made.pem.decode())
    assert int(facts.serial, 16) == int.from_bytes(made.fields.serial[2:], "big")
    assert (facts.not_before, facts.not_after) == (date_of(made.fields.not_before), date_of(made.fields.not_after))
    assert facts.sans == tuple(san for extension in made.extensions for san in extension.sans)
    assert facts.extended_key_usages == tuple(usage for extension in made.extensions for usage in extension.usages)
    assert (facts.key_algorithm, facts.is_ca) == (made.key_kind.split("-")[0], False)
    assert facts.issuer == "CN=" + _x509.describe(made.ca.cert).subject[3:]
    assert facts.fingerprint_sha256 == hashlib.sha256(_x509.der(certificate)).hexdigest()
    assert _x509.names_in(certificate) == tuple(next(der.elements(name))[1] for name in (made.fields.issuer, made.fields.subject))
    assert _x509.chain_problem(certificate, [made.ca.cert]) in (None, _wrong_key_identifier(made))


def _wrong_key_identifier(made: Made) -> str | None:
    if any(extension.oid == AKI for extension in made.extensions):
        name = _x509.describe(made.ca.cert).subject
        return "its authority key identifier names another key than that of its CA %s, so OpenSSL refuses it" % name
    return None


@given(certificates(), st.booleans(), st.integers(1, 10**12))
def test_a_renewed_certificate_differs_in_key_serial_and_dates_only(made: Made, keep: bool, seconds: int) -> None:
    assume(keep or made.key_kind != "RSA-2048")  # those take their time to be made
    old = made.parsed()
    renewed = _x509_renew.renew(old, made.ca.cert, made.ca.key, NOW, seconds, private_key=made.key if keep else None)
    after = der.fields_of(ssl.PEM_cert_to_DER_cert(renewed.certificate_pem.decode()))
    assert (after.version, after.subject, after.issuer) == (made.fields.version, made.fields.subject, made.fields.issuer)
    assert 0 < int.from_bytes(next(der.elements(after.serial))[1], "big") < 2**63
    assert after.serial != made.fields.serial
    assert date_of(after.not_before) == NOW - timedelta(minutes=5)
    assert date_of(after.not_after) == (NOW + timedelta(seconds=seconds) if seconds < (END - NOW).total_seconds() else END)
    key = _x509.load_private_key(renewed.private_key_pem, "x.key")
    assert after.public_key == der.public_key_of(key)
    assert (after.public_key == made.fields.public_key) == keep
    assert type(key) is type(made.key)
    assert after.extensions == expected_extensions(made, after.public_key, keep)
    assert _x509.chain_problem(_x509.parse_certificates(renewed.certificate_pem, "x")[0], [made.ca.cert]) is None


def expected_extensions(made: Made, public_key: bytes, keep: bool) -> tuple[tuple[bytes, bool, bytes], ...]:
    """The old ones in their order, with the identifiers of the keys that are used now (RFC 5280, 4.2.1.2: SHA-1 of the key's bits)."""
    authority = der.tlv(der.SEQUENCE, der.tlv(0x80, identifier_of(der.public_key_of(made.ca.key))))
    replaced = {AKI: authority} if keep else {AKI: authority, SKI: der.tlv(der.OCTETS, identifier_of(public_key))}
    found = [
        (identifier, critical, replaced.get(extension.oid, value))
        for (identifier, critical, value), extension in zip(made.fields.extensions, made.extensions)
    ]
    if not any(extension.oid == AKI for extension in made.extensions):
        found.append(der.extension(AKI, authority))
    return tuple(found)


def identifier_of(public_key: bytes) -> bytes:
    _algorithm, (_tag, content, _whole) = der.elements(next(der.elements(public_key))[1])
    return hashlib.sha1(content[1:]).digest()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@settings(max_examples=10)
@given(certificates())
def test_openssl_accepts_what_was_renewed(tmp_path: Path, made: Made) -> None:
    renewed = _x509_renew.renew(made.parsed(), made.ca.cert, made.ca.key, datetime.now(timezone.utc), 86400, private_key=made.key)
    (tmp_path / "ca").write_bytes(made.ca.cert_pem)
    (tmp_path / "new").write_bytes(renewed.certificate_pem)
    # What OpenSSL does not know and is marked as critical is as critical as it was.
    argv = ["openssl", "verify", "-ignore_critical", "-CAfile", "ca", "new"]
    done = subprocess.run(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.stdout.strip() == "new: OK"


# --- PEM ---

TEXT_AROUND = st.text(st.characters(max_codepoint=0x7E, blacklist_categories=["Cs"], blacklist_characters="\x00-"), max_size=30)
BUNDLE = [pki.make_ca("member %d" % number, not_before=START) for number in range(4)]


@given(st.lists(st.tuples(TEXT_AROUND, st.sampled_from(range(4)), st.sampled_from(["\n", "\r\n"]), st.booleans()), max_size=6), TEXT_AROUND)
def test_a_bundle_is_read_as_openssl_reads_it(members: list[tuple[str, int, str, bool]], end: str) -> None:
    """Text, keys and line ends of any kind around the certificates; Python's own ssl finds the same ones, each once."""
    parts = []
    for text, index, line_end, with_key in members:
        block = BUNDLE[index].cert_pem + (BUNDLE[index].key_pem if with_key else b"")
        parts += [text.encode(), b"\n" if text else b"", block.replace(b"\n", line_end.encode())]
    data = b"".join(parts) + end.encode()
    wanted = [_x509.der(BUNDLE[index].cert) for _text, index, _line_end, _key in members]
    if not wanted:
        with pytest.raises(CertopsError, match=r"^bundle .*\.$"):
            _x509.parse_certificates(data, "bundle")
        return
    assert [_x509.der(certificate) for certificate in _x509.parse_certificates(data, "bundle")] == wanted
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=data.decode())
    assert sorted(context.get_ca_certs(binary_form=True)) == sorted(set(wanted))


@given(st.sampled_from(KINDS), st.booleans(), TEXT_AROUND, st.sampled_from(["\n", "\r\n"]))
def test_a_key_with_text_around_has_the_librarys_public_part(kind: str, pkcs8: bool, text: str, line_end: str) -> None:
    block = pki.key_to_pem(KEYS[kind], pkcs8).replace(b"\n", line_end.encode())
    data = text.encode() + b"\n" + block + text.encode()
    public = der.public_key_of(KEYS[kind])
    assert _x509.public_bytes(_public_part.public_key_of(data, "k")) == public
    assert _x509.public_key_id(data, "k")[0] == hashlib.sha256(public).hexdigest()


@given(st.sampled_from(KINDS), st.data())
def test_a_damaged_key_is_explained_or_another_one(kind: str, data: st.DataObject) -> None:
    block = bytearray(pki.key_to_pem(KEYS[kind]))
    place = data.draw(st.integers(30, len(block) - 30))
    block[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    for read in (_public_part.public_key_of, _x509.load_private_key):
        try:
            read(bytes(block), "x.key")
        except CertopsError as error:
            assert bytes(block[40:60]).decode("latin-1") not in str(error)
            assert error.__cause__ is None or "PRIVATE" not in str(error.__cause__)
