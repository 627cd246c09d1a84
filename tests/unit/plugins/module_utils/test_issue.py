# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes into an issued kubeconfig, and which one that is there will do."""

from __future__ import annotations

import dataclasses
import typing as t
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _issue
from ansible_collections.certops.kubernetes.plugins.module_utils._issue import Wanted
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import describe, not_after
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from cryptography import x509

NOW = datetime.now(timezone.utc)
CA = pki.make_ca()
WANTED = Wanted("jane", ("b", "a"), "https://h:6443", CA.cert_pem, "blue", "jane@blue", "ECDSA-P256", (CA.cert,))


def leaf(**changes: t.Any) -> pki.Pair:
    """A certificate for Jane."""
    subject = _issue.subject_of("jane", ("a", "b"))
    return pki.make_leaf(CA, "jane", **{"subject": subject, **changes})


def content(pair: pki.Pair, wanted: Wanted = WANTED) -> bytes:
    return _issue.kubeconfig_for(wanted, pair.cert, pair.key_pem, None, "config")


def test_a_subject_is_written_as_go_writes_it() -> None:
    subject = _issue.subject_of("jane", ("b", "a", "b"))
    rdns = [[attribute.value for attribute in rdn] for rdn in subject.rdns]
    assert [sorted(rdn) for rdn in rdns] == [["a", "b"], ["jane"]]
    assert [[attribute.value for attribute in rdn] for rdn in _issue.subject_of("jane", ()).rdns] == [["jane"]]


@pytest.mark.parametrize("ca_key", ["EC-256", "RSA-2048"])
def test_a_certificate_is_signed_as_kubeadm_signs(ca_key: str) -> None:
    ca, key = pki.make_ca(key=ca_key), pki.new_key()
    subject = _issue.subject_of("jane", ("developers",))
    made = _issue.sign_client(subject, key.public_key(), ca.cert, ca.key, NOW, 3600)
    like = pki.make_leaf(ca, "jane", organization="developers", key=key).cert
    assert [(e.oid, e.critical, e.value) for e in made.extensions] == [(e.oid, e.critical, e.value) for e in like.extensions]
    ours, theirs = describe(made), describe(like)
    assert (ours.subject, ours.issuer, ours.signature_algorithm) == (theirs.subject, theirs.issuer, theirs.signature_algorithm)
    assert abs(ours.not_after - NOW - timedelta(hours=1)) < timedelta(seconds=2)
    assert abs(NOW - ours.not_before - timedelta(minutes=5)) < timedelta(seconds=2)


def test_a_ca_that_cannot_sign() -> None:
    ended = pki.make_ca(not_before=NOW - timedelta(days=2), not_after=NOW - timedelta(days=1))
    with pytest.raises(CertopsError, match="cannot sign any more"):
        _issue.sign_client(_issue.subject_of("jane", ()), pki.new_key().public_key(), ended.cert, ended.key, NOW, 60)


def test_the_end_of_the_ca() -> None:
    short = pki.make_ca(not_after=NOW + timedelta(hours=10, minutes=1))
    _issue.check_end([short.cert], NOW, 10)
    _issue.check_end([short.cert, CA.cert], NOW, 11)
    with pytest.raises(CertopsError, match="in 10 hours, before a certificate of 11 hours would. Remedy: choose validity_hours of no more"):
        _issue.check_end([short.cert], NOW, 11)
    with pytest.raises(CertopsError, match="Remedy: rotate the CA"):
        _issue.check_end([short.cert], NOW + timedelta(hours=10), 1)


@pytest.mark.parametrize(
    ("pair", "because"),
    [
        (leaf(), None),
        (leaf(key="EC-384"), "its key is no ECDSA-P256"),
        (leaf(key="RSA-2048"), "its key is no ECDSA-P256"),
        (leaf(usages=("server",)), "its certificate is not for clients"),
        (leaf(not_after=NOW - timedelta(hours=1)), "its certificate ended at "),
        (leaf(not_before=NOW + timedelta(hours=1)), "its certificate is valid only from "),
        (leaf(subject=_issue.subject_of("jane", ("a",))), "its certificate is for O=a,CN=jane"),
        (leaf(subject=x509.Name([])), "its certificate is for nobody"),
        (pki.make_leaf(pki.make_ca(), "jane", subject=_issue.subject_of("jane", ("a", "b"))), "its certificate does not verify"),
    ],
)
def test_which_certificate_will_do(pair: pki.Pair, because: str | None) -> None:
    standing = _issue.judge(content(pair), "config", WANTED, NOW, None)
    assert (standing.because or "").startswith(because or "")
    assert (standing.because is None) is (because is None)
    assert (standing.keeps, standing.foreign) == (True, None)


def test_separate_rdns_are_the_same_groups() -> None:
    names = [(x509.oid.NameOID.COMMON_NAME, "jane")] + [(x509.oid.NameOID.ORGANIZATION_NAME, group) for group in "ba"]
    pair = leaf(subject=x509.Name([x509.NameAttribute(oid, value) for oid, value in names]))
    assert _issue.judge(content(pair), "config", WANTED, NOW, None).because is None


@pytest.mark.parametrize(
    ("hours_left", "renew_before", "due"), [(9, 8, False), (8, 8, True), (5, None, False), (3, None, True), (1, 0, False)]
)
def test_when_it_is_renewed(hours_left: int, renew_before: int | None, due: bool) -> None:
    end = NOW.replace(microsecond=0)
    pair = leaf(not_before=end - timedelta(hours=12), not_after=end)
    standing = _issue.judge(content(pair), "config", WANTED, end - timedelta(hours=hours_left), renew_before)
    assert (standing.because is not None) is due


def test_which_file_will_do() -> None:
    pair = leaf()
    changes: dict[str, t.Any] = {
        "server": "https://other",
        "ca_pem": pki.make_ca().cert_pem,
        "cluster": "red",
        "context": "x",
        "user": "joan",
    }
    for name, value in changes.items():
        data = content(pair, dataclasses.replace(WANTED, **{name: value}))
        standing = _issue.judge(data, "config", WANTED, NOW, None)
        assert (standing.because is not None, standing.keeps) == (True, False), name
    text = content(pair).decode()
    tokens = text.replace("  user:\n", "  user:\n    token: abc\n")
    assert "identifies itself otherwise" in str(_issue.judge(tokens.encode(), "config", WANTED, NOW, None).because)
    other = pki.Pair(pair.cert, pki.new_key())
    assert "do not belong together" in str(_issue.judge(content(other), "config", WANTED, NOW, None).because)


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"kind: Pod", b"a: [", b"clusters: []"])
def test_garbage_is_a_reason_and_no_error(data: bytes) -> None:
    standing = _issue.judge(data, "config", WANTED, NOW, None)
    assert standing.because is not None
    assert standing.certificate is None


def test_what_others_wrote_is_shown_on_one_line() -> None:
    for name, shown in (("a\n\x1b[2J", r"'a\n\x1b[2J'"), ("x" * 5000, "'" + "x" * 99)):
        data = content(leaf(), dataclasses.replace(WANTED, context=name))
        assert _issue.judge(data, "config", WANTED, NOW, None).because == "its context is " + shown


def test_a_certificate_that_cannot_be_described_is_a_reason() -> None:
    broken = leaf(extensions=[(x509.UnrecognizedExtension(x509.oid.ExtensionOID.EXTENDED_KEY_USAGE, b"\x30\x05"), False)])
    standing = _issue.judge(content(broken), "config", WANTED, NOW, None)
    assert "cannot be read" in str(standing.because)
    assert (standing.certificate, standing.foreign) == (None, None)


def test_a_key_that_is_none() -> None:
    pair = leaf()
    data = _issue.kubeconfig_for(WANTED, pair.cert, b"no key", None, "config")
    assert "private key" in str(_issue.judge(data, "config", WANTED, NOW, None).because)


@pytest.mark.parametrize("name", ["jane", "yes", "1", "null", "a: b", "#x", "jane@example.com", "Jané", "'", '"', "- a", "x" * 64])
def test_any_name_is_read_back(name: str) -> None:
    wanted = dataclasses.replace(WANTED, user=name, cluster="%s's" % name, context=name)
    config = parse_kubeconfig(content(leaf(), wanted), "config")
    assert (config.current_context, config.current_user().name, config.current_cluster().name) == (name, name, "%s's" % name)


def test_the_old_file_is_kept_but_for_certificate_and_key() -> None:
    old, new = leaf(), leaf()
    before = b"# mine\n" + content(old)
    after = _issue.kubeconfig_for(WANTED, new.cert, new.key_pem, before, "config")
    assert after.startswith(b"# mine\n")
    assert not_after(_issue.judge(after, "config", WANTED, NOW, None).certificate) == not_after(new.cert)
