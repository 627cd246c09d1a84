# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is asked for what the cluster's API holds, and that the reports show it."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

pytest.importorskip("ansible.cli", reason="playbooks run on a controller; this Python has no ansible-core")

from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import Controller, authority, record

INSPECT, ROTATE = "certops.kubernetes.inspect", "certops.kubernetes.rotate"
SECRET = "api:Secret/shop/web#tls.crt"
ROOT_CA = "api:ConfigMap/default/kube-root-ca.crt#ca.crt"


@pytest.fixture(name="controller")
def fixture_controller(tmp_path: pathlib.Path) -> Controller:
    """A controller without nodes."""
    return Controller(tmp_path)


def asked(controller: Controller, *names: str) -> dict[str, list[t.Any]]:
    """What each node was asked for of the API's objects, call by call."""
    calls = {name: controller.state(name)["calls"] for name in names}
    return {
        name: [call["params"]["cluster_objects"] for call in made if call["module"] == "certificate_info"] for name, made in calls.items()
    }


def found(name: str, days: int, **values: t.Any) -> dict[str, t.Any]:
    """A record of an object of the API."""
    kept = {"renewable": False, "not_renewable_because": "it lies in an object of the cluster's API"}
    return record(name, days, source="api", path="/api/v1/x", component="workload", ca=None, **kept, **values)


def test_one_control_plane_node_of_each_cluster_is_asked(controller: Controller) -> None:
    """With one module call on each node; the first in the inventory that the run covers."""
    for name, cluster in (("blue2", "blue"), ("blue1", "blue"), ("green1", "green"), ("green2", "green")):
        controller.node(name, [authority()])
        controller.inventory["kube_control_plane"]["hosts"][name]["certs_cluster"] = cluster
    controller.node("store", [], groups=("etcd",))
    controller.node("worker", [], groups=("kube_node",))
    done = controller.play(INSPECT)
    assert done.returncode == 0, done.stdout
    nodes = ("blue2", "blue1", "green1", "green2", "store", "worker")
    expected = dict(zip(nodes, (["called"], ["none"], ["called"], ["none"], ["none"], ["none"])))
    assert asked(controller, *nodes) == expected
    assert controller.play(INSPECT, "--limit", "blue1,store", certs_inspect_cluster_objects="yes").returncode == 0
    assert asked(controller, "blue1", "store") == {"blue1": ["none", "all"], "store": ["none", "none"]}


def test_clusters_of_different_groups(controller: Controller) -> None:
    """Their control-plane groups tell them apart, too."""
    for name in ("one", "two"):
        controller.node(name, [authority()], groups=(name,))
        controller.inventory[name]["hosts"][name]["certs_control_plane_group"] = name
    assert controller.play(INSPECT).returncode == 0
    assert asked(controller, "one", "two") == {"one": ["called"], "two": ["called"]}


def test_the_reports_show_what_is_there(controller: Controller) -> None:
    """In text, JSON and HTML."""
    ends = {"code": "expiring", "severity": "critical", "message": "%s ends in 5 days." % SECRET, "remedy": "Have it renewed."}
    objects = {"all": [found(SECRET, 5, status="critical", findings=[ends]), found(ROOT_CA, 3000, presented_to="pods of 17 namespaces")]}
    controller.node("node1", [authority()], cluster_objects=objects)
    done = controller.play(INSPECT, certs_inspect_cluster_objects=True, certs_inspect_fail_on="critical")
    assert done.returncode == 2
    assert "%s on node1: critical: %s ends in 5 days. Have it renewed." % (SECRET, SECRET) in done.stdout
    names = [one["name"] for one in controller.report()["records"]]
    assert names == ["ca", SECRET, ROOT_CA]
    (page,) = controller.reports.glob("*.html")
    assert all(text in page.read_text() for text in (SECRET, ROOT_CA, "pods of 17 namespaces"))


def test_a_rotation_asks_nobody(controller: Controller) -> None:
    """Nothing there can be rotated, and a node's turn is no time for it."""
    controller.node("node1", [record("apiserver", 10), authority()])
    done = controller.play(ROTATE, certs_inspect_cluster_objects=True)
    assert done.returncode == 0, done.stdout
    assert asked(controller, "node1") == {"node1": ["none", "none"]}
