# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of a rotation of what the kubelet reads: it is restarted, waited for and proven like any other component."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import ClientProof
from ansible_collections.certops.kubernetes.plugins.module_utils._result import RotationFailed
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import API_SERVER, KUBELET, FakeNode, run

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="node")
def fixture_node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path)


@pytest.mark.parametrize("reload", ["restart", "self"])
def test_what_the_kubelet_does_not_read_again_restarts_it(node: FakeNode, reload: str) -> None:
    """Also what it renews itself: it has its own one in memory until it starts."""
    node.run_kubelet(apiserver=reload)
    before = node.processes[KUBELET]
    result = run(node, "apiserver")
    assert result["state"] == "committed"
    assert node.restarts == [KUBELET]
    assert node.processes[KUBELET] != before
    components = {component["name"]: component for component in result["components"]}
    assert components[KUBELET]["action"] == "restarted"
    assert components[KUBELET]["away_seconds"] is not None


def test_what_it_reads_by_itself_does_not_restart_it(node: FakeNode) -> None:
    node.run_kubelet(apiserver="hot")
    run(node, "apiserver")
    assert node.restarts == []


def test_it_is_restarted_after_all_others(node: FakeNode) -> None:
    node.run_kubelet(apiserver="restart")
    run(node, restart="always")
    assert node.restarts[-1] == KUBELET
    assert API_SERVER in node.restarts


def test_never_leaves_it_pending(node: FakeNode) -> None:
    node.run_kubelet(apiserver="self")
    result = run(node, "apiserver", restart="never")
    assert [component["action"] for component in result["components"] if component["name"] == KUBELET] == ["pending"]
    assert node.restarts == []


def test_one_that_does_not_come_back_puts_the_node_back(node: FakeNode) -> None:
    node.run_kubelet(apiserver="restart")
    before = node.on_disk("apiserver")
    node.stubborn.add(KUBELET)
    with pytest.raises(RotationFailed, match="kubelet did not come back"):
        run(node, "apiserver")
    assert node.on_disk("apiserver") == before


def test_one_that_is_shown_to_be_another_client_puts_the_node_back(node: FakeNode) -> None:
    """What it presents is proven after the restart, not taken for granted."""
    node.run_kubelet(apiserver="self")
    before = node.on_disk("apiserver")
    node.proofs["apiserver"] = lambda wanted: ClientProof("true" if wanted == before else "false", "identity", "seen as before")
    with pytest.raises(RotationFailed, match="kubelet does not use the certificate apiserver"):
        run(node, "apiserver")
    assert node.on_disk("apiserver") == before
