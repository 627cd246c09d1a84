# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t
from contextlib import ExitStack
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._etcd_leadership import hand_over
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import NOW, FakeNode, FakeServer, server_pair

TRANSFER = "POST /v3/maintenance/transfer-leadership"


class Etcd:
    """Three members on loopback, of which this node's own is the first; `leader` is a member's id."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.leader, self.index = "1", {"1": 100, "2": 90, "3": 99}
        self.node = FakeNode(directory)
        self.node.add_ca("etcd/ca", self.node.etcd_ca)
        self.node.add_pair("etcd/healthcheck-client")
        self.servers: dict[str, FakeServer] = {}
        for number in self.index:
            routes = {"POST /v3/maintenance/status": lambda body, number=number: (200, self.status(number))}
            server = FakeServer(directory, routes, server_pair(self.node.etcd_ca), client_ca=self.node.etcd_ca)
            self.servers[number] = stack.enter_context(server)
        self.own = self.servers["1"]
        self.own.routes["POST /v3/cluster/member/list"] = lambda body: (200, {"members": self.members()})
        self.own.routes[TRANSFER] = self.transfer
        self.node.add_component("etcd", listen_client_urls="https://" + self.own.address)

    def status(self, number: str) -> dict[str, t.Any]:
        header = {"member_id": number, "revision": "7"}
        return {"header": header, "leader": self.leader, "raftTerm": "2", "raftIndex": str(self.index[number]), "version": "3.6.8"}

    def members(self) -> list[dict[str, t.Any]]:
        return [{"ID": n, "name": "node%s" % n, "clientURLs": ["https://" + s.address]} for n, s in self.servers.items()]

    def transfer(self, body: bytes) -> tuple[int, object]:
        self.leader = json.loads(body)["targetID"]
        return 200, {}


@pytest.fixture(name="etcd")
def fixture_etcd(tmp_path: Path) -> t.Iterator[Etcd]:
    with ExitStack() as stack:
        yield Etcd(tmp_path, stack)


def test_the_healthy_member_that_has_most_leads_instead(etcd: Etcd) -> None:
    assert hand_over(etcd.node.node(), NOW) == "node3"
    assert etcd.leader == "3"


def test_a_member_that_does_not_answer_is_not_asked_to_lead(etcd: Etcd) -> None:
    etcd.servers["3"].routes.clear()
    assert hand_over(etcd.node.node(), NOW) == "node2"


def test_a_member_that_raises_an_alarm_is_not_asked_to_lead(etcd: Etcd) -> None:
    etcd.servers["3"].routes["POST /v3/maintenance/status"] = (200, {**etcd.status("3"), "errors": ["NOSPACE"]})
    assert hand_over(etcd.node.node(), NOW) == "node2"


@pytest.mark.parametrize("leader", ["2", "0"])
def test_who_does_not_lead_hands_nothing_over(etcd: Etcd, leader: str) -> None:
    etcd.leader = leader
    assert hand_over(etcd.node.node(), NOW) is None
    assert etcd.leader == leader


def test_a_single_member_keeps_its_leadership(etcd: Etcd) -> None:
    del etcd.servers["2"], etcd.servers["3"]
    assert hand_over(etcd.node.node(), NOW) is None


def test_a_refusal_is_said(etcd: Etcd) -> None:
    etcd.own.routes[TRANSFER] = (503, {"error": "etcdserver: request timed out, leader transfer took too long"})
    with pytest.raises(CertopsError, match="transfer-leadership"):
        hand_over(etcd.node.node(), NOW)
