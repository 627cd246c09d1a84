# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proof for front-proxy-client: a request through the aggregation layer, where something is behind it that works."""

from __future__ import annotations

import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _node_access
from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import UNKNOWN, ClientProof, client_proof
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import FakeNode, FakeServer

LIST = "GET /apis/apiregistration.k8s.io/v1/apiservices"


def api_service(group: str, available: str = "True", service: bool = True) -> dict[str, t.Any]:
    """An APIService; without a Service the API server serves it itself."""
    spec: dict[str, t.Any] = {"group": group, "version": "v1"}
    if service:
        spec["service"] = {"namespace": "kube-system", "name": group}
    return {"spec": spec, "status": {"conditions": [{"type": "Available", "status": available}]}}


class Cluster:
    """A control-plane node whose API server has these APIServices."""

    def __init__(self, node: FakeNode, api: FakeServer) -> None:
        self.api = api
        node.add_kubeconfigs(api.address, "admin.conf")
        node.add_component("kube-apiserver", advertise_address="127.0.0.1", secure_port=str(api.port))
        node.add_pair("front-proxy-client")
        self._node = node

    def proof(self, *services: dict[str, t.Any], **answers: tuple[int, object]) -> ClientProof:
        """What is known of the pair when aggregated servers answer so."""
        self.api.routes[LIST] = (200, {"items": list(services)})
        self.api.routes.update({"GET /apis/%s/v1" % group: answer for group, answer in answers.items()})
        return client_proof(self._node.node(), "front-proxy-client", "00")

    def asked(self) -> list[str]:
        """The groups that were asked for."""
        return [path.split("/")[2] for _method, path, _body in self.api.requests if path.count("/") == 3]


@pytest.fixture(name="cluster")
def fixture_cluster(tmp_path: Path) -> t.Iterator[Cluster]:
    node = FakeNode(tmp_path)
    with FakeServer(tmp_path, {}, node.add_pair("apiserver")) as api:
        yield Cluster(node, api)


def test_an_aggregated_api_answers(cluster: Cluster) -> None:
    assert cluster.proof(api_service("here", service=False), api_service("one"), one=(200, {})) == ClientProof("true", "path_works")
    assert cluster.asked() == ["one"]


@pytest.mark.parametrize("service", [api_service("one", service=False), api_service("one", available="False")])
def test_nothing_is_asked_that_is_not_behind_it_or_not_there(cluster: Cluster, service: dict[str, t.Any]) -> None:
    assert cluster.proof(service, one=(200, {})) == UNKNOWN
    assert cluster.asked() == []


def test_one_that_does_not_answer_well_proves_nothing(cluster: Cluster) -> None:
    """Whose fault it is cannot be seen from here."""
    found = cluster.proof(api_service("one"), one=(503, "service unavailable"))
    assert (found.in_use, found.proof) == ("unknown", "none")
    assert found.message == "GET /apis/one/v1 was answered with status 503"


def test_the_next_one_is_asked(cluster: Cluster) -> None:
    """Any of them shows that the pair works, and no further one is asked."""
    services = [api_service(name) for name in ("one", "two", "three")]
    assert cluster.proof(*services, one=(403, {}), two=(200, {})) == ClientProof("true", "path_works")
    assert cluster.asked() == ["one", "two"]


def test_the_next_one_is_asked_after_no_answer(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_node_access, "_API_TIMEOUT_SECONDS", 0.5)

    def hang(_body: bytes) -> tuple[int, object]:
        time.sleep(1)
        return 200, {}

    cluster.api.routes["GET /apis/one/v1"] = hang
    assert cluster.proof(api_service("one"), api_service("two"), two=(200, {})).in_use == "true"


def test_the_time_for_all_is_bounded(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many do not answer; the limit here is passed with the first."""
    monkeypatch.setattr(_node_access, "_AGGREGATED_SECONDS", 0.0)
    assert cluster.proof(*(api_service("g%d" % number) for number in range(9))).in_use == "unknown"
    assert cluster.asked() == ["g0"]
