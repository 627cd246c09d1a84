# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, ApiError
from ansible_collections.certops.kubernetes.plugins.module_utils._lease import Lease, get_lease, release_lease
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Process
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import (
    NOW,
    FakeServer,
    lease_document,
    lease_path,
    server_pair,
)

NAME = "kube-controller-manager"
PATH = lease_path(NAME)


@pytest.fixture(name="api")
def fixture_api(tmp_path: Path) -> t.Iterator[tuple[FakeServer, ApiClient]]:
    ca = pki.make_ca()
    document = lease_document(NAME, "node-1_uuid", NOW)
    with FakeServer(tmp_path, {"GET " + PATH: (200, document), "PUT " + PATH: (200, document)}, server_pair(ca)) as server:
        yield server, ApiClient(server.address, ca_pem=ca.cert_pem)


def test_read(api: tuple[FakeServer, ApiClient]) -> None:
    lease = get_lease(api[1], NAME)
    assert (lease.holder, lease.renewed, lease.acquired, lease.duration_seconds) == ("node-1_uuid", NOW, NOW, 15)


@pytest.mark.parametrize("spec", [None, {}, {"holderIdentity": None, "renewTime": "yesterday"}])
def test_a_lease_that_nobody_ever_held(api: tuple[FakeServer, ApiClient], spec: object) -> None:
    api[0].routes["GET " + PATH] = (200, {"spec": spec})
    lease = get_lease(api[1], NAME)
    assert (lease.holder, lease.renewed) == ("", None)
    assert not lease.fresh(NOW)


def test_release_writes_what_client_go_writes(api: tuple[FakeServer, ApiClient]) -> None:
    assert release_lease(api[1], NAME, "node-1_uuid")
    written = json.loads(api[0].requests[-1][2])
    spec = written["spec"]
    assert api[0].requests[-1][:2] == ("PUT", PATH)
    assert written["metadata"]["resourceVersion"] == "41"
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("", 1, 7)
    assert spec["renewTime"] == spec["acquireTime"]


@pytest.mark.parametrize("expected", ["node-2_uuid", ""])
def test_the_lease_of_somebody_else_is_left_alone(api: tuple[FakeServer, ApiClient], expected: str) -> None:
    assert not release_lease(api[1], NAME, expected)
    assert [method for method, _path, _body in api[0].requests] == ["GET"]


def test_a_lease_that_was_written_in_between_is_left_alone(api: tuple[FakeServer, ApiClient]) -> None:
    api[0].routes["PUT " + PATH] = (409, {"message": "the object has been modified"})
    assert not release_lease(api[1], NAME, "node-1_uuid")


def test_a_forbidden_release_is_explained(api: tuple[FakeServer, ApiClient]) -> None:
    api[0].routes["PUT " + PATH] = (403, {"message": "leases is forbidden"})
    with pytest.raises(ApiError, match="leases is forbidden"):
        release_lease(api[1], NAME, "node-1_uuid")


@pytest.mark.parametrize(("age", "fresh"), [(0, True), (15, True), (19, True), (21, False), (-4, True), (-3600, False)])
def test_fresh(age: int, fresh: bool) -> None:
    assert Lease(NAME, "x", NOW, NOW - timedelta(seconds=age), 15).fresh(NOW) is fresh


@pytest.mark.parametrize(
    ("holder", "acquired_after_start", "held"),
    [
        ("node-1_uuid", 1, True),
        ("node-1_uuid", -60, False),  # an earlier process of this node
        ("node-2_uuid", 1, False),
        ("node-1", 1, False),
        ("", 1, False),
        ("a_node-1_uuid", 1, False),
    ],
)
def test_held_by(holder: str, acquired_after_start: int, held: bool) -> None:
    process = Process(1, 2, ("kube-controller-manager",), NOW)
    lease = Lease(NAME, holder, NOW + timedelta(seconds=acquired_after_start), NOW, 15)
    assert lease.held_by(process, "node-1") is held


def test_a_long_host_name_is_cut_as_the_kernel_does() -> None:
    process = Process(1, 2, ("kube-controller-manager",), NOW)
    assert Lease(NAME, "n" * 63 + "_uuid", NOW, NOW, 15).held_by(process, "n" * 63)


@pytest.mark.parametrize(
    "spec",
    [
        [1],
        "x",
        5,
        {"leaseDurationSeconds": "soon"},
        {"leaseDurationSeconds": [15]},
        {"leaseDurationSeconds": 1.5},
        {"holderIdentity": {"a": 1}},
    ],
)
def test_what_is_no_lease_is_explained(api: tuple[FakeServer, ApiClient], spec: object) -> None:
    api[0].routes["GET " + PATH] = (200, {"spec": spec})
    with pytest.raises(ApiError, match=NAME):
        get_lease(api[1], NAME)
