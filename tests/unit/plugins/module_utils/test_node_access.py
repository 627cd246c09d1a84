# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proof for a client pair of etcd: etcd answers to it, and the API server that has it reaches etcd."""

from __future__ import annotations

import dataclasses
import typing as t
from contextlib import ExitStack
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import ReaderSpec
from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import client_proof
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import (
    FakeNode,
    FakeServer,
    server_pair,
    write_pair,
)

LIST = "POST /v3/cluster/member/list"


class Outside:
    """A control-plane node, and an etcd outside of it."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.node = FakeNode(directory)
        routes: dict[str, t.Any] = {LIST: (200, {"members": []})}
        self.etcd = stack.enter_context(FakeServer(directory, routes, server_pair(self.node.etcd_ca), client_ca=self.node.etcd_ca))
        self.api = stack.enter_context(FakeServer(directory, {"GET /readyz/etcd": (200, "ok")}, self.node.add_pair("apiserver")))
        self.node.add_ca("etcd/ca", self.node.etcd_ca)
        self.node.add_kubeconfigs(self.api.address, "admin.conf")
        flags = {"advertise_address": "127.0.0.1", "secure_port": str(self.api.port)}
        self.node.add_component("kube-apiserver", etcd_servers="https://127.0.0.1:1,https://" + self.etcd.address, **flags)
        self.add_client("apiserver-etcd-client", "kube-apiserver")

    def add_client(self, name: str, reader: str | None = None) -> None:
        """A client pair for etcd that this component reads."""
        self.node.add_pair(name)
        readers = (ReaderSpec(reader, "hot"),) if reader else ()
        self.node.credentials[name] = dataclasses.replace(
            self.node.credentials[name], presented_to="etcd", ca="etcd/ca", readers=readers, component=reader or "etcd"
        )

    def proof(self, name: str = "apiserver-etcd-client") -> tuple[str, str]:
        """What is known of a pair, and how."""
        found = client_proof(self.node.node(), name, "00")
        return found.in_use, found.proof


@pytest.fixture(name="outside")
def _outside(tmp_path: Path) -> t.Iterator[Outside]:
    with ExitStack() as stack:
        yield Outside(tmp_path, stack)


def test_the_api_servers_own_pair(outside: Outside) -> None:
    assert outside.proof() == ("true", "path_works")
    outside.api.routes["GET /readyz/etcd"] = (500, "[-]etcd failed")
    assert outside.proof() == ("unknown", "none")


def test_a_pair_that_etcd_refuses(outside: Outside, tmp_path: Path) -> None:
    """The API server may go on for days on the connection that it has."""
    stranger = server_pair(outside.node.ca)
    cert, key = write_pair(tmp_path / "pki", "stranger", stranger)
    pair = outside.node.credentials["apiserver-etcd-client"]
    outside.node.credentials["apiserver-etcd-client"] = dataclasses.replace(pair, cert_path=cert, key_path=key)
    assert outside.proof() == ("unknown", "none")


def test_a_pair_for_people_on_a_host_that_runs_etcd_alone(outside: Outside) -> None:
    outside.node.components.clear()
    outside.node.add_component("etcd", listen_client_urls="https://" + outside.etcd.address)
    outside.add_client("etcd/admin-e1")
    assert outside.proof("etcd/admin-e1") == ("true", "path_works")
    assert outside.proof("nothing") == ("unknown", "none")
    outside.etcd.routes.clear()
    assert outside.proof("etcd/admin-e1") == ("unknown", "none")
