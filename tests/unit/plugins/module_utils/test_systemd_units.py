# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What systemd would start, read from unit files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._systemd_units import Service, enabled_services


@pytest.fixture(name="folders")
def _folders(tmp_path: Path) -> tuple[Path, Path]:
    """An administrator's folder and a package's."""
    made = tmp_path / "etc", tmp_path / "lib"
    for folder in made:
        folder.mkdir()
    return made


def enable(folders: tuple[Path, Path], text: str, name: str = "etcd.service", folder: int = 1) -> None:
    """Write a unit file and want it."""
    (folders[folder] / name).write_text(text)
    wants = folders[0] / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / name).symlink_to(folders[folder] / name)


def found(folders: tuple[Path, Path]) -> list[Service]:
    return enabled_services("etcd", [str(folder) for folder in folders])


def test_a_command_with_its_environment(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# c\n; c\n A=1 \nB=\"two words\"\nC='x'\nnothing\nOPTS=--x=1 --y\n")
    enable(
        folders,
        '[Unit]\nExecStart=/not/this\n[Service]\n# ExecStart=/nor/this\nEnvironment=A=0 "D=d d"\nEnvironment=E=e\n'
        "EnvironmentFile=-%s\nEnvironmentFile=-/nowhere\nExecStart=-/usr/bin/etcd --name ${A} \\\n  $OPTS --z=$A\n" % (tmp_path / "env"),
    )
    (service,) = found(folders)
    assert service.unit == "etcd.service"
    assert service.argv == ("/usr/bin/etcd", "--name", "1", "--x=1", "--y", "--z=$A")
    assert service.environment == {"A": "1", "B": "two words", "C": "x", "D": "d d", "E": "e", "OPTS": "--x=1 --y"}


def test_drop_ins_in_the_order_of_their_names(folders: tuple[Path, Path]) -> None:
    enable(folders, "[Service]\nExecStart=/usr/bin/etcd --a\nEnvironment=A=1 B=1\n")
    for folder, name, text in (
        (0, "20-mine.conf", "Environment=\nEnvironment=B=2"),
        (1, "10-base.conf", "ExecStart=\nExecStart=/usr/bin/etcd --b"),
        (1, "20-mine.conf", "ExecStart=/hidden/by/the/administrators/etcd"),
        (0, "30.txt", "ExecStart="),
    ):
        drop_ins = folders[folder] / "etcd.service.d"
        drop_ins.mkdir(exist_ok=True)
        (drop_ins / name).write_text("[Service]\n%s\n" % text)
    assert found(folders) == [Service("etcd.service", ("/usr/bin/etcd", "--b"), {"B": "2"})]


def test_the_administrators_unit_wins_over_the_packages(folders: tuple[Path, Path]) -> None:
    enable(folders, "[Service]\nExecStart=/usr/bin/etcd --package\n")
    (folders[0] / "etcd.service").write_text("[Service]\nExecStart=/opt/etcd --mine\n")
    assert found(folders)[0].argv == ("/opt/etcd", "--mine")


@pytest.mark.parametrize(
    "text",
    ["", "[Service]\n", "[Service]\nExecStart=\n", "[Service]\nExecStart=/usr/bin/etcdctl x\n", "[Service]\nExecStart=/bin/sh -c 'etcd'\n"],
)
def test_what_does_not_run_the_program_is_none(folders: tuple[Path, Path], text: str) -> None:
    enable(folders, text)
    assert found(folders) == []


@pytest.mark.parametrize("text", ["[Service]\nExecStart=/usr/bin/etcd 'open", "\0[Service", "=\n==\n[", "[Service]\n=\n=x\nExecStart"])
def test_garbage_does_no_harm(folders: tuple[Path, Path], text: str) -> None:
    enable(folders, text)
    assert [service.argv[0] for service in found(folders)] == (["/usr/bin/etcd"] if "open" in text else [])


def test_noise_does_no_harm(folders: tuple[Path, Path]) -> None:
    enable(folders, "")
    (folders[1] / "etcd.service").write_bytes(os.urandom(4096))
    assert found(folders) == []


def test_a_unit_that_nothing_wants_or_that_is_called_otherwise(folders: tuple[Path, Path]) -> None:
    (folders[1] / "etcd.service").write_text("[Service]\nExecStart=/usr/bin/etcd\n")
    enable(folders, "[Service]\nExecStart=/usr/bin/etcd\n", name="store.service")
    enable(folders, "[Service]\nExecStart=/usr/bin/etcd\n", name="etcd.socket")
    assert found(folders) == []
    enable(folders, "[Service]\nExecStart=/usr/bin/etcd\n", name="etcd-events.service")
    assert [service.unit for service in found(folders)] == ["etcd-events.service"]


def test_no_systemd_at_all(tmp_path: Path) -> None:
    assert enabled_services("etcd", [str(tmp_path / "nowhere"), "\0"]) == []
