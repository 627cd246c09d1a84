# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kubelets of workers are asked on a control-plane node, and what they tell is in reports, plans and what is done."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

pytest.importorskip("ansible.cli", reason="playbooks run on a controller; this Python has no ansible-core")

from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import Controller, authority, reader, record

INSPECT, ROTATE = "certops.kubernetes.inspect", "certops.kubernetes.rotate"
END = "2027-11-24T02:00:00Z"
FITS = ["2027-11-24T01:59:58Z", "2027-11-24T02:00:03Z"]
OTHER = ["2027-12-24T01:59:58Z", "2027-12-24T02:00:03Z"]
SELECT = "[?name=='kubelet-client']"
UNKNOWN = "uses the client certificate on disk is not known"


@pytest.fixture(name="controller")
def fixture_controller(tmp_path: pathlib.Path) -> Controller:
    """Two workers, before and after two control-plane nodes in the inventory; nothing there tells what their kubelets use."""
    controller = Controller(tmp_path)
    worker(controller, "w1")
    for name in ("cp1", "cp2"):
        told = {"node-w1": FITS, "node-w2": OTHER}
        controller.node(name, [authority()], node_name="node-" + name, components={"kube-apiserver": {}}, told=told)
    worker(controller, "w2")
    return controller


def worker(controller: Controller, name: str, **client: t.Any) -> None:
    reads = dict(reader("kubelet", "self", "unknown"), proof="none")
    fixed = {"component": "kubelet", "path": "/x.pem", "not_after": END, "readers": [reads], "node": "node-" + name}
    node = {"node_name": "node-" + name, "kubelet_to_ask": "kubelet-client"}
    controller.node(name, [record("kubelet-client", 300, **{**fixed, **client}), authority()], groups=["kube_node"], **node)


def used(controller: Controller) -> dict[str, str]:
    """By the newest report, whether each worker's kubelet uses what is on disk."""
    records = [one for one in controller.report()["records"] if one["name"] == "kubelet-client"]
    return {one["host"]: "%(in_use)s, %(proof)s" % one["readers"][0] for one in records}


def asked(controller: Controller, name: str) -> list[list[str]]:
    """Whose kubelets a node was asked to ask, call by call."""
    return [call["params"]["nodes"] for call in controller.state(name)["calls"] if call["module"] == "kubelet_info"]


def test_one_control_plane_node_asks_all_at_once(controller: Controller) -> None:
    done = controller.play(INSPECT)
    assert done.returncode == 0, done.stdout
    assert (asked(controller, "cp1"), asked(controller, "cp2")) == ([["node-w1", "node-w2"]], [])
    assert used(controller) == {"w1": "true, metrics", "w2": "false, metrics"}
    assert "kubelet-client was replaced, but kubelet does not have the new one" in done.stdout
    assert UNKNOWN not in done.stdout


def test_nobody_is_asked_where_all_is_known(controller: Controller) -> None:
    for name in ("w1", "w2"):
        controller.change(name, kubelet_to_ask=None)
    assert controller.play(INSPECT).returncode == 0
    assert (asked(controller, "cp1"), asked(controller, "cp2")) == ([], [])


def test_without_a_control_plane_node_the_reason_is_said_once(controller: Controller) -> None:
    done = controller.play(INSPECT, "--limit", "w1,w2")
    assert done.returncode == 0, done.stdout
    assert used(controller) == {"w1": "unknown, none", "w2": "unknown, none"}
    assert done.stdout.count(UNKNOWN) == 1
    assert "the kubelet of w1, w2 " in done.stdout
    assert "no control-plane node of its cluster answered in this run" in done.stdout


@pytest.mark.parametrize("state", [{"deaf": "No kubelet could be asked: no kubeconfig."}, {"told": {"node-w2": OTHER}}])
def test_who_cannot_be_asked_fails_nothing(controller: Controller, state: dict[str, t.Any]) -> None:
    controller.change("cp1", **state)
    done = controller.play(INSPECT, certs_inspect_fail_on="critical")
    assert done.returncode == 0, done.stdout
    assert used(controller)["w1"] == "unknown, none"
    (problem,) = controller.report()["problems"]
    assert problem["message"].endswith("No kubelet could be asked: no kubeconfig." if "deaf" in state else "no answer within 5 s.")


@pytest.mark.parametrize("check", [True, False])
def test_one_that_has_an_older_one_is_restarted(controller: Controller, check: bool) -> None:
    """Only that one, and in check mode the plan says so; then it is asked again, about what it has since."""
    done = controller.play(ROTATE, "--tags", "certs_rotate", *(["--check"] if check else []), certs_rotate_select=SELECT)
    assert done.returncode == 0, done.stdout
    assert "w2: activate kubelet-client: renewed on disk, but kubelet still has the old one; restarts kubelet" in done.stdout
    assert "w1: activate" not in done.stdout
    calls = [call for call in controller.state("w2")["calls"] if call["module"] == "certificate_rotation"]
    assert [call["check_mode"] for call in calls] == ([True] if check else [False])
    assert [item["action"] for item in calls[0]["params"]["items"]] == ["activate"]
    assert used(controller)["w1"] == "true, metrics", "what it told is kept while others have their turn"


def test_a_node_that_was_changed_is_asked_again(controller: Controller) -> None:
    """About what it has since; what others told is kept."""
    worker(controller, "w1", seconds_left=86400, days_left=1)
    controller.change("cp1", told={"node-w1": ["2027-11-23T23:59:58Z", "2027-11-24T00:00:03Z"], "node-w2": FITS})
    done = controller.play(ROTATE, certs_rotate_select=SELECT)
    assert done.returncode == 0, done.stdout
    assert asked(controller, "cp1") == [["node-w1", "node-w2"], ["node-w1"]]
    assert used(controller) == {"w1": "true, metrics", "w2": "true, metrics"}


def test_a_first_host_that_is_gone_and_a_worker_that_lies_keep_nobody_from_being_asked(tmp_path: pathlib.Path) -> None:
    """That it has an API server, a worker may say; asked is a host of the control-plane group."""
    controller = Controller(tmp_path)
    controller.node("w0", [], groups=["kube_node"], lost=True)
    worker(controller, "w1")
    controller.change("w1", components={"kube-apiserver": {}}, told={"node-w2": OTHER})
    worker(controller, "w2")
    controller.node("cp1", [authority()], node_name="node-cp1", components={"kube-apiserver": {}}, told={"node-w1": FITS, "node-w2": FITS})
    done = controller.play(INSPECT)
    assert used(controller) == {"w1": "true, metrics", "w2": "true, metrics"}, done.stdout
    assert (asked(controller, "w1"), asked(controller, "cp1")) == ([], [["node-w1", "node-w2"]])
