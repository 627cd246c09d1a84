# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a process has what lies on disk: by inode, by age, or unknown."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Component, Process
from ansible_collections.certops.kubernetes.plugins.module_utils._readers import restart_evidence
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import (
    INSIDE,
)

NOW = datetime.now(timezone.utc)


def evidence(path: Path, started: float, mounts: tuple[tuple[str, str], ...], proc: Path) -> tuple[str, str]:
    """What is known of a process that started `started` seconds before (or after) the file was written."""
    process = Process(4711, 1, ("x",), datetime.fromtimestamp(path.stat().st_mtime - started, tz=timezone.utc))
    return restart_evidence(Component("x", {}, process=process, mounts=mounts), INSIDE + "/x.conf", str(proc))


@pytest.mark.parametrize(
    ("seconds_before_the_file", "single_file", "expected"),
    [
        (60, True, ("false", "process_age")),
        (-60, True, ("true", "inode")),
        (60, False, ("false", "process_age")),
        (-60, False, ("true", "process_age")),
        (0, False, ("unknown", "none")),
        (0, True, ("true", "inode")),
    ],
)
def test_a_process_that_reads_only_when_it_starts(
    tmp_path: Path, seconds_before_the_file: float, single_file: bool, expected: tuple[str, str]
) -> None:
    path = tmp_path / "x.conf"
    path.write_text("x")
    mounts = ((INSIDE + "/x.conf", str(path)),) if single_file else ((INSIDE, str(tmp_path)),)
    inside = tmp_path / "proc" / "4711" / "root" / "etc" / "kubernetes"
    inside.mkdir(parents=True)
    os.link(path, inside / "x.conf")
    assert evidence(path, seconds_before_the_file, mounts, tmp_path / "proc") == expected


def test_a_replaced_file_behind_a_single_file_mount(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text("new")
    inside = tmp_path / "proc" / "4711" / "root" / "etc" / "kubernetes"
    inside.mkdir(parents=True)
    mounts = ((INSIDE + "/x.conf", str(path)),)
    assert evidence(path, -60, mounts, tmp_path / "proc") == ("unknown", "none")
    (inside / "x.conf").write_text("old")
    assert evidence(path, -60, mounts, tmp_path / "proc") == ("false", "inode")


@pytest.mark.parametrize(("time", "expected"), [(1e14, "false"), (-1e14, "unknown")])
def test_a_file_of_a_year_that_no_calendar_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time: float, expected: str) -> None:
    """Some file systems keep 64 bits of seconds."""
    path = tmp_path / "x.conf"
    path.write_text("x")
    found = list(path.stat())
    found[8], found[9] = int(time), int(NOW.timestamp())
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda at, **options: os.stat_result(found) if at == str(path) else real(at, **options))
    component = Component("x", {}, process=Process(4711, 1, ("x",), NOW), mounts=((INSIDE, str(tmp_path)),))
    assert restart_evidence(component, INSIDE + "/x.conf")[0] == expected


def test_a_path_that_cannot_be_one() -> None:
    component = Component("x", {}, process=Process(4711, 1, ("x",), NOW))
    assert restart_evidence(component, "/a\0b") == ("unknown", "none")


def test_a_copy_that_keeps_its_time_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text("x")
    os.utime(path, (1, 1))
    process = Process(4711, 1, ("x",), NOW - timedelta(days=1))
    component = Component("x", {}, process=process, mounts=((INSIDE, str(tmp_path)),))
    assert restart_evidence(component, INSIDE + "/x.conf") == ("unknown", "none")
