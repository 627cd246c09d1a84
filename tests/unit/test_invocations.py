# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""However the playbooks are started: nothing is changed without a plan that nothing stands against, and without its gate."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

pytest.importorskip("ansible.cli", reason="playbooks run on a controller; this Python has no ansible-core")

from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import Controller, authority, reader, record

INSPECT, ROTATE = "certops.kubernetes.inspect", "certops.kubernetes.rotate"
FAILURE = "kube-scheduler did not come back; everything was rolled back"
WHOLE = ["certificate_info", "cluster_health_info", "certificate_rotation", "cluster_health_info", "certificate_info"]
CHANGES = {"certificate_rotation", "certificate_rollback"}


def due(**values: t.Any) -> list[dict[str, t.Any]]:
    """The certificates of a node where one is due."""
    return [record("apiserver", 10, readers=[reader("kube-apiserver")]), authority(**values)]


@pytest.fixture(name="controller")
def fixture_controller(tmp_path: pathlib.Path) -> Controller:
    """Three nodes with something due."""
    controller = Controller(tmp_path)
    for name in ("node1", "node2", "node3"):
        controller.node(name, due())
    return controller


def calls(controller: Controller, name: str) -> list[str]:
    """The modules that were called on a node, but for the cluster's lock."""
    return [module for module in controller.calls(name) if module != "cluster_lock"]


def changed(controller: Controller) -> list[str]:
    """The nodes on which a module was called that changes something, check mode or not."""
    return [name for name in ("node1", "node2", "node3") if CHANGES & set(calls(controller, name))]


@pytest.mark.parametrize("arguments", [("--tags", "certs_rotate"), ("--skip-tags", "certs_report")])
def test_tags_that_leave_a_rotation_whole(controller: Controller, arguments: tuple[str, str]) -> None:
    """Plan, gates and all."""
    done = controller.play(ROTATE, *arguments)
    assert done.returncode == 0, done.stdout
    assert [calls(controller, f"node{number}") for number in (1, 2, 3)] == [WHOLE] * 3
    assert bool(list(controller.reports.glob("*.html"))) == ("certs_report" not in arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tags", "certs_inspect"),
        ("--tags", "certs_report"),
        ("--tags", "unknown"),
        ("--skip-tags", "certs_rotate"),
        ("--skip-tags", "certs_inspect"),
        ("--skip-tags", "always"),
        ("--start-at-task", "Renew, activate and prove"),
        ("--start-at-task", "Line up the nodes where something is due"),
        ("--start-at-task", "certops.kubernetes.certs_rotate : Rotate what is due on this node"),
    ],
)
def test_what_is_left_out_never_leaves_a_change(controller: Controller, arguments: tuple[str, str]) -> None:
    """Whatever its exit status."""
    controller.play(ROTATE, *arguments)
    assert changed(controller) == []
    assert all(set(calls(controller, f"node{number}")) <= {"certificate_info"} for number in (1, 2, 3))


def test_tags_of_an_inspection(controller: Controller) -> None:
    """Its own one is the whole of it; without the report's there is none."""
    assert controller.play(INSPECT, "--tags", "certs_inspect", "--skip-tags", "certs_report").returncode == 0
    assert calls(controller, "node1") == ["certificate_info"]
    assert list(controller.reports.glob("*")) == []


def test_leaving_the_gate_out_step_by_step_changes_nothing(controller: Controller) -> None:
    """The rotation itself wants to see that it was passed."""
    said = " ".join(controller.step(ROTATE, ["See how the cluster is before", "The cluster is well enough"]).split())
    assert "Nothing was changed on node1: its gate was skipped." in said
    assert changed(controller) == []


def test_leaving_a_refusal_out_step_by_step_changes_nothing(controller: Controller) -> None:
    """No node is lined up for a change while something stands against it."""
    controller.node("node2", due(fingerprint_sha256="d" * 64))
    said = controller.step(ROTATE, ["Nothing stands against it"])
    assert "Line up the nodes where something is due" in said
    assert changed(controller) == []


def test_leaving_the_kept_order_out_step_by_step_changes_nothing_of_it(controller: Controller) -> None:
    """Each task makes it anew then."""
    controller.step(ROTATE, ["Keep the order"])
    assert [calls(controller, f"node{number}") for number in (1, 2, 3)] == [WHOLE] * 3


def test_a_limit_narrows_what_is_changed_and_not_what_is_asked(controller: Controller) -> None:
    """The gate of the one node asks the whole cluster, from that node."""
    done = controller.play(ROTATE, "--limit", "node2")
    assert done.returncode == 0, done.stdout
    assert (calls(controller, "node1"), calls(controller, "node2"), calls(controller, "node3")) == ([], WHOLE, [])
    asked = [call["params"] for call in controller.state("node2")["calls"] if call["module"] == "cluster_health_info"]
    assert [params["planned_elsewhere"] for params in asked] == [[], []], "what is not in this run is not going to be renewed"


def test_the_next_run_goes_on_where_the_last_one_failed(controller: Controller) -> None:
    """The first node is done and left alone, the second is mended, the third has its turn."""
    controller.change("node2", rotation=FAILURE)
    failed = controller.play(ROTATE)
    assert failed.returncode == 2
    states = {host: node["state"] for host, node in controller.report()["run"]["nodes"].items()}
    assert states == {"node1": "done", "node2": "rolled_back", "node3": "planned"}
    before = {name: len(calls(controller, name)) for name in ("node1", "node2", "node3")}
    controller.change("node2", rotation=None)
    again = controller.play(ROTATE)
    assert again.returncode == 0, again.stdout
    since = {name: calls(controller, name)[count:] for name, count in before.items()}
    assert since == {"node1": ["certificate_info"], "node2": WHOLE, "node3": WHOLE}
    states = {host: node["state"] for host, node in controller.report()["run"]["nodes"].items()}
    assert states == {"node1": "nothing_due", "node2": "done", "node3": "done"}


def test_two_playbooks_in_one_command(controller: Controller) -> None:
    """What the first one saw and lined up is none of the second one's."""
    controller.node("node1", due(), health=["healthy", "healthy", "unhealthy"])
    for name in ("node2", "node3"):
        del controller.inventory["kube_control_plane"]["hosts"][name]
    done = controller.play(ROTATE, ROTATE, certs_rotate_force=True, certs_rotate_health_timeout_seconds=0)
    assert done.returncode == 2
    assert "Nothing was changed on node1, because the cluster is not healthy before" in " ".join(done.stdout.split())
    assert calls(controller, "node1") == [*WHOLE, "certificate_info", "cluster_health_info"]
