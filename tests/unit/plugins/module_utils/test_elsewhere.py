# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A kubeconfig on a bastion is renewed: its key is made there, a request travels, and nobody gets another identity by it."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _elsewhere
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiError
from ansible_collections.certops.kubernetes.plugins.module_utils._elsewhere import (
    ask_for,
    look_for,
    look_into,
    put_into,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Journal, ReplacedFile
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._replacement import put_if_unchanged
from ansible_collections.certops.kubernetes.plugins.module_utils._tls_credentials import Identity
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import key_matches, load_private_key, parse_certificates
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_request import is_proven, prove_renewal
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.bastion import ADMIN, NOW, YEAR, Bastion
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import embedded, kubeconfig_of

JANE = 2001


@pytest.fixture(name="home")
def fixture_home() -> t.Iterator[Path]:
    """A folder on a way that others may go, too: pytest's are closed."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        home = Path(folder).resolve() / "home"
        home.mkdir()
        yield home


@pytest.fixture(name="bastion")
def fixture_bastion(home: Path, tmp_path: Path) -> Bastion:
    return Bastion(home, tmp_path)


def test_a_user_is_renewed(bastion: Bastion) -> None:
    before = bastion.path.read_bytes()
    requests = bastion.ask()
    assert bastion.path.read_bytes() == before
    travels = json.dumps([request.plain() for request in requests])
    assert "PRIVATE" not in travels
    outcome = bastion.put(bastion.sign(requests, copies_only=True))
    assert outcome.problems == []
    (done,) = outcome.renewed
    certificate, key = bastion.user()
    assert key_matches(certificate, key)
    assert not key_matches(certificate, bastion.old.key), "a new one"
    assert certificate.subject == bastion.old.cert.subject
    assert done["after"]["not_after"] > done["before"]["not_after"]
    assert (done["in_use"], done["proof"]) == ("true", "identity")
    assert [identity.server for identity in bastion.asked] == ["https://192.0.2.7:6443"]
    assert "PRIVATE" not in json.dumps(done)
    after = bastion.path.read_text()
    for credential in (*embedded(bastion.other).values(), '"token": "abc"', '"name": "green"'):
        assert credential in after
    assert (bastion.path.stat().st_mode & 0o777, os.listdir(bastion.path.parent)) == (0o640, ["config"])
    backup = Path(bastion.state.folder("run-1")) / "backup" / str(bastion.path).lstrip("/")
    assert (backup.read_bytes(), backup.stat().st_mode & 0o777) == (before, 0o600)
    assert not (Path(bastion.state.path) / "pending").exists()


def test_two_users_of_one_file(bastion: Bastion) -> None:
    names = [bastion.name, "%s#joe#2" % bastion.path]
    assert [one["name"] for one in bastion.put(bastion.sign(bastion.ask(*names))).renewed] == names
    for user in ("admin", "joe#2"):
        assert key_matches(*bastion.user(user))
        assert bastion.user(user)[0] not in (bastion.old.cert, bastion.other.cert)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away and act as somebody else")
def test_in_somebody_s_home(bastion: Bastion) -> None:
    for path in (bastion.path.parent, bastion.path):
        os.chown(path, JANE, JANE)
    bastion.put(bastion.sign(bastion.ask()))
    found = bastion.path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (JANE, JANE, 0o640)
    assert key_matches(*bastion.user())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away and act as somebody else")
def test_a_link_to_what_is_root_s(bastion: Bastion) -> None:
    """Laid after the request was made."""
    for path in (bastion.path.parent, bastion.path):
        os.chown(path, JANE, JANE)
    signed = bastion.sign(bastion.ask())
    victim = bastion.path.parent.parent / "victim"
    bastion.path.rename(victim)
    os.chown(victim, 0, 0)
    victim.chmod(0o600)
    before = victim.read_bytes()
    bastion.path.symlink_to(victim)
    outcome = bastion.put(signed)
    assert "is a symbolic link" in outcome.problems[0]
    assert outcome.renewed == []
    assert victim.read_bytes() == before


def test_nobody_gets_another_identity(bastion: Bastion) -> None:
    (request,) = bastion.ask()
    for forged in (
        dataclasses.replace(request, certificate=pki.make_leaf(pki.make_ca("kubernetes"), ADMIN).cert_pem),
        dataclasses.replace(request, certificate=bastion.other.cert_pem),
    ):
        with pytest.raises(CertopsError):
            bastion.sign([forged])


def test_a_host_that_is_not_believed(bastion: Bastion) -> None:
    """It proves that it has the key of the very certificate, and that is of an identity that a kubeconfig of the signing node has."""
    (request, of_joe) = bastion.ask(bastion.name, "%s#joe#2" % bastion.path)
    shown = pki.make_leaf(bastion.cluster.authorities["ca"], ADMIN)
    other_proof = prove_renewal(request.request, shown.key_pem)
    for forged in (
        dataclasses.replace(request, proof=None),
        dataclasses.replace(request, proof=other_proof),
        dataclasses.replace(request, proof=of_joe.proof),
        dataclasses.replace(request, proof=b"no base64"),
        dataclasses.replace(request, certificate=shown.cert_pem),
    ):
        with pytest.raises(CertopsError, match="was not signed with the key of the certificate"):
            bastion.sign([forged], copies_only=True)
    with pytest.raises(CertopsError, match="whom no kubeconfig of this node is for .*admin.conf.*issue_kubeconfig"):
        bastion.sign([of_joe], copies_only=True)
    assert list(bastion.sign([request], copies_only=True)) == [bastion.name]


@pytest.mark.parametrize("kind", ["RSA-2048", "EC-256", "Ed25519"])
def test_keys_of_each_kind_prove(kind: str) -> None:
    leaf = pki.make_leaf(pki.make_ca("kubernetes"), "me", key=kind)
    proof = prove_renewal(b"request", leaf.key_pem)
    assert is_proven(leaf.cert, b"request", proof)
    assert not is_proven(leaf.cert, b"another", proof)


def test_an_answer_that_was_not_asked_for(bastion: Bastion) -> None:
    """Of another CA, of another key, of another user: nothing is changed."""
    before = bastion.path.read_bytes()
    for answer in (
        pki.make_leaf(pki.make_ca("kubernetes"), ADMIN),
        pki.make_leaf(bastion.cluster.authorities["ca"], ADMIN),
    ):
        for attempt in (lambda signed: look_into(bastion.state, bastion.run, signed), bastion.put):
            bastion.ask()
            (problem,) = attempt({bastion.name: answer.cert_pem}).problems
            assert "is not taken" in problem
    (problem,) = bastion.put({"%s#joe#2" % bastion.path: bastion.other.cert_pem}).problems
    assert "No key waits" in problem
    assert bastion.path.read_bytes() == before


@pytest.mark.parametrize(
    ("user", "sentence"), [("nobody", "is no user"), ("robot", "no certificate and key, both"), ("", "is no user"), ("#", "is no user")]
)
def test_who_cannot_be_renewed(bastion: Bastion, user: str, sentence: str) -> None:
    name = "%s#%s" % (bastion.path, user)
    for outcome in (look_for([name, bastion.name], YEAR, NOW), ask_for(bastion.state, bastion.run, [name, bastion.name], YEAR)):
        (problem,) = outcome.problems
        assert sentence in problem
        assert "Remedy" in problem
        assert len(outcome.renewed + outcome.requests) == 1, "others are"
    assert len(look_for(["no name", "/nothing#x"], YEAR, NOW).problems) == 2


def test_without_a_ca_nothing_is_asked_for(bastion: Bastion) -> None:
    bastion.path.write_bytes(kubeconfig_of({"admin": embedded(bastion.old)}, "admin"))
    (problem,) = look_for([bastion.name], YEAR, NOW).problems
    assert "does not hold its cluster's CA" in problem


def test_looking_changes_nothing(bastion: Bastion) -> None:
    (found,) = look_for([bastion.name], YEAR, NOW).renewed
    assert (found["name"], found["after"]["serial"], found["after"]["not_after"]) == (bastion.name, None, iso(NOW + timedelta(days=365)))
    assert look_into(bastion.state, bastion.run, {bastion.name: bastion.old.cert_pem}).problems
    assert not bastion.state.exists()
    signed = bastion.sign(bastion.ask())
    before = bastion.path.read_bytes()
    (found,) = look_into(bastion.state, bastion.run, signed).renewed
    assert found["after"]["serial"] != found["before"]["serial"]
    assert bastion.path.read_bytes() == before
    assert len(bastion.put(signed).renewed) == 1, "the key still waits"


def test_who_does_not_hold_the_key_gets_no_other(bastion: Bastion) -> None:
    """Certificates are public: that of the API server, for example, is shown to anybody who connects."""
    shown = pki.make_leaf(bastion.cluster.authorities["ca"], "kube-apiserver", not_after=NOW + timedelta(days=3))
    document = json.loads(bastion.path.read_text())
    document["users"][0]["user"] = {**embedded(bastion.other), "client-certificate-data": embedded(shown)["client-certificate-data"]}
    bastion.path.write_text(json.dumps(document))
    for outcome in (look_for([bastion.name], YEAR, NOW), ask_for(bastion.state, bastion.run, [bastion.name], YEAR)):
        assert "does not hold the private key" in outcome.problems[0]
        assert outcome.requests + outcome.renewed == []


def test_who_is_refused_keeps_what_he_had(bastion: Bastion) -> None:
    """The others are renewed; that an API server cannot be asked holds nobody up."""
    names = [bastion.name, "%s#joe#2" % bastion.path]
    signed = bastion.sign(bastion.ask(*names))
    bastion.answers = {ADMIN: ApiError("Unauthorized", status=401), "joe": ApiError("no route to host")}
    outcome = bastion.put(signed)
    (problem,) = outcome.problems
    assert "does not take the certificate that was signed for it" in problem
    (done,) = outcome.renewed
    assert (done["name"], done["in_use"], done["proof"]) == (names[1], "unknown", "none")
    assert "no route to host" in done["message"]
    assert bastion.user("admin")[0] == bastion.old.cert
    assert bastion.user("joe#2")[0] != bastion.other.cert
    bastion.answers = {ADMIN: "system:anonymous"}
    (problem,) = bastion.put(bastion.sign(bastion.ask())).problems
    assert "sees 'system:anonymous'" in problem
    assert bastion.user("admin")[0] == bastion.old.cert


def test_what_is_changed_meanwhile_is_left_so(bastion: Bastion) -> None:
    """While the API server was asked, for example."""
    signed = bastion.sign(bastion.ask())

    def api(_identity: Identity) -> str:
        bastion.path.write_bytes(bastion.path.read_bytes() + b"\n")
        return ADMIN

    before = bastion.path.read_bytes()
    outcome = put_into(bastion.state, bastion.run, signed, api)
    assert "was changed by somebody else while" in outcome.problems[0]
    assert bastion.path.read_bytes() == before + b"\n"
    assert bastion.state.unfinished_run_id() is None


def test_files_that_a_kubeconfig_names(bastion: Bastion) -> None:
    """They are replaced, the kubeconfig itself is not; two users who name them are renewed once."""
    folder = bastion.path.parent
    bastion.name_files()
    named = {"client-certificate": "me.crt", "client-key": "%s/me.key" % folder}
    document = json.loads(bastion.path.read_text())
    document["users"] = [{"name": name, "user": named} for name in ("admin", "again")]
    document["contexts"].append({"name": "e", "context": {"cluster": "green", "user": "again"}})
    bastion.path.write_text(json.dumps(document))
    before = bastion.path.read_bytes()
    requests = bastion.ask(bastion.name, "%s#again" % bastion.path)
    assert [request.name for request in requests] == [bastion.name]
    outcome = bastion.put(bastion.sign(requests))
    assert outcome.problems == []
    certificate = parse_certificates((folder / "me.crt").read_bytes(), "x")[0]
    assert key_matches(certificate, load_private_key((folder / "me.key").read_bytes(), "x"))
    assert certificate != bastion.old.cert
    assert bastion.path.read_bytes() == before
    assert [Path(file.path).name for file in bastion.journal().files] == ["me.key", "me.crt"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away and act as somebody else")
def test_files_of_others_are_not_replaced(bastion: Bastion, tmp_path: Path) -> None:
    """Whoever owns the kubeconfig could name any file of root's."""
    bastion.name_files()
    for path in (bastion.path.parent, *bastion.path.parent.iterdir()):
        os.chown(path, JANE, JANE)
    signed = bastion.sign(bastion.ask())
    for name in ("me.crt", "me.key"):
        (bastion.path.parent / name).rename(tmp_path / name)
        (bastion.path.parent / name).symlink_to(tmp_path / name)
    assert bastion.put(signed).problems
    assert (tmp_path / "me.key").read_bytes() == bastion.old.key_pem


def test_one_file_that_cannot_be_written(bastion: Bastion, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done before it is kept, and in the journal."""
    second = home / "second"
    second.write_bytes(bastion.path.read_bytes())
    names = [bastion.name, "%s#admin" % second]
    signed = bastion.sign(bastion.ask(*names))
    write = put_if_unchanged

    def full(file: ReplacedFile, data: bytes) -> None:
        if file.path == str(second):
            raise CertopsError("No space left on device.")
        assert bastion.journal().state == "applying", "before a file is replaced it is known which"
        write(file, data)

    monkeypatch.setattr(_elsewhere, "put_if_unchanged", full)
    outcome = bastion.put(signed)
    (problem,) = outcome.problems
    assert problem == "%s was left as it is. No space left on device." % second
    assert [one["name"] for one in outcome.renewed] == [bastion.name]
    journal = bastion.journal()
    assert (journal.state, [file.path for file in journal.files], journal.names) == ("committed", [str(bastion.path)], (bastion.name,))


@pytest.mark.parametrize("written", [True, False])
def test_a_run_that_was_killed(bastion: Bastion, home: Path, monkeypatch: pytest.MonkeyPatch, written: bool) -> None:
    """The next one says so; what is half is put back, so that certificate and key belong together."""
    bastion.name_files()
    signed = bastion.sign(bastion.ask())
    write = put_if_unchanged

    def killed(file: ReplacedFile, data: bytes) -> None:
        if not written and file.path.endswith(".crt"):
            raise KeyboardInterrupt
        write(file, data)
        if file.path.endswith(".crt"):
            raise KeyboardInterrupt

    monkeypatch.setattr(_elsewhere, "put_if_unchanged", killed)
    with pytest.raises(KeyboardInterrupt):
        bastion.put(signed)
    monkeypatch.undo()
    assert bastion.state.unfinished_run_id() == "run-1"
    outcome = ask_for(bastion.state, dataclasses.replace(bastion.run, run_id="run-2"), [], YEAR)
    (recovered,) = outcome.recovered
    assert (recovered["run_id"], recovered["found"]) == ("run-1", "applying")
    assert bastion.journal().state == ("committed" if written else "rolled_back")
    assert ((home / "me.key").read_bytes() == bastion.old.key_pem) == (not written)
    assert bastion.state.unfinished_run_id() is None


def test_a_rotation_that_was_stopped_is_not_ended_here(bastion: Bastion) -> None:
    """There may be more to it than files."""
    bastion.state.save(Journal(run_id="run-0", host="x", started_at=iso(NOW), state="proving", restart="auto"))
    with pytest.raises(CertopsError, match="Run run-0 was stopped half-way on this host.*rotate on it as a node"):
        bastion.ask()
