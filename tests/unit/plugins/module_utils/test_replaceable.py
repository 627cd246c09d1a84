# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._replaceable import replace_problems

if t.TYPE_CHECKING:
    from pathlib import Path

MOUNTS = """\
22 27 0:21 / /proc rw,nosuid shared:12 - proc proc rw
27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
310 27 8:1 /srv/apiserver.crt %s rw,relatime shared:1 - ext4 /dev/sda1 rw
"""


@pytest.fixture(name="flagged")
def fixture_flagged() -> t.Iterator[t.Callable[[Path, str], None]]:
    """Sets an attribute of a file with chattr, where the machine allows that, and takes it away again."""
    done: list[tuple[Path, str]] = []

    def flag(path: Path, letter: str) -> None:
        program = shutil.which("chattr", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if program is None:
            pytest.skip("there is no chattr here (e2fsprogs)")
        said = subprocess.run([program, "+" + letter, str(path)], stderr=subprocess.PIPE, text=True, check=False)
        if said.returncode:
            pytest.skip("this user or file system does not allow chattr +%s: %s" % (letter, said.stderr.strip()))
        done.append((path, "-" + letter))

    yield flag
    for path, letter in done:
        subprocess.run(["chattr", letter, str(path)], check=True)


def test_what_can_be_replaced_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "link").symlink_to("a")
    paths = [str(tmp_path / name) for name in ("a", "link", "absent", "absent/below")]
    assert replace_problems(paths) == []
    assert replace_problems(paths, mountinfo=str(tmp_path / "absent")) == []


@pytest.mark.parametrize("name", ["apiserver.crt", "with a blank", "a\\backslash"])
def test_a_mount_point(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("x")
    (tmp_path / "link").symlink_to(name)
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS % str(path).replace("\\", "\\134").replace(" ", "\\040"))
    for asked in (path, tmp_path / "link"):
        (problem,) = replace_problems([str(asked)], mountinfo=str(mountinfo))
        assert problem.startswith("Cannot replace %s: it is a mount point" % path)
        assert "Remedy: unmount it" in problem


@pytest.mark.parametrize(("letter", "word"), [("i", "immutable"), ("a", "append-only")])
def test_flags_that_forbid_it(tmp_path: Path, flagged: t.Callable[[Path, str], None], letter: str, word: str) -> None:
    """The rename would fail with EPERM, and with it everything after the key."""
    path = tmp_path / "apiserver.crt"
    path.write_text("x")
    flagged(path, letter)
    (problem,) = replace_problems([str(path)])
    assert problem.startswith("Cannot replace %s: it is %s" % (path, word))
    assert "chattr -%s %s" % (letter, path) in problem
    with pytest.raises(PermissionError):
        os.rename(str(path), str(tmp_path / "other"))


def test_a_directory_that_is_immutable(tmp_path: Path, flagged: t.Callable[[Path, str], None]) -> None:
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "a").write_text("x")
    flagged(tmp_path / "pki", "i")
    (problem,) = replace_problems([str(tmp_path / "pki" / "a")])
    assert problem.startswith("Cannot replace files in %s: it is immutable" % (tmp_path / "pki"))


@pytest.mark.parametrize(("flags", "found"), [(0x10, 1), (0x20, 1), (0x80000, 0), (0x100010, 1)])
def test_the_flags_are_those_of_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: int, found: int) -> None:
    """Where chattr is not allowed, the call is proven: extents (0x80000) forbid nothing."""
    path = tmp_path / "a"
    path.write_text("x")
    asked: list[int] = []

    def ioctl(_descriptor: int, request: int, buffer: t.Any, _mutate: bool) -> int:
        asked.append(request)
        buffer[0] = flags if len(asked) > 1 else 0  # the directory is asked first
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert len(replace_problems([str(path)])) == found
    assert asked == [0x80086601, 0x80086601]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    tmp_path.chmod(0o500)
    (problem,) = replace_problems([str(tmp_path / "a")])
    assert "Permission denied" in problem
    tmp_path.chmod(0o700)
