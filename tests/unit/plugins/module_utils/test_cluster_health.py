# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The part of the gate that looks beyond the node: three control planes on three loopback addresses."""

from __future__ import annotations

import typing as t
from contextlib import ExitStack
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._cluster_health import check_etcd_members, check_other_api_servers
from ansible_collections.certops.kubernetes.plugins.module_utils._node_objects import NodeObject
from ansible_collections.certops.kubernetes.plugins.module_utils._verdict import Check, judge
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import NOW, FakeNode, FakeServer, server_pair

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
MESSAGES = {"True": "kubelet is posting ready status", "Unknown": "Kubelet stopped posting node status."}
LIST = "POST /v3/cluster/member/list"
STATUS = "POST /v3/maintenance/status"


class Cluster:
    """Three API servers on one port of three addresses, and three etcd members; everything is asked from node-1."""

    def __init__(self, directory: Path, stack: ExitStack, expired: t.Collection[int] = (), etcd_expired: t.Collection[int] = ()) -> None:
        self.node = FakeNode(directory)
        self.conditions = ["True"] * len(ADDRESSES)
        self.cordoned: set[int] = set()
        self.apis: list[FakeServer] = []
        self.members: list[FakeServer] = []
        sans = ("DNS:kubernetes", "DNS:localhost", *("IP:" + address for address in ADDRESSES))
        for index, address in enumerate(ADDRESSES):
            pair = server_pair(self.node.ca, sans, expired=index in expired)
            bind = (address, self.apis[0].port if self.apis else 0)
            self.apis.append(stack.enter_context(FakeServer(directory, {"GET /readyz": (200, "ok")}, pair, bind=bind)))
            pair = server_pair(self.node.etcd_ca, sans, expired=index in etcd_expired)
            routes: dict[str, t.Any] = {STATUS: (200, status())}
            self.members.append(stack.enter_context(FakeServer(directory, routes, pair, client_ca=self.node.etcd_ca, bind=(address, 0))))
        self.members[0].routes[LIST] = lambda body: (200, {"members": [self._member(index) for index in range(len(ADDRESSES))]})
        self.node.add_ca("etcd/ca", self.node.etcd_ca)
        self.node.add_pair("etcd/healthcheck-client")
        self.node.add_kubeconfigs(self.apis[0].address, "admin.conf")
        self.node.add_component("kube-apiserver", advertise_address="127.0.0.1", secure_port=str(self.apis[0].port))
        self.node.add_component("etcd", listen_client_urls="https://" + self.members[0].address)

    def nodes(self) -> list[NodeObject]:
        """What the cluster says of its control-plane nodes."""
        return [
            NodeObject("node-%d" % (index + 1), address, self.conditions[index], MESSAGES[self.conditions[index]], index in self.cordoned)
            for index, address in enumerate(ADDRESSES)
        ]

    def _member(self, index: int) -> dict[str, t.Any]:
        return {"ID": str(index), "name": "node-%d" % (index + 1), "clientURLs": ["https://" + self.members[index].address]}

    def others(self) -> Check | None:
        return check_other_api_servers(self.node.node(), NOW, self.nodes())

    def etcd(self, restart_planned: bool = False) -> Check:
        return check_etcd_members(self.node.node(), NOW, restart_planned)


def status(revision: int = 100, leader: str = "1", **values: t.Any) -> dict[str, t.Any]:
    """What an etcd member says of itself."""
    return {"header": {"member_id": "0", "revision": str(revision)}, "leader": leader, **values}


@pytest.fixture(name="make")
def fixture_make(tmp_path: Path) -> t.Iterator[t.Callable[..., Cluster]]:
    with ExitStack() as stack:
        yield lambda **kwargs: Cluster(tmp_path, stack, **kwargs)


def test_all_is_well(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    assert cluster.others() == Check("other control-plane nodes", True, "node-2, node-3: ready")
    assert cluster.etcd(restart_planned=True) == Check("etcd", True, "etcd: 3 of 3 members answer, know the same leader and keep up")


def test_a_cluster_of_one_has_no_others(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    assert check_other_api_servers(cluster.node.node(), NOW, cluster.nodes()[:1]) is None


def test_a_cordoned_one_is_no_obstacle_but_said(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    cluster.cordoned.add(2)
    assert cluster.others() == Check("other control-plane nodes", True, "node-2, node-3 (cordoned): ready")


def test_another_api_server_that_is_away(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    cluster.apis[2].__exit__()
    check = cluster.others()
    assert check is not None
    assert not check.ok
    assert check.message.startswith("the API server of node node-3 is not ready: GET https://127.0.0.3:%d/readyz" % cluster.apis[0].port)
    assert "connection refused" in check.message
    assert check.caused_by_expired == ()


def test_another_node_that_is_not_ready(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    cluster.conditions[1] = "Unknown"
    check = cluster.others()
    assert check is not None
    assert check.message == "node node-2 is not ready: Kubelet stopped posting node status."
    cluster.conditions[:2] = ["Unknown", "True"]
    check = cluster.others()
    assert check is not None
    assert check.ok, "this node's own condition is not the others'"


def test_others_that_have_expired_are_cured_when_the_plan_comes_to_them(make: t.Callable[..., Cluster]) -> None:
    cluster = make(expired=[1, 2])
    check = cluster.others()
    assert check is not None
    assert check.caused_by_expired == ("elsewhere:apiserver",)
    assert "(expired: apiserver of another node; renewing cures it)" in check.message
    assert judge([check], ["apiserver"]).verdict == "unhealthy"
    assert judge([check], [], ["apiserver"]).verdict == "expired_only"
    cluster.conditions[2] = "Unknown"
    check = cluster.others()
    assert check is not None
    assert check.caused_by_expired == ("elsewhere:apiserver",), "its kubelet cannot reach an API server that has expired"


def test_an_expired_one_does_not_excuse_one_that_is_away(make: t.Callable[..., Cluster]) -> None:
    cluster = make(expired=[1])
    cluster.apis[2].__exit__()
    check = cluster.others()
    assert check is not None
    assert judge([check], [], ["apiserver"]).verdict == "unhealthy"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (status(leader="2"), "2 different leaders"),
        (status(leader="0"), "etcd member node-3 knows no leader"),
        (status(revision=90), "etcd member node-3 lags behind: it is at revision 90, and others were at 100 before"),
        (status(errors=["NOSPACE"]), "alarm: NOSPACE"),
        (status(isLearner=True), "learner"),
    ],
)
def test_a_member_that_is_not_well(make: t.Callable[..., Cluster], change: dict[str, t.Any], said: str) -> None:
    cluster = make()
    cluster.members[2].routes[STATUS] = (200, change)
    check = cluster.etcd()
    assert not check.ok
    assert said in check.message


def test_a_member_that_catches_up(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    revisions = iter([99, 101])
    cluster.members[1].routes[STATUS] = lambda body: (200, status(revision=next(revisions)))
    assert cluster.etcd().ok


def test_a_restart_that_would_cost_the_quorum(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    cluster.members[1].__exit__()
    assert "etcd member node-2 does not answer" in cluster.etcd().message
    assert "quorum" not in cluster.etcd().message
    assert "3 members, 2 of them well: it would lose its quorum" in cluster.etcd(restart_planned=True).message


def test_members_that_have_expired(make: t.Callable[..., Cluster]) -> None:
    cluster = make(etcd_expired=[1, 2])
    assert cluster.etcd().caused_by_expired == ("elsewhere:etcd/server",)
    assert cluster.etcd(restart_planned=True).caused_by_expired == ()


def test_this_nodes_own_member_has_expired(make: t.Callable[..., Cluster]) -> None:
    cluster = make(etcd_expired=[0])
    assert cluster.etcd().caused_by_expired == ("etcd/server",)
    members = ",".join("node-%d=https://%s:2380" % (index + 1, address) for index, address in enumerate(ADDRESSES))
    cluster.node.add_component("etcd", listen_client_urls="https://" + cluster.members[0].address, initial_cluster=members)
    check = cluster.etcd(restart_planned=True)
    assert check.caused_by_expired == ()
    assert "renew with certs_rotate_restart: auto first" in check.message


def outside(cluster: Cluster, *servers: str) -> None:
    """etcd is outside of the cluster, and the API server uses these servers."""
    cluster.node.components.pop("etcd", None)
    urls = ",".join("https://" + server for server in servers)
    cluster.node.add_component("kube-apiserver", advertise_address="127.0.0.1", etcd_servers=urls)


def test_etcd_outside_the_cluster(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    outside(cluster, *(member.address for member in cluster.members))
    assert cluster.etcd().ok
    cluster.members[0].routes.pop(LIST)
    cluster.members[1].routes[LIST] = lambda body: (200, {"members": [cluster._member(index) for index in range(3)]})
    assert cluster.etcd().ok, "whoever answers tells of all"
    cluster.members[2].__exit__()
    assert "etcd member node-3 does not answer" in cluster.etcd().message
    assert "connection refused" in cluster.etcd().message


def test_a_server_outside_the_cluster_that_is_no_members_address(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    outside(cluster, "127.0.0.1:1", cluster.members[0].address)
    assert "the API server's etcd server 127.0.0.1:1 does not answer" in cluster.etcd().message
    outside(cluster, cluster.members[0].address, "localhost:%d" % cluster.members[0].port)
    assert cluster.etcd().ok, "a name of the member that is not the one that it tells"


def test_etcd_outside_the_cluster_has_expired(make: t.Callable[..., Cluster]) -> None:
    cluster = make(etcd_expired=[0, 1, 2])
    outside(cluster, *(member.address for member in cluster.members))
    assert cluster.etcd().caused_by_expired == ("elsewhere:etcd/server",)
