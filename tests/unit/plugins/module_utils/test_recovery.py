# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that is killed, or meets an error, at any call that changes the file system or restarts a component.

Afterwards the node is consistent, or the next run makes it so; nothing that is secret can be read by others at any moment.
"""

from __future__ import annotations

import errno
import os
import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._recovery import outlook
from ansible_collections.certops.kubernetes.plugins.module_utils._result import RotationFailed
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import (
    FakeNode,
    Killed,
)
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.tripwire import (
    Tripwire,
    assert_good,
    assert_secret,
    attempt,
    failing,
    killed_from,
)

if t.TYPE_CHECKING:
    from pathlib import Path

# One of each kind: a pair that reloads, a kubeconfig that needs a restart. More of them make no new kind of moment.
FEW = ("apiserver", "scheduler.conf")


def count_calls(root: Path, restart: str) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        node = FakeNode(root)
        wire = Tripwire(node, patch)
        wire.after_each = lambda: assert_secret(node)  # every killed run is the beginning of this one
        attempt(node, node.wanted(*FEW), restart=restart)
    assert_good(node)
    return wire.calls


@pytest.mark.parametrize("restart", ["auto", "always"])
def test_killed_at_every_call(tmp_path: Path, restart: str) -> None:
    calls = count_calls(tmp_path / "whole", restart)
    assert len(calls) > 80
    for number, call in enumerate(calls, 1):
        node = FakeNode(tmp_path / str(number))
        before = node.tree()
        items = node.wanted(*FEW)
        with pytest.MonkeyPatch.context() as patch:
            Tripwire(node, patch).strike = killed_from(number)
            with pytest.raises(Killed):
                attempt(node, items, restart=restart)
        for component in set(node.discover().components) - set(node.processes):
            node.start(component)  # the kubelet does that, whoever stopped it
        unfinished = outlook(node.state)
        result = attempt(node, ())
        assert_good(node)
        assert result["changed"] == bool(unfinished), (number, call)
        changed = {path for path, found in node.tree().items() if found[0] != before[path][0]}
        assert len(changed) in (0, 3), (number, call)
        assert {path: found[1:] for path, found in node.tree().items()} == {path: found[1:] for path, found in before.items()}
        assert not attempt(node, ())["changed"], (number, call)


@pytest.mark.parametrize(("error", "lasting"), [(errno.ENOSPC, True), (errno.ENOSPC, False), (errno.EIO, False), (errno.EACCES, True)])
def test_an_error_at_every_call(tmp_path: Path, error: int, lasting: bool) -> None:
    calls = count_calls(tmp_path / "whole", "auto")
    for number, call in enumerate(calls, 1):
        if call.startswith(("stop", "started")):
            continue
        node = FakeNode(tmp_path / str(number))
        before = node.tree()
        with pytest.MonkeyPatch.context() as patch:
            Tripwire(node, patch).strike = failing(number, error, lasting)
            try:
                outcome = attempt(node, node.wanted(*FEW))["state"]
            except RotationFailed as failure:
                outcome = failure.result.get("state")
                assert errno.errorcode[error] in str(failure), (number, call)
            except CertopsError as failure:
                outcome = "refused"
                assert errno.errorcode[error] in str(failure), (number, call)
        if outcome in ("refused", "rolled_back"):
            assert node.tree() == before, (number, call)
        # The disk is well again, and the next run needs nobody's help.
        attempt(node, ())
        if outcome == "failed":
            attempt(node, node.wanted(*FEW))
        assert_good(node)


def killed_at(node: FakeNode, begin: str, items: t.Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        wire = Tripwire(node, patch)

        def strike(_number: int) -> None:
            if any(call.startswith(begin) for call in wire.calls):
                raise Killed

        wire.strike = strike
        with pytest.raises(Killed):
            attempt(node, items)


def test_what_is_put_back_is_renewed_again_though_the_plan_saw_it_renewed(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    before = {name: node.on_disk(name) for name in FEW}
    killed_at(node, "open %s" % node.path(".scheduler.conf.certops-new"), node.wanted(*FEW))
    assert node.on_disk("apiserver") != before["apiserver"]
    result = attempt(node, node.wanted("scheduler.conf"))  # the plan of somebody who looks at the node now
    assert [(entry["found"], entry["state"]) for entry in result["recovered"]] == [("applying", "rolled_back")]
    assert {entry["name"]: entry["before"]["fingerprint_sha256"] for entry in result["certificates"]} == before
    assert "apiserver had been renewed by the run run, which was put back; it was renewed again" in " ".join(result["warnings"])
    assert all(node.on_disk(name) != before[name] for name in FEW)
    assert_good(node)


def test_an_empty_plan_renews_nothing(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    before = node.tree()
    killed_at(node, "open %s" % node.path(".scheduler.conf.certops-new"), node.wanted(*FEW))
    assert attempt(node, ())["certificates"] == []
    assert node.tree() == before


def test_a_run_that_was_killed_when_all_was_written_is_carried_forward(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    before = {name: node.on_disk(name) for name in FEW}
    with pytest.MonkeyPatch.context() as patch:
        wire = Tripwire(node, patch)

        def strike(_number: int) -> None:
            replaced = "replace %s" % node.path("scheduler.conf") in wire.calls
            if replaced and wire.calls[-1].startswith("mkdir"):  # the journal's next state
                raise Killed

        wire.strike = strike
        with pytest.raises(Killed):
            attempt(node, node.wanted(*FEW))
    assert "carried forward" in outlook(node.state)[0]["message"]
    result = attempt(node, ())
    assert [(entry["found"], entry["state"]) for entry in result["recovered"]] == [("applying", "committed")]
    assert all(node.on_disk(name) != before[name] for name in FEW)
    assert_good(node)


def strike_at(*wanted: tuple[str, int]) -> t.Callable[[list[str]], t.Callable[[int], None]]:
    """The disk fails at the nth call that begins like this, for each of these."""

    def with_calls(calls: list[str]) -> t.Callable[[int], None]:
        def strike(_number: int) -> None:
            for begin, nth in wanted:
                if calls[-1].startswith(begin) and sum(call.startswith(begin) for call in calls) == nth:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))

        return strike

    return with_calls


def test_a_way_back_that_failed_is_gone_by_the_next_run(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    before = node.tree()
    certificate, key = ("open %s" % node.path("pki/.apiserver.%s.certops-new" % suffix) for suffix in ("crt", "key"))
    with pytest.MonkeyPatch.context() as patch:
        wire = Tripwire(node, patch)
        wire.strike = strike_at((certificate, 1), (key, 2))(wire.calls)
        with pytest.raises(RotationFailed, match="not every file could be put back.*EIO.*run again") as caught:
            attempt(node, node.wanted("apiserver"))
    assert not caught.value.result["rolled_back"]
    assert node.tree() != before
    assert [entry["found"] for entry in outlook(node.state)] == ["rolling_back"]
    assert attempt(node, ())["recovered"][0]["state"] == "rolled_back"
    assert node.tree() == before
    assert_good(node)


def test_a_journal_that_cannot_be_read_keeps_nobody_from_the_way_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = FakeNode(tmp_path)
    before = node.tree()
    node.unhealthy = lambda fake: "/readyz says no" if fake.tree() != before else None

    def unreadable(run_id: str) -> t.NoReturn:
        raise CertopsError("Cannot read the journal of %s: Input/output error (EIO). Remedy: look at the disk." % run_id)

    with monkeypatch.context() as patch:
        patch.setattr(node.state, "load", unreadable)
        with pytest.raises(RotationFailed, match="rolled back.*readyz says no") as caught:
            attempt(node, node.wanted("apiserver"))
    assert caught.value.result["rolled_back"]
    assert node.tree() == before
    assert_good(node)


def test_a_run_that_could_not_begin_leaves_nothing_to_end(tmp_path: Path) -> None:
    calls = count_calls(tmp_path / "whole", "auto")
    begun = [call for call in calls if call.startswith("replace") and call.endswith("journal.json")][0]
    for number in range(calls.index(begun) + 2):
        node = FakeNode(tmp_path / str(number))
        before = node.tree()
        with pytest.MonkeyPatch.context() as patch:
            Tripwire(node, patch).strike = failing(number + 1, errno.EIO, lasting=False)
            with pytest.raises(CertopsError, match="EIO") as caught:
                attempt(node, node.wanted(*FEW))
        assert node.tree() == before, (number, calls[number])
        assert outlook(node.state) == [], (number, calls[number])
        assert not isinstance(caught.value, RotationFailed), (number, calls[number])
