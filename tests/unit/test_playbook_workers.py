# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Workers have their turn after the control plane, so many at a time."""

from __future__ import annotations

import json
import pathlib
import re
import typing as t

import pytest

pytest.importorskip("ansible.cli", reason="playbooks run on a controller; this Python has no ansible-core")

from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import Controller, authority, reader, record

ROLLBACK = "certops.kubernetes.rollback"
ROTATE = "certops.kubernetes.rotate"
WORKERS = ("a1", "a2", "a3", "a4")  # before the control plane in the inventory


@pytest.fixture(name="controller")
def fixture_controller(tmp_path: pathlib.Path) -> Controller:
    """A control-plane node, which is a worker too, and four more workers where the kubelet's certificate is due."""
    controller = Controller(tmp_path)
    client = record("kubelet-client", 10, component="kubelet", readers=[reader("kubelet", "self", "unknown")])
    for name in WORKERS:
        controller.node(name, [dict(client), authority()], groups=["kube_node"], runs={"run-7": "kubelet-client"})
    controller.node("cp", [dict(client), authority()], groups=["kube_control_plane", "kube_node"], runs={"run-7": "kubelet-client"})
    return controller


def batches(output: str) -> list[list[str]]:
    """The nodes that were changed, by the batch in which they were."""
    found = re.findall(r"TASK \[[^\]]*: (?:Renew, activate and prove|Put back what[^\]]*)\] \**\n((?:changed: \[\w+\]\n)+)", output)
    return [sorted(re.findall(r"\[(\w+)\]", lines)) for lines in found]


@pytest.mark.parametrize(
    ("serial", "expected"),
    [
        (None, [["cp"], ["a1"], ["a2"], ["a3"], ["a4"]]),
        (3, [["cp"], ["a1", "a2", "a3"], ["a4"]]),
        ("50%", [["cp"], ["a1", "a2"], ["a3", "a4"]]),
    ],
)
def test_after_the_control_plane_so_many_at_a_time(controller: Controller, serial: t.Any, expected: list[list[str]]) -> None:
    if serial is not None:  # of a group, which plays do not see
        (controller.folder / "group_vars").mkdir()
        (controller.folder / "group_vars" / "all.json").write_text(json.dumps({"certs_rotate_worker_serial": serial}))
    done = controller.play(ROTATE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a1: renew kubelet-client: 10 days left, less than 30 days; the new one has 365 days; restarts kubelet" in done.stdout
    assert batches(done.stdout) == expected
    assert not controller.lock.exists()
    assert {node["state"] for node in controller.report()["run"]["nodes"].values()} == {"done"}
    back = controller.play(ROLLBACK)
    assert back.returncode == 0, back.stdout + back.stderr
    assert batches(back.stdout) == expected


def test_a_worker_that_fails_ends_the_run(controller: Controller) -> None:
    """Those after it are not touched, and the lock is let go."""
    controller.change("a2", rotation="the kubelet did not come back; everything was rolled back")
    done = controller.play(ROTATE)
    assert done.returncode == 2
    assert "the kubelet did not come back" in done.stdout
    assert "certificate_rotation" in controller.calls("a1")
    assert "certificate_rotation" not in controller.calls("a3")
    assert not controller.lock.exists()


def test_only_workers_due(controller: Controller) -> None:
    controller.change("cp", certificates=[record("kubelet-client", 300, component="kubelet"), authority()])
    done = controller.play(ROTATE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert batches(done.stdout) == [[name] for name in WORKERS]


def test_a_serial_that_is_none(controller: Controller) -> None:
    refused = controller.play(ROTATE, certs_rotate_worker_serial="0%")
    assert refused.returncode == 2
    assert "certs_rotate_worker_serial is '0%', but must be a whole number, 1 or more, or a percentage such as 25%" in refused.stdout
