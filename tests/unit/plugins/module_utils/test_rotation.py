# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of a rotation from its request to its result: what is refused, done, proven, put back and reported."""

from __future__ import annotations

import base64
import dataclasses
import errno
import json
import os
import re
import signal
import stat
import typing as t
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _files
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import ClientProof
from ansible_collections.certops.kubernetes.plugins.module_utils._proof import disk_problem
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Wanted, facts, look_at
from ansible_collections.certops.kubernetes.plugins.module_utils._result import RotationFailed
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import Request, predict, rotate
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import (
    API_SERVER,
    CONTROLLER_MANAGER,
    ETCD,
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


def run(node: FakeNode, *names: str, **options: t.Any) -> dict[str, t.Any]:
    request = Request("run", options.pop("items", None) or node.wanted(*names), health_seconds=1.0, **options)
    return rotate(node.access(), node.state, request, LIMITS)


def assert_consistent(node: FakeNode) -> None:
    found = node.discover()
    for name in NAMES:
        now = facts(look_at(node.credential(name)).leaf)
        item = t.cast("t.Any", dataclasses.make_dataclass("Named", ["name"])(name))
        assert disk_problem(found, item, now["fingerprint_sha256"]) is None
    assert not [path for path in node.tree() if "certops" in path]


def test_renews_everything_and_proves_it(node: FakeNode) -> None:
    before = {name: node.on_disk(name) for name in NAMES}
    modes = {path: (mode, uid, gid) for path, (_data, mode, uid, gid) in node.tree().items()}
    result = run(node)
    assert result["changed"]
    assert result["state"] == "committed"
    assert not result["rolled_back"]
    for entry in result["certificates"]:
        assert entry["before"]["fingerprint_sha256"] == before[entry["name"]]
        assert entry["after"]["fingerprint_sha256"] == node.on_disk(entry["name"]) != before[entry["name"]]
        assert entry["after"]["subject"] == entry["before"]["subject"]
        assert entry["after"]["not_after"] > entry["before"]["not_after"]
    assert_consistent(node)
    assert modes == {path: (mode, uid, gid) for path, (_data, mode, uid, gid) in node.tree().items()}
    assert b"# written by hand, keep this line" in node.path("admin.conf").read_bytes()
    # Only what does not reload by itself, one after the other.
    assert node.restarts == [CONTROLLER_MANAGER, SCHEDULER]
    actions = {entry["name"]: entry["action"] for entry in result["components"]}
    assert actions == {ETCD: "none", API_SERVER: "none", CONTROLLER_MANAGER: "restarted", SCHEDULER: "restarted"}
    proofs = {entry["name"]: (entry["in_use"], entry["proof"]) for entry in result["certificates"]}
    assert proofs["apiserver"] == ("true", "handshake")
    assert proofs["scheduler.conf"] == ("true", "inode")
    assert proofs["admin.conf"] == ("unknown", "none")


def test_always_restarts_every_reader_in_order(node: FakeNode) -> None:
    run(node, restart="always")
    assert node.restarts == [ETCD, API_SERVER, CONTROLLER_MANAGER, SCHEDULER]


def test_never_restarts_nothing_and_the_next_run_does_it(node: FakeNode) -> None:
    result = run(node, restart="never")
    assert node.restarts == []
    assert {entry["name"] for entry in result["components"] if entry["action"] == "pending"} == {CONTROLLER_MANAGER, SCHEDULER}
    assert next(entry for entry in result["certificates"] if entry["name"] == "scheduler.conf")["in_use"] == "false"
    tree = node.tree()
    items = tuple(Wanted(name, "activate", node.on_disk(name)) for name in ("controller-manager.conf", "scheduler.conf"))
    result = run(node, items=items)
    assert result["changed"]
    assert result["diff"] == []
    assert node.restarts == [CONTROLLER_MANAGER, SCHEDULER]
    assert node.tree() == tree
    assert all(entry["in_use"] == "true" for entry in result["certificates"])
    assert not run(node, items=items)["changed"]


def test_what_is_shown_not_to_reload_is_restarted(node: FakeNode) -> None:
    node.deaf.add(API_SERVER)
    result = run(node, "apiserver")
    assert node.restarts == [API_SERVER]
    assert "shown not to have apiserver" in result["components"][0]["because"]


def test_nothing_to_do_leaves_nothing_behind(node: FakeNode) -> None:
    before = node.everything()
    result = rotate(node.access(), node.state, Request("run", ()), LIMITS)
    assert not result["changed"]
    assert node.everything() == before
    run(node, "apiserver")
    runs = sorted(os.listdir(node.state.runs_path))
    assert not rotate(node.access(), node.state, Request("again", ()), LIMITS)["changed"]
    assert sorted(os.listdir(node.state.runs_path)) == runs


def test_check_mode_writes_nothing_at_all(node: FakeNode) -> None:
    before = node.everything()
    result = predict(node.access(), node.state, Request("run", node.wanted()))
    assert node.everything() == before
    assert result["changed"]
    text = json.dumps(result["diff"])
    assert "a new certificate valid until" in text
    actions = {entry["name"]: entry["action"] for entry in result["components"]}
    assert actions == {ETCD: "none", API_SERVER: "none", CONTROLLER_MANAGER: "restarted", SCHEDULER: "restarted"}
    assert {entry["after"]["serial"] for entry in result["certificates"]} == {None}
    always = predict(node.access(), node.state, Request("run", node.wanted(), restart="always"))
    assert {entry["action"] for entry in always["components"]} == {"restarted"}
    never = predict(node.access(), node.state, Request("run", node.wanted(), restart="never"))
    assert "restarted" not in {entry["action"] for entry in never["components"]}


def test_the_prediction_comes_true(node: FakeNode) -> None:
    predicted = predict(node.access(), node.state, Request("run", node.wanted(), validity_days=20))
    result = run(node, validity_days=20)
    for foreseen, made in zip(predicted["certificates"], result["certificates"]):
        assert foreseen["before"] == made["before"]
        assert foreseen["after"]["not_after"][:13] == made["after"]["not_after"][:13]
    assert [entry["action"] for entry in predicted["components"]] == [entry["action"] for entry in result["components"]]


def test_a_kept_key_is_kept(node: FakeNode) -> None:
    key = node.path("pki/apiserver.key").read_bytes()
    inode = node.path("pki/apiserver.key").stat().st_ino
    run(node, "apiserver", "admin.conf", keep_private_key=True)
    assert node.path("pki/apiserver.key").read_bytes() == key
    assert node.path("pki/apiserver.key").stat().st_ino == inode
    assert_consistent(node)


def test_the_chain_after_the_leaf_is_kept(node: FakeNode) -> None:
    path = node.path("pki/apiserver.crt")
    tail = b"# intermediate\n" + node.authorities["ca"].cert_pem
    path.write_bytes(b"Certificate: of old\n" + path.read_bytes() + tail)
    run(node, "apiserver")
    assert path.read_bytes().endswith(tail)
    assert path.read_bytes().count(b"BEGIN CERTIFICATE") == 2
    assert b"of old" not in path.read_bytes()
    assert_consistent(node)


def test_a_lost_or_foreign_key_is_cured_by_a_new_one(node: FakeNode) -> None:
    node.path("pki/apiserver.key").unlink()
    node.path("pki/etcd/server.key").write_bytes(pki.key_to_pem(pki.new_key()))
    run(node, "apiserver", "etcd/server")
    assert_consistent(node)
    assert stat.S_IMODE(node.path("pki/apiserver.key").stat().st_mode) == 0o600


def test_no_key_material_anywhere_but_in_its_files(node: FakeNode) -> None:
    result = run(node)
    secrets = []
    for path, (data, _mode, _uid, _gid) in node.tree().items():
        if path.endswith(".key"):
            secrets.append(data)
        elif path.endswith(".conf"):
            secrets.append(parse_kubeconfig(data, path).current_user().client_key_data or b"")
    journal = (node.root / "certops" / "runs" / "run" / "journal.json").read_text()
    shown = json.dumps(result) + journal + repr(result)
    assert "PRIVATE" not in shown
    for secret in secrets:
        body = "".join(line for line in secret.decode().splitlines() if "-----" not in line)
        assert body[10:50] not in shown.replace("\\n", "")
        assert base64.b64encode(secret).decode()[60:100] not in shown


def test_everything_under_the_state_folder_is_private(node: FakeNode) -> None:
    old = os.umask(0)
    try:
        run(node)
    finally:
        os.umask(old)
    for folder, folders, files in os.walk(node.state.path):
        for name in folders:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o700
        for name in files:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600


# --- what is refused before anything is changed


def spoil_ca_key(node: FakeNode) -> None:
    node.path("pki/ca.key").write_bytes(pki.key_to_pem(pki.new_key()))


def expire_ca(node: FakeNode) -> None:
    now = datetime.now(timezone.utc)
    old = pki.make_ca(key=node.authorities["ca"].key, not_before=now - timedelta(days=9), not_after=now - timedelta(days=1))
    node.path("pki/ca.crt").write_bytes(old.cert_pem)


def change_behind_the_plan(node: FakeNode) -> None:
    node.path("pki/apiserver.crt").write_bytes(pki.make_leaf(node.authorities["ca"], "x").cert_pem)


def share_the_key(node: FakeNode) -> None:
    (node.path("pki/apiserver.key")).unlink()
    (node.path("pki/apiserver.key")).symlink_to(node.path("pki/etcd/server.key"))


def run_kubeadm(node: FakeNode) -> None:
    node.other_tools.append("kubeadm certs is running (pid 7)")


REFUSALS = [
    (spoil_ca_key, "does not belong to the CA certificate"),
    (lambda node: node.path("pki/ca.key").unlink(), "key of its CA is not on this node"),
    (lambda node: node.path("pki/ca.key").write_bytes(b"noise"), "ca.key"),
    (lambda node: node.path("pki/ca.crt").write_bytes(b"noise"), "ca.crt"),
    (lambda node: node.path("pki/ca.crt").unlink(), "ca.crt"),
    (expire_ca, "Remedy: rotate the CA first"),
    (change_behind_the_plan, "not the one that the plan saw"),
    (lambda node: node.path("pki/apiserver.crt").write_bytes(b""), "apiserver.crt"),
    (lambda node: node.path("pki/apiserver.crt").unlink(), "apiserver.crt"),
    (share_the_key, "is also the key of etcd/server"),
    (run_kubeadm, "kubeadm certs is running (pid 7)"),
]


@pytest.mark.parametrize(("spoil", "reason"), REFUSALS)
@pytest.mark.parametrize("check_mode", [True, False])
def test_refuses_before_anything_is_changed(node: FakeNode, spoil: t.Callable[[FakeNode], t.Any], reason: str, check_mode: bool) -> None:
    items = node.wanted("apiserver")
    spoil(node)
    before = node.everything()
    with pytest.raises(CertopsError, match=re.escape(reason)) as caught:
        if check_mode:
            predict(node.access(), node.state, Request("run", items))
        else:
            run(node, items=items)
    assert "nothing was changed" in str(caught.value)
    after = node.everything()
    if check_mode:
        assert after == before
    # Only the lock may be new.
    assert {path: after[path] for path in before if os.path.isfile(path)} == {path: before[path] for path in before if os.path.isfile(path)}
    assert not os.path.isdir(node.state.runs_path)


@pytest.mark.parametrize("item", [Wanted("absent", "renew"), Wanted("ca", "renew"), Wanted("absent", "activate")])
def test_refuses_what_it_cannot_renew(node: FakeNode, item: Wanted) -> None:
    with pytest.raises(CertopsError, match="Remedy"):
        run(node, items=(item,))


def test_refuses_to_keep_a_foreign_key(node: FakeNode) -> None:
    node.path("pki/apiserver.key").write_bytes(pki.key_to_pem(pki.new_key()))
    for check_mode in (True, False):
        with pytest.raises(CertopsError, match="does not belong"):
            if check_mode:
                predict(node.access(), node.state, Request("run", node.wanted("apiserver"), keep_private_key=True))
            else:
                run(node, "apiserver", keep_private_key=True)


def test_names_every_reason_at_once(node: FakeNode) -> None:
    node.path("pki/ca.key").unlink()
    node.path("pki/etcd/ca.key").unlink()
    with pytest.raises(CertopsError) as caught:
        run(node)
    for name in NAMES:
        assert "%s: " % name in str(caught.value)


def test_refuses_a_full_disk(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(str(node.root))
    fields = ("f_flag", "f_frsize", "f_files", "f_ffree", "f_favail")
    full = type("Full", (), dict({name: getattr(real, name) for name in fields}, f_bfree=1, f_bavail=1))
    before = node.tree()
    monkeypatch.setattr(os, "statvfs", lambda _path: full)
    with pytest.raises(CertopsError, match="bytes are free"):
        run(node)
    assert node.tree() == before
    assert not os.path.isdir(node.state.runs_path)


def test_refuses_an_unhealthy_node(node: FakeNode) -> None:
    node.unhealthy = lambda _node: "etcd has no leader"
    before = node.tree()
    with pytest.raises(CertopsError, match="nothing was changed.*etcd has no leader"):
        run(node)
    assert node.tree() == before
    node.unhealthy = lambda fake: "starting" if fake.time < node.time + 0.5 and fake.time < 3 else None
    run(node)


def test_refuses_while_another_run_holds_the_node(node: FakeNode) -> None:
    with node.state.lock("other", 4711, "2026-11-24T01:50:00Z"):
        for check_mode in (True, False):
            with pytest.raises(CertopsError, match="pid 4711, run other, since 2026-11-24T01:50:00Z"):
                if check_mode:
                    predict(node.access(), node.state, Request("run", node.wanted()))
                else:
                    run(node)
    run(node)


def test_a_run_id_is_no_path(node: FakeNode) -> None:
    before = node.tree()
    with pytest.raises(CertopsError, match="run id"):
        rotate(node.access(), node.state, Request("../x", node.wanted()), LIMITS)
    assert node.tree() == before


def test_a_run_id_is_not_used_twice(node: FakeNode) -> None:
    assert run(node, "apiserver")["run_id"] == "run"
    assert run(node, "apiserver")["run_id"] == "run-2"


# --- what goes wrong later is put back


def assert_rolled_back(node: FakeNode, before: dict[str, t.Any], **options: t.Any) -> RotationFailed:
    with pytest.raises(RotationFailed, match="rolled back") as caught:
        run(node, **options)
    assert node.tree() == before
    assert caught.value.result["rolled_back"]
    assert not [name for name in NAMES for reader in node.reader_states(name) if reader == "false"]
    return caught.value


@pytest.mark.parametrize("component", [CONTROLLER_MANAGER, SCHEDULER])
def test_a_component_that_does_not_come_back_for_now(node: FakeNode, component: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = node.tree()
    node.stubborn.add(component)
    real = node.restart

    def once(found: t.Any, name: str) -> t.Any:
        try:
            return real(found, name)
        except CertopsError:
            node.stubborn.clear()
            raise

    monkeypatch.setattr(node, "restart", once)
    error = assert_rolled_back(node, before)
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

    def first_broken(found: t.Any, name: str) -> t.Any:
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

    monkeypatch.setattr("ansible_collections.certops.kubernetes.plugins.module_utils._transaction.replace_file", replace)
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
    monkeypatch.setattr("ansible_collections.certops.kubernetes.plugins.module_utils._transaction.replace_file", replace)
    assert signal.Signals(number).name in str(assert_rolled_back(node, before))
    assert signal.getsignal(number) == handler


def test_a_request_to_end_is_too_late_when_everything_is_written(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    real = node.restart

    def restart(found: t.Any, name: str) -> t.Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(found, name)

    monkeypatch.setattr(node, "restart", restart)
    assert run(node)["state"] == "committed"
