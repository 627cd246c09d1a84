# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A renewal that is asked for on one node and granted on another."""

from __future__ import annotations

import typing as t
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import describe, key_matches, not_after, parse_certificates
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_renew import new_key_like
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_request import answer_problem, grant_request, make_request
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

NOW = datetime.now(timezone.utc)
YEAR = 365 * 86400
CA = pki.make_ca("etcd-ca")
OLD = pki.make_leaf(CA, "kube-apiserver-etcd-client", sans=["DNS:cp-1", "IP:192.0.2.7"], not_after=NOW + timedelta(days=3))


def grant(request: bytes, old: t.Any = OLD.cert, ca: pki.Pair = CA, validity: int = YEAR) -> t.Any:
    """The certificate that a node with this CA makes of a request."""
    return parse_certificates(grant_request(request, old, ca.cert, ca.key, NOW, validity), "it")[0]


@pytest.mark.parametrize("kind", ["EC-256", "EC-384", "RSA-2048", "Ed25519"])
def test_from_the_request_to_the_answer(kind: str) -> None:
    old = pki.make_leaf(CA, "client", organization="people", sans=["DNS:x"], usages=("server", "client"), key=kind)
    key = new_key_like(old.cert)
    new = grant(make_request(old.cert.subject, key), old.cert)
    assert key_matches(new, key)
    assert not key_matches(new, old.key)
    assert answer_problem(new, old.cert, key, [pki.make_ca("other").cert, CA.cert], NOW) is None
    is_now, was = describe(new), describe(old.cert)
    for what in ("subject", "sans", "extended_key_usages", "key_algorithm", "key_bits", "issuer"):
        assert getattr(is_now, what) == getattr(was, what)
    assert abs((not_after(new) - NOW).total_seconds() - YEAR) < 2
    assert [type(one.value) for one in new.extensions] == [type(one.value) for one in old.cert.extensions]


def test_what_has_expired_is_renewed_and_nothing_outlives_its_ca() -> None:
    ca = pki.make_ca("etcd-ca", not_before=NOW - timedelta(days=9), not_after=NOW + timedelta(days=5))
    old = pki.make_leaf(ca, "client", not_before=NOW - timedelta(days=3), not_after=NOW - timedelta(days=1))
    new = grant(make_request(old.cert.subject, old.key), old.cert, ca)
    assert not_after(new) == not_after(ca.cert)


def csr(subject: t.Any, key: t.Any, sans: t.Sequence[str] = ()) -> bytes:
    """A request as anybody may write it."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName([pki.make_san(san) for san in sans]), critical=False)
    return bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def test_a_request_gets_nothing_that_the_certificate_does_not_have() -> None:
    new = grant(csr(OLD.cert.subject, pki.new_key(), ["DNS:etcd-1", "IP:192.0.2.9"]))
    assert describe(new).sans == describe(OLD.cert).sans


def forged() -> bytes:
    """A request with somebody else's public key in it: its signature is of another one."""
    theirs, ours = csr(OLD.cert.subject, pki.new_key()), csr(OLD.cert.subject, pki.new_key())
    raw = [x509.load_pem_x509_csr(one) for one in (theirs, ours)]
    der = raw[0].public_bytes(serialization.Encoding.DER)
    points = [one.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint) for one in raw]
    return bytes(x509.load_der_x509_csr(der.replace(points[0], points[1])).public_bytes(serialization.Encoding.PEM))


REFUSED: dict[str, tuple[t.Callable[[], bytes], str]] = {
    "noise": (lambda: b"\0\xff", "cannot be read"),
    "a certificate": (lambda: OLD.cert_pem, "cannot be read"),
    "another subject": (lambda: csr(pki.make_name("root", "system:masters"), pki.new_key()), "The request is for O=system:masters,CN=root"),
    "without the key": (forged, "not signed with the key that it asks for"),
    "a short key": (lambda: csr(OLD.cert.subject, pki.new_key("RSA-1024")), "RSA key of 1024 bits only"),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_request_that_is_refused(make: t.Callable[[], bytes], reason: str) -> None:
    with pytest.raises(CertopsError, match=reason):
        grant(make())


def test_only_what_the_ca_signed_is_signed_again() -> None:
    other = pki.make_ca("etcd-ca")
    old = pki.make_leaf(other, "kube-apiserver-etcd-client")
    with pytest.raises(CertopsError, match="was not signed with the key of its CA"):
        grant(make_request(old.cert.subject, old.key), old.cert)
    with pytest.raises(CertopsError, match="is a CA"):
        grant(make_request(CA.cert.subject, CA.key), CA.cert)


def leaf(**values: t.Any) -> pki.Pair:
    """A successor of OLD, with something wrong with it."""
    given: dict[str, t.Any] = {"sans": ["DNS:cp-1", "IP:192.0.2.7"], **values}
    ca, name = given.pop("ca", CA), given.pop("cn", "kube-apiserver-etcd-client")
    return pki.make_leaf(ca, name, **given)


ANSWERS: dict[str, tuple[t.Callable[[], pki.Pair], str | None]] = {
    "as it should be": (leaf, None),
    "another CA": (lambda: leaf(ca=pki.make_ca("etcd-ca")), "not signed with the key of its CA"),
    "another name": (lambda: leaf(cn="root"), "its subject is CN=root"),
    "another address": (lambda: leaf(sans=["IP:192.0.2.8"]), "its sans is"),
    "another use": (lambda: leaf(usages=("server",)), "its extended_key_usages is"),
    "in the past": (lambda: leaf(not_before=NOW - timedelta(2), not_after=NOW - timedelta(1)), "it is not valid now"),
    "in the future": (lambda: leaf(not_before=NOW + timedelta(1)), "it is not valid now"),
}


@pytest.mark.parametrize(("make", "reason"), ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer(make: t.Callable[[], pki.Pair], reason: str | None) -> None:
    pair = make()
    problem = answer_problem(pair.cert, OLD.cert, pair.key, [CA.cert], NOW)
    assert problem == reason if reason is None else reason in str(problem)
    assert "does not belong to the key" in str(answer_problem(leaf().cert, OLD.cert, pki.new_key(), [CA.cert], NOW))
