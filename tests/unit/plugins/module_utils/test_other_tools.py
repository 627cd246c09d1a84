# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of plugins/module_utils/_other_tools.py."""

from __future__ import annotations

import os
import typing as t
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._other_tools import (
    TIMER_MARGIN,
    obstacles_in,
    scheduled_shutdown,
    systemd_obstacles,
)

if t.TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 12, 7, 2, 0, tzinfo=timezone.utc)
QUIET = "Id=shutdown.target\nActiveState=inactive\n"


def shown(service: str = "inactive", timer: str = "active", fires: str = "", shutdown: str = QUIET) -> str:
    """What systemctl 252 prints for our units; properties without a value are left out of it or empty."""
    return "\n".join(
        [
            "Id=k8s-certs-renew.service\nActiveState=%s\n" % service,
            "NextElapseUSecRealtime=%s\nId=k8s-certs-renew.timer\nActiveState=%s\n" % (fires, timer),
            shutdown,
        ]
    )


def at(moment: datetime) -> str:
    return moment.strftime("%a %Y-%m-%d %H:%M:%S UTC")


@pytest.mark.parametrize("fires", ["", "n/a", "infinity", at(NOW + TIMER_MARGIN + timedelta(seconds=1))])
def test_a_timer_that_fires_late_or_never_is_no_obstacle(fires: str) -> None:
    assert obstacles_in(shown(fires=fires), NOW) == []


@pytest.mark.parametrize("ahead", [TIMER_MARGIN, timedelta(minutes=7), timedelta(seconds=-3)])
def test_a_timer_that_is_about_to_fire(ahead: timedelta) -> None:
    (sentence,) = obstacles_in(shown(fires=at(NOW + ahead)), NOW)
    assert "k8s-certs-renew.timer" in sentence
    assert (NOW + ahead).strftime("%Y-%m-%dT%H:%M:%SZ") in sentence
    assert "systemctl stop k8s-certs-renew.timer" in sentence


def test_a_stopped_timer_is_no_obstacle() -> None:
    assert obstacles_in(shown(timer="inactive", fires=at(NOW + timedelta(minutes=1))), NOW) == []


@pytest.mark.parametrize("state", ["activating", "active", "deactivating"])
def test_a_renewal_that_runs(state: str) -> None:
    (sentence,) = obstacles_in(shown(service=state), NOW)
    assert "k8s-certs-renew.service" in sentence


@pytest.mark.parametrize("state", ["ActiveState=inactive\nJob=4711", "ActiveState=active", "ActiveState=activating\nJob=1"])
def test_a_shutdown(state: str) -> None:
    (sentence,) = obstacles_in(shown(shutdown="Id=shutdown.target\n%s\n" % state), NOW)
    assert "shutting down or rebooting" in sentence


def scheduled(folder: Path, ahead: timedelta, mode: str = "reboot") -> str:
    """The file that `shutdown` leaves."""
    path = folder / "scheduled"
    path.write_text("USEC=%d\nWARN_WALL=1\nMODE=%s\n" % ((NOW + ahead).timestamp() * 1000000, mode))
    return str(path)


@pytest.mark.parametrize("ahead", [TIMER_MARGIN, timedelta(minutes=1), timedelta(seconds=-3)])
def test_a_reboot_that_is_scheduled(tmp_path: Path, ahead: timedelta) -> None:
    (sentence,) = scheduled_shutdown(NOW, scheduled(tmp_path, ahead))
    assert sentence.startswith("a reboot of this node is scheduled for %s" % (NOW + ahead).strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert "shutdown -c" in sentence


@pytest.mark.parametrize(("ahead", "mode"), [(timedelta(hours=1), "poweroff"), (timedelta(minutes=1), "dry-reboot")])
def test_a_reboot_that_is_far_or_only_tried_is_no_obstacle(tmp_path: Path, ahead: timedelta, mode: str) -> None:
    assert scheduled_shutdown(NOW, scheduled(tmp_path, ahead, mode)) == []


@pytest.mark.parametrize("content", [None, "", "USEC=soon\n", "USEC=%d\n" % 10**30, "MODE=reboot\n", "\xff"])
def test_nothing_is_scheduled(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "scheduled"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    assert scheduled_shutdown(NOW, str(path)) == []


@pytest.mark.parametrize("output", ["", "garbage", "Id=\n\nActiveState", "\n\n\n", "=\n=\n\n=="])
def test_garbage_is_no_obstacle(output: str) -> None:
    assert obstacles_in(output, NOW) == []


def systemctl(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (folder / "systemctl").write_text("#!/bin/sh\n" + script)
    (folder / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", "%s:%s" % (folder, os.environ["PATH"]))


def test_one_call_asks_for_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shown").write_text(shown(service="activating", fires=at(NOW)))
    systemctl(tmp_path, monkeypatch, 'echo "$TZ $LC_ALL $*" >>%s/calls; cat %s/shown\n' % (tmp_path, tmp_path))
    assert len(systemd_obstacles(NOW)) == 2
    asked = "show --property=Id,ActiveState,Job,NextElapseUSecRealtime k8s-certs-renew.service k8s-certs-renew.timer shutdown.target"
    assert (tmp_path / "calls").read_text() == "UTC C %s\n" % asked


def test_a_node_without_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl(tmp_path, monkeypatch, "echo 'System has not been booted with systemd' >&2; exit 1\n")
    assert systemd_obstacles(NOW) == []
    (tmp_path / "systemctl").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert systemd_obstacles(NOW) == []


def test_a_systemctl_that_cannot_be_run_is_an_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "systemctl").write_text("no program")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (sentence,) = systemd_obstacles(NOW)
    assert "does not say" in sentence
