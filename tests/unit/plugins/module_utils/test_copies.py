# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of plugins/module_utils/_copies.py: copies of kubeconfigs become valid with their original."""

from __future__ import annotations

import base64
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _copied_user, _copies, _rotation, _users_files
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._result import RotationFailed
from ansible_collections.certops.kubernetes.plugins.module_utils._rollback import RollbackRequest, roll_back
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import Request, predict
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import LIMITS, SCHEDULER, FakeNode, run
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import embedded, kubeconfig_of


@pytest.fixture(name="node")
def fixture_node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path / "node")


@pytest.fixture(name="home")
def fixture_home(tmp_path: Path) -> Path:
    """Root's own .kube."""
    folder = tmp_path / "root" / ".kube"
    folder.mkdir(parents=True)
    return folder


def copy(node: FakeNode, path: Path, mode: int = 0o640) -> Path:
    """What `cp admin.conf` makes, and somebody's own mode."""
    path.write_bytes(node.path("admin.conf").read_bytes())
    path.chmod(mode)
    return path


def back(node: FakeNode) -> dict[str, t.Any]:
    return roll_back(node.access(), node.state, RollbackRequest("run", "back", health_seconds=1.0), LIMITS)


def b64(data: bytes | None) -> str:
    assert data
    return base64.b64encode(data).decode()


def certificate(path: Path, user: str | None = None) -> bytes | None:
    parsed = parse_kubeconfig(path.read_bytes(), str(path))
    return (parsed.users[user] if user else parsed.current_user()).client_certificate_data


def test_a_copy_is_the_original_again(node: FakeNode, home: Path) -> None:
    """Byte for byte, for it was; its mode stays; and so it is after a rollback."""
    path, before = copy(node, home / "config"), node.path("admin.conf").read_bytes()
    result = run(node, "admin.conf", copies=(str(home / "*"),))
    assert result["copies"] == [str(path)]
    assert path.read_bytes() == node.path("admin.conf").read_bytes() != before
    assert path.stat().st_mode & 0o777 == 0o640
    back(node)
    assert path.read_bytes() == node.path("admin.conf").read_bytes() == before


def test_a_copy_from_an_earlier_year_is_one_too(node: FakeNode, home: Path) -> None:
    path = copy(node, home / "config")
    run(node, "admin.conf")
    assert path.read_bytes() != node.path("admin.conf").read_bytes()
    run(node, "admin.conf", copies=(str(path),))
    assert path.read_bytes() == node.path("admin.conf").read_bytes()


def test_what_else_is_in_the_file_stays(node: FakeNode, home: Path) -> None:
    """Another user of this cluster, the same name of another cluster, a token: nobody but the copy is touched."""
    user = parse_kubeconfig(node.path("admin.conf").read_bytes(), "admin.conf").current_user()
    other_ca = pki.make_ca("kubernetes")
    users = {
        "ours": {"client-certificate-data": b64(user.client_certificate_data), "client-key-data": b64(user.client_key_data)},
        "namesake": embedded(pki.make_leaf(other_ca, "admin.conf")),
        "robot": {"token": "abc"},
    }
    path = home / "merged"
    path.write_bytes(kubeconfig_of(users, "robot"))
    kept = {name: certificate(path, name) for name in ("namesake", "robot")}
    assert run(node, "admin.conf", copies=(str(path),))["copies"] == [str(path)]
    assert certificate(path, "ours") == certificate(node.path("admin.conf"))
    assert {name: certificate(path, name) for name in kept} == kept
    assert b'"token": "abc"' in path.read_bytes()


def test_check_mode_names_the_copy_and_writes_nothing(node: FakeNode, home: Path) -> None:
    path = copy(node, home / "config")
    before = path.read_bytes()
    request = Request("run", node.wanted("admin.conf"), copies=(str(path),))
    assert predict(node.access(), node.state, request)["copies"] == [str(path)]
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"kind: Config", b"users: 5", b"\xff\xfe", b"a: &a [*a]", b"{" * 3000])
def test_garbage_keeps_no_run_from_its_work(node: FakeNode, home: Path, content: bytes) -> None:
    (home / "config").write_bytes(content)
    result = run(node, "admin.conf", copies=(str(home / "config"), str(home / "nothing"), str(home)))
    assert result["state"] == "committed"
    assert result["copies"] == []
    assert (home / "config").read_bytes() == content


def test_nobody_makes_root_write_elsewhere(node: FakeNode, home: Path, tmp_path: Path) -> None:
    """Through a link in the file's place, or in a folder where others may put one."""
    victim = copy(node, tmp_path / "victim")
    before = victim.read_bytes()
    (home / "config").symlink_to(victim)
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    shared = copy(node, open_folder / "config")
    result = run(node, "admin.conf", copies=(str(home / "config"), str(shared)))
    assert result["copies"] == []
    assert (victim.read_bytes(), shared.read_bytes()) == (before, before)
    assert any("is a symbolic link" in warning for warning in result["warnings"])
    assert any("others may write to %s" % open_folder in warning for warning in result["warnings"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_file_of_root_s_in_a_folder_of_somebody_else_is_left_alone(node: FakeNode, home: Path) -> None:
    """Whoever owns the folder may exchange it, and it is nobody's but root's to write."""
    path = copy(node, home / "config")
    before = path.read_bytes()
    os.chown(str(home), 12345, 12345)
    result = run(node, "admin.conf", copies=(str(path),))
    assert (path.read_bytes(), result["copies"]) == (before, [])
    assert any("%s was left as it is" % path in warning for warning in result["warnings"])


def test_a_run_that_is_put_back_puts_its_copies_back(node: FakeNode, home: Path) -> None:
    path = copy(node, home / "config")
    before = path.read_bytes()
    node.stubborn.add(SCHEDULER)
    with pytest.raises(RotationFailed):
        run(node, "admin.conf", "scheduler.conf", copies=(str(path),))
    assert path.read_bytes() == before


def test_a_rollback_leaves_what_somebody_has_changed_since(node: FakeNode, home: Path) -> None:
    path = copy(node, home / "config")
    run(node, "admin.conf", copies=(str(path),))
    path.write_bytes(path.read_bytes() + b"# a context of mine\n")
    mine = path.read_bytes()
    assert back(node)["changed"]
    assert path.read_bytes() == mine
    assert not back(node)["changed"]


def test_root_s_own_with_an_exchanged_key_is_cured(node: FakeNode, home: Path) -> None:
    """Unless others may read it, who would have the new key without ever having had one."""
    user = parse_kubeconfig(node.path("admin.conf").read_bytes(), "admin.conf").current_user()
    other = pki.make_leaf(node.authorities["ca"], "x")
    mixed = {"client-certificate-data": b64(user.client_certificate_data), "client-key-data": b64(other.key_pem)}
    private, public = home / "config", home / "public"
    for path, mode in ((private, 0o600), (public, 0o644)):
        path.write_bytes(kubeconfig_of({"me": mixed}, "me"))
        path.chmod(mode)
    assert run(node, "admin.conf", copies=(str(home / "*"),))["copies"] == [str(private)]


def test_people_s_files_do_not_hold_up_a_renewal(node: FakeNode, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy(node, home / "config")
    monkeypatch.setattr(_copies, "_LONGEST_SECONDS", -1.0, raising=False)
    result = run(node, "admin.conf", copies=(str(path),))
    assert (result["state"], result["copies"]) == ("committed", [])
    assert any("took longer" in warning for warning in result["warnings"])


def test_what_its_owner_writes_meanwhile_stays(node: FakeNode, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at it and its backup; and it keeps the node from nothing."""
    path = copy(node, home / "config")
    real = _rotation.refuse_unhealthy

    def edit(*given: t.Any) -> None:
        path.write_bytes(path.read_bytes() + b"# a context of mine\n")
        real(*given)

    monkeypatch.setattr(_rotation, "refuse_unhealthy", edit)
    before = path.read_bytes()
    result = run(node, "admin.conf", copies=(str(path),))
    assert (result["state"], result["copies"]) == ("committed", [])
    assert path.read_bytes() == before + b"# a context of mine\n"
    assert any("%s was left as it is. %s was changed" % (path, path) in warning for warning in result["warnings"])
    assert str(path) not in [file.path for file in node.state.load("run").files]


def test_a_copy_of_root_s_that_cannot_be_written_is_left(node: FakeNode, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node gets its new certificates all the same, and a rollback does not stumble over the copy."""
    path = copy(node, home / "config")
    before = path.read_bytes()

    def refuse(*_given: t.Any) -> t.NoReturn:
        raise CertopsError("Cannot write it. Remedy: look at it.")

    monkeypatch.setattr(_users_files, "put_if_unchanged", refuse, raising=False)
    result = run(node, "admin.conf", copies=(str(path),))
    assert (result["state"], result["copies"], path.read_bytes()) == ("committed", [], before)
    assert back(node)["changed"]
    assert path.read_bytes() == before


def test_a_full_disk_beneath_a_copy_keeps_the_node_from_nothing(node: FakeNode, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, before = copy(node, home / "config"), node.path("admin.conf").read_bytes()

    def room_problem(directory: str, *_needed: int) -> str | None:
        return "Cannot write to %s: 5 bytes are free." % directory if directory == str(home) else None

    monkeypatch.setattr(_rotation, "room_problem", room_problem)
    monkeypatch.setattr(_copied_user, "room_problem", room_problem, raising=False)
    result = run(node, "admin.conf", copies=(str(path),))
    assert (result["state"], result["copies"], path.read_bytes()) == ("committed", [], before)
    assert any("%s was left as it is. Cannot write to" % path in warning for warning in result["warnings"])


def test_a_rollback_leaves_what_is_changed_while_it_prepares(node: FakeNode, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy(node, home / "config")
    run(node, "admin.conf", copies=(str(path),))
    real = node.state.new_run_id

    def edit(wanted: str) -> str:
        path.write_bytes(path.read_bytes() + b"# a context of mine\n")
        return real(wanted)

    monkeypatch.setattr(node.state, "new_run_id", edit)
    mine = path.read_bytes() + b"# a context of mine\n"
    result = back(node)
    assert (result["state"], path.read_bytes()) == ("committed", mine)
    assert any("%s was left as it is" % path in warning for warning in result["warnings"])


def test_nobody_forges_a_warning(node: FakeNode, home: Path) -> None:
    forged = "x\nThe node was rolled back\x1b[2J"
    user = parse_kubeconfig(node.path("admin.conf").read_bytes(), "admin.conf").current_user()
    other = pki.make_leaf(node.authorities["ca"], "x")
    mixed = {"client-certificate-data": b64(user.client_certificate_data), "client-key-data": b64(other.key_pem)}
    named = {"client-certificate-data": b64(user.client_certificate_data), "client-key": forged}
    (home / "a\nb").write_bytes(kubeconfig_of({forged: mixed, "path": named, "y" * 90000: mixed}, forged))
    (home / "c\nd").write_bytes(b"users: [{name: a}, {name: a}]")
    for path in home.iterdir():
        path.chmod(0o644)
    result = run(node, "admin.conf", copies=(str(home / "*"),))
    assert result["copies"] == []
    assert len(result["warnings"]) == 4
    for warning in result["warnings"]:
        assert warning.isprintable(), warning
        assert len(warning) < 2000


def test_a_name_that_is_no_text(node: FakeNode, home: Path) -> None:
    path = copy(node, home / os.fsdecode(b"\xff"))
    result = run(node, "admin.conf", copies=(str(home / "*"),))
    assert result["copies"] == [str(path)]
    assert path.read_bytes() == node.path("admin.conf").read_bytes()
    assert back(node)["changed"]
    assert path.read_bytes() == node.path("admin.conf").read_bytes()
