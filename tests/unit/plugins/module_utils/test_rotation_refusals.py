# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rotation refuses before anything is changed."""

from __future__ import annotations

import os
import re
import typing as t
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _rotation
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Wanted
from ansible_collections.certops.kubernetes.plugins.module_utils._replaceable import replace_problems
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import Request, predict, rotate
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import (
    LIMITS,
    NAMES,
    FakeNode,
    run,
)

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="node")
def fixture_node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path)


def spoil_ca_key(node: FakeNode) -> None:
    node.path("pki/ca.key").write_bytes(pki.key_to_pem(pki.new_key()))


def expire_ca(node: FakeNode) -> None:
    now = datetime.now(timezone.utc)
    old = pki.make_ca(key=node.authorities["ca"].key, not_before=now - timedelta(days=9), not_after=now - timedelta(days=1))
    node.path("pki/ca.crt").write_bytes(old.cert_pem)


def begin_ca_tomorrow(node: FakeNode) -> None:
    now = datetime.now(timezone.utc)
    later = pki.make_ca(key=node.authorities["ca"].key, not_before=now + timedelta(days=1), not_after=now + timedelta(days=9))
    node.path("pki/ca.crt").write_bytes(later.cert_pem)


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
    (begin_ca_tomorrow, "Remedy: correct this node's clock"),
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


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("name", ["apiserver.key", "apiserver.crt"])
def test_refuses_what_cannot_be_replaced(node: FakeNode, monkeypatch: pytest.MonkeyPatch, name: str, check_mode: bool) -> None:
    path = str(node.path("pki/" + name))
    mountinfo = node.root / "mountinfo"
    mountinfo.write_text("310 27 8:1 / %s rw - ext4 /dev/sda1 rw\n" % path)
    monkeypatch.setattr(_rotation, "replace_problems", lambda paths: replace_problems(paths, mountinfo=str(mountinfo)))
    before = node.tree()
    with pytest.raises(CertopsError, match="nothing was changed.*%s: it is a mount point" % re.escape(path)):
        if check_mode:
            predict(node.access(), node.state, Request("run", node.wanted("apiserver")))
        else:
            run(node, "apiserver")
    assert node.tree() == before
    assert not os.path.isdir(node.state.runs_path)


def test_a_key_that_is_kept_need_not_be_replaceable(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def nothing_wrong(paths: t.Sequence[str]) -> list[str]:
        asked.append([os.path.basename(path) for path in paths])
        return []

    monkeypatch.setattr(_rotation, "replace_problems", nothing_wrong)
    for keep in (True, False):
        request = Request("run", node.wanted("apiserver", "admin.conf"), keep_private_key=keep)
        predict(node.access(), node.state, request)
        run(node, items=node.wanted("apiserver", "admin.conf"), keep_private_key=keep)
    kept, new = ["apiserver.crt", "admin.conf"], ["apiserver.key", "apiserver.crt", "admin.conf"]
    assert asked == [kept, kept, new, new], "check mode looks at what a run would write"


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


@pytest.mark.parametrize("days", [10**6, 10**9, 10**30])
def test_a_validity_beyond_the_calendar_ends_with_the_ca(node: FakeNode, days: int) -> None:
    request = Request("r", node.wanted("apiserver"), validity_days=days)
    (planned,) = predict(node.access(), node.state, request)["certificates"]
    (made,) = rotate(node.access(), node.state, request, LIMITS)["certificates"]
    assert planned["after"]["not_after"] == made["after"]["not_after"]
