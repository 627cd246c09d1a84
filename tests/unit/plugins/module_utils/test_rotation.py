# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of a rotation from its request to its result."""

from __future__ import annotations

import base64
import json
import os
import stat
import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Wanted
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
    assert_consistent,
    run,
)

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="node")
def fixture_node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path)


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
    """etcd is away while its API server takes no requests: nobody sees the API wait for it."""
    result = run(node, restart="always")
    assert node.restarts == [API_SERVER, ETCD, CONTROLLER_MANAGER, SCHEDULER]
    assert all(entry["away_seconds"] for entry in result["components"])
    run(node, "etcd/server", restart="always")
    assert node.restarts[4:] == [ETCD], "an API server that need not go is left alone"


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


def test_a_file_with_several_names_is_replaced_and_told(node: FakeNode) -> None:
    """The other name keeps the old file: as a backup made with `cp -al` is meant to."""
    old = node.path("pki/apiserver.crt").read_bytes()
    os.link(str(node.path("pki/apiserver.crt")), str(node.root / "backup.crt"))
    (warning,) = run(node, "apiserver", "admin.conf")["warnings"]
    assert warning.startswith("%s had 2 names for one file" % node.path("pki/apiserver.crt"))
    assert (node.root / "backup.crt").read_bytes() == old
    assert run(node, "apiserver")["warnings"] == []


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
