# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of plugins/module_utils/_x509.py, _x509_text.py and _pem.py."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import time
import typing as t
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _x509, _x509_text
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import der, pki
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CA = pki.make_ca()
OTHER_CA = pki.make_ca()  # of the same name, with another key
LEAF = pki.make_leaf(CA, "kube-apiserver", sans=["DNS:a"])
KEY_KINDS = ["EC-256", "EC-384", "EC-521", "Ed25519", "RSA-2048"]


def parse_one(pem: bytes) -> t.Any:
    (cert,) = _x509.parse_certificates(pem, "x.crt")
    return cert


def error(function: t.Callable[..., t.Any], *arguments: t.Any) -> str:
    with pytest.raises(CertopsError) as caught:
        function(*arguments)
    return str(caught.value)


# --- parsing ---


def test_parses_a_bundle_in_its_order_and_ignores_what_is_around() -> None:
    data = b"subject=CN = x\n\n" + LEAF.cert_pem + b"text\n" + LEAF.key_pem + CA.cert_pem.replace(b"\n", b"\r\n") + b"  the end"
    certificates = _x509.parse_certificates(data, "bundle")
    assert [_x509.der(cert) for cert in certificates] == [_x509.der(LEAF.cert), _x509.der(CA.cert)]


def test_parses_without_a_line_end_at_the_end() -> None:
    assert parse_one(LEAF.cert_pem.rstrip()) is not None


DER = _x509.der(LEAF.cert)


def pem(der: bytes, label: str = "CERTIFICATE") -> bytes:
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label.encode(), base64.encodebytes(der), label.encode())


NOT_CERTIFICATES = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\t\r\n", "is empty"),
    "der": (DER, "DER"),
    "text": (b"hello\n", "holds no certificate"),
    "key": (LEAF.key_pem, "holds no certificate"),
    "request": (pem(b"x", "CERTIFICATE REQUEST"), "holds no certificate"),
    "byte order mark": (b"\xef\xbb\xbf" + LEAF.cert_pem, "holds no certificate"),
    "indented": (b"  " + LEAF.cert_pem.replace(b"\n", b"\n  "), "holds no certificate"),
    "utf-16": (LEAF.cert_pem.decode().encode("utf-16"), "holds no certificate"),
    "noise": (os.urandom(1 << 20).replace(b"-----", b""), "holds no certificate"),
    "nul": (b"\x00" * (1 << 20), "holds no certificate"),
    "truncated": (LEAF.cert_pem[:200], "truncated"),
    "truncated after a good one": (CA.cert_pem + LEAF.cert_pem[:200], "truncated"),
    "cut in the middle": (LEAF.cert_pem[:200] + b"\n" + CA.cert_pem, "truncated"),
    "other end": (LEAF.cert_pem.replace(b"END CERTIFICATE", b"END PRIVATE KEY"), "truncated"),
    "many beginnings": (b"-----BEGIN CERTIFICATE-----\n" * 40000, "truncated"),
    "begin without dashes": (b"-----BEGIN " * 90000, "holds no certificate"),
    "no base64": (pem(b"").replace(b"\n-----END", b"\n%%%%\n-----END"), "base64"),
    "headers": (LEAF.cert_pem.replace(b"-----\n", b"-----\nProc-Type: 4\n\n", 1), "base64"),
    "nothing inside": (pem(b""), "number 1"),
    "no certificate inside": (pem(b"\x30\x03\x02\x01\x01"), "number 1"),
    "cut DER": (pem(DER[:-10]), "number 1"),
    "second is broken": (CA.cert_pem + pem(DER[:-10]), "number 2"),
}


@pytest.mark.parametrize(("data", "message"), list(NOT_CERTIFICATES.values()), ids=list(NOT_CERTIFICATES))
def test_garbage_is_explained(data: bytes, message: str) -> None:
    started = time.monotonic()
    text = error(_x509.parse_certificates, data, "/etc/kubernetes/pki/x.crt")
    assert message in text
    assert "/etc/kubernetes/pki/x.crt" in text
    assert text.endswith(".")
    assert time.monotonic() - started < 5


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_damaged_certificate_is_described_or_explained(data: st.DataObject) -> None:
    """Bytes changed, removed and added inside the DER never lead to anything but CertopsError."""
    der = bytearray(DER)
    for _number in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(der) - 1))
        der[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    with contextlib.suppress(CertopsError):
        for cert in _x509.parse_certificates(pem(bytes(der)), "x"):
            _x509.chain_problem(cert, [CA.cert])
            _x509.chain_problem(LEAF.cert, [cert])
            _x509.key_matches(cert, LEAF.key)
            _x509.describe(cert)


@settings(deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"-----BEGIN CERTIFICATE-----\n", b"\n-----END CERTIFICATE-----\n"]),
    st.binary(max_size=200),
)
def test_noise_is_explained(before: bytes, middle: bytes, after: bytes) -> None:
    data = before + middle + after
    for function in (_x509.parse_certificates, _x509.load_private_key, _x509.public_key_id):
        with contextlib.suppress(CertopsError):
            function(data, "x")


# --- description ---


@pytest.mark.parametrize(
    ("kind", "algorithm", "bits", "signature"),
    [
        ("EC-256", "EC", 256, "ecdsa-with-SHA256"),
        ("EC-384", "EC", 384, "ecdsa-with-SHA384"),
        ("EC-521", "EC", 521, "ecdsa-with-SHA512"),
        ("Ed25519", "Ed25519", 256, "ed25519"),
        ("RSA-2048", "RSA", 2048, "sha256WithRSAEncryption"),
    ],
)
def test_describes_a_ca(kind: str, algorithm: str, bits: int, signature: str) -> None:
    start = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    ca = pki.make_ca("kubernetes", key=kind, not_before=start, not_after=start + timedelta(days=3650))
    facts = _x509.describe(parse_one(ca.cert_pem))
    assert facts == _x509.CertificateFacts(
        subject="CN=kubernetes",
        issuer="CN=kubernetes",
        sans=("DNS:kubernetes",),
        serial="%x" % ca.cert.serial_number,
        fingerprint_sha256=hashlib.sha256(_x509.der(ca.cert)).hexdigest(),
        key_algorithm=algorithm,
        key_bits=bits,
        signature_algorithm=signature,
        not_before=start,
        not_after=start + timedelta(days=3650),
        is_ca=True,
        extended_key_usages=(),
    )
    assert facts.not_after.tzinfo is timezone.utc


def test_describes_a_leaf() -> None:
    odd = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.ObjectIdentifier("1.2.3.4")])
    extensions = [(odd, False), *[e for e in pki.leaf_extensions(CA, [], []) if not isinstance(e[0], x509.ExtendedKeyUsage)]]
    facts = _x509.describe(
        pki.make_leaf(CA, "kubernetes-admin", organization="kubeadm:cluster-admins", extensions=extensions, serial=10).cert
    )
    assert (facts.subject, facts.issuer, facts.serial) == ("O=kubeadm:cluster-admins,CN=kubernetes-admin", "CN=kubernetes", "a")
    assert (facts.sans, facts.is_ca, facts.extended_key_usages) == ((), False, ("serverAuth", "1.2.3.4"))


def test_describes_a_certificate_without_any_extension() -> None:
    facts = _x509.describe(pki.make_leaf(CA, "x", extensions=()).cert)
    assert (facts.sans, facts.is_ca, facts.extended_key_usages) == ((), False, ())


def test_alternative_names_of_all_kinds() -> None:
    names = [pki.make_san(san) for san in ("DNS:*.a", "IP:10.96.0.1", "IP:fd00::1", "URI:spiffe://x/y", "email:a@b")]
    names += [
        x509.DirectoryName(pki.make_name("x")),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.OtherName(x509.ObjectIdentifier("1.2"), b"\x05\x00"),
    ]
    facts = _x509.describe(pki.make_leaf(CA, "x", extensions=[(x509.SubjectAlternativeName(names), False)]).cert)
    assert facts.sans == (
        "DNS:*.a",
        "IP:10.96.0.1",
        "IP:fd00::1",
        "URI:spiffe://x/y",
        "email:a@b",
        "other:directoryName",
        "other:registeredID",
        "other:otherName",
    )


def test_alternative_names_do_not_break_lines() -> None:
    value = der.tlv(der.SEQUENCE, der.tlv(0x82, b"a\nb\x1b[0m"), der.tlv(0x86, b"https://a\rb"), der.tlv(0x81, b"a\0@b"))
    cert = parse_one(pem(der.leaf_of(CA, CA.key, extensions=(der.extension("2.5.29.17", value),))))
    with contextlib.suppress(CertopsError):
        assert _x509.describe(cert).sans == ("DNS:a\\0ab\\1b[0m", "URI:https://a\\0db", "email:a\\00@b")


def patched(der: bytes, old: bytes, new: bytes) -> t.Any:
    """The certificate with some bytes of its DER replaced, of the same length (its signature is void)."""
    assert der.count(old) == 1
    assert len(old) == len(new)
    return parse_one(pem(der.replace(old, new)))


SERIAL = pki.make_leaf(CA, "x", serial=0x7A7A7A7A7A7A7A7A)


@pytest.mark.parametrize(("raw", "serial"), [(b"\x00" * 8, "0"), (b"\xff" * 8, "-1"), (b"\x80" + b"\x00" * 7, "-8000000000000000")])
def test_serial_numbers_that_should_not_be(raw: bytes, serial: str) -> None:
    """Some are refused by some versions of the library: then that is said."""
    text = ""
    try:
        text = _x509.describe(patched(_x509.der(SERIAL.cert), b"\x02\x08" + b"\x7a" * 8, b"\x02\x08" + raw)).serial
    except CertopsError as exc:
        assert "cannot be read" in str(exc)
        return
    assert text == serial


def test_dates_that_should_not_be() -> None:
    leaf = pki.make_leaf(
        CA, "x", not_before=datetime(2026, 1, 1, tzinfo=timezone.utc), not_after=datetime(2049, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    )
    assert _x509.describe(leaf.cert).not_after == datetime(2049, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    for odd in (b"491331235959Z", b"49123123595xZ", b"4912312359590"):
        with pytest.raises(CertopsError):
            _x509.describe(patched(_x509.der(leaf.cert), b"491231235959Z", odd))


def test_dates_far_away() -> None:
    end = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    assert _x509.not_after(pki.make_leaf(CA, "x", not_after=end).cert) == end


def test_the_same_extension_twice_is_explained() -> None:
    first = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5.6"), b"\x05\x00"), False)
    second = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5.7"), b"\x05\x00"), False)
    leaf = pki.make_leaf(CA, "x", extensions=[first, second])
    twice = patched(_x509.der(leaf.cert), b"\x06\x05\x2a\x03\x04\x05\x07", b"\x06\x05\x2a\x03\x04\x05\x06")
    assert "x.crt" in error(_x509.describe, twice, "x.crt")
    assert "another key" in str(_x509.chain_problem(twice, [CA.cert]))


def test_a_ca_whose_extensions_cannot_be_read_is_explained() -> None:
    extensions = [(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.19"), b"\x30\x01\x00"), True)]
    ca = pki.make_ca(key=CA.key, extensions=extensions)
    assert "cannot be read" in str(_x509.chain_problem(LEAF.cert, [ca.cert]))


def test_a_kind_of_key_that_nobody_knows() -> None:
    unknown = patched(_x509.der(LEAF.cert), b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x7f")
    with contextlib.suppress(CertopsError):
        facts = _x509.describe(unknown)
        assert (facts.key_algorithm, facts.key_bits) == (None, None)
    assert _x509.key_matches(unknown, LEAF.key) is False


def test_keys_that_kubernetes_does_not_know_are_named() -> None:
    assert _x509_text.describe_key(dsa.generate_private_key(2048).public_key()) == ("DSA", 2048)
    assert _x509_text.describe_key(ed448.Ed448PrivateKey.generate().public_key()) == ("Ed448", 456)


def rdn(*pairs: tuple[str, str]) -> x509.RelativeDistinguishedName:
    return x509.RelativeDistinguishedName([x509.NameAttribute(x509.ObjectIdentifier(oid), value) for oid, value in pairs])


CN, ORG, COUNTRY, UNKNOWN = "2.5.4.3", "2.5.4.10", "2.5.4.6", "1.3.6.1.4.1.99999.1"


@pytest.mark.parametrize(
    ("rdns", "text"),
    [
        ([], ""),
        ([rdn((ORG, "system:masters")), rdn((CN, "kubernetes-admin"))], "O=system:masters,CN=kubernetes-admin"),
        ([rdn((CN, "a")), rdn((ORG, "b")), rdn((ORG, "c"))], "CN=a,O=b,O=c"),
        ([rdn((COUNTRY, "DE")), rdn((UNKNOWN, "x"))], "C=DE,1.3.6.1.4.1.99999.1=x"),
        ([rdn((CN, 'a,b+c"d<e>f;g\\h=i'))], 'CN=a\\,b\\+c\\"d\\<e\\>f\\;g\\\\h=i'),
        ([rdn((CN, "#x"))], "CN=\\#x"),
        ([rdn((CN, " x "))], "CN=\\ x\\ "),
        ([rdn((CN, " "))], "CN=\\ "),
        ([rdn((CN, "a\nb\x1b[0m\x7f"))], "CN=a\\0ab\\1b[0m\\7f"),
        ([rdn((CN, "zoë🔑"))], "CN=zoë🔑"),
        ([rdn((CN, "a\x85b\u2028c\u202ed\x9b"))], "CN=a\\c2\\85b\\e2\\80\\a8c\\e2\\80\\aed\\c2\\9b"),
        ([rdn(("1.2.840.113549.1.9.1", "a@b"), ("0.9.2342.19200300.100.1.25", "org"))], "DC=org+emailAddress=a@b"),
    ],
)
def test_names_as_text(rdns: t.Any, text: str) -> None:
    found = _x509.describe(pki.make_leaf(CA, "", subject=x509.Name(rdns)).cert).subject
    assert sorted(found.split("+")) == sorted(text.split("+"))


# --- cost ---


def test_thirteen_certificates_are_cheap() -> None:
    """A node's worth of them, parsed, described and verified; the bound is generous for busy machines."""
    ca = pki.make_ca(key="RSA-2048")
    data = [pki.make_leaf(ca, "kube-apiserver", sans=["DNS:a", "IP:10.0.0.1"], key="RSA-2048").cert_pem for _number in range(13)]
    started = time.process_time()
    for pem_data in data:
        cert = parse_one(pem_data)
        _x509.describe(cert)
        assert _x509.chain_problem(cert, [ca.cert]) is None
    assert time.process_time() - started < 0.5


NAMES = st.lists(
    st.tuples(
        st.sampled_from([CN, ORG, "2.5.4.11", UNKNOWN]),
        st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), min_size=1, max_size=10),
    ),
    max_size=4,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(NAMES, NAMES)
def test_different_names_have_different_texts(one: t.Any, other: t.Any) -> None:
    texts = [_x509_text.render_name(x509.Name([x509.NameAttribute(x509.ObjectIdentifier(o), v) for o, v in name])) for name in (one, other)]
    assert (texts[0] == texts[1]) == (one == other)
    assert all(text.isprintable() for text in texts)


def test_curves_other_than_nists_are_described() -> None:
    leaf = pki.make_leaf(CA, "x", key=ec.generate_private_key(ec.SECP256K1()))
    assert _x509.describe(leaf.cert).key_bits == 256
