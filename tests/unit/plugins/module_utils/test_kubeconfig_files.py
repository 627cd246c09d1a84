# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of plugins/module_utils/_kubeconfig_files.py: where a file system hangs, others are looked for all the same."""

from __future__ import annotations

import glob
import os
import time
import typing as t
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _kubeconfig_files
from ansible_collections.certops.kubernetes.plugins.module_utils._findings import Thresholds
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig_files import matching_files
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig_records import inspect_kubeconfigs
from ansible_collections.certops.kubernetes.plugins.module_utils._records import Setting
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import FakeNode, run


@pytest.fixture(name="node")
def fixture_node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path / "node")


@pytest.fixture(name="dead")
def fixture_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in a network that is not there: whoever looks into it hangs."""
    dead = tmp_path / "dead"
    real_glob, real_lstat = glob.iglob, os.lstat

    def hang(path: t.Any) -> None:
        if str(path).startswith(str(dead)):
            time.sleep(60)

    def iglob(pattern: str, **given: t.Any) -> t.Iterator[str]:
        hang(pattern)
        return real_glob(pattern, **given)

    def lstat(path: t.Any, **given: t.Any) -> os.stat_result:
        hang(path)
        return real_lstat(path, **given)

    monkeypatch.setattr(glob, "iglob", iglob)
    monkeypatch.setattr(glob, "glob", lambda pattern: list(iglob(pattern)))
    monkeypatch.setattr(os, "lstat", lstat)
    monkeypatch.setattr(_kubeconfig_files, "_LONGEST_SECONDS", 0.3)
    return dead


def copy(node: FakeNode, folder: Path) -> Path:
    folder.mkdir()
    path = folder / "config"
    path.write_bytes(node.path("admin.conf").read_bytes())
    return path


def test_a_rotation_does_not_wait_for_it(node: FakeNode, tmp_path: Path, dead: Path) -> None:
    path = copy(node, tmp_path / "root")
    began = time.monotonic()
    result = run(node, "admin.conf", copies=("%s/*" % dead, str(dead / "config"), str(path)))
    assert time.monotonic() - began < 30
    assert (result["state"], result["copies"]) == ("committed", [str(path)])
    for pattern in ("%s/*" % dead, "%s/config" % dead):
        assert any(warning.startswith("The copies %s were left as they are." % pattern) for warning in result["warnings"])


def test_an_inspection_does_not_wait_for_it(node: FakeNode, tmp_path: Path, dead: Path) -> None:
    path = copy(node, tmp_path / "root")
    setting = Setting("c", "h", "cp-1", datetime.now(timezone.utc), Thresholds(2, 1))
    found = inspect_kubeconfigs(node.discover(), ["%s/*" % dead, str(path)], setting)
    assert [record.path for record in found.records] == [str(path)]
    ((code, severity, message),) = ((one.code, one.severity, one.message) for one in found.problems)
    assert (code, severity) == ("kubeconfig_unread", "warning")
    assert "%s/* on cp-1 was not looked into: Cannot look for" % dead in message


def test_many_that_hang_are_not_all_waited_for(node: FakeNode, dead: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kubeconfig_files, "_ALL_SECONDS", 0.2)
    listing = matching_files(["%s/%d*" % (dead, number) for number in range(5)], node.discover())
    assert len(listing.unread) == 5
    assert "took longer than 0.2 s" in listing.unread["%s/4*" % dead]


def test_folders_and_what_is_not_there_are_no_files(node: FakeNode, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert matching_files([str(tmp_path / "folder"), str(tmp_path / "fold*"), str(tmp_path / "no")], node.discover()).files == ()


def test_names_that_are_no_text(node: FakeNode, tmp_path: Path) -> None:
    for name in (b"a\nb", b"\xff"):
        with open(os.path.join(os.fsencode(tmp_path), b"x" + name), "w"):
            pass
    listing = matching_files([str(tmp_path / "x*"), "~\0", "\ud800"], node.discover())
    assert [os.path.basename(path) for path, named in listing.files if not named] == ["xa\nb", "x\udcff"]
    assert len(listing.unread) == 2


def test_who_makes_many_files_pushes_none_out_that_was_named(node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kubeconfig_files, "MOST_FILES", 2)
    for number in range(9):
        (tmp_path / ("a%d" % number)).write_bytes(b"")
    (tmp_path / "z").write_bytes(b"")
    files = matching_files([str(tmp_path / "a*"), str(tmp_path / "z")], node.discover()).files
    assert (files[0], len(files)) == ((str(tmp_path / "z"), True), 5)
