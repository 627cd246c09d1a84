# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node where kubeconfigs are renewed whose originals are on other nodes: what a rotation and a rollback make of such a run."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _elsewhere
from ansible_collections.certops.kubernetes.plugins.module_utils._replacement import put_if_unchanged
from ansible_collections.certops.kubernetes.plugins.module_utils._rollback import RollbackRequest, predict_rollback, roll_back
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.bastion import Bastion
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import LIMITS
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.tripwire import attempt


@pytest.fixture(name="worker")
def fixture_worker(tmp_path: Path) -> Bastion:
    """It has one state folder for what it does as a node, and for its kubeconfigs."""
    root = tmp_path / "root"
    root.mkdir()
    worker = Bastion(root, tmp_path)
    worker.cluster.state = worker.state
    return worker


@pytest.mark.parametrize("written", [True, False])
def test_a_rotation_ends_one_that_was_killed(worker: Bastion, monkeypatch: pytest.MonkeyPatch, written: bool) -> None:
    """What was written whole stays, and the node is changed by the same run; what is half is put back."""
    worker.name_files()
    signed = worker.sign(worker.ask())

    def killed(file: t.Any, data: bytes) -> None:
        if written or file.path.endswith(".key"):
            put_if_unchanged(file, data)
        if file.path.endswith(".crt"):
            raise KeyboardInterrupt

    monkeypatch.setattr(_elsewhere, "put_if_unchanged", killed)
    with pytest.raises(KeyboardInterrupt):
        worker.put(signed)
    monkeypatch.undo()
    assert worker.state.unfinished_run_id() == "run-1"
    result = attempt(worker.cluster, worker.cluster.wanted("apiserver"))
    (recovered,) = result["recovered"]
    assert (recovered["run_id"], recovered["state"]) == ("run-1", "committed" if written else "rolled_back")
    assert [one["name"] for one in result["certificates"]] == ["apiserver"]
    assert worker.state.unfinished_run_id() is None
    folder = worker.path.parent
    old = (worker.old.cert_pem, worker.old.key_pem)
    assert (((folder / "me.crt").read_bytes(), (folder / "me.key").read_bytes()) == old) == (not written)


def test_a_rollback_leaves_it_as_it_is(worker: Bastion) -> None:
    """By its name; without one the node's own newest run is meant."""
    before = worker.path.read_bytes()
    worker.put(worker.sign(worker.ask()))
    renewed = worker.path.read_bytes()
    assert renewed != before
    for act in (predict_rollback, roll_back):
        arguments = (worker.cluster.access(), worker.state)
        request = RollbackRequest("run-1", "back", health_seconds=1.0)
        result = act(*arguments, request) if act is predict_rollback else roll_back(*arguments, request, LIMITS)
        assert (result["changed"], result["certificates"]) == (False, [])
        assert roll_back(*arguments, RollbackRequest(None, "newest", health_seconds=1.0), LIMITS)["restored_run_id"] is None
    assert worker.path.read_bytes() == renewed
