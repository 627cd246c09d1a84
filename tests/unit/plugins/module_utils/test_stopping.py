# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket
import subprocess
import threading
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Component, Endpoint, Process
from ansible_collections.certops.kubernetes.plugins.module_utils._processes import listens, process_alive
from ansible_collections.certops.kubernetes.plugins.module_utils._stopping import (
    Drain,
    restart_unit,
    restart_unit_within,
    shutdown_delay_seconds,
    stop_process,
)
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import stand_ins


@pytest.fixture(name="pidfd", params=[True, False], ids=["pidfd", "start-time"])
def fixture_pidfd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.delattr(os, "pidfd_open", raising=False)


@pytest.fixture(name="run")
def fixture_run() -> t.Iterator[t.Callable[..., Process]]:
    started: list[subprocess.Popen[bytes]] = []

    def run(**kwargs: t.Any) -> Process:
        started.append(stand_ins.start("kube-scheduler", **kwargs))
        return stand_ins.look_up(started[-1].pid)

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_an_obedient_process_ends_by_itself(pidfd: None, run: t.Callable[..., Process]) -> None:
    process = run()
    assert stop_process(process, 30) is False
    assert not process_alive(process)


def test_a_stubborn_process_is_killed(pidfd: None, run: t.Callable[..., Process]) -> None:
    process = run(stubborn=True)
    assert stop_process(process, 0.1) is True
    assert not process_alive(process)


def test_a_later_process_with_the_same_pid_is_left_alone(pidfd: None, run: t.Callable[..., Process]) -> None:
    process = run()
    earlier = replace(process, start_ticks=process.start_ticks - 1)
    assert stop_process(earlier, 0.1) is False
    assert process_alive(process)


def test_an_api_server_s_time_counts_from_when_it_takes_no_more_connections(run: t.Callable[..., Process]) -> None:
    """And what is to be done meanwhile is done then, before it is killed."""
    process = run(stubborn=True)
    server = socket.create_server(("127.0.0.1", 0))
    seen: list[bool] = []
    port = server.getsockname()[1]
    component = Component("kube-apiserver", {}, process=process, endpoints=(Endpoint("kube-apiserver", "127.0.0.1", port, None),))
    drain = Drain(component, lambda: seen.append(listens(process.pid, port)))
    threading.Timer(0.5, server.close).start()
    assert stop_process(process, 0.1, drain) is True
    assert seen == [False]


@pytest.mark.parametrize(("flag", "seconds"), [(None, 0), ("0s", 0), ("garbage", 0), ("15s", 15), ("1m10s", 70)])
def test_the_delay_of_an_api_server(flag: str | None, seconds: int) -> None:
    flags: dict[str, tuple[str, ...]] = {} if flag is None else {"shutdown-delay-duration": (flag,)}
    assert shutdown_delay_seconds(Component("kube-apiserver", flags)) == seconds


def test_a_process_that_is_gone(pidfd: None, run: t.Callable[..., Process]) -> None:
    process = run()
    stop_process(process, 30)
    assert stop_process(process, 0.1) is False


def test_without_the_right_to_signal(run: t.Callable[..., Process], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    process = run()
    with monkeypatch.context() as patch, pytest.raises(CertopsError, match="become: true"):
        patch.delattr(os, "pidfd_open", raising=False)
        patch.setattr(os, "kill", refuse)
        stop_process(process, 1)


def test_restart_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def run(argv: list[str], **_kwargs: t.Any) -> t.Any:
        seen.append(argv)
        return subprocess.CompletedProcess(argv, 0, b"")

    monkeypatch.setattr(subprocess, "run", run)
    restart_unit("kubelet.service", 5)
    assert seen == [["systemctl", "restart", "kubelet.service"]]


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_unit_whose_process_is_given_a_moment_to_end(
    run: t.Callable[..., Process], monkeypatch: pytest.MonkeyPatch, stubborn: bool
) -> None:
    process, seen = run(stubborn=stubborn), []

    def systemctl(argv: list[str], **_kwargs: t.Any) -> t.Any:
        seen.append(argv)
        return subprocess.CompletedProcess(argv, 1 if "reset-failed" in argv else 0, b"not loaded")

    monkeypatch.setattr(subprocess, "run", systemctl)
    assert restart_unit_within("etcd.service", process, 0.1 if stubborn else 30) is stubborn
    assert seen == [["systemctl", "reset-failed", "etcd.service"], ["systemctl", "restart", "--no-block", "etcd.service"]]
    assert not process_alive(process)
    assert restart_unit_within("etcd.service", None, 1) is False


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (subprocess.CompletedProcess([], 1, b"Unit x\n not found."), "Unit x not found"),
        (subprocess.TimeoutExpired([], 5), "within 5 s"),
        (FileNotFoundError(2, "No such file or directory"), "No such file"),
    ],
)
def test_a_unit_that_does_not_restart_is_explained(monkeypatch: pytest.MonkeyPatch, outcome: t.Any, message: str) -> None:
    def run(*_args: object, **_kwargs: object) -> t.Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(CertopsError, match=message):
        restart_unit("x", 5)
