# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of plugins/module_utils/_x509.py: keys, signatures and chains."""

from __future__ import annotations

import base64
import hashlib
import typing as t
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _x509
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import der, pki
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, padding

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


def pem(der: bytes, label: str = "CERTIFICATE") -> bytes:
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label.encode(), base64.encodebytes(der), label.encode())


# --- keys ---


@pytest.mark.parametrize("kind", KEY_KINDS)
@pytest.mark.parametrize("pkcs8", [False, True])
def test_key_matches_its_certificate_only(kind: str, pkcs8: bool) -> None:
    leaf = pki.make_leaf(CA, "x", key=kind)
    key = _x509.load_private_key(pki.key_to_pem(leaf.key, pkcs8), "x.key")
    assert _x509.key_matches(leaf.cert, key)
    for other in KEY_KINDS:
        assert not _x509.key_matches(leaf.cert, pki.new_key(other)) or other == kind == "RSA-2048"


def test_a_key_beside_other_blocks() -> None:
    """kubelet-client-current.pem has the certificate first; `openssl ecparam -genkey` writes its parameters first."""
    for data in (
        LEAF.cert_pem + LEAF.key_pem,
        b"x\n-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + LEAF.key_pem,
    ):
        assert _x509.key_matches(LEAF.cert, _x509.load_private_key(data, "x"))


def encrypted(form: t.Any) -> bytes:
    return bytes(LEAF.key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret")))


BAD_KEYS = {
    "empty": (b"", "is empty"),
    "certificate": (LEAF.cert_pem, "holds no private key"),
    "public": (pki.public_key_to_pem(LEAF.key), "holds no private key"),
    "truncated": (LEAF.key_pem[:100], "truncated"),
    "der": (b"\x30\x77\x02\x01\x01", "DER"),
    "damaged": (LEAF.key_pem.replace(b"M", b"N", 1), "cannot be read"),
    "no base64": (b"-----BEGIN PRIVATE KEY-----\n####\n-----END PRIVATE KEY-----\n", "cannot be read"),
    "wrong label": (LEAF.key_pem.replace(b"EC PRIVATE", b"RSA PRIVATE"), "cannot be read"),
    "foreign": (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "cannot be read"),
    "encrypted": (encrypted(serialization.PrivateFormat.PKCS8), "is encrypted"),
    "encrypted traditionally": (encrypted(serialization.PrivateFormat.TraditionalOpenSSL), "is encrypted"),
}


@pytest.mark.parametrize(("data", "message"), list(BAD_KEYS.values()), ids=list(BAD_KEYS))
def test_a_bad_key_is_explained_and_never_shown(data: bytes, message: str) -> None:
    with pytest.raises(CertopsError) as caught:
        _x509.load_private_key(data, "/pki/x.key")
    text = str(caught.value)
    assert message in text
    assert "/pki/x.key" in text
    assert caught.value.__cause__ is None
    lines = [line.decode("latin-1") for line in data.splitlines() if len(line) > 20 and not line.startswith(b"-")]
    assert not any(line in text for line in lines)


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_public_key_id_is_the_same_for_all_forms(kind: str) -> None:
    leaf = pki.make_leaf(CA, "sa", key=kind)
    forms = [leaf.cert_pem, leaf.key_pem, pki.key_to_pem(leaf.key, True), pki.public_key_to_pem(leaf.key)]
    if kind.startswith("RSA"):
        forms.append(leaf.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1))
    ids = {_x509.public_key_id(form, "sa") for form in forms}
    assert len(ids) == 1
    (identity,) = ids
    spki = leaf.key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert identity[0] == hashlib.sha256(spki).hexdigest()
    assert "%s-%s" % identity[1:] in (kind, kind + "-256")
    assert all(_x509.key_ids_equal(forms[0], form) for form in forms)
    assert not _x509.key_ids_equal(forms[0], pki.public_key_to_pem(pki.new_key()))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"x", "holds no key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot be read"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n", "truncated"),
        (pem(b"\x30\x00"), "cannot be read"),
        (encrypted(serialization.PrivateFormat.PKCS8), "is encrypted"),
    ],
)
def test_public_key_id_of_garbage(data: bytes, message: str) -> None:
    assert message in error(_x509.public_key_id, data, "sa.pub")
    assert "sa.pub" in error(_x509.public_key_id, data, "sa.pub")


# --- chain ---


@pytest.mark.parametrize("kind", KEY_KINDS)
@pytest.mark.parametrize("leaf_kind", ["EC-256", "RSA-2048"])
def test_signature_is_really_checked(kind: str, leaf_kind: str) -> None:
    ca = pki.make_ca(key=kind)
    other = pki.make_ca(key=kind if kind != "RSA-2048" else "RSA-3072")
    leaf = pki.make_leaf(ca, "x", key=leaf_kind)
    assert _x509.signed_by(leaf.cert, ca.cert)
    assert not _x509.signed_by(leaf.cert, other.cert)
    assert _x509.chain_problem(leaf.cert, [ca.cert]) is None
    assert _x509.chain_problem(leaf.cert, [other.cert, ca.cert]) is None
    assert _x509.chain_problem(ca.cert, [ca.cert]) is None
    assert "another key" in str(_x509.chain_problem(leaf.cert, [other.cert]))
    der = _x509.der(leaf.cert)
    tampered = parse_one(pem(der[:-3] + bytes([der[-3] ^ 1]) + der[-2:]))
    assert not _x509.signed_by(tampered, ca.cert)


@pytest.mark.parametrize("signer", KEY_KINDS)
@pytest.mark.parametrize("asked", KEY_KINDS)
def test_a_signature_of_another_kind_of_key_is_not_its(signer: str, asked: str) -> None:
    if signer == asked:
        return
    leaf = pki.make_leaf(pki.make_ca(key=signer), "x")
    problem = _x509.chain_problem(leaf.cert, [pki.make_ca(key=asked).cert])
    assert problem is not None
    assert not problem.endswith(".")


def test_chain_problems_in_words() -> None:
    assert _x509.chain_problem(LEAF.cert, []) == "its issuer is CN=kubernetes, but no CA is known"
    front = pki.make_ca("front-proxy-ca")
    assert _x509.chain_problem(LEAF.cert, [front.cert]) == "its issuer is CN=kubernetes, but the CA is CN=front-proxy-ca"
    assert "same name, but another key" in str(_x509.chain_problem(LEAF.cert, [OTHER_CA.cert]))
    not_ca = pki.make_ca(key=CA.key, extensions=[(x509.BasicConstraints(ca=False, path_length=None), True)])
    assert "is not a CA certificate" in str(_x509.chain_problem(LEAF.cert, [not_ca.cert]))
    bare = pki.make_ca(key=CA.key, extensions=[])
    assert "is not a CA certificate" in str(_x509.chain_problem(LEAF.cert, [bare.cert]))
    usage = pki.make_ca(
        key=CA.key, extensions=[(x509.BasicConstraints(ca=True, path_length=None), True), (pki.key_usage("digital_signature"), True)]
    )
    assert "key usage" in str(_x509.chain_problem(LEAF.cert, [usage.cert]))
    extensions = [(x509.BasicConstraints(ca=True, path_length=None), True), (x509.SubjectKeyIdentifier(b"other"), False)]
    identifier = pki.make_ca(key=CA.key, extensions=extensions)
    assert "authority key identifier" in str(_x509.chain_problem(LEAF.cert, [identifier.cert]))
    assert _x509.chain_problem(LEAF.cert, [not_ca.cert, front.cert, CA.cert]) is None


def test_dates_are_not_chain_problems() -> None:
    start = datetime(2020, 1, 1, tzinfo=timezone.utc)
    ca = pki.make_ca(not_before=start, not_after=start + timedelta(days=1))
    assert _x509.chain_problem(pki.make_leaf(ca, "x").cert, [ca.cert]) is None


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_rsa_pss(algorithm: t.Any) -> None:
    """Only newer libraries can make such a certificate; what a 3.4 sees is covered by taking the parameters away."""
    ca = pki.make_ca(key="RSA-2048")
    pss = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
    start = datetime(2026, 1, 1)
    builder = x509.CertificateBuilder(ca.cert.subject, pki.make_name("x"), pki.new_key().public_key(), 7, start, start + timedelta(days=9))
    try:
        cert = builder.sign(ca.key, algorithm, rsa_padding=pss)
    except TypeError:
        pytest.skip("this cryptography signs without PSS")
    assert _x509.signed_by(cert, ca.cert)
    assert _x509.describe(cert).signature_algorithm == "rsassaPss"

    class Older:
        subject, issuer, signature_algorithm_oid = cert.subject, cert.issuer, cert.signature_algorithm_oid
        signature, tbs_certificate_bytes = cert.signature, cert.tbs_certificate_bytes

    assert _x509.signed_by(Older(), ca.cert)
    assert not _x509.signed_by(Older(), pki.make_ca(key="RSA-3072").cert)


def test_a_ca_with_a_key_that_kubernetes_does_not_know() -> None:
    key = dsa.generate_private_key(2048)
    ca = pki.make_ca(key=key)
    leaf = pki.make_leaf(ca, "x")
    assert "DSA" in error(_x509.signed_by, leaf.cert, ca.cert)
    assert "DSA" in str(_x509.chain_problem(leaf.cert, [ca.cert]))


# --- cost, and odd files ---


def test_a_key_that_nobody_can_use_is_not_even_tried() -> None:
    """The library would look for minutes whether its factors are prime."""
    number = (1 << 60_000) + 1
    key = der.pem(der.tlv(der.SEQUENCE, der.integer(0), *[der.integer(number)] * 8), "RSA PRIVATE KEY")
    assert "16384 bits" in error(_x509.load_private_key, key, "x.key")


@pytest.mark.parametrize("odd", ["00000101000000Z", "20261301000000Z", "20260101000060Z", "261301000000Z"])
@pytest.mark.parametrize("part", ["not_before", "not_after"])
def test_a_date_that_is_none_is_found_when_the_file_is_read(odd: str, part: str) -> None:
    """Not later, by whoever looks at the dates of the second certificate of a bundle."""
    leaf = der.leaf_of(CA, CA.key, **{part: der.time(odd)})
    assert "number 2 in x.crt cannot be read" in error(_x509.parse_certificates, CA.cert_pem + der.pem(leaf), "x.crt")


def test_a_thousand_cas_make_no_endless_sentence() -> None:
    subjects = [der.common_name("%d" % number + "x" * 1000) for number in range(50)]
    data = b"".join(der.pem(der.leaf_of(CA, CA.key, subject=subject, issuer=subject)) for subject in subjects)
    problem = _x509.chain_problem(LEAF.cert, _x509.parse_certificates(data, "x"))
    assert problem is not None
    assert "and 47 more" in problem
    assert len(problem) < 1000
