# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of plugins/module_utils/_files.py."""

from __future__ import annotations

import errno
import os
import stat
import struct
import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _files
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def fixture_no_waiting_for_the_disk() -> None:
    """Here it is waited for: what may be handed to it, and when, is what these tests are about."""


def test_reads_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\x00content")
    assert _files.read_bounded(str(tmp_path / "a")) == b"\xff\x00content"


@pytest.mark.parametrize("name", ["absent", "file/below", "dangling"])
def test_tells_a_missing_file_from_other_errors(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(_files.MissingFile):
        _files.read_bounded(str(tmp_path / name))


def test_refuses_what_is_no_bounded_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").write_bytes(b"x" * (_files.MAX_FILE_BYTES + 1))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("pipe", "big", "loop", "."):
        with pytest.raises(CertopsError) as caught:
            _files.read_bounded(str(tmp_path / name))
        assert not isinstance(caught.value, _files.MissingFile)
        assert "Remedy" in str(caught.value)
        assert str(tmp_path) in str(caught.value)


def test_a_file_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * _files.MAX_FILE_BYTES)
    assert len(_files.read_bounded(str(tmp_path / "big"))) == _files.MAX_FILE_BYTES


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_replaces_with_a_new_inode_and_the_old_mode(tmp_path: Path, mode: int, umask: int) -> None:
    path = tmp_path / "apiserver.key"
    path.write_bytes(b"old")
    path.chmod(mode)
    before = path.stat()
    held = path.open("rb")  # keeps the old inode's number from being given to the new file
    old_umask = os.umask(umask)
    try:
        _files.replace_file(str(path), b"new")
    finally:
        os.umask(old_umask)
    assert path.read_bytes() == b"new"
    assert path.stat().st_ino != before.st_ino
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert held.read() == b"old"
    assert os.listdir(tmp_path) == ["apiserver.key"]
    held.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_keeps_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "etcd.key"
    path.write_bytes(b"old")
    os.chown(path, 2001, 2002)
    path.chmod(0o640)
    _files.replace_file(str(path), b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (2001, 2002)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_keeps_the_security_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    labels = {"security.selinux": b"system_u:object_r:cert_t:s0"}
    written = []

    def getxattr(path_or_descriptor: t.Any, name: str) -> bytes:
        if isinstance(path_or_descriptor, int) or name not in labels:
            raise OSError(errno.ENODATA, "no such attribute")
        return labels[name]

    monkeypatch.setattr(os, "getxattr", getxattr)
    monkeypatch.setattr(os, "setxattr", lambda _descriptor, name, value: written.append((name, value)))
    _files.replace_file(str(path), b"new")
    assert written == [("security.selinux", b"system_u:object_r:cert_t:s0")]


def test_keeps_a_real_security_label(tmp_path: Path) -> None:
    """As SELinux' own, where the machine lets a test set one; elsewhere the calls are proven above."""
    path = tmp_path / "apiserver.key"
    path.write_bytes(b"old")
    label = b"system_u:object_r:kubernetes_file_t:s0\0"
    try:
        os.setxattr(str(path), "security.selinux", label)
    except OSError as error:
        pytest.skip("no SELinux label can be set here: %s" % error)
    _files.replace_file(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert os.getxattr(str(path), "security.selinux") == label


def acl(*entries: tuple[int, int, int]) -> bytes:
    """A POSIX access control list as the kernel takes it: (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


USER_1000_MAY_ALL = acl((1, 7, 2**32 - 1), (2, 7, 1000), (4, 5, 2**32 - 1), (16, 7, 2**32 - 1), (32, 5, 2**32 - 1))
USER_1000_MAY_READ = acl((1, 6, 2**32 - 1), (2, 4, 1000), (4, 4, 2**32 - 1), (16, 4, 2**32 - 1), (32, 0, 2**32 - 1))


def set_acl(path: Path, kind: str, value: bytes) -> None:
    """Set an access control list, where the file system has some."""
    try:
        os.setxattr(str(path), "system.posix_acl_%s" % kind, value)
    except OSError as error:
        pytest.skip("no access control list can be set here: %s" % error)


def test_a_directorys_default_list_lets_nobody_in(tmp_path: Path) -> None:
    """Who was not let in to the old file is not let in to the new one, whatever the directory gives to files that are born in it."""
    path = tmp_path / "sa.key"
    path.write_bytes(b"old")
    path.chmod(0o640)
    set_acl(tmp_path, "default", USER_1000_MAY_ALL)
    _files.replace_file(str(path), b"new")
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(str(path), "system.posix_acl_access")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_keeps_who_else_was_let_in(tmp_path: Path) -> None:
    path = tmp_path / "sa.key"
    path.write_bytes(b"old")
    path.chmod(0o640)
    set_acl(path, "access", USER_1000_MAY_READ)
    _files.replace_file(str(path), b"new")
    assert os.getxattr(str(path), "system.posix_acl_access") == USER_1000_MAY_READ
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_replaces_the_target_of_a_link_and_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "ssl").mkdir()
    (tmp_path / "ssl" / "real.crt").write_bytes(b"old")
    (tmp_path / "pki").symlink_to("ssl")
    (tmp_path / "link.crt").symlink_to("pki/real.crt")
    _files.replace_file(str(tmp_path / "link.crt"), b"new")
    assert (tmp_path / "link.crt").is_symlink()
    assert (tmp_path / "pki").is_symlink()
    assert (tmp_path / "ssl" / "real.crt").read_bytes() == b"new"


def test_makes_a_vanished_file_again_as_it_was(tmp_path: Path) -> None:
    _files.replace_file(str(tmp_path / "a"), b"x", _files.Attributes(0o644, os.geteuid(), os.getegid()))
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644
    _files.replace_file(str(tmp_path / "b"), b"x")
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "fchmod", "replace"])
def test_an_error_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(*_args: t.Any, **_kwargs: t.Any) -> t.NoReturn:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(CertopsError) as caught:
            _files.replace_file(str(path), b"new")
    assert errno.errorcode[number] in str(caught.value)
    assert str(path) in str(caught.value)
    assert "Remedy" in str(caught.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_power_failure_loses_neither_the_old_file_nor_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its content is on the disk before it has the name, and the name is before anything else is done."""
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        fsync(descriptor)
        steps.append("on disk: %s" % os.path.basename(os.readlink("/proc/self/fd/%d" % descriptor)))

    def watched_replace(source: str, target: str) -> None:
        replace(source, target)
        steps.append("named: %s" % os.path.basename(target))

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    _files.replace_file(str(tmp_path / "a"), b"new")
    assert steps == ["on disk: .a.certops-new", "named: a", "on disk: %s" % tmp_path.name]


def test_a_killed_runs_leftover_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    leftover = tmp_path / os.path.basename(_files.temporary_name(str(path)))
    assert leftover.name.startswith(".")
    leftover.write_bytes(b"half")
    _files.replace_file(str(path), b"new")
    assert os.listdir(tmp_path) == ["a"]
    leftover.write_bytes(b"half")
    _files.remove_leftover(str(path))
    _files.remove_leftover(str(path))
    assert os.listdir(tmp_path) == ["a"]


def test_a_backup_is_a_copy_that_nobody_else_reads(tmp_path: Path) -> None:
    path = tmp_path / "pki" / "ca.crt"
    path.parent.mkdir()
    path.write_bytes(b"content")
    path.chmod(0o644)
    root = tmp_path / "state" / "backup"
    old_umask = os.umask(0)
    try:
        copy = _files.backup_file(str(path), str(root))
    finally:
        os.umask(old_umask)
    assert copy == str(root) + str(path)
    with open(copy, "rb") as stream:
        assert stream.read() == b"content"
    assert os.stat(copy).st_ino != path.stat().st_ino
    assert stat.S_IMODE(os.stat(copy).st_mode) == 0o600
    directory = os.path.dirname(copy)
    while directory != str(tmp_path):
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
        directory = os.path.dirname(directory)


def test_a_private_directory_is_narrowed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    _files.make_private_directory(str(tmp_path / "state"))
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _files.room_problem(str(tmp_path / "not" / "yet"), 1000, 3) is None
    assert "are free" in str(_files.room_problem(str(tmp_path), 1 << 60, 3))
    real = os.statvfs(str(tmp_path))

    class Full:
        f_flag = real.f_flag
        f_frsize, f_bfree, f_bavail, f_files, f_ffree, f_favail = 4096, 1000, 1000, 10, 0, 0

    monkeypatch.setattr(os, "statvfs", lambda _path: Full)
    assert "inodes" in str(_files.room_problem(str(tmp_path), 1000, 3))
    Full.f_flag = os.ST_RDONLY
    assert "EROFS" in str(_files.room_problem(str(tmp_path), 1000, 3))


@pytest.mark.parametrize("path", ["/a\0b", "/\ud800"])
def test_what_cannot_be_a_path_is_explained(path: str) -> None:
    with pytest.raises(CertopsError, match="cannot be a path") as caught:
        _files.read_bounded(path)
    assert str(caught.value).isprintable()


def test_a_link_that_goes_while_it_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.9 and older raise for it."""
    link = tmp_path / "link"
    link.symlink_to("elsewhere")

    def gone(path: t.Any, **_given: t.Any) -> str:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    monkeypatch.setattr(os, "readlink", gone)
    assert _files.final_target(str(link)) == str(link)
