# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time on a cluster: what the playbooks do about its lock, with modules that stand in for the real ones."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest

pytest.importorskip("ansible.cli", reason="playbooks run on a controller; this Python has no ansible-core")

from ansible_collections.certops.kubernetes.plugins.module_utils._run_holder import controller_process
from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import Controller, authority, record

ROTATE = "certops.kubernetes.rotate"
DUE = [record("apiserver", 10), authority()]
OTHER = {"run_id": "run-of-somebody", "since": "2026-11-24T01:50:00Z", "controller": "elsewhere", "process": ""}


@pytest.fixture(name="controller")
def fixture_controller(tmp_path: pathlib.Path) -> Controller:
    """Two control planes and a worker, with something due on each."""
    controller = Controller(tmp_path)
    for name in ("node1", "node2"):
        controller.node(name, DUE)
    controller.node("worker", [record("kubelet-client", 10, component="kubelet")], groups=("kube_node",))
    return controller


def rotated(controller: Controller) -> list[str]:
    """The nodes that a run has changed."""
    return [name for name in ("node1", "node2", "worker") if "certificate_rotation" in controller.calls(name)]


@pytest.mark.parametrize("arguments", [(), ("--limit", "node2"), ("--check",), ("--limit", "worker")])
def test_a_second_run_is_refused_at_once(controller: Controller, arguments: tuple[str, ...]) -> None:
    """Whatever its limit, in check mode too, and it leaves the lock where it is."""
    controller.lock.write_text(json.dumps(OTHER))
    done = controller.play(ROTATE, *arguments)
    assert done.returncode == 2
    assert "another run changes this cluster: run-of-somebody" in done.stdout
    assert rotated(controller) == []
    assert json.loads(controller.lock.read_text()) == OTHER


def test_a_run_holds_it_from_its_first_change_to_its_end(controller: Controller) -> None:
    """Every change carries the same holder, with AWX' job and user; a worker's run goes on by the word of a control-plane node.

    A second run in a row, with nothing due, locks nothing: it disturbs nobody, and nobody disturbs it.
    """
    done = controller.play(ROTATE, awx_job_id=4711, awx_user_name="ada")
    assert done.returncode == 0, done.stdout
    assert rotated(controller) == ["node1", "node2", "worker"]
    calls = [call for name in ("node1", "node2", "worker") for call in controller.state(name)["calls"]]
    holders = [call["params"]["lock"] for call in calls if call["params"].get("lock")]
    assert len(holders) == 3
    assert all(holder == holders[0] for holder in holders)
    assert (holders[0]["job_id"], holders[0]["user"], holders[0]["playbook"]) == ("4711", "ada", "rotate")
    assert holders[0]["process"]
    assert "cluster_lock" not in controller.calls("worker")
    assert not controller.lock.exists()
    controller.lock.write_text(json.dumps(OTHER))
    assert controller.play(ROTATE).returncode == 0


def test_the_lock_of_a_run_that_was_killed_here_is_taken_over(controller: Controller) -> None:
    """Its process is gone from this very machine."""
    boot, namespace, _pid, start = controller_process().split(":")
    dead = {**OTHER, "process": ":".join([boot, namespace, "1", str(int(start) + 1)])}
    controller.lock.write_text(json.dumps(dead))
    assert controller.play(ROTATE).returncode == 0
    assert rotated(controller) == ["node1", "node2", "worker"]


@pytest.mark.parametrize("value", [True, "true"])
def test_it_is_taken_over_on_request(controller: Controller, value: t.Any) -> None:
    """From whatever run has it."""
    controller.lock.write_text(json.dumps(OTHER))
    assert controller.play(ROTATE, certs_rotate_take_over_lock=value).returncode == 0
    assert rotated(controller) == ["node1", "node2", "worker"]


def test_while_the_api_is_down_the_nodes_keep_it(controller: Controller) -> None:
    """Those that the run leaves out too; a run that holds a single one of them holds up all."""
    for name in ("node1", "node2"):
        controller.node(name, DUE, api="down")
    assert controller.play(ROTATE, "--limit", "node1").returncode == 0
    held = [call["params"] for call in controller.state("node2")["calls"]]
    assert [(params["state"], params["cluster_ca"]) for params in held] == [("held", "c" * 64), ("released", None)]
    assert controller.state("node2")["lock"] is None
    controller.node("node2", DUE, api="down", lock=OTHER)
    refused = controller.play(ROTATE, "--limit", "node1", certs_rotate_force=True)
    assert refused.returncode == 2
    assert "another run changes this cluster: run-of-somebody" in refused.stdout
    assert controller.state("node1")["lock"] is None, "what was taken before the refusal is let go"


def test_workers_alone_need_a_control_plane_to_hold_the_lock(controller: Controller) -> None:
    """Else two such runs would not know of each other."""
    assert controller.play(ROTATE, "--limit", "worker").returncode == 0
    assert "cluster_lock" in controller.calls("node1")
    for name in ("node1", "node2"):
        controller.inventory["kube_control_plane"]["hosts"][name].update(
            ansible_connection="ssh", ansible_host="127.0.0.1", ansible_port="1"
        )
    done = controller.play(ROTATE, "--limit", "worker", certs_rotate_force=True)
    assert done.returncode == 2
    assert "No control-plane node could be reached to hold the lock of the cluster on." in " ".join(done.stdout.split())
