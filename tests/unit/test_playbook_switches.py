# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rotation that switches settings of kubelets on: approved on a control-plane node, proven, or put back."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

pytest.importorskip("ansible.cli", reason="playbooks run on a controller; this Python has no ansible-core")

from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import Controller, authority

ROTATE = "certops.kubernetes.rotate"
APPROVAL, ROTATION, ROLLBACK = "kubelet_serving_approval", "certificate_rotation", "certificate_rollback"
OFF = {"on": False, "path": "/var/lib/kubelet/config.yaml", "obstacle": None}
SERVING: dict[str, t.Any] = {"certs_rotate_cluster_signed_kubelet_serving": True, "certs_rotate_start_timeout_seconds": 15}
BOTH: dict[str, t.Any] = {**SERVING, "certs_rotate_enable_kubelet_rotation": "yes"}
SETTINGS = {"kubelet:rotateCertificates": OFF, "kubelet:serverTLSBootstrap": OFF}


@pytest.fixture(name="controller")
def fixture_controller(tmp_path: pathlib.Path) -> Controller:
    """A control plane where all is as wanted, and a worker whose kubelet has both switched off."""
    controller = Controller(tmp_path)
    controller.node("cp1", [authority(node="node-1")], node_name="node-1", requests={"csr-1": "node-2"})
    controller.node("w1", [authority(node="node-2")], ["kube_node"], node_name="node-2", kubelet_settings=SETTINGS)
    return controller


def calls(controller: Controller, host: str, module: str) -> list[dict[str, t.Any]]:
    return [call["params"] for call in controller.state(host)["calls"] if call["module"] == module]


def test_it_is_approved_on_a_control_plane_node_and_proven(controller: Controller) -> None:
    done = controller.play(ROTATE, **BOTH)
    assert done.returncode == 0, done.stdout
    (rotation,) = calls(controller, "w1", ROTATION)
    assert [(item["name"], item["action"]) for item in rotation["items"]] == [(name, "configure") for name in SETTINGS]
    (approval,) = calls(controller, "cp1", APPROVAL)
    assert (approval["nodes"], approval["served_seconds"]) == (["node-2"], 15)
    assert calls(controller, "cp1", ROTATION) == []
    assert "approve csr-1: node node-2 asks for its own names" in done.stdout
    assert controller.report()["run"]["nodes"]["w1"]["state"] == "done"


def test_what_is_not_signed_in_time_is_put_back_with_the_reason(controller: Controller) -> None:
    controller.change("cp1", unserved={"node-2": "nothing listens there"}, requests={"csr-1": "system:node:node-2"})
    done = controller.play(ROTATE, **SERVING)
    assert done.returncode != 0
    (rollback,) = calls(controller, "w1", ROLLBACK)
    assert rollback["run_id"] == calls(controller, "w1", ROTATION)[0]["run_id"] + "-kubelet"
    assert "was not signed by the cluster within 15 s: nothing listens there; its request is left alone: it is of no " in done.stdout
    assert "Its configuration was put back; what was renewed before stays." in done.stdout
    node = controller.report()["run"]["nodes"]["w1"]
    assert node["state"] == "rolled_back"
    assert "nothing listens there" in node["message"]
    assert not controller.lock.exists()


def test_an_api_that_cannot_be_asked_is_the_reason(controller: Controller) -> None:
    controller.change("cp1", approval="the API is away")
    done = controller.play(ROTATE, **SERVING)
    assert done.returncode != 0
    assert "within 15 s: the API is away. Its configuration was put back" in done.stdout


def test_check_mode_asks_for_nothing(controller: Controller) -> None:
    shown = controller.play(ROTATE, "--check", **BOTH)
    assert shown.returncode == 0, shown.stdout
    assert (
        "w1: configure kubelet:serverTLSBootstrap: it is off, and certs_rotate_cluster_signed_kubelet_serving wants it on" in shown.stdout
    )
    assert calls(controller, "cp1", APPROVAL) == []


def test_a_run_without_a_control_plane_node_asks_one_outside_of_it(controller: Controller) -> None:
    done = controller.play(ROTATE, "--limit", "w1", **SERVING)
    assert done.returncode == 0, done.stdout
    assert len(calls(controller, "cp1", APPROVAL)) == 1


def test_a_cluster_that_is_not_well_after_it_is_told_how_all_of_it_is_undone(controller: Controller) -> None:
    controller.change("w1", health=["healthy", "unhealthy"])
    done = controller.play(ROTATE, **BOTH, certs_rotate_health_timeout_seconds="3")
    assert done.returncode == 2, done.stdout
    run_id = calls(controller, "w1", ROTATION)[0]["run_id"]
    undo = "ansible-playbook certops.kubernetes.rollback -e certs_rotate_rollback_run_id="
    assert "To undo this too: %s%s-kubelet, then %s%s" % (undo, run_id, undo, run_id) in " ".join(done.stdout.split())
