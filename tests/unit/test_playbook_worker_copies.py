# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies of admin.conf on workers, which need no second name: inspected, planned, renewed after all nodes."""

from __future__ import annotations

import pathlib
import re
import typing as t

import pytest

pytest.importorskip("ansible.cli", reason="playbooks run on a controller; this Python has no ansible-core")

from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import Controller, authority, reader, record

INSPECT = "certops.kubernetes.inspect"
ROLLBACK = "certops.kubernetes.rollback"
ROTATE = "certops.kubernetes.rotate"
COPY = "/root/.kube/config#admin"
ADMIN = {"source": "kubeconfig", "usage": "client", "subject": "CN=kubernetes-admin", "component": "user"}


def copy() -> dict[str, t.Any]:
    """A copy from before admin.conf was renewed, which is valid for long."""
    told = {"renewable": False, "externally_managed": True, "path": "/root/.kube/config", "not_before": "2026-01-01T00:00:00Z"}
    return record(COPY, 200, **{**ADMIN, **told, "fingerprint_sha256": "1" * 64, "not_after": "2026-06-01T00:00:00Z"})


def kubelet(days: int) -> list[dict[str, t.Any]]:
    """What a worker has besides."""
    client = record("kubelet-client", days, component="kubelet", readers=[reader("kubelet", "self", "unknown")])
    return [client, authority(component="kubelet")]


@pytest.fixture(name="controller")
def fixture_controller(tmp_path: pathlib.Path) -> Controller:
    """Two workers that come first in the inventory: the first one's kubelet is due, too."""
    controller = Controller(tmp_path)
    admin = record(
        "admin.conf", 300, **ADMIN, path="/etc/kubernetes/admin.conf", fingerprint_sha256="2" * 64, not_before="2026-05-01T00:00:00Z"
    )
    for name, days in (("worker1", 10), ("worker2", 300)):
        runs = {"run-7": "kubelet-client"}
        controller.node(name, [*kubelet(days), copy()], groups=["kube_node"], issued_by={COPY: "c" * 64}, node_name=name, runs=runs)
    controller.node("cp", [authority(), admin], signs=["ca"], runs={})
    return controller


def called(controller: Controller, name: str) -> list[str]:
    """What was done on a node, but for looking at it and for the lock."""
    told = ("certificate_info", "cluster_health_info", "cluster_lock", "kubelet_info")
    return [module for module in controller.calls(name) if module not in told]


def states(report: dict[str, t.Any]) -> dict[str, str]:
    """How far each host came."""
    return {host: node["state"] for host, node in report["run"]["nodes"].items()}


def test_from_the_inspection_to_the_second_run(controller: Controller) -> None:
    """Each has its kubeconfig renewed after all kubelets, and the report has both."""
    done = controller.play(INSPECT)
    assert done.returncode == 0, done.stdout
    found = {one["host"]: [finding["code"] for finding in one["findings"]] for one in controller.report()["records"] if one["name"] == COPY}
    assert found == {"worker1": ["stale_copy"], "worker2": ["stale_copy"]}

    shown = controller.play(ROTATE, "--check", "--diff")
    assert shown.returncode == 0, shown.stdout
    line = (
        "worker2: renew %s: its original was renewed since it was made; the new one has 365 days; signed on cp, which has the key of its CA"
    )
    assert line % COPY in shown.stdout
    assert "Order: worker1, worker2" in shown.stdout
    assert called(controller, "worker1") == ["certificate_rotation", "kubeconfig_renewal"]
    assert called(controller, "worker2") == ["kubeconfig_renewal"]
    assert {node["state"] for node in controller.report()["run"]["nodes"].values()} == {"planned", "nothing_due"}

    done = controller.play(ROTATE)
    assert done.returncode == 0, done.stdout
    plays = re.findall(r"PLAY \[(.*?)\]", done.stdout)
    assert plays[-2:] == ["Rotate the workers, so many at a time", "Renew kubeconfigs whose originals are on other nodes"]
    asked = ["kubeconfig_renewal", "kubeconfig_renewal"]
    assert (called(controller, "worker1")[2:], called(controller, "worker2")[1:]) == (["certificate_rotation", *asked], asked)
    items = [call["params"]["items"] for call in controller.state("worker1")["calls"] if call["module"] == "certificate_rotation"]
    assert [[item["name"] for item in one] for one in items] == [["kubelet-client"]] * 2
    assert all(call["params"]["copies_only"] for call in controller.state("cp")["calls"] if call["module"] == "certificate_signing")
    released = [call["params"]["state"] for call in controller.state("cp")["calls"] if call["module"] == "cluster_lock"]
    assert (released[-1], released.count("released")) == ("released", 1)
    assert not controller.lock.exists()
    report = controller.report()
    assert states(report) == {"cp": "nothing_due", "worker1": "done", "worker2": "done"}
    assert [one["name"] for one in report["results"]["worker1"]["certificates"]] == ["kubelet-client", COPY]
    assert [one["name"] for one in report["results"]["worker2"]["certificates"]] == [COPY]
    assert list(report["gates"]["worker1"]["before"])
    again = controller.play(ROTATE)
    assert again.returncode == 0, again.stdout
    assert set(re.findall(r"changed=(\d+)", again.stdout)) == {"0"}
    before = called(controller, "worker2")
    assert controller.play(ROLLBACK, "--limit", "worker2,cp", certs_rotate_rollback_run_id="run-7").returncode == 0
    assert called(controller, "worker2") == [*before, "certificate_rollback", "certificate_rollback"]


def test_one_that_is_refused_fails_its_own_worker(controller: Controller) -> None:
    """What was done about the kubelet is told, and the other worker's copy is renewed."""
    controller.change("worker1", refused={COPY: "The API server does not take it."})
    done = controller.play(ROTATE)
    assert done.returncode == 2
    assert "Not every kubeconfig on worker1 was renewed. The API server does not take it." in " ".join(done.stdout.split())
    report = controller.report()
    assert states(report) == {"cp": "nothing_due", "worker1": "failed", "worker2": "done"}
    assert [one["name"] for one in report["results"]["worker1"]["certificates"]] == ["kubelet-client"]
    assert not controller.lock.exists()


def test_without_a_control_plane_nothing_is_said(controller: Controller) -> None:
    done = controller.play(ROTATE, "--limit", "worker2")
    assert done.returncode == 0, done.stdout
    assert "Nothing is due." in done.stdout
    assert called(controller, "worker2") == []


def test_a_worker_whose_kubelet_fails_ends_the_run(controller: Controller) -> None:
    """Before any kubeconfig; the lock is let go."""
    controller.change("worker1", rotation="the kubelet did not come back; everything was rolled back")
    done = controller.play(ROTATE)
    assert done.returncode == 2
    assert "kubeconfig_renewal" not in controller.calls("worker1") + controller.calls("worker2")
    assert states(controller.report()) == {"cp": "nothing_due", "worker1": "rolled_back", "worker2": "planned"}
    assert not controller.lock.exists()
