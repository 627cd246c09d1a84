# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies of kubeconfigs in homes become valid with their original, and their owner cannot make root read or write anything else by them."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import stat
import tempfile
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _copies, _rotation
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import sha256
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._places import place_of, read_place, replace_in_place
from ansible_collections.certops.kubernetes.plugins.module_utils._result import RotationFailed
from ansible_collections.certops.kubernetes.plugins.module_utils._rollback import RollbackRequest, roll_back
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import Request, predict, rotate
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_request import proves_key
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import LIMITS, SCHEDULER, FakeNode, run
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import kubeconfig_of
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away and act as somebody else")

JANE, JANES_GROUP = 2001, 2002


@pytest.fixture(name="node")
def fixture_node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path / "node")


@pytest.fixture(name="home")
def fixture_home() -> t.Iterator[Path]:
    """Jane's home, on a way that others may go, too: pytest's folders are closed."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        home = Path(folder).resolve() / "jane"
        (home / ".kube").mkdir(parents=True)
        give(home, home / ".kube")
        yield home


def give(*paths: Path) -> None:
    for path in paths:
        os.chown(path, JANE, JANES_GROUP)


def copy(node: FakeNode, home: Path) -> Path:
    """What she once was given."""
    path = home / ".kube" / "config"
    path.write_bytes(node.path("admin.conf").read_bytes() + b"# mine\n")
    path.chmod(0o640)
    give(path)
    return path


def attributes(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def back(node: FakeNode) -> dict[str, t.Any]:
    return roll_back(node.access(), node.state, RollbackRequest("run", "back", health_seconds=1.0), LIMITS)


def test_a_copy_is_valid_again_and_hers(node: FakeNode, home: Path) -> None:
    path = copy(node, home)
    before = path.read_bytes()
    result = run(node, "admin.conf", copies=(str(home.parent / "*" / ".kube" / "config"),))
    assert (result["copies"], result["warnings"]) == ([str(path)], [])
    assert path.read_bytes() == node.path("admin.conf").read_bytes() + b"# mine\n" != before
    assert attributes(path) == (JANE, JANES_GROUP, 0o640)
    assert os.listdir(path.parent) == ["config"]
    assert back(node)["changed"]
    assert path.read_bytes() == before
    assert attributes(path) == (JANE, JANES_GROUP, 0o640)


def test_a_file_with_root_s_group_keeps_it(node: FakeNode, home: Path) -> None:
    path = copy(node, home)
    os.chown(path, JANE, 0)
    assert run(node, "admin.conf", copies=(str(path),))["copies"] == [str(path)]
    assert attributes(path) == (JANE, 0, 0o640)


def test_it_is_written_with_her_rights(node: FakeNode, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy(node, home)
    place = place_of(str(path))
    assert place.by == JANE
    real = os.replace

    def replace(source: str, target: str) -> None:
        (home / "who").write_text("%d %d %s" % (os.geteuid(), os.getegid(), os.getgroups()))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    replace_in_place(place, b"new", sha256(path.read_bytes()))
    assert (home / "who").read_text().split()[:2] == [str(JANE), str(JANES_GROUP)]
    assert "0" not in (home / "who").read_text().split("[")[1].strip("]").split(", ")
    assert path.read_bytes() == b"new"


def test_a_stale_copy_is_made_valid_although_nothing_is_due(node: FakeNode, home: Path) -> None:
    path = copy(node, home)
    run(node, "admin.conf")
    request = Request("refresh", (), copies=(str(path),), health_seconds=1.0)
    assert predict(node.access(), node.state, request)["copies"] == [str(path)]
    result = rotate(node.access(), node.state, request, LIMITS)
    assert (result["changed"], result["copies"], result["state"]) == (True, [str(path)], "committed")
    assert path.read_bytes() == node.path("admin.conf").read_bytes() + b"# mine\n"
    again = rotate(node.access(), node.state, request, LIMITS)
    assert not again["changed"]
    newest = node.state.newest_rotation()
    assert newest is not None
    assert newest.run_id == "run", "a rollback means the rotation"


def test_she_cannot_keep_the_node_from_its_renewal(node: FakeNode, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor from its way back: her file has gone, or is a link, or another one, just when it is written."""
    path = copy(node, home)
    victim = home.parent / "victim"
    victim.write_bytes(b"root's")
    victim.chmod(0o600)
    node.stubborn.add(SCHEDULER)
    real = node.restart

    def restart(*given: t.Any) -> t.Any:
        if not path.is_symlink():
            path.unlink()
            path.symlink_to(victim)
        return real(*given)

    monkeypatch.setattr(node, "restart", restart)
    before = node.path("admin.conf").read_bytes()
    with pytest.raises(RotationFailed) as failed:
        run(node, "admin.conf", "scheduler.conf", copies=(str(path),))
    assert failed.value.result["rolled_back"]
    assert any("%s was left as it is" % path in warning for warning in failed.value.result["warnings"])
    assert node.path("admin.conf").read_bytes() == before
    assert victim.read_bytes() == b"root's"


def test_what_she_writes_meanwhile_stays(node: FakeNode, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy(node, home)
    real = _rotation.refuse_unhealthy

    def edit(*given: t.Any) -> None:
        path.write_bytes(path.read_bytes() + b"# a context of hers\n")
        real(*given)

    monkeypatch.setattr(_rotation, "refuse_unhealthy", edit)
    mine = path.read_bytes() + b"# a context of hers\n"
    result = run(node, "admin.conf", copies=(str(path),))
    assert (result["copies"], path.read_bytes()) == ([], mine)
    assert any("%s was left as it is. %s was changed" % (path, path) in warning for warning in result["warnings"])


ATTACKS = ("file", "folder", "home", "temporary")


def attack(home: Path, secrets: Path, how: str) -> None:
    """What her process does until it is killed: links to what is root's in each place, back and forth, as fast as it can."""
    kube = home / ".kube"
    spare = home / "spare"
    while True:
        with contextlib.suppress(OSError):
            if how == "file":
                os.symlink(secrets / "config", kube / "link")
                os.rename(kube / "config", kube / "kept")
                os.rename(kube / "link", kube / "config")
                os.rename(kube / "kept", kube / "config")
            elif how == "folder":
                os.rename(kube, spare)
                os.symlink(secrets, kube)
                os.unlink(kube)
                os.rename(spare, kube)
            elif how == "temporary":
                os.symlink(secrets / "config", kube / ".config.certops-new")
            else:
                os.rename(kube, spare)
                os.mkdir(kube)
                os.symlink(secrets / "config", kube / "config")
                os.unlink(kube / "config")
                os.rmdir(kube)
                os.rename(spare, kube)
        with contextlib.suppress(OSError):
            os.unlink(kube / "link")


@contextlib.contextmanager
def attacker(home: Path, secrets: Path, how: str) -> t.Iterator[None]:
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(JANES_GROUP)
        os.setuid(JANE)
        with contextlib.suppress(BaseException):
            attack(home, secrets, how)
        os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("how", ATTACKS)
def test_an_attack(node: FakeNode, home: Path, how: str) -> None:
    """Nothing of root's is read, changed or given away, however often it is tried; and nothing is there that others may read."""
    path = copy(node, home)
    secrets = home.parent / "secrets"
    secrets.mkdir(mode=0o700)
    victim = secrets / "config"
    victim.write_bytes(node.path("admin.conf").read_bytes().replace(b"# written", b"# root's secret"))
    victim.chmod(0o600)
    before = (victim.read_bytes(), attributes(victim), victim.stat().st_ino, sorted(os.listdir(secrets)), attributes(secrets))
    written = refused = 0
    with attacker(home, secrets, how):
        end = time.monotonic() + 2.0
        while time.monotonic() < end or written + refused < 4:  # machines may be slow
            try:
                place = place_of(str(path))
                seen = read_place(place)
                assert b"root's secret" not in seen.data
                assert (seen.attributes.uid, seen.attributes.mode) == (JANE, 0o640)
                replace_in_place(place, b"written %d\n" % written, sha256(seen.data))
                written += 1
            except CertopsError as error:
                assert "secret" not in str(error).replace(str(secrets), "")
                refused += 1
    assert before == (victim.read_bytes(), attributes(victim), victim.stat().st_ino, sorted(os.listdir(secrets)), attributes(secrets))
    for folder, _folders, files in os.walk(home):
        for name in files:
            found = os.lstat(os.path.join(folder, name))
            assert found.st_uid == JANE
            assert stat.S_ISLNK(found.st_mode) or not found.st_mode & 0o007


def test_an_attack_during_whole_runs(node: FakeNode, home: Path) -> None:
    """Renewal and rollback end well, whatever she does."""
    path = copy(node, home)
    secrets = home.parent / "secrets"
    secrets.mkdir(mode=0o700)
    (secrets / "config").write_bytes(node.path("admin.conf").read_bytes())
    before = (secrets / "config").read_bytes()
    with attacker(home, secrets, "folder"):
        for _attempt in range(3):
            assert run(node, "admin.conf", copies=(str(path),))["state"] == "committed"
        assert back(node)["changed"]
    assert (secrets / "config").read_bytes() == before
    assert os.listdir(secrets) == ["config"]


def test_many_users_in_a_file_that_takes_long(node: FakeNode, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = parse_kubeconfig(node.path("admin.conf").read_bytes(), "admin.conf").current_user()
    (home / ".kube" / "a.crt").write_bytes(user.client_certificate_data or b"")
    users = {"u%d" % number: {"client-certificate": "a.crt", "client-key": "a.crt"} for number in range(300)}
    path = home / ".kube" / "config"
    path.write_bytes(kubeconfig_of(users, "u1"))
    give(path, home / ".kube" / "a.crt")
    monkeypatch.setattr(_copies, "_LONGEST_SECONDS", 0.2)
    began = time.monotonic()
    result = run(node, "admin.conf", copies=(str(path),))
    assert time.monotonic() - began < 15
    assert any("%s was left as it is. It took too long" % path in warning for warning in result["warnings"])


def test_large_copies_do_not_take_the_node_s_room(node: FakeNode, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = copy(node, home), home / ".kube" / "more"
    second.write_bytes(first.read_bytes())
    give(second)
    monkeypatch.setattr(_copies, "_MOST_BYTES", 100, raising=False)
    result = run(node, "admin.conf", copies=(str(first), str(second)))
    assert result["copies"] == [str(first)]
    assert any("%s was left as it is" % second in warning for warning in result["warnings"])


def test_root_s_links_on_the_way_are_followed_hers_are_not(home: Path) -> None:
    alias = home.parent / "homes"
    alias.symlink_to(home.parent)
    assert place_of(str(alias / "jane" / ".kube" / "config")) == place_of(str(home / ".kube" / "config"))
    hers = home.parent / "hers"
    hers.symlink_to("/etc")
    os.chown(hers, JANE, JANE, follow_symlinks=False)
    assert "somebody else laid" in str(place_of(str(hers / "passwd")).problem)


def test_base64_is_not_shown(node: FakeNode, home: Path) -> None:
    """No message and no journal has anything of the key in it."""
    path = copy(node, home)
    result = run(node, "admin.conf", copies=(str(path),))
    key = parse_kubeconfig(path.read_bytes(), "x").current_user().client_key_data
    assert key
    assert base64.b64encode(key).decode()[40:80] not in repr(result) + (Path(node.state.folder("run")) / "journal.json").read_text()


def forged(node: FakeNode, key: bytes) -> bytes:
    """What anybody can write: the public certificate of admin.conf, and a key that is not its own."""
    user = parse_kubeconfig(node.path("admin.conf").read_bytes(), "admin.conf").current_user()
    encoded = {"client-certificate-data": user.client_certificate_data or b"", "client-key-data": key}
    return kubeconfig_of({"me": {name: base64.b64encode(data).decode() for name, data in encoded.items()}}, "me")


def test_who_never_had_the_key_gets_none(node: FakeNode, home: Path) -> None:
    """In a home; in a file of hers in a folder of root's; and by files that her kubeconfig names."""
    junk = pki.make_leaf(pki.make_ca("kubernetes"), "x")
    path = home / ".kube" / "config"
    path.write_bytes(forged(node, junk.key_pem))
    given = home.parent / "config"
    given.write_bytes(forged(node, junk.key_pem))
    given.chmod(0o600)
    named = home / ".kube" / "named"
    named.write_bytes(kubeconfig_of({"me": {"client-certificate": "a.crt", "client-key": "a.key"}}, "me"))
    user = parse_kubeconfig(path.read_bytes(), "x").current_user()
    (home / ".kube" / "a.crt").write_bytes(user.client_certificate_data or b"")
    (home / ".kube" / "a.key").write_bytes(junk.key_pem)
    files = (path, given, named, home / ".kube" / "a.crt", home / ".kube" / "a.key")
    give(*files)
    before = [file.read_bytes() for file in files]
    result = run(node, "admin.conf", copies=(str(path), str(given), str(named)))
    assert [file.read_bytes() for file in files] == before
    assert result["copies"] == []
    assert sum("does not hold the private key" in warning for warning in result["warnings"]) == 3


def test_a_key_that_only_says_so_proves_nothing(node: FakeNode) -> None:
    """An elliptic curve's private key has its public one beside it, which libraries take as it is."""
    real, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    leaf = pki.make_leaf(node.authorities["ca"], "kubernetes-admin", key=real).cert
    claimed, own = (one.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) for one in (real, other))
    der = other.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()).replace(own, claimed)
    pem = b"-----BEGIN PRIVATE KEY-----\n" + base64.encodebytes(der) + b"-----END PRIVATE KEY-----\n"
    assert not proves_key(leaf, pem)
    assert proves_key(leaf, real.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert not proves_key(leaf, b"")
