# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whoever owns a folder cannot make root write elsewhere."""

from __future__ import annotations

import os
import stat
import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _guarded_folder
from ansible_collections.certops.kubernetes.plugins.module_utils._files import Attributes
from ansible_collections.certops.kubernetes.plugins.module_utils._guarded_folder import guarded_file
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

ME = os.geteuid()
JANE = 2001
PLAIN = Attributes(0o600, ME, os.getegid())
as_root = pytest.mark.skipif(ME != 0, reason="only root may give files away")


@pytest.fixture(name="home")
def fixture_home(tmp_path: Path) -> Path:
    home = tmp_path.resolve() / "jane" / ".kube"
    home.mkdir(parents=True, mode=0o700)
    return home


def test_a_file_is_made_and_replaced(home: Path) -> None:
    path = home / "config"
    for content in (b"one", b"two"):
        with guarded_file(str(path), ME) as file:
            file.replace(content, PLAIN)
            assert file.read() == (content, PLAIN)
    assert os.listdir(home) == ["config"]


@as_root
def test_it_belongs_to_whom_it_is_for(home: Path) -> None:
    os.chown(home, JANE, JANE)
    with guarded_file(str(home / "config"), JANE) as file:
        assert file.read() is None
        file.replace(b"x", Attributes(0o640, JANE, 2002))
    found = (home / "config").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (JANE, 2002, 0o640)


def refused(path: Path | str, sentence: str, owner: int = ME) -> None:
    with pytest.raises(CertopsError, match=sentence) as caught, guarded_file(str(path), owner) as file:
        file.read()
    assert "Remedy" in str(caught.value)


def test_a_link_is_not_followed(home: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"root's")
    (home / "config").symlink_to(victim)
    refused(home / "config", "is a symbolic link")
    (home.parent / "elsewhere").symlink_to(tmp_path)
    refused(home.parent / "elsewhere" / "config", "elsewhere is a symbolic link")
    assert victim.read_bytes() == b"root's"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_folder_that_others_write_to(home: Path, mode: int) -> None:
    home.chmod(mode)
    refused(home / "config", "%s can be written by others .*chmod go-w" % home)


@pytest.mark.parametrize(("mode", "fine"), [(0o777, False), (0o1777, True)])
def test_one_above_may_be_sticky(home: Path, mode: int, fine: bool) -> None:
    home.parent.chmod(mode)
    if fine:
        with guarded_file(str(home / "config"), ME) as file:
            file.replace(b"x", PLAIN)
    else:
        refused(home / "config", "can be written by others")


@as_root
def test_a_folder_of_somebody_else(home: Path) -> None:
    os.chown(home.parent, JANE, JANE)
    refused(home / "config", "belongs to the user with id %d" % JANE)
    refused(home / "config", "belongs to the user with id %d" % JANE, 2002)


@pytest.mark.parametrize("path", ["config", "/", "/tmp/../etc/x", "//etc/x", "/tmp/x/", "/tmp/a\0b", "/tmp/\ud800"])
def test_what_is_no_path(path: str) -> None:
    refused(path, "is no path to write to")


def test_what_is_not_there_or_no_file(home: Path) -> None:
    refused(home / "absent" / "config", "There is no folder .*absent")
    (home / "file").write_text("x")
    refused(home / "file" / "config", "Cannot enter .*file")
    os.mkfifo(home / "pipe")
    refused(home / "pipe", "not a regular file")
    (home / "folder").mkdir()
    refused(home / "folder", "it is a directory")
    with guarded_file(str(home / "folder"), ME) as file, pytest.raises(CertopsError, match="Cannot write .*folder"):
        file.replace(b"x", PLAIN)


def exchange(home: Path, etc: Path) -> None:
    """What the owner of a home folder does while root is about to write there."""
    home.rename(home.with_name("moved"))
    home.symlink_to(etc)


def test_an_exchange_of_the_folder_leads_nowhere(home: Path, tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "config").write_bytes(b"root's")
    with guarded_file(str(home / "config"), ME) as file:
        exchange(home, etc)
        assert file.read() is None
        file.replace(b"jane's", PLAIN)
    assert {path.name: path.read_bytes() for path in etc.iterdir()} == {"config": b"root's"}
    assert (home.with_name("moved") / "config").read_bytes() == b"jane's"


def test_an_exchange_while_the_way_is_walked(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    real = _guarded_folder._check

    def check(descriptor: int, path: str, owner: int, **kwargs: t.Any) -> None:
        real(descriptor, path, owner, **kwargs)
        if path == str(home.parent):
            exchange(home, etc)

    monkeypatch.setattr(_guarded_folder, "_check", check)
    refused(home / "config", "is a symbolic link")
    assert os.listdir(etc) == []


def test_links_in_the_place_of_the_new_file_and_of_the_old_one(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"root's")
    (home / ".config.certops-new").symlink_to(victim)
    real = os.replace

    def replace(source: str, target: str) -> None:
        (home / "config").symlink_to(victim)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with guarded_file(str(home / "config"), ME) as file:
        file.replace(b"jane's", PLAIN)
    assert victim.read_bytes() == b"root's"
    assert not (home / "config").is_symlink()
    assert (home / "config").read_bytes() == b"jane's"


def test_a_new_link_each_time_is_an_error(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    real = os.unlink

    def unlink(path: str) -> None:
        real(path) if os.path.lexists(path) else None
        if "certops-new" in path:
            (home / ".config.certops-new").symlink_to(victim)

    monkeypatch.setattr(os, "unlink", unlink)
    with guarded_file(str(home / "config"), ME) as file, pytest.raises(CertopsError, match="Cannot write .*config: File exists"):
        file.replace(b"jane's", PLAIN)
    assert not victim.exists()
