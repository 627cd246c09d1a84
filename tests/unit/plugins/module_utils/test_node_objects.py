# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, ApiError
from ansible_collections.certops.kubernetes.plugins.module_utils._lease import Lease
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Component, Process
from ansible_collections.certops.kubernetes.plugins.module_utils._node_objects import (
    NodeObject,
    check_own_node,
    control_plane_nodes,
    node_lease,
    node_object,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._verdict import judge
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import (
    CONTROL_PLANE_NODES,
    NODE_LEASES,
    NOW,
    ONE_NODE,
    FakeNode,
    FakeServer,
    lease_document,
    listed,
    node_document,
    server_pair,
)

READY = NodeObject("node-1", "127.0.0.1", "True", "kubelet is posting ready status", False)
SILENT = NodeObject("node-1", "127.0.0.1", "Unknown", "Kubelet stopped posting node status.", False)
UNWELL = NodeObject("node-1", "127.0.0.1", "False", "container runtime network not ready", False)


@pytest.fixture(name="api")
def fixture_api(tmp_path: Path) -> t.Iterator[tuple[FakeServer, ApiClient]]:
    ca = pki.make_ca()
    with FakeServer(tmp_path, {}, server_pair(ca)) as server:
        yield server, ApiClient(server.address, ca_pem=ca.cert_pem)


def lease(seconds: float = 0, duration: int = 40) -> Lease:
    """A kubelet's Lease that was renewed so many seconds ago."""
    return Lease("node-1", "node-1", None, NOW - timedelta(seconds=seconds), duration)


def test_nodes_are_listed(api: tuple[FakeServer, ApiClient]) -> None:
    server, client = api
    never = {"metadata": {"name": "node-3"}, "status": {}}
    unwell = node_document("node-2", "False", "no network")
    server.routes["GET " + CONTROL_PLANE_NODES] = listed(node_document(cordoned=True), unwell, never)
    assert control_plane_nodes(client) == [
        NodeObject("node-1", "127.0.0.1", "True", "", True),
        NodeObject("node-2", "127.0.0.1", "False", "no network", False),
        NodeObject("node-3", None, "", "", False),
    ]
    assert [found.problem for found in control_plane_nodes(client)] == [None, "no network", "its kubelet has never reported"]
    server.routes["GET " + ONE_NODE + "node-1"] = listed(node_document(ready="Unknown"))
    found = node_object(client, "node-1")
    assert found is not None
    assert found.problem == "its condition Ready is Unknown"


def test_a_node_that_is_not_there(api: tuple[FakeServer, ApiClient]) -> None:
    api[0].routes["GET " + ONE_NODE + "node-1"] = api[0].routes["GET " + NODE_LEASES + "node-1"] = listed()
    assert (node_object(api[1], "node-1"), node_lease(api[1], "node-1")) == (None, None)


def test_the_kubelets_lease(api: tuple[FakeServer, ApiClient]) -> None:
    api[0].routes["GET " + NODE_LEASES + "node-1"] = listed(lease_document("node-1", "node-1", NOW, 40))
    found = node_lease(api[1], "node-1")
    assert found is not None
    assert (found.holder, found.renewed, found.duration_seconds) == ("node-1", NOW, 40)


@pytest.mark.parametrize("answer", [{"items": "x"}, {"items": [7]}, {"items": [{"status": [], "spec": 1}]}])
def test_a_garbled_list_does_not_pass_for_a_cluster_of_one(api: tuple[FakeServer, ApiClient], answer: object) -> None:
    api[0].routes["GET " + CONTROL_PLANE_NODES] = (200, answer)
    with pytest.raises(ApiError, match="garbled list of nodes"):
        control_plane_nodes(api[1])


@pytest.mark.parametrize("answer", [{"items": None}, {}, {"items": []}])
def test_an_empty_list(api: tuple[FakeServer, ApiClient], answer: object) -> None:
    api[0].routes["GET " + CONTROL_PLANE_NODES] = (200, answer)
    assert control_plane_nodes(api[1]) == []


def test_a_garbled_lease_is_explained(api: tuple[FakeServer, ApiClient]) -> None:
    api[0].routes["GET " + NODE_LEASES + "node-1"] = (200, {"items": ["x"]})
    with pytest.raises(ApiError, match="is no Lease"):
        node_lease(api[1], "node-1")


def test_a_node_that_is_well(tmp_path: Path) -> None:
    check = check_own_node(FakeNode(tmp_path).node(), NOW, READY, lease(44))
    assert (check.ok, check.remark) == (True, None)


def test_a_cordoned_node_is_no_obstacle_but_said(tmp_path: Path) -> None:
    cordoned = NodeObject("node-1", None, "True", "", True)
    check = check_own_node(FakeNode(tmp_path).node(), NOW, cordoned, lease())
    assert check.ok
    assert judge([check], []).summary() == "healthy: node; node node-1 is cordoned, which is no obstacle"


@pytest.mark.parametrize(
    ("found", "renewed", "said"),
    [
        (None, lease(), "the cluster knows no node node-1"),
        (UNWELL, lease(), "node node-1 is not Ready: container runtime network not ready: see `kubectl describe node node-1`"),
        (SILENT, lease(), "node node-1 is not Ready: Kubelet stopped posting node status."),
        (READY, lease(46), "the Lease kube-node-lease/node-1 was last renewed at "),
        (READY, None, "the Lease kube-node-lease/node-1, which its kubelet renews every few seconds, does not exist"),
        (READY, Lease("node-1", "", None, None, 0), "does not exist"),
    ],
)
def test_a_node_that_is_not_well(tmp_path: Path, found: NodeObject | None, renewed: Lease | None, said: str) -> None:
    check = check_own_node(FakeNode(tmp_path).node(), NOW, found, renewed)
    assert not check.ok
    assert said in check.message
    assert judge([check], ["apiserver", "kubelet-client"]).verdict == "unhealthy"


def test_an_expired_api_server_explains_a_kubelet_that_is_silent(tmp_path: Path) -> None:
    fake = FakeNode(tmp_path, expired=["apiserver"])
    fake.add_pair("apiserver")
    check = check_own_node(fake.node(), NOW, SILENT, lease(3600))
    assert "(expired: apiserver; renewing cures it)" in check.message
    assert judge([check], ["apiserver"]).verdict == "expired_only"
    assert judge([check], ["etcd/server"]).verdict == "unhealthy"
    reported = check_own_node(fake.node(), NOW, UNWELL, lease())
    assert judge([reported], ["apiserver"]).verdict == "unhealthy", "a kubelet that reports is not kept from it"


def test_a_kubelet_that_has_expired_keeps_nothing_from_being_renewed(tmp_path: Path) -> None:
    fake = FakeNode(tmp_path, expired=["kubelet-client", "apiserver"])
    fake.add_pair("kubelet-client")
    check = check_own_node(fake.node(), NOW, SILENT, None)
    assert check.caused_by_expired == ("kubelet-client",)
    assert "kubelet-client of its kubelet has expired" in check.message
    assert "| kubeadm kubeconfig user --config /dev/stdin --org system:nodes" in check.message
    assert judge([check], []).verdict == "expired_only"
    fake.add_pair("apiserver")
    both = check_own_node(fake.node(), NOW, SILENT, None)
    assert judge([both], []).verdict == "unhealthy"
    assert judge([both], ["apiserver"]).verdict == "expired_only"
    assert "(expired: apiserver; renewing cures it); kubelet-client of its kubelet" in both.message


def test_a_kubelet_that_belongs_to_no_cluster(tmp_path: Path) -> None:
    fake = FakeNode(tmp_path)
    fake.components["kubelet"] = Component("kubelet", {}, process=Process(7, 7, ("kubelet",), NOW))
    check = check_own_node(fake.node(), NOW, None, None)
    assert check.ok
    assert "belongs to no cluster" in check.message
