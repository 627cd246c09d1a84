# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong once a rotation has begun, and how the node is put back."""

from __future__ import annotations

import errno
import os
import signal
import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _files
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import ClientProof
from ansible_collections.certops.kubernetes.plugins.module_utils._result import RotationFailed
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import (
    API_SERVER,
    CONTROLLER_MANAGER,
    ETCD,
    NAMES,
    SCHEDULER,
    FakeNode,
    run,
)

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="node")
def fixture_node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path)


def assert_rolled_back(node: FakeNode, before: dict[str, t.Any], **options: t.Any) -> RotationFailed:
    with pytest.raises(RotationFailed, match="rolled back") as caught:
        run(node, **options)
    assert node.tree() == before
    assert caught.value.result["rolled_back"]
    assert not [name for name in NAMES for reader in node.reader_states(name) if reader == "false"]
    return caught.value


@pytest.mark.parametrize("component", [CONTROLLER_MANAGER, SCHEDULER, ETCD])
def test_a_component_that_does_not_come_back_for_now(node: FakeNode, component: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubelet starts its pods again and again; systemd gives a unit up, so that it has to be started on the way back."""
    before = node.tree()
    node.stubborn.add(component)
    node.units[ETCD] = "etcd.service"
    real = node.restart

    def once(found: t.Any, name: str, _meanwhile: t.Any) -> t.Any:
        try:
            return real(found, name)
        except CertopsError:
            node.stubborn.clear()
            raise

    monkeypatch.setattr(node, "restart", once)
    error = assert_rolled_back(node, before, restart="always" if component == ETCD else "auto")
    assert "%s did not come back" % component in str(error)
    assert error.result["state"] == "rolled_back"
    assert node.restarts.count(component) == 2


def test_a_component_that_never_comes_back(node: FakeNode) -> None:
    before = node.tree()
    node.stubborn.add(SCHEDULER)
    error = assert_rolled_back(node, before)
    assert error.result["state"] == "failed"
    assert "not proven to be as before" in str(error)
    assert os.path.join(node.state.folder("run"), "backup") in str(error)
    # Nothing is done behind the user's back: the next run begins anew.
    node.stubborn.clear()
    node.start(SCHEDULER)
    assert run(node)["state"] == "committed"


def test_a_process_that_ends_again_by_itself(node: FakeNode) -> None:
    before = node.tree()
    node.crashing.add(SCHEDULER)
    assert "ended again by itself" in str(assert_rolled_back(node, before))


def test_a_node_that_is_not_healthy_afterwards(node: FakeNode) -> None:
    before = node.tree()
    old = node.on_disk("apiserver")
    node.unhealthy = lambda fake: "/readyz says no" if fake.on_disk("apiserver") != old else None
    assert "/readyz says no" in str(assert_rolled_back(node, before))
    assert node.restarts == [CONTROLLER_MANAGER, SCHEDULER] * 2


def test_a_kubeconfig_that_is_not_accepted(node: FakeNode) -> None:
    before = node.tree()
    old = node.on_disk("admin.conf")
    node.proofs["admin.conf"] = lambda fingerprint: ClientProof("true" if fingerprint == old else "false", "identity", "it answers 401")
    assert "401" in str(assert_rolled_back(node, before))


def test_a_way_that_worked_before_must_work_after(node: FakeNode) -> None:
    before = node.tree()
    old = node.on_disk("admin.conf")
    node.proofs["admin.conf"] = lambda _now: (
        ClientProof("true", "path_works") if node.on_disk("admin.conf") == old else ClientProof("unknown", "none", "status 500")
    )
    assert "worked before the change" in str(assert_rolled_back(node, before))


def test_a_reader_that_stays_with_the_old_one(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    before = node.tree()
    node.deaf.add(API_SERVER)
    real = node.start
    held = dict(node.loaded)
    monkeypatch.setattr(node, "start", lambda component: (real(component), node.loaded.update(held)))
    assert "does not use the certificate" in str(assert_rolled_back(node, before))


def test_a_defect_of_ours_is_shown_after_the_way_back(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    before = node.tree()
    real = node.restart
    calls = []

    def first_broken(found: t.Any, name: str, _meanwhile: t.Any) -> t.Any:
        calls.append(name)
        if len(calls) == 1:
            raise ZeroDivisionError
        return real(found, name)

    monkeypatch.setattr(node, "restart", first_broken)
    with pytest.raises(ZeroDivisionError):
        run(node)
    assert node.tree() == before
    assert node.state.load("run").state == "rolled_back"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("index", range(7))
def test_an_error_while_writing(node: FakeNode, monkeypatch: pytest.MonkeyPatch, index: int, number: int) -> None:
    before = node.tree()
    real = os.replace
    calls: list[str] = []

    def replace(source: str, target: str) -> None:
        if target.startswith(str(node.kubernetes)):
            calls.append(target)
            if len(calls) == index + 1:
                raise OSError(number, os.strerror(number))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    error = assert_rolled_back(node, before)
    assert errno.errorcode[number] in str(error)
    assert calls[index] in str(error)
    assert error.result["state"] == "rolled_back"


def test_a_file_that_somebody_changes_meanwhile(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    real = _files.replace_file
    foreign = b"somebody else's"
    path = node.path("pki/etcd/server.key")

    def replace(target: str, data: bytes, *args: t.Any) -> None:
        if target == str(node.path("pki/apiserver.crt")):
            path.write_bytes(foreign)
        real(target, data, *args)

    monkeypatch.setattr("ansible_collections.certops.kubernetes.plugins.module_utils._replacement.replace_file", replace)
    with pytest.raises(RotationFailed, match="changed by somebody else"):
        run(node)
    assert path.read_bytes() == foreign


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_end_is_heard_before_everything_is_written(node: FakeNode, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = node.tree()
    real = _files.replace_file
    calls: list[str] = []

    def replace(target: str, data: bytes, *args: t.Any) -> None:
        calls.append(target)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), number)
        real(target, data, *args)

    handler = signal.getsignal(number)
    monkeypatch.setattr("ansible_collections.certops.kubernetes.plugins.module_utils._replacement.replace_file", replace)
    assert signal.Signals(number).name in str(assert_rolled_back(node, before))
    assert signal.getsignal(number) == handler


def test_a_request_to_end_is_too_late_when_everything_is_written(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    real = node.restart

    def restart(found: t.Any, name: str, _meanwhile: t.Any) -> t.Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(found, name)

    monkeypatch.setattr(node, "restart", restart)
    assert run(node)["state"] == "committed"
