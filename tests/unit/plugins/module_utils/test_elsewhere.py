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
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._elsewhere import Run, ask_for, look_for, put_into
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import StateFolder
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._requests import sign_requests
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import key_matches, load_private_key, parse_certificates
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import FakeNode
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import embedded, kubeconfig_of

NOW = datetime.now(timezone.utc)
JANE = 2001
YEAR = 365 * 86400


class Bastion:
    """A host with a kubeconfig of the cluster, and the control-plane node that has the CA's key."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.cluster = FakeNode(folder / "cluster")
        self.state = StateFolder(str(folder / "certops"))
        self.run = Run("run-1", "bastion", os.getpid(), NOW)
        self.old = pki.make_leaf(self.cluster.authorities["ca"], "kubernetes-admin", not_after=NOW + timedelta(days=3))
        self.other = pki.make_leaf(self.cluster.authorities["ca"], "joe", not_after=NOW + timedelta(days=3))
        users: dict[str, t.Any] = {"admin": embedded(self.old), "joe#2": embedded(self.other), "robot": {"token": "abc"}}
        document = json.loads(kubeconfig_of(users, "admin"))
        document["clusters"][0]["cluster"]["certificate-authority-data"] = embedded(self.cluster.authorities["ca"])[
            "client-certificate-data"
        ]
        document["contexts"].append({"name": "d", "context": {"cluster": "green", "user": "joe#2"}})
        self.path = root / "config"
        self.path.write_text(json.dumps(document, indent=1) + "\n")
        self.path.chmod(0o640)
        self.name = "%s#admin" % self.path

    def ask(self, *names: str) -> list[t.Any]:
        return ask_for(self.state, self.run, names or [self.name], YEAR)

    def sign(self, requests: t.Sequence[t.Any]) -> dict[str, bytes]:
        return sign_requests(self.cluster.discover(), requests, NOW)

    def put(self, signed: t.Mapping[str, bytes]) -> list[dict[str, t.Any]]:
        return put_into(self.state, self.run, signed)

    def user(self, name: str = "admin") -> tuple[t.Any, t.Any]:
        user = parse_kubeconfig(self.path.read_bytes(), "x").users[name]
        return parse_certificates(user.client_certificate_data or b"", "x")[0], load_private_key(user.client_key_data or b"", "x")


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
    (done,) = bastion.put(bastion.sign(requests))
    certificate, key = bastion.user()
    assert key_matches(certificate, key)
    assert not key_matches(certificate, bastion.old.key), "a new one"
    assert certificate.subject == bastion.old.cert.subject
    assert done["after"]["not_after"] > done["before"]["not_after"]
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
    assert [one["name"] for one in bastion.put(bastion.sign(bastion.ask(*names)))] == names
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
    with pytest.raises(CertopsError, match="is a symbolic link"):
        bastion.put(signed)
    assert victim.read_bytes() == before


def test_nobody_gets_another_identity(bastion: Bastion) -> None:
    (request,) = bastion.ask()
    for forged in (
        dataclasses.replace(request, certificate=pki.make_leaf(pki.make_ca("kubernetes"), "kubernetes-admin").cert_pem),
        dataclasses.replace(request, certificate=bastion.other.cert_pem),
    ):
        with pytest.raises(CertopsError):
            bastion.sign([forged])


def test_an_answer_that_was_not_asked_for(bastion: Bastion) -> None:
    """Of another CA, of another key, of another user: nothing is changed."""
    bastion.ask()
    before = bastion.path.read_bytes()
    for answer in (
        pki.make_leaf(pki.make_ca("kubernetes"), "kubernetes-admin"),
        pki.make_leaf(bastion.cluster.authorities["ca"], "kubernetes-admin"),
    ):
        with pytest.raises(CertopsError, match="is not taken"):
            bastion.put({bastion.name: answer.cert_pem})
    with pytest.raises(CertopsError, match="No key waits"):
        bastion.put({"%s#joe#2" % bastion.path: bastion.other.cert_pem})
    assert bastion.path.read_bytes() == before


@pytest.mark.parametrize(
    ("user", "sentence"), [("nobody", "is no user"), ("robot", "no certificate and key embedded"), ("", "is no user"), ("#", "is no user")]
)
def test_who_cannot_be_renewed(bastion: Bastion, user: str, sentence: str) -> None:
    name = "%s#%s" % (bastion.path, user)
    for attempt in (look_for, lambda names: bastion.ask(*names)):
        with pytest.raises(CertopsError, match=sentence) as refused:
            attempt([name])
        assert "Remedy" in str(refused.value)
    with pytest.raises(CertopsError):
        look_for(["no name", "/nothing#x"])


def test_without_a_ca_nothing_is_asked_for(bastion: Bastion) -> None:
    bastion.path.write_bytes(kubeconfig_of({"admin": embedded(bastion.old)}, "admin"))
    with pytest.raises(CertopsError, match="does not hold its cluster's CA"):
        bastion.ask()


def test_looking_changes_nothing(bastion: Bastion) -> None:
    (found,) = look_for([bastion.name])
    assert found["name"] == bastion.name
    assert not bastion.state.exists()


def test_who_does_not_hold_the_key_gets_no_other(bastion: Bastion) -> None:
    """Certificates are public: that of the API server, for example, is shown to anybody who connects."""
    shown = pki.make_leaf(bastion.cluster.authorities["ca"], "kube-apiserver", not_after=NOW + timedelta(days=3))
    document = json.loads(bastion.path.read_text())
    document["users"][0]["user"] = {**embedded(bastion.other), "client-certificate-data": embedded(shown)["client-certificate-data"]}
    bastion.path.write_text(json.dumps(document))
    for attempt in (look_for, lambda names: bastion.ask(*names)):
        with pytest.raises(CertopsError, match="does not hold the private key"):
            attempt([bastion.name])
