# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the rollback playbook does with nodes that have different runs, with modules that stand in for the real ones."""

from __future__ import annotations

import pathlib
import re

import pytest

pytest.importorskip("ansible.cli", reason="playbooks run on a controller; this Python has no ansible-core")

from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import Controller, authority, reader, record

ROLLBACK = "certops.kubernetes.rollback"
CERTIFICATES = [record("apiserver", 300, readers=[reader("kube-apiserver")]), authority()]


@pytest.fixture(name="controller")
def fixture_controller(tmp_path: pathlib.Path) -> Controller:
    """Three control planes; a run ended at the second one."""
    controller = Controller(tmp_path)
    controller.node("node1", CERTIFICATES, runs={"run-1": "apiserver", "run-2": "apiserver"}, leads=["kube-scheduler"])
    controller.node("node2", CERTIFICATES, runs={"run-1": "apiserver", "run-2": "apiserver"})
    controller.node("node3", CERTIFICATES, runs={"run-1": "apiserver"})
    return controller


def restored(controller: Controller) -> dict[str, list[str]]:
    """The runs that each node has put back."""
    return {name: controller.state(name).get("restored", []) for name in ("node1", "node2", "node3")}


def test_a_run_that_did_not_come_to_every_node(controller: Controller) -> None:
    """The others are left alone; leaders come last; the report says what was done; the lock is let go."""
    done = controller.play(ROLLBACK, certs_rotate_rollback_run_id="run-2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert restored(controller) == {"node1": ["run-2"], "node2": ["run-2"], "node3": []}
    assert re.findall(r"^changed: \[(node\d)\]", done.stdout, re.MULTILINE) == ["node2", "node1"]
    assert "node1: restore apiserver: run run-2 replaced it" in done.stdout
    report = controller.report()
    assert report["run"]["playbook"] == "rollback"
    assert {host: node["state"] for host, node in report["run"]["nodes"].items()} == {
        "node1": "done",
        "node2": "done",
        "node3": "nothing_due",
    }
    assert not controller.lock.exists()
    again = controller.play(ROLLBACK, certs_rotate_rollback_run_id="run-2")
    assert re.findall(r"changed=(\d+)", again.stdout) == ["0", "0", "0"]


def test_without_a_name_each_node_s_newest(controller: Controller) -> None:
    """That is what the last run did there."""
    assert controller.play(ROLLBACK).returncode == 0
    assert restored(controller) == {"node1": ["run-2"], "node2": ["run-2"], "node3": ["run-1"]}


def test_one_node(controller: Controller) -> None:
    """By its name in the inventory."""
    assert controller.play(ROLLBACK, "--limit", "node2", certs_rotate_rollback_run_id="run-1").returncode == 0
    assert restored(controller) == {"node1": [], "node2": ["run-1"], "node3": []}


def test_check_mode_changes_nothing(controller: Controller) -> None:
    """And shows the plan."""
    shown = controller.play(ROLLBACK, "--check", certs_rotate_rollback_run_id="run-1")
    assert shown.returncode == 0, shown.stdout
    assert "Order: node2, node3, node1 (leads kube-scheduler)" in shown.stdout
    assert restored(controller) == {"node1": [], "node2": [], "node3": []}
    assert not controller.lock.exists()


def test_a_run_that_no_node_has(controller: Controller) -> None:
    """Is an error, with the runs that there are."""
    done = controller.play(ROLLBACK, certs_rotate_rollback_run_id="run-9")
    assert done.returncode == 2
    said = " ".join(done.stdout.split())
    assert "No node of this run has a backup of run-9" in said
    assert "'node3': ['run-1']" in said
    assert restored(controller) == {"node1": [], "node2": [], "node3": []}


def test_a_cluster_that_is_not_well_after_a_node_ends_it(controller: Controller) -> None:
    """The next ones are not touched, and the sentence says how to undo it."""
    controller.node("node2", CERTIFICATES, runs={"run-1": "apiserver"}, health=["unhealthy"])
    done = controller.play(ROLLBACK, certs_rotate_health_timeout_seconds="0")
    assert done.returncode == 2
    assert "node2 has its earlier certificates, but the cluster is not healthy after: no leader" in " ".join(done.stdout.split())
    assert restored(controller) == {"node1": [], "node2": ["run-1"], "node3": []}
    assert not controller.lock.exists()
