# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json
import subprocess
import threading
import typing as t
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._health import Check, Health, Surroundings, check_health
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Component
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import (
    CONTROL_PLANE_NODES,
    NODE_LEASES,
    NOW,
    ONE_NODE,
    FakeNode,
    FakeServer,
    lease_document,
    lease_path,
    listed,
    node_document,
)

COMPONENTS = ("kube-controller-manager", "kube-scheduler")
KUBECONFIGS = ("admin.conf", "controller-manager.conf", "scheduler.conf")


class Cluster:
    """A control plane of one node: an API server, an etcd and a kubelet that answer as the test wants."""

    def __init__(self, directory: Path, stack: ExitStack, expired: t.Sequence[str] = (), api_401: bool = False) -> None:
        self.node = FakeNode(directory, expired)
        status = (401, {"message": "Unauthorized"}) if api_401 else None
        routes: dict[str, t.Any] = {"GET /readyz": status or (200, "ok")}
        for name in COMPONENTS:
            routes["GET " + lease_path(name)] = status or (200, lease_document(name, "node-1_uuid", NOW))
        routes["GET " + CONTROL_PLANE_NODES] = routes["GET " + ONE_NODE + "node-1"] = status or listed(node_document())
        routes["GET " + NODE_LEASES + "node-1"] = status or listed(lease_document("node-1", "node-1", NOW, 40))
        self.api = stack.enter_context(FakeServer(directory, routes, self.node.add_pair("apiserver")))
        self.etcd = stack.enter_context(FakeServer(directory, {}, self.node.add_pair("etcd/server"), client_ca=self.node.etcd_ca))
        member = {"ID": "5", "name": "a", "peerURLs": ["p"], "clientURLs": ["https://" + self.etcd.address]}
        self.etcd.routes["POST /v3/cluster/member/list"] = (200, {"members": [member]})
        self.etcd.routes["POST /v3/maintenance/status"] = (200, {"leader": "5"})
        self.kubelet = stack.enter_context(FakeServer(directory, {"GET /healthz": (200, "ok")}))
        self.node.add_ca("ca", self.node.ca)
        self.node.add_ca("etcd/ca", self.node.etcd_ca)
        self.node.add_pair("etcd/healthcheck-client")
        self.node.add_kubeconfigs(self.api.address, *KUBECONFIGS)
        self.node.add_component("kube-apiserver", advertise_address="127.0.0.1", secure_port=str(self.api.port))
        self.node.add_component("etcd", listen_client_urls="https://" + self.etcd.address)
        self.node.add_component("kubelet", healthz_port=str(self.kubelet.port))
        for name in COMPONENTS:
            self.node.add_component(name, leader_elect="true")

    def health(self, planned: t.Sequence[str] = ()) -> Health:
        return check_health(self.node.node(), NOW, planned)

    def failed(self, planned: t.Sequence[str] = ()) -> dict[str, Check]:
        return {check.name: check for check in self.health(planned).checks if not check.ok}


@pytest.fixture(name="make")
def fixture_make(tmp_path: Path) -> t.Iterator[t.Callable[..., Cluster]]:
    with ExitStack() as stack:
        yield lambda **kwargs: Cluster(tmp_path, stack, **kwargs)


def test_a_healthy_control_plane(make: t.Callable[..., Cluster]) -> None:
    health = make().health()
    assert health.verdict == "healthy"
    assert [check.name for check in health.checks] == ["kube-apiserver", "node", "etcd", *COMPONENTS, "kubelet"]
    assert health.summary().startswith("healthy: ")


def test_a_worker_is_asked_for_its_kubelet_only(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    cluster.node.components = {"kubelet": cluster.node.components["kubelet"]}
    assert [check.name for check in cluster.health().checks] == ["kubelet"]
    assert cluster.health().verdict == "healthy"
    assert cluster.api.requests == []


def test_a_host_where_systemd_runs_etcd_needs_no_kubelet(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    etcd = dataclasses.replace(cluster.node.components["etcd"], unit="etcd.service")
    cluster.node.components = {"etcd": etcd}
    assert [check.name for check in cluster.health().checks] == ["etcd"]
    assert cluster.health().verdict == "healthy"
    whole = check_health(cluster.node.node(), NOW, [], Surroundings())
    assert [(check.name, check.message) for check in whole.checks] == [
        ("etcd", "etcd: 1 of 1 members answer, know the same leader and keep up")
    ]
    cluster.etcd.routes["POST /v3/maintenance/status"] = (200, {"leader": "0"})
    assert cluster.failed()["etcd"].message.endswith("see `journalctl -u etcd.service`")
    cluster.node.components = {"etcd": dataclasses.replace(etcd, unit=None, manifest="etcd.yaml")}
    assert "kubelet" in cluster.failed()


def test_a_node_without_anything_is_not_healthy(tmp_path: Path) -> None:
    assert check_health(FakeNode(tmp_path).node(), NOW, ["apiserver"]).verdict == "unhealthy"


@pytest.mark.parametrize("status", [403, 500, 429])
def test_an_api_server_that_is_not_ready(make: t.Callable[..., Cluster], status: int) -> None:
    cluster = make()
    cluster.api.routes["GET /readyz"] = (status, "[-]etcd failed")
    failed = cluster.failed(["apiserver"])
    assert list(failed) == ["kube-apiserver"]
    assert "HTTP %d" % status in failed["kube-apiserver"].message
    assert cluster.health(["apiserver"]).verdict == "unhealthy"


def test_a_deleted_admin_conf_does_no_harm(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    Path(cluster.node.credentials.pop("admin.conf").cert_path).unlink()
    assert cluster.health().verdict == "healthy"


def test_an_expired_admin_conf_does_no_harm_while_another_identity_works(make: t.Callable[..., Cluster]) -> None:
    assert make(expired=["admin.conf"]).health().verdict == "healthy"


@pytest.mark.parametrize(
    ("renewed", "why"), [(NOW - timedelta(seconds=30), "see the log"), (NOW + timedelta(hours=1), "the nodes' clocks differ")]
)
def test_a_leader_that_does_not_renew_its_lease(make: t.Callable[..., Cluster], renewed: t.Any, why: str) -> None:
    cluster = make()
    cluster.api.routes["GET " + lease_path("kube-scheduler")] = (200, lease_document("kube-scheduler", "node-1_x", renewed))
    failed = cluster.failed()
    assert list(failed) == ["kube-scheduler"]
    assert "has no leader" in failed["kube-scheduler"].message
    assert why in failed["kube-scheduler"].message


def test_a_released_lease_means_no_leader(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    cluster.api.routes["GET " + lease_path("kube-scheduler")] = (200, lease_document("kube-scheduler", "", NOW))
    assert list(cluster.failed()) == ["kube-scheduler"]


def test_no_leader_is_expected_without_election(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    for name in COMPONENTS:
        cluster.node.add_component(name, leader_elect="false")
    assert [check.name for check in cluster.health().checks] == ["kube-apiserver", "node", "etcd", "kubelet"]


def test_a_stale_lease_of_an_expired_controller_manager(make: t.Callable[..., Cluster]) -> None:
    cluster = make(expired=["controller-manager.conf"])
    stale = lease_document(COMPONENTS[0], "node-1_x", NOW - timedelta(hours=1))
    cluster.api.routes["GET " + lease_path(COMPONENTS[0])] = (200, stale)
    assert cluster.health(["controller-manager.conf"]).verdict == "expired_only"
    assert cluster.health(["scheduler.conf"]).verdict == "unhealthy"
    assert cluster.health().verdict == "unhealthy"
    assert "expired: controller-manager.conf" in cluster.health().summary()


def test_everything_has_expired(make: t.Callable[..., Cluster]) -> None:
    everything = ["apiserver", "etcd/server", "etcd/healthcheck-client", *KUBECONFIGS]
    cluster = make(expired=everything, api_401=True)
    assert set(cluster.failed()) == {"kube-apiserver", "etcd", *COMPONENTS}
    assert cluster.health(everything).verdict == "expired_only"
    for missing in ("apiserver", "etcd/server", "controller-manager.conf"):
        assert cluster.health([name for name in everything if name != missing]).verdict == "unhealthy"


def test_an_expired_server_certificate_does_not_hide_another_failure(make: t.Callable[..., Cluster]) -> None:
    cluster = make(expired=["apiserver"])
    assert cluster.health(["apiserver"]).verdict == "expired_only"
    cluster.api.routes["GET /readyz"] = (500, "[-]poststarthook failed")
    assert cluster.health(["apiserver"]).verdict == "unhealthy"


def test_an_expired_client_certificate_is_told_from_a_foreign_one(make: t.Callable[..., Cluster]) -> None:
    cluster = make(api_401=True)
    assert cluster.health(KUBECONFIGS).verdict == "unhealthy"


def test_an_expired_kubelet_is_not_cured_by_a_plan_without_it(make: t.Callable[..., Cluster]) -> None:
    cluster = make(expired=["kubelet-client"])
    cluster.node.add_pair("kubelet-client")
    cluster.kubelet.routes.clear()
    assert cluster.failed()["kubelet"].caused_by_expired == ("kubelet-client",)
    assert cluster.health(["apiserver"]).verdict == "unhealthy"


def test_the_member_of_another_node_is_not_this_nodes_business(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    cluster.api.routes["GET " + CONTROL_PLANE_NODES] = (403, {"message": "nodes is forbidden"})
    answer = json.loads(json.dumps(cluster.etcd.routes["POST /v3/cluster/member/list"][1]))
    answer["members"].append({"ID": "6", "name": "b", "clientURLs": ["https://127.0.0.1:1"]})
    cluster.etcd.routes["POST /v3/cluster/member/list"] = (200, answer)
    assert cluster.health().verdict == "healthy"
    whole = check_health(cluster.node.node(), NOW, surroundings=Surroundings())
    assert [check.name for check in whole.checks if not check.ok] == ["node", "etcd"]


def test_an_etcd_member_without_a_leader(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    cluster.etcd.routes["POST /v3/maintenance/status"] = (200, {"leader": "0"})
    assert "this node's etcd member knows no leader" in cluster.failed()["etcd"].message


def test_a_node_that_is_not_ready(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    cluster.api.routes["GET " + ONE_NODE + "node-1"] = listed(node_document(ready="False", message="no network"))
    failed = cluster.failed(["apiserver"])
    assert list(failed) == ["node"]
    assert "node node-1 is not Ready: no network" in failed["node"].message
    assert cluster.health(["apiserver"]).verdict == "unhealthy"


def test_nodes_that_cannot_be_asked_about(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    cluster.api.routes["GET " + NODE_LEASES + "node-1"] = (403, {"message": "leases is forbidden"})
    assert "what the cluster says of its nodes is not known: GET https://" in cluster.failed()["node"].message


@pytest.mark.parametrize(("surroundings", "requests"), [(None, 5), (Surroundings(), 5)])
def test_few_requests_are_made(make: t.Callable[..., Cluster], surroundings: Surroundings | None, requests: int) -> None:
    cluster = make()
    assert check_health(cluster.node.node(), NOW, surroundings=surroundings).verdict == "healthy"
    assert len(cluster.api.requests) == requests, "readiness, nodes, the kubelet's Lease, two leaders' Leases"


def test_a_node_without_the_control_planes_label_is_asked_for_by_name(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    cluster.api.routes["GET " + CONTROL_PLANE_NODES] = listed()
    assert check_health(cluster.node.node(), NOW, surroundings=Surroundings()).verdict == "healthy"


def test_the_checks_do_not_wait_for_each_other(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    together = threading.Barrier(3)  # readiness, nodes, one leader: asked while none of them has an answer

    def when_all_are_here(answer: t.Any) -> t.Callable[[bytes], t.Any]:
        def wait(_body: bytes) -> t.Any:
            together.wait(timeout=30)
            return answer

        return wait

    for route in ("GET /readyz", "GET " + ONE_NODE + "node-1", "GET " + lease_path("kube-scheduler")):
        cluster.api.routes[route] = when_all_are_here(cluster.api.routes[route])
    assert cluster.health().verdict == "healthy"


def test_nothing_is_written(make: t.Callable[..., Cluster]) -> None:
    cluster = make()
    cluster.health()
    assert {method for method, _path, _body in cluster.api.requests} == {"GET"}


@pytest.mark.parametrize(
    ("code", "output", "ok", "message"),
    [(0, b"active\n", True, "is active"), (3, b"failed\n", False, "is failed, not active"), (None, b"", False, "cannot be read")],
)
def test_the_kubelets_unit(
    make: t.Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch, code: int | None, output: bytes, ok: bool, message: str
) -> None:
    cluster = make()
    kubelet = cluster.node.components["kubelet"]
    cluster.node.components["kubelet"] = Component("kubelet", kubelet.flags, unit="kubelet.service")

    def run(argv: list[str], **_kwargs: t.Any) -> t.Any:
        assert argv == ["systemctl", "is-active", "kubelet.service"]
        if code is None:
            raise FileNotFoundError(2, "No such file")
        return subprocess.CompletedProcess(argv, code, output)

    monkeypatch.setattr(subprocess, "run", run)
    check = next(check for check in cluster.health().checks if check.name == "kubelet unit")
    assert (check.ok, message in check.message) == (ok, True)
