# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rotation where kubelets have their serving certificates signed by the cluster."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

pytest.importorskip("ansible.cli", reason="playbooks run on a controller; this Python has no ansible-core")

from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import Controller, authority, reader, record

ROTATE = "certops.kubernetes.rotate"
SIGNED_BY_CLUSTER = "/var/lib/kubelet/pki/kubelet-server-current.pem"
APPROVAL = "kubelet_serving_approval"


@pytest.fixture(name="controller")
def fixture_controller(tmp_path: pathlib.Path) -> Controller:
    """Two control planes, of which the second one's kubelet asks; nothing is due."""
    controller = Controller(tmp_path)
    requests = {"csr-1": "node-2", "csr-2": "stranger"}
    for name, node, path in (("cp1", "node-1", "/var/lib/kubelet/pki/kubelet.crt"), ("cp2", "node-2", SIGNED_BY_CLUSTER)):
        serving = record("kubelet-serving", 200, node=node, path=path, readers=[reader("kubelet", "self")])
        controller.node(name, [serving, authority(node=node)], requests=requests)
    return controller


def asked(controller: Controller) -> list[dict[str, t.Any]]:
    """How the module was called, on any node."""
    return [call for name in ("cp1", "cp2") for call in controller.state(name)["calls"] if call["module"] == APPROVAL]


def test_requests_of_nodes_in_the_run_are_approved_and_the_rest_is_shown(controller: Controller) -> None:
    done = controller.play(ROTATE)
    assert done.returncode == 0, done.stdout
    assert [(call["params"]["nodes"], call["check_mode"]) for call in asked(controller)] == [(["node-2"], False)]
    assert APPROVAL in controller.calls("cp1"), "a control-plane node has the identity for it"
    assert "approve csr-1: node node-2 asks for its own names" in done.stdout
    assert "leave csr-2 of stranger: it is of no node of this play" in done.stdout
    assert "changed=1" in done.stdout


def test_check_mode_approves_nothing(controller: Controller) -> None:
    shown = controller.play(ROTATE, "--check")
    assert shown.returncode == 0, shown.stdout
    assert [call["check_mode"] for call in asked(controller)] == [True]
    assert "approve csr-1" in shown.stdout


def test_nobody_is_asked_where_it_is_not_wanted_or_no_kubelet_asks(controller: Controller) -> None:
    assert controller.play(ROTATE, certs_rotate_approve_serving_requests="no").returncode == 0
    controller.node("cp2", [authority(node="node-2")])
    assert controller.play(ROTATE).returncode == 0
    assert asked(controller) == []


def test_an_api_that_cannot_be_asked_holds_nothing_up(controller: Controller) -> None:
    due = record("apiserver", 10, node="node-1", readers=[reader("kube-apiserver")])
    state = controller.state("cp1")["certificates"]
    controller.change("cp1", approval="the API is away", certificates=[*state, due])
    done = controller.play(ROTATE)
    assert done.returncode == 0, done.stdout
    assert "requests of kubelets were not looked at, or not all: the API is away" in done.stdout
    assert "certificate_rotation" in controller.calls("cp1")
