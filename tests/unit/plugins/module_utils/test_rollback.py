# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of plugins/module_utils/_rollback.py: an earlier run's backup is put back, as a transaction of its own."""

from __future__ import annotations

import dataclasses
import os
import typing as t
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._result import RotationFailed
from ansible_collections.certops.kubernetes.plugins.module_utils._rollback import RollbackRequest, predict_rollback, roll_back
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import Request, rotate
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import (
    CONTROLLER_MANAGER,
    LIMITS,
    NAMES,
    SCHEDULER,
    FakeNode,
)

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="node")
def fixture_node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path)


def renew(node: FakeNode, run_id: str, *names: str) -> None:
    rotate(node.access(), node.state, Request(run_id, node.wanted(*names)), LIMITS)
    node.restarts.clear()


def back(node: FakeNode, run_id: str | None = None, **options: t.Any) -> dict[str, t.Any]:
    return roll_back(node.access(), node.state, RollbackRequest(run_id, "back", health_seconds=1.0, **options), LIMITS)


def test_puts_back_and_proves_it(node: FakeNode) -> None:
    before = node.tree()
    renew(node, "first")
    renewed = node.tree()
    result = back(node)
    assert result["changed"]
    assert result["restored_run_id"] == "first"
    assert result["state"] == "committed"
    assert node.tree() == before != renewed
    assert node.restarts == [CONTROLLER_MANAGER, SCHEDULER]
    assert {entry["action"] for entry in result["certificates"]} == {"restore"}
    assert not [name for name in NAMES if "false" in node.reader_states(name)]
    # It has a backup of its own, and the second call changes nothing.
    assert back(node)["changed"] is False
    assert back(node, result["run_id"])["changed"]
    assert node.tree() == renewed


def test_check_mode_writes_nothing(node: FakeNode) -> None:
    renew(node, "first")
    before = node.everything()
    result = predict_rollback(node.access(), node.state, RollbackRequest(None, "back"))
    assert node.everything() == before
    assert result["changed"]
    assert result["restored_run_id"] == "first"
    assert {entry["name"]: entry["action"] for entry in result["components"]}[SCHEDULER] == "restarted"
    assert result["diff"][0]["after"] != result["diff"][0]["before"]


def test_any_kept_run(node: FakeNode) -> None:
    first = node.on_disk("apiserver")
    renew(node, "one", "apiserver")
    renew(node, "two", "apiserver")
    back(node, "one")
    assert node.on_disk("apiserver") == first


def test_a_node_without_runs(node: FakeNode) -> None:
    before = node.everything()
    for predict in (True, False):
        request = RollbackRequest(None, "back")
        result = predict_rollback(node.access(), node.state, request) if predict else back(node)
        assert not result["changed"]
        assert "nothing to put back" in result["warnings"][0]
    with pytest.raises(CertopsError, match="no run x"):
        back(node, "x")
    assert node.everything() == before
    renew(node, "one", "apiserver")
    with pytest.raises(CertopsError, match="no run x on this node; its runs are: one"):
        back(node, "x")


@pytest.mark.parametrize("exists", [False, True])
def test_a_run_that_never_came_to_this_node(node: FakeNode, exists: bool) -> None:
    """It ended on another node before; nobody has to know where."""
    if exists:
        renew(node, "one", "apiserver")
    before = node.everything()
    request = RollbackRequest("x", "back", ignore_missing=True)
    assert predict_rollback(node.access(), node.state, request)["changed"] is False
    assert node.everything() == before
    result = back(node, "x", ignore_missing=True)
    assert (result["changed"], result["restored_run_id"]) == (False, None)
    assert result["runs"] == (["one"] if exists else [])


def test_a_node_that_is_not_well_is_put_back_all_the_same(node: FakeNode) -> None:
    """That may be why; but it must not get worse by it."""
    before = node.tree()
    renew(node, "one", "apiserver")
    node.unhealthy = lambda _fake: "the load balancer is on fire"
    result = back(node)
    assert result["state"] == "committed"
    assert node.tree() == before
    assert any("not well before: the load balancer is on fire" in warning for warning in result["warnings"])


def test_an_expired_backup_is_refused_unless_the_user_says_so(node: FakeNode) -> None:
    old = pki.make_leaf(node.authorities["ca"], "x", not_after=datetime.now(timezone.utc) + timedelta(seconds=1))
    node.path("pki/apiserver.crt").write_bytes(old.cert_pem)
    node.path("pki/apiserver.key").write_bytes(old.key_pem)
    before = node.tree()
    renew(node, "one", "apiserver")
    later = datetime.now(timezone.utc) + timedelta(seconds=5)
    access = dataclasses.replace(node.access(), now=lambda: later)
    renewed = node.tree()
    with pytest.raises(CertopsError, match="expired at .*allow_expired"):
        roll_back(access, node.state, RollbackRequest(None, "back"), LIMITS)
    assert node.tree() == renewed
    roll_back(access, node.state, RollbackRequest(None, "back", allow_expired=True), LIMITS)
    assert node.tree() == before


def test_a_backup_under_another_ca_is_refused(node: FakeNode) -> None:
    renew(node, "one", "apiserver")
    other = pki.make_ca()
    node.path("pki/ca.crt").write_bytes(other.cert_pem)
    node.path("pki/ca.key").write_bytes(other.key_pem)
    with pytest.raises(CertopsError, match="is not signed by the CA"):
        back(node)


def test_a_damaged_backup_is_refused(node: FakeNode) -> None:
    renew(node, "one", "apiserver")
    with open(node.state.load("one").files[0].backup or "", "ab") as stream:
        stream.write(b"x")
    with pytest.raises(CertopsError, match="damaged"):
        back(node)
    assert sorted(os.listdir(node.state.runs_path)) == ["one"]


def test_a_failed_rollback_puts_the_present_files_back(node: FakeNode) -> None:
    old = node.on_disk("apiserver")
    renew(node, "one", "apiserver")
    renewed = node.tree()
    node.unhealthy = lambda fake: "/readyz says no" if fake.on_disk("apiserver") == old else None
    with pytest.raises(RotationFailed, match="rolled back"):
        back(node)
    assert node.tree() == renewed
