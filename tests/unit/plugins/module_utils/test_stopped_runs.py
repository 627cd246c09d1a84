# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the next run does about one that ended half way, by the state in which it ended."""

from __future__ import annotations

import os
import shutil
import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._recovery import outlook
from ansible_collections.certops.kubernetes.plugins.module_utils._result import RotationFailed
from ansible_collections.certops.kubernetes.plugins.module_utils._transaction import Transaction
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import (
    CONTROLLER_MANAGER,
    NAMES,
    SCHEDULER,
    FakeNode,
    Killed,
)

if t.TYPE_CHECKING:
    from pathlib import Path
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.tripwire import Tripwire, assert_good, attempt


def stopped_in(node: FakeNode, state: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Kill a run when it has just entered a state; returns the fingerprints from before."""
    before = {name: node.on_disk(name) for name in NAMES}
    real = Transaction._go_to

    def go_to(self: Transaction, journal: t.Any, wanted: str) -> t.Any:
        result = real(self, journal, wanted)
        if wanted == state:
            raise Killed
        return result

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "_go_to", go_to)
        with pytest.raises(Killed):
            attempt(node, node.wanted())
    return before


@pytest.mark.parametrize(
    ("state", "ended"), [("applying", "rolled_back"), ("applied", "committed"), ("activating", "committed"), ("proving", "committed")]
)
def test_what_is_done_about_each_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, ended: str) -> None:
    node = FakeNode(tmp_path)
    planned = node.wanted()
    before = stopped_in(node, state, monkeypatch)
    assert [entry["found"] for entry in outlook(node.state)] == [state]
    # The plan was made after the crash, or before it: both are understood.
    result = attempt(node, planned)
    assert [(entry["found"], entry["state"]) for entry in result["recovered"]] == [(state, ended)]
    assert result["changed"]
    assert_good(node)
    if ended == "committed":
        assert result["certificates"] == []
        assert "carried forward" in " ".join(result["warnings"])
    assert all(node.on_disk(name) != before[name] for name in NAMES)


def test_an_unfinished_run_that_cannot_be_carried_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = FakeNode(tmp_path)
    tree = node.tree()
    before = stopped_in(node, "applied", monkeypatch)
    node.unhealthy = lambda fake: "/readyz says no" if fake.on_disk("apiserver") != before["apiserver"] else None
    with pytest.raises(RotationFailed, match="rolled back.*readyz says no") as caught:
        attempt(node, ())
    assert caught.value.result["rolled_back"]
    assert node.tree() == tree
    assert_good(node)


def test_what_somebody_replaced_after_the_crash_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node, other = FakeNode(tmp_path / "a"), FakeNode(tmp_path / "b")
    for name in ("ca", "etcd/ca"):
        for suffix in (".crt", ".key"):
            node.path("pki/" + name + suffix).write_bytes(other.path("pki/" + name + suffix).read_bytes())
    for path in node.tree():
        relative = os.path.relpath(path, str(node.kubernetes))
        node.path(relative).write_bytes(other.path(relative).read_bytes())
    for component in list(node.processes):
        node.start(component)
    stopped_in(node, "applied", monkeypatch)
    attempt(other, other.wanted("apiserver"))
    for suffix in (".crt", ".key"):  # as `kubeadm certs renew apiserver` by hand
        node.path("pki/apiserver" + suffix).write_bytes(other.path("pki/apiserver" + suffix).read_bytes())
    theirs = node.on_disk("apiserver")
    assert attempt(node, ())["recovered"][0]["state"] == "committed"
    assert node.on_disk("apiserver") == theirs


def test_a_damaged_backup_is_not_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = FakeNode(tmp_path)
    stopped_in(node, "applied", monkeypatch)
    journal = node.state.load("run")
    shutil.copy(journal.files[0].backup or "", str(node.path("pki/apiserver.key")))
    backup = next(file.backup for file in journal.files if file.path.endswith("scheduler.conf"))
    with open(backup or "", "wb") as stream:
        stream.write(b"damaged")
    with pytest.raises(RotationFailed, match="backup .* is damaged"):
        attempt(node, ())
    assert node.state.load("run").state == "failed"


def test_a_component_that_was_stopped_by_the_killed_run_is_not_stopped_again(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        wire = Tripwire(node, patch)

        def strike(_number: int) -> None:
            if wire.calls[-1] == "started %s" % CONTROLLER_MANAGER:
                raise Killed

        wire.strike = strike
        with pytest.raises(Killed):
            attempt(node, node.wanted())
    node.restarts.clear()
    attempt(node, ())
    assert node.restarts == [SCHEDULER]
    assert_good(node)
