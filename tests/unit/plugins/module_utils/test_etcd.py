# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _etcd
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiError, Identity
from ansible_collections.certops.kubernetes.plugins.module_utils._etcd import Member
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Endpoint
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import (
    NOW,
    FakeNode,
    FakeServer,
    client_pair,
    server_pair,
)

LIST = "POST /v3/cluster/member/list"
STATUS = "POST /v3/maintenance/status"
HEALTHY = {"header": {"member_id": "5", "revision": "1210"}, "leader": "5", "raftTerm": "2", "raftIndex": "1317", "version": "3.6.8"}


@pytest.fixture(name="etcd")
def fixture_etcd(tmp_path: Path) -> t.Iterator[tuple[FakeServer, Identity]]:
    ca = pki.make_ca("etcd-ca")
    pair = client_pair(ca, "kube-etcd-healthcheck-client")
    with FakeServer(tmp_path, {STATUS: (200, HEALTHY)}, server_pair(ca), client_ca=ca) as server:
        yield server, Identity("healthcheck-client.crt", pair.cert_pem, pair.key_pem, ca.cert_pem)


def member(server: FakeServer, **changes: t.Any) -> Member:
    values: dict[str, t.Any] = {"id": "5", "name": "a", "peer_urls": ("https://10.0.0.1:2380",), "is_learner": False}
    values["client_urls"] = ("https://" + server.address,)
    values.update(changes)
    return Member(**values)


def test_members_are_read_through_the_leader(etcd: tuple[FakeServer, Identity]) -> None:
    server, identity = etcd
    entry = {"ID": "5", "name": "a", "peerURLs": ["p"], "clientURLs": ["c"]}
    server.routes[LIST] = (200, {"members": [entry, {"ID": "6", "isLearner": True}]})
    assert _etcd.members(_etcd.etcd_client(server.address, identity)) == [
        Member("5", "a", ("p",), ("c",), False),
        Member("6", "", (), (), True),
    ]
    assert server.requests == [("POST", "/v3/cluster/member/list", b'{"linearizable": true}')]


def test_a_gateway_that_is_switched_off_is_explained(etcd: tuple[FakeServer, Identity]) -> None:
    server, identity = etcd
    server.routes.clear()
    for ask in (_etcd.members, _etcd.endpoint_status):
        with pytest.raises(ApiError, match="enable-grpc-gateway: true"):
            ask(_etcd.etcd_client(server.address, identity))


def test_the_first_server_that_answers_tells_the_members(etcd: tuple[FakeServer, Identity]) -> None:
    server, identity = etcd
    server.routes[LIST] = (200, {"members": []})
    assert _etcd.members_of(["127.0.0.1:1", server.address], identity) == []
    with pytest.raises(ApiError, match="127.0.0.1:1/"):
        _etcd.members_of(["127.0.0.1:1", "127.0.0.1:2"], identity)


def test_an_old_etcd_that_does_not_know_the_field(etcd: tuple[FakeServer, Identity]) -> None:
    server, identity = etcd
    refusal: tuple[int, dict[str, t.Any]] = (400, {"message": "unknown field"})
    server.routes[LIST] = lambda body: (200, {"members": []}) if body == b"{}" else refusal
    assert _etcd.members(_etcd.etcd_client(server.address, identity)) == []


def test_no_quorum_is_explained(etcd: tuple[FakeServer, Identity]) -> None:
    server, identity = etcd
    server.routes[LIST] = (503, {"message": "etcdserver: no leader"})
    with pytest.raises(ApiError, match="no leader"):
        _etcd.members(_etcd.etcd_client(server.address, identity))


def test_a_healthy_member(etcd: tuple[FakeServer, Identity]) -> None:
    status = _etcd.ask_member(member(etcd[0]), etcd[1])
    assert (status.leader_id, status.raft_index, status.revision) == ("5", 1317, 1210)
    assert _etcd.status_problem("a", status) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"leader": "0"}, "knows no leader"), ({"errors": ["NOSPACE"]}, "alarm: NOSPACE"), ({"isLearner": True}, "learner")],
)
def test_what_a_member_says_of_itself(etcd: tuple[FakeServer, Identity], change: dict[str, t.Any], problem: str) -> None:
    etcd[0].routes[STATUS] = (200, {**HEALTHY, **change})
    assert problem in str(_etcd.status_problem("a", _etcd.ask_member(member(etcd[0]), etcd[1])))


def test_a_member_that_never_started(etcd: tuple[FakeServer, Identity]) -> None:
    with pytest.raises(ApiError, match="never started"):
        _etcd.ask_member(member(etcd[0], name=""), etcd[1])


def test_one_of_a_members_addresses_is_enough(etcd: tuple[FakeServer, Identity]) -> None:
    urls = ("https://127.0.0.1:1", "https://" + etcd[0].address)
    assert _etcd.ask_member(member(etcd[0], client_urls=urls), etcd[1]).leader_id == "5"
    with pytest.raises(ApiError, match="connection refused"):
        _etcd.ask_member(member(etcd[0], client_urls=urls[:1]), etcd[1])


def test_where_etcd_is_asked(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    with pytest.raises(CertopsError, match="does not say where etcd is"):
        _etcd.etcd_servers(node.node())
    node.add_component("kube-apiserver", etcd_servers="https://10.0.0.7:2379,https://10.0.0.8:2379")
    assert _etcd.etcd_servers(node.node()) == ["10.0.0.7:2379", "10.0.0.8:2379"]
    node.add_component("etcd", listen_client_urls="https://127.0.0.1:2379")
    assert _etcd.etcd_servers(node.node()) == ["127.0.0.1:2379"]


def test_the_identity_that_has_not_expired_is_taken(tmp_path: Path) -> None:
    node = FakeNode(tmp_path, expired=["etcd/healthcheck-client"])
    with pytest.raises(CertopsError, match="etcd CA"):
        _etcd.etcd_identity(node.node(), NOW)
    node.add_ca("etcd/ca", node.etcd_ca)
    with pytest.raises(CertopsError, match="none is known"):
        _etcd.etcd_identity(node.node(), NOW)
    node.add_pair("etcd/healthcheck-client")
    assert _etcd.etcd_identity(node.node(), NOW)[0] == "etcd/healthcheck-client"
    node.add_pair("etcd/server")
    assert _etcd.etcd_identity(node.node(), NOW)[0] == "etcd/server"


def test_the_client_address_is_not_the_peers(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    node.add_component("etcd", listen_client_urls="https://127.0.0.1:2379,https://10.0.0.1:2379")
    assert _etcd.etcd_address(node.node()) == "127.0.0.1:2379"
    endpoints = (Endpoint("etcd", "10.0.0.1", 2380, "etcd/peer"), Endpoint("etcd", "10.0.0.1", 2379, "etcd/server"))
    object.__setattr__(node.components["etcd"], "endpoints", endpoints)
    assert _etcd.etcd_address(node.node()) == "10.0.0.1:2379"


def test_who_asks(tmp_path: Path) -> None:
    node = FakeNode(tmp_path, expired=["etcd/admin-e1"])
    node.add_ca("etcd/ca", node.etcd_ca)
    node.add_pair("etcd/server")
    node.add_pair("etcd/peer")
    for name in ("etcd/admin-e1", "etcd/node-e1"):
        node.add_pair(name)
        node.credentials[name] = dataclasses.replace(node.credentials[name], component="etcd", presented_to="etcd")
    assert _etcd.etcd_identity(node.node(), NOW)[0] == "etcd/node-e1", "the other client pair has expired"
    node.credentials.pop("etcd/node-e1")
    assert _etcd.etcd_identity(node.node(), NOW)[0] == "etcd/server"
    node.add_pair("etcd/healthcheck-client")
    assert _etcd.etcd_identity(node.node(), NOW)[0] == "etcd/healthcheck-client"
