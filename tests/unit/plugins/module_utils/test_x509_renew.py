# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of plugins/module_utils/_x509_renew.py."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import typing as t
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _x509, _x509_renew
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import der, pki
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if t.TYPE_CHECKING:
    from pathlib import Path

YEAR = 365 * 86400
NOW = datetime(2026, 11, 24, 1, 50, 0, 123456, tzinfo=timezone.utc)
CA_START = NOW.replace(microsecond=0) - timedelta(days=300)
CA_END = CA_START + timedelta(days=3650)
CA = pki.make_ca(not_before=CA_START, not_after=CA_END)
SANS = ("DNS:node", "DNS:kubernetes", "DNS:*.example.org", "IP:10.96.0.1", "IP:fd00::1", "URI:spiffe://x/y", "email:a@b.c")


def leaf(**options: t.Any) -> pki.Pair:
    options.setdefault("not_before", CA_START)
    options.setdefault("not_after", NOW + timedelta(days=3))
    return pki.make_leaf(options.pop("ca", CA), options.pop("cn", "kube-apiserver"), **options)


def renew(old: pki.Pair, ca: pki.Pair = CA, **options: t.Any) -> tuple[t.Any, _x509_renew.Renewed]:
    renewed = _x509_renew.renew(old.cert, ca.cert, ca.key, options.pop("now", NOW), options.pop("seconds", YEAR), **options)
    certificates = _x509.parse_certificates(renewed.certificate_pem, "renewed")
    assert len(certificates) == 1
    return certificates[0], renewed


def outline(cert: t.Any) -> list[tuple[str, bool, t.Any]]:
    """All extensions but the authority key identifier, comparable."""
    return [(e.oid.dotted_string, e.critical, e.value) for e in cert.extensions if e.oid != x509.oid.ExtensionOID.AUTHORITY_KEY_IDENTIFIER]


def assert_good(cert: t.Any, renewed: _x509_renew.Renewed, ca: pki.Pair = CA) -> None:
    assert _x509.chain_problem(cert, [ca.cert]) is None
    assert _x509.key_matches(cert, _x509.load_private_key(renewed.private_key_pem, "key"))
    assert _x509.not_after(cert) == renewed.not_after
    assert "PRIVATE" not in repr(renewed)


@pytest.mark.parametrize("usages", [("server",), ("client",), ("server", "client")])
@pytest.mark.parametrize("organization", [None, "kubeadm:cluster-admins"])
@pytest.mark.parametrize("key", ["EC-256", "EC-384", "EC-521", "Ed25519", "RSA-2048"])
def test_keeps_everything_but_key_serial_and_dates(key: str, organization: str | None, usages: tuple[str, ...]) -> None:
    old = leaf(key=key, organization=organization, usages=usages, sans=SANS if "server" in usages else ())
    cert, renewed = renew(old)
    assert_good(cert, renewed)
    before, after = _x509.describe(old.cert), _x509.describe(cert)
    for name in ("subject", "issuer", "sans", "key_algorithm", "key_bits", "signature_algorithm", "is_ca", "extended_key_usages"):
        assert getattr(after, name) == getattr(before, name), name
    assert cert.subject.public_bytes() == old.cert.subject.public_bytes()
    assert [(e.oid, e.critical, e.value) for e in cert.extensions] == [(e.oid, e.critical, e.value) for e in old.cert.extensions]
    assert not _x509.key_matches(cert, old.key)
    assert after.serial != before.serial
    assert 0 < cert.serial_number < 2**63
    assert cert.version == x509.Version.v3


def test_dates() -> None:
    cert, renewed = renew(leaf())
    moment = NOW.replace(microsecond=0)
    assert _x509.not_before(cert) == moment - timedelta(minutes=5)
    assert _x509.not_after(cert) == moment + timedelta(seconds=YEAR)
    assert not renewed.ca_limited


def test_now_may_be_in_any_time_zone() -> None:
    cert, _renewed = renew(leaf(), now=NOW.astimezone(timezone(timedelta(hours=5, minutes=30))))
    assert _x509.not_before(cert) == NOW.replace(microsecond=0) - timedelta(minutes=5)


@pytest.mark.parametrize("seconds", [1, YEAR, 10 * YEAR, 10**12, 10**18])
def test_never_outlives_its_ca(seconds: int) -> None:
    cert, renewed = renew(leaf(), seconds=seconds)
    assert _x509.not_after(cert) <= CA_END
    assert renewed.ca_limited == (seconds > (CA_END - NOW.replace(microsecond=0)).total_seconds())
    assert renewed.ca_limited == (_x509.not_after(cert) == CA_END)


def test_never_begins_before_its_ca() -> None:
    start = NOW.replace(microsecond=0) - timedelta(seconds=20)
    ca = pki.make_ca(not_before=start)
    cert, renewed = renew(leaf(ca=ca, not_before=start), ca)
    assert_good(cert, renewed, ca)
    assert _x509.not_before(cert) == start


def test_serial_numbers_differ() -> None:
    old = leaf()
    assert len({renew(old)[0].serial_number for _number in range(20)}) == 20


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        ("RSA-2048", "sha256WithRSAEncryption"),
        ("EC-256", "ecdsa-with-SHA256"),
        ("EC-384", "ecdsa-with-SHA384"),
        ("EC-521", "ecdsa-with-SHA512"),
        ("Ed25519", "ed25519"),
    ],
)
def test_the_signature_is_the_one_that_go_takes_for_the_cas_key(key: str, algorithm: str) -> None:
    ca = pki.make_ca(key=key, not_before=CA_START)
    cert, renewed = renew(leaf(ca=ca, key="RSA-2048"), ca)
    assert_good(cert, renewed, ca)
    assert _x509.describe(cert).signature_algorithm == algorithm
    assert _x509.describe(cert).key_algorithm == "RSA"


def test_another_hash_is_not_kept() -> None:
    """As kubeadm does: the hash follows the CA's key, not the old certificate."""
    ca = pki.make_ca(key="RSA-2048", not_before=CA_START)
    old = leaf(ca=ca)
    builder = x509.CertificateBuilder(old.cert.issuer, old.cert.subject, old.cert.public_key(), 7, CA_START, CA_START + timedelta(days=400))
    other = builder.sign(ca.key, hashes.SHA512())
    cert = _x509.parse_certificates(_x509_renew.renew(other, ca.cert, ca.key, NOW, YEAR).certificate_pem, "x")[0]
    assert _x509.describe(cert).signature_algorithm == "sha256WithRSAEncryption"


def test_keeps_the_key_when_told_to() -> None:
    old = leaf()
    cert, renewed = renew(old, private_key=old.key)
    assert _x509.key_matches(cert, old.key)
    assert renewed.private_key_pem == old.key_pem


@pytest.mark.parametrize(
    ("key", "pkcs8", "expected"),
    [
        ("RSA-2048", None, "RSA PRIVATE KEY"),
        ("RSA-2048", False, "RSA PRIVATE KEY"),
        ("RSA-2048", True, "PRIVATE KEY"),
        ("EC-256", None, "EC PRIVATE KEY"),
        ("EC-256", False, "EC PRIVATE KEY"),
        ("EC-256", True, "PRIVATE KEY"),
        ("Ed25519", None, "PRIVATE KEY"),
    ],
)
def test_form_of_the_new_key(key: str, pkcs8: bool | None, expected: str) -> None:
    old = leaf(key=key)
    like = None if pkcs8 is None else pki.key_to_pem(old.key, pkcs8)
    cert, renewed = renew(old, like=like)
    assert_good(cert, renewed)
    assert renewed.private_key_pem.decode().splitlines()[0] == "-----BEGIN %s-----" % expected


def test_a_short_rsa_key_grows() -> None:
    try:
        old = leaf(key="RSA-1024")
    except ValueError:
        pytest.skip("this cryptography makes no short keys")
    assert _x509.describe(renew(old)[0]).key_bits == 2048


# --- identifiers ---


def without(extensions: t.Sequence[tuple[t.Any, bool]], kind: t.Any) -> list[tuple[t.Any, bool]]:
    return [(value, critical) for value, critical in extensions if not isinstance(value, kind)]


def test_authority_key_identifier_is_the_cas_own() -> None:
    odd = x509.SubjectKeyIdentifier(b"not a hash of the key")
    ca = pki.make_ca(not_before=CA_START, extensions=[(x509.BasicConstraints(ca=True, path_length=0), True), (odd, False)])
    cert, renewed = renew(leaf(ca=ca), ca)
    assert_good(cert, renewed, ca)
    assert _x509.extension_value(cert, x509.AuthorityKeyIdentifier).key_identifier == odd.digest


def test_no_authority_key_identifier_where_the_ca_has_none_of_its_own() -> None:
    ca = pki.make_ca(not_before=CA_START, extensions=[(x509.BasicConstraints(ca=True, path_length=None), True)])
    cert, renewed = renew(leaf(ca=ca), ca)
    assert_good(cert, renewed, ca)
    assert _x509.extension_value(cert, x509.AuthorityKeyIdentifier) is None


def test_an_authority_key_identifier_is_added_as_go_does() -> None:
    old = leaf(extensions=without(pki.leaf_extensions(CA, ["client"], []), x509.AuthorityKeyIdentifier))
    cert, _renewed = renew(old)
    assert _x509.extension_value(cert, x509.AuthorityKeyIdentifier) is not None
    assert outline(cert) == outline(old.cert)


def test_issuer_and_serial_in_an_authority_key_identifier_do_not_go_stale() -> None:
    issuer = [x509.DirectoryName(CA.cert.subject)]
    long_form = x509.AuthorityKeyIdentifier(b"old", issuer, 4711)
    extensions = [*without(pki.leaf_extensions(CA, ["client"], []), x509.AuthorityKeyIdentifier), (long_form, False)]
    cert, _renewed = renew(leaf(extensions=extensions))
    value = _x509.extension_value(cert, x509.AuthorityKeyIdentifier)
    assert (value.authority_cert_issuer, value.authority_cert_serial_number) == (None, None)
    assert value.key_identifier == _x509.extension_value(CA.cert, x509.SubjectKeyIdentifier).digest


def test_subject_key_identifier_follows_the_key() -> None:
    key = pki.new_key()
    odd = x509.SubjectKeyIdentifier(b"made another way")
    old = leaf(key=key, extensions=[*pki.leaf_extensions(CA, ["client"], []), (odd, False)])
    cert, _renewed = renew(old)
    assert _x509.extension_value(cert, x509.SubjectKeyIdentifier) == x509.SubjectKeyIdentifier.from_public_key(cert.public_key())
    kept, _renewed = renew(old, private_key=key)
    assert _x509.extension_value(kept, x509.SubjectKeyIdentifier) == odd


# --- refusals ---


def refusal(old: pki.Pair, ca_cert: t.Any, ca_key: t.Any, now: datetime = NOW, seconds: int = YEAR) -> str:
    with pytest.raises(CertopsError) as caught:
        _x509_renew.renew(old.cert, ca_cert, ca_key, now, seconds)
    assert str(caught.value).endswith(".")
    return str(caught.value)


def test_refuses_a_ca_that_cannot_sign() -> None:
    old = leaf()
    other = pki.make_ca(not_before=CA_START)
    assert "does not belong" in refusal(old, CA.cert, other.key)
    assert "does not belong" in refusal(old, CA.cert, pki.new_key("RSA-2048"))
    assert "not a CA" in refusal(old, old.cert, old.key)
    assert "ended on 20" in refusal(old, CA.cert, CA.key, now=CA_END)
    assert "clock" in refusal(old, CA.cert, CA.key, now=CA_START - timedelta(seconds=1))
    extensions = [(x509.BasicConstraints(ca=True, path_length=None), True), (pki.key_usage("digital_signature"), True)]
    no_signer = pki.make_ca(not_before=CA_START, extensions=extensions)
    assert "key usage" in refusal(old, no_signer.cert, no_signer.key)


def test_a_ca_is_good_until_its_last_second() -> None:
    cert, renewed = renew(leaf(), now=CA_END - timedelta(seconds=1))
    assert _x509.not_after(cert) == CA_END
    assert renewed.ca_limited


@pytest.mark.parametrize("seconds", [0, -1])
def test_refuses_a_validity_that_is_none(seconds: int) -> None:
    assert "validity" in refusal(leaf(), CA.cert, CA.key, seconds=seconds)


def test_refuses_to_renew_a_ca() -> None:
    assert "is a CA" in refusal(CA, CA.cert, CA.key)


def test_refuses_a_key_that_kubernetes_does_not_know() -> None:
    assert "DSA key" in refusal(leaf(key=dsa.generate_private_key(2048)), CA.cert, CA.key)


def test_refuses_a_key_that_takes_minutes_to_make() -> None:
    public = rsa.RSAPublicNumbers(65537, (1 << 12288) - 1).public_key()
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    (old,) = _x509.parse_certificates(der.pem(der.leaf_of(CA, CA.key, public_key=spki)), "x")
    assert "12288 bits" in refusal(pki.Pair(old, None), CA.cert, CA.key)


@pytest.mark.parametrize(("tag", "value"), [(der.TELETEX, b"M\xfcller"), (der.TELETEX, "ü".encode()), (der.BMP, "ü".encode("utf-16-be"))])
def test_a_name_stays_byte_for_byte_or_is_refused(tag: int, value: bytes) -> None:
    """An old library reads a name in an old encoding, and writes another one."""
    subject = der.name((der.CN, tag, value))
    (old,) = _x509.parse_certificates(der.pem(der.leaf_of(CA, CA.key, subject=subject)), "x")
    try:
        cert = renew(pki.Pair(old, None))[0]
    except CertopsError:
        return
    assert der.fields_of(_x509.der(cert)).subject == subject
    authority = pki.Pair(_x509.parse_certificates(der.pem(ca_named(subject)), "x")[0], CA.key)
    try:
        cert = renew(leaf(), authority)[0]
    except CertopsError:
        return
    assert der.fields_of(_x509.der(cert)).issuer == subject


def ca_named(subject: bytes) -> bytes:
    """A CA's certificate with this name."""
    parts = der.fields_of(_x509.der(CA.cert))
    return der.signed(dataclasses.replace(parts, subject=subject, issuer=subject), CA.key)


# --- any certificate ---

NAME_TYPES = [
    x509.oid.NameOID.COMMON_NAME,
    x509.oid.NameOID.ORGANIZATION_NAME,
    x509.oid.NameOID.ORGANIZATIONAL_UNIT_NAME,
    x509.oid.NameOID.LOCALITY_NAME,
    x509.oid.NameOID.USER_ID,
    x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"),
]
TEXT = st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), min_size=1, max_size=20)
ATTRIBUTES = st.builds(x509.NameAttribute, st.sampled_from(NAME_TYPES), TEXT)
RDNS = st.lists(ATTRIBUTES, min_size=1, max_size=3, unique_by=lambda a: (a.oid, a.value)).map(x509.RelativeDistinguishedName)
SUBJECTS = st.lists(RDNS, max_size=4).map(x509.Name)

LABELS = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)
HOSTS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
GENERAL_NAMES = st.one_of(
    HOSTS.map(x509.DNSName),
    HOSTS.map(lambda host: x509.DNSName("*." + host)),
    st.ip_addresses().map(x509.IPAddress),
    st.builds("https://{}/{}".format, HOSTS, LABELS).map(x509.UniformResourceIdentifier),
    st.builds("{}@{}".format, LABELS, HOSTS).map(x509.RFC822Name),
    SUBJECTS.map(x509.DirectoryName),
    st.just(x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4"))),
    st.binary(max_size=20).map(lambda data: x509.OtherName(x509.ObjectIdentifier("1.2.3.5"), b"\x04" + bytes([len(data)]) + data)),
)
USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign")
OIDS = st.integers(1, 10**6).map(lambda number: x509.ObjectIdentifier("1.3.6.1.4.1.99999.%d" % number))
EXTENSIONS = st.tuples(
    st.none() | st.lists(st.sampled_from(USAGES), min_size=1, unique=True).map(lambda names: pki.key_usage(*names)),
    st.none()
    | st.lists(OIDS | st.just(x509.oid.ExtendedKeyUsageOID.SERVER_AUTH), min_size=1, max_size=3, unique=True).map(x509.ExtendedKeyUsage),
    st.none() | st.just(x509.BasicConstraints(ca=False, path_length=None)),
    st.none() | st.lists(GENERAL_NAMES, min_size=1, max_size=6).map(x509.SubjectAlternativeName),
    st.none() | st.builds(x509.UnrecognizedExtension, OIDS, st.binary(max_size=40)),
    st.none() | st.just(x509.TLSFeature([x509.TLSFeatureType.status_request])),
    st.none() | st.just(x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)])),
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(SUBJECTS, EXTENSIONS, st.lists(st.booleans(), min_size=7, max_size=7), st.randoms(use_true_random=False))
def test_any_certificate_is_made_again(subject: t.Any, extensions: t.Any, criticals: list[bool], random: t.Any) -> None:
    chosen = [(value, critical) for value, critical in zip(extensions, criticals) if value is not None]
    random.shuffle(chosen)
    old = leaf(subject=subject, extensions=chosen)
    cert, renewed = renew(old)
    assert_good(cert, renewed)
    assert cert.subject.public_bytes() == old.cert.subject.public_bytes()
    assert outline(cert) == outline(old.cert)
    before, after = _x509.describe(old.cert), _x509.describe(cert)
    assert (after.subject, after.sans, after.extended_key_usages) == (before.subject, before.sans, before.extended_key_usages)
    again, _renewed = renew(pki.Pair(cert, None))
    assert outline(again) == outline(cert)


# --- seen by a tool that is not ours ---

VARYING = re.compile(
    r"^\s*(Serial Number.*|Not (Before|After).*|([0-9a-f]{2}:)*[0-9a-f]{2}:?|[0-9a-f]+ \(0x[0-9a-f]+\))\s*$", re.IGNORECASE
)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("key", ["EC-256", "RSA-2048"])
def test_openssl_sees_the_same_certificate_and_accepts_it(tmp_path: Path, key: str) -> None:
    ca = pki.make_ca(key=key)
    old = pki.make_leaf(ca, "kube-apiserver", organization="o", usages=["server", "client"], sans=SANS, key=key)
    _cert, renewed = renew(old, ca, now=datetime.now(timezone.utc))
    for name, data in (("ca", ca.cert_pem), ("old", old.cert_pem), ("new", renewed.certificate_pem), ("key", renewed.private_key_pem)):
        (tmp_path / name).write_bytes(data)

    def openssl(*words: str) -> str:
        return subprocess.run(["openssl", *words], cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True).stdout

    def text(name: str) -> list[str]:
        return [line for line in openssl("x509", "-in", name, "-noout", "-text").splitlines() if not VARYING.match(line)]

    assert text("new") == text("old")
    assert openssl("verify", "-x509_strict", "-CAfile", "ca", "-purpose", "sslserver", "new").strip() == "new: OK"
    assert openssl("pkey", "-in", "key", "-pubout") == openssl("x509", "-in", "new", "-noout", "-pubkey")


def test_the_file_is_what_go_would_write() -> None:
    """64 characters a line, one block, a line end at the end."""
    lines = renew(leaf(sans=SANS))[1].certificate_pem.decode().split("\n")
    assert lines[0] == "-----BEGIN CERTIFICATE-----"
    assert lines[-2:] == ["-----END CERTIFICATE-----", ""]
    assert {len(line) for line in lines[1:-3]} == {64}


def test_private_key_can_be_read_by_the_library_itself() -> None:
    renewed = renew(leaf(key="RSA-2048"))[1]
    key: t.Any = serialization.load_pem_private_key(renewed.private_key_pem, password=None)
    assert key.key_size == 2048
