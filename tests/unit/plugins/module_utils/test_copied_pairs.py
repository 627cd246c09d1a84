# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies whose certificate and key are in two files: both are the old ones, or both the new ones."""

from __future__ import annotations

import dataclasses
import errno
import os
import tempfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _journal as journaling
from ansible_collections.certops.kubernetes.plugins.module_utils import _rotation
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import Request, rotate
from ansible_collections.certops.kubernetes.plugins.module_utils._transaction import Transaction
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import LIMITS, FakeNode, run
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import kubeconfig_of

JANE = 2001
WHOSE = [
    pytest.param(None, id="root"),
    pytest.param(JANE, id="jane", marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")),
]


@pytest.fixture(name="node")
def fixture_node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path / "node")


@dataclasses.dataclass
class Home:
    """Somebody's .kube with a kubeconfig that names a pair, which is that of admin.conf."""

    config: Path
    certificate: Path
    key: Path

    def pair(self) -> tuple[bytes, bytes]:
        return self.certificate.read_bytes(), self.key.read_bytes()


def pair_of(node: FakeNode) -> tuple[t.Any, t.Any]:
    user = parse_kubeconfig(node.path("admin.conf").read_bytes(), "admin.conf").current_user()
    return user.client_certificate_data, user.client_key_data


@pytest.fixture(name="home", params=WHOSE)
def fixture_home(request: pytest.FixtureRequest, node: FakeNode) -> t.Iterator[Home]:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        kube = Path(folder).resolve() / "home" / ".kube"
        kube.mkdir(parents=True)
        home = Home(kube / "config", kube / "admin.crt", kube / "admin.key")
        certificate, key = pair_of(node)
        home.certificate.write_bytes(certificate)
        home.key.write_bytes(key)
        home.config.write_bytes(kubeconfig_of({"me": {"client-certificate": "admin.crt", "client-key": "admin.key"}}, "me"))
        for path in (kube.parent, kube, *kube.iterdir()) if request.param else ():
            os.chown(path, request.param, request.param)
        for path in (home.certificate, home.key):
            path.chmod(0o600)
        yield home


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, also: t.Callable[[], None] = lambda: None) -> None:
    """A file of this name cannot be replaced."""
    real = os.replace

    def replace(source: str, target: str, **given: t.Any) -> None:
        if os.path.basename(str(target)) == name:
            also()
            raise PermissionError(errno.EPERM, "no", str(target))
        real(source, target, **given)

    monkeypatch.setattr(os, "replace", replace)


def test_both_are_written(node: FakeNode, home: Home) -> None:
    old, config = home.pair(), home.config.read_bytes()
    owner = home.key.stat().st_uid
    assert run(node, "admin.conf", copies=(str(home.config),))["copies"] == [str(home.config)]
    assert home.pair() == pair_of(node) != old
    assert (home.key.stat().st_uid, home.key.stat().st_mode & 0o777, home.config.read_bytes()) == (owner, 0o600, config)


def test_a_key_goes_back_when_its_certificate_cannot_be_written(node: FakeNode, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubeconfig itself is never written here, and what cannot be is known by its name."""
    old = home.pair()
    refuse(monkeypatch, "admin.crt")
    result = run(node, "admin.conf", copies=(str(home.config),))
    assert (result["state"], result["copies"], home.pair()) == ("committed", [], old)
    assert any("%s was left as it is. Cannot write" % home.certificate in warning for warning in result["warnings"])
    assert any("%s was put back as it was" % home.key in warning for warning in result["warnings"])
    assert not {str(home.key), str(home.certificate)} & {file.path for file in node.state.load("run").files}


def test_a_certificate_is_not_written_without_its_key(node: FakeNode, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    old = home.pair()
    refuse(monkeypatch, "admin.key")
    result = run(node, "admin.conf", copies=(str(home.config),))
    assert (result["state"], result["copies"], home.pair()) == ("committed", [], old)
    assert any("%s was left as it is. It is of no use without %s" % (home.certificate, home.key) in one for one in result["warnings"])


@pytest.mark.parametrize("which", ["certificate", "key"])
def test_neither_is_written_when_one_was_changed_meanwhile(node: FakeNode, home: Home, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    real = _rotation.refuse_unhealthy

    def edit(*given: t.Any) -> None:
        path = getattr(home, which)
        path.write_bytes(path.read_bytes() + b"\n")
        real(*given)

    monkeypatch.setattr(_rotation, "refuse_unhealthy", edit)
    old = home.pair()
    result = run(node, "admin.conf", copies=(str(home.config),))
    assert (result["state"], result["copies"]) == ("committed", [])
    assert [one.strip() for one in home.pair()] == [one.strip() for one in old]
    assert len([warning for warning in result["warnings"] if "was left as it is" in warning]) == 2


def test_who_is_left_with_half_a_pair_is_told(node: FakeNode, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def edit() -> None:
        home.key.write_bytes(b"mine")

    refuse(monkeypatch, "admin.crt", edit)
    result = run(node, "admin.conf", copies=(str(home.config),))
    assert home.key.read_bytes() == b"mine"
    assert any("may not belong to %s any more" % home.certificate in warning for warning in result["warnings"])


def test_a_run_that_was_killed_between_them_leaves_the_old_pair(node: FakeNode, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the node's own files are new, so that the next run carries it forward."""
    old = home.pair()

    def killed() -> None:
        raise KeyboardInterrupt  # which nothing catches, as nothing catches a SIGKILL

    refuse(monkeypatch, "admin.crt", killed)
    if home.key.stat().st_uid == JANE:  # in her child an exception ends nothing
        real = Transaction._leave

        def leave(*given: t.Any) -> None:
            if given[1].endswith("admin.crt"):
                raise KeyboardInterrupt
            real(*given)

        monkeypatch.setattr(Transaction, "_leave", leave)
    with pytest.raises(KeyboardInterrupt):
        run(node, "admin.conf", copies=(str(home.config),))
    monkeypatch.undo()
    assert node.state.load("run").state == journaling.APPLYING
    assert home.key.read_bytes() != old[1]
    result = rotate(node.access(), node.state, Request("next", (), health_seconds=1.0), LIMITS)
    assert result["recovered"][0]["state"] in ("committed", "rolled_back")
    assert home.pair() == old
