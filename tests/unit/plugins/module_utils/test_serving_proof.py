# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests are approved until a handshake shows what the cluster signed."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._serving_proof import approve_until_served
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import parse_certificates
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.test_in_memory import Server, own
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.test_serving_requests import (
    NODE,
    SANS,
    Cluster,
    document,
    pkcs10,
)

if t.TYPE_CHECKING:
    from pathlib import Path


class Asked:
    """A cluster whose node n1 serves on loopback, and the time that passes there."""

    def __init__(self, folder: Path, *requests: dict[str, t.Any]) -> None:
        self.cluster, self.now = Cluster(folder, requests), 0.0
        self.kubelet = Server(folder, own("n1", 300))
        self.at(127, self.kubelet.port)
        self.meanwhile: t.Callable[[], object] = lambda: None

    def at(self, first: int, port: int) -> None:
        """Where the Node object says that its kubelet serves; its names are those that requests are judged by."""
        node: dict[str, t.Any] = dict(NODE)
        addresses = [{"type": "InternalIP", "address": "%d.0.0.1" % first}, *node["status"]["addresses"]]
        node["status"] = {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}
        self.cluster.server.routes["GET /api/v1/nodes/n1"] = (200, node)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()

    def until_served(self, seconds: float = 5) -> t.Any:
        authorities = parse_certificates(self.cluster.ca.cert_pem, "ca")
        with self.cluster.server:
            found = approve_until_served(self.cluster.client, ["n1"], authorities, seconds, self.sleep, lambda: self.now)
        self.kubelet.close()
        return found


@pytest.fixture(name="asked")
def fixture_asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path, document("own", pkcs10()))


def signed(asked: Asked) -> pki.Pair:
    return pki.make_leaf(asked.cluster.ca, "system:node:n1", sans=SANS, usages=("server",))


def test_what_comes_later_is_approved_and_seen(asked: Asked) -> None:
    late = asked.cluster.requests.pop("own")

    def meanwhile() -> None:
        if asked.now == 1:
            asked.cluster.requests["own"] = late
        if asked.now == 2:
            asked.kubelet.show(signed(asked))

    asked.meanwhile = meanwhile
    found = asked.until_served()
    assert [(one.request, one.node) for one in found.judgement.approved] == [("own", "n1")]
    assert [(one.node, one.address) for one in found.served] == [("n1", "127.0.0.1:%d" % asked.kubelet.port)]
    assert (found.unserved, asked.now) == ((), 2.0)


def test_who_serves_already_is_not_waited_for(asked: Asked) -> None:
    asked.kubelet.show(signed(asked))
    assert [one.node for one in asked.until_served().served] == ["n1"]
    assert asked.now == 0


def test_what_is_still_self_signed_in_the_end_is_said(asked: Asked) -> None:
    (left,) = asked.until_served().unserved
    assert "127.0.0.1:%d shows a certificate that CN=n1-ca@1 signed, not the cluster's CA" % asked.kubelet.port in left.reason
    assert asked.now > 5


def test_nobody_there_and_no_address(asked: Asked, tmp_path: Path) -> None:
    asked.at(127, 9)
    (left,) = asked.until_served(1).unserved
    assert left.reason == "no certificate could be seen: The connection to 127.0.0.1:9 was refused: nothing listens there"
    other = Asked(tmp_path)
    other.cluster.server.routes["GET /api/v1/nodes/n1"] = (200, {"metadata": {"name": "n1"}})
    assert [one.reason for one in other.until_served(1).unserved] == ["its Node object has no address"]
