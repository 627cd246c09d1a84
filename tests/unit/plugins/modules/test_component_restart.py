# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

pytest.importorskip("ansible.module_utils.basic", reason="ansible-core is not there for this Python")

from ansible_collections.certops.kubernetes.plugins.module_utils._activation import Restart
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Component, Node, Process
from ansible_collections.certops.kubernetes.plugins.modules import component_restart
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import NOW

PARAMS = {"component": "kube-scheduler", "stop_timeout_seconds": None, "start_timeout_seconds": 120, "kubernetes_dir": "/etc/kubernetes"}
SCHEDULER = Component("kube-scheduler", {}, process=Process(7, 1, ("kube-scheduler",), NOW))


@pytest.fixture(name="restarted")
def fixture_restarted(monkeypatch: pytest.MonkeyPatch) -> list[t.Any]:
    calls: list[t.Any] = []

    def restart_component(component: Component, stop: float | None, start: float, node: Node) -> Restart:
        calls.append((component.name, stop, start, node.name))
        return Restart(component.name, 7, 8, 1.5, 1.4, False)

    node = Node("a", None, "/etc/kubernetes", {"kube-scheduler": SCHEDULER})
    monkeypatch.setattr(component_restart, "discover", lambda now, directory: node)
    monkeypatch.setattr(component_restart, "restart_component", restart_component)
    return calls


def test_a_restart_returns_what_was_measured(restarted: list[t.Any]) -> None:
    result = component_restart.restart(PARAMS, check_mode=False)
    assert restarted == [("kube-scheduler", None, 120, "a")]
    assert (result["pid_before"], result["pid_after"], result["away_seconds"], result["leaderless_seconds"]) == (7, 8, 1.5, 1.4)


def test_check_mode_restarts_nothing_and_returns_the_same_keys(restarted: list[t.Any]) -> None:
    planned = component_restart.restart(PARAMS, check_mode=True)
    assert restarted == []
    assert (planned["pid_before"], planned["pid_after"], planned["away_seconds"]) == (7, 7, None)
    assert planned.keys() == component_restart.restart(PARAMS, check_mode=False).keys()


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_component_that_is_not_there(restarted: list[t.Any], check_mode: bool) -> None:
    with pytest.raises(CertopsError, match="runs no etcd .*kube-scheduler"):
        component_restart.restart({**PARAMS, "component": "etcd"}, check_mode)
