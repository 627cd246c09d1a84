# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rotation leaves as it is, an inspection foretells with the same words, so that it is not due in each run."""

from __future__ import annotations

import os
import tempfile
import typing as t
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _copied_user
from ansible_collections.certops.kubernetes.plugins.module_utils._findings import Thresholds
from ansible_collections.certops.kubernetes.plugins.module_utils._inspection import record_to_dict
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig_records import inspect_kubeconfigs
from ansible_collections.certops.kubernetes.plugins.module_utils._plan import rotation_plan
from ansible_collections.certops.kubernetes.plugins.module_utils._policy import OPTIONS, policy
from ansible_collections.certops.kubernetes.plugins.module_utils._records import Setting
from ansible_collections.certops.kubernetes.plugins.module_utils._replaceable import replace_problems
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import FakeNode, run
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import embedded, kubeconfig_of

JANE = 2001
WHOSE = [
    pytest.param(None, id="root"),
    pytest.param(JANE, id="jane", marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")),
]
HEADER = "apiVersion: v1\nkind: Config\n"


@pytest.fixture(name="node")
def fixture_node(tmp_path: Path) -> FakeNode:
    """Its admin.conf has been renewed."""
    node = FakeNode(tmp_path / "node")
    run(node, "admin.conf")
    return node


@pytest.fixture(name="home", params=WHOSE)
def fixture_home(request: pytest.FixtureRequest) -> t.Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        home = Path(folder).resolve() / "home"
        home.mkdir()
        if request.param:
            os.chown(home, request.param, request.param)
        yield home


def give(home: Path) -> None:
    found = home.stat()
    for path in home.iterdir():
        os.chown(path, found.st_uid, found.st_gid)
        path.chmod(0o600)


def old(node: FakeNode) -> pki.Pair:
    """What a copy of admin.conf from before its renewal has."""
    return pki.make_leaf(node.authorities["ca"], "admin.conf", not_after=datetime.now(timezone.utc) + timedelta(days=40))


def aliased(node: FakeNode, home: Path) -> None:
    user = embedded(old(node))
    words = (HEADER, user["client-certificate-data"], user["client-key-data"])
    text = "%susers:\n- {name: me, user: {client-certificate-data: &c %s, client-key-data: %s}}\nnote: *c\n" % words
    (home / "config").write_text(text)


def in_one_file(node: FakeNode, home: Path) -> None:
    leaf = old(node)
    (home / "both.pem").write_bytes(leaf.cert_pem + leaf.key_pem)
    (home / "config").write_bytes(kubeconfig_of({"me": {"client-certificate": "both.pem", "client-key": "both.pem"}}, "me"))


def half_embedded(node: FakeNode, home: Path) -> None:
    leaf = old(node)
    (home / "me.key").write_bytes(leaf.key_pem)
    user = {"client-certificate-data": embedded(leaf)["client-certificate-data"], "client-key": "me.key"}
    (home / "config").write_bytes(kubeconfig_of({"me": user}, "me"))


def plain(node: FakeNode, home: Path) -> None:
    (home / "config").write_bytes(kubeconfig_of({"me": embedded(old(node))}, "me"))


def look(node: FakeNode, home: Path) -> t.Any:
    setting = Setting("c", "h", "cp-1", datetime.now(timezone.utc), Thresholds(2, 1))
    (record,) = inspect_kubeconfigs(node.discover(), [str(home / "config")], setting).records
    return record


def check(node: FakeNode, home: Path, why: str) -> None:
    """Inspection and rotation say the same; the plan has nothing to do."""
    give(home)
    before = {path: path.read_bytes() for path in home.iterdir()}
    record = look(node, home)
    assert [finding.code for finding in record.findings] == ["stale_copy_left"]
    assert record.renewable is False
    assert why in record.not_renewable_because
    assert why in record.findings[0].message
    rules = policy({name: "" for name in OPTIONS if name.startswith("certs_rotate_")})
    (entry,) = rotation_plan([record_to_dict(record)], rules, {"h": {}})
    assert (entry["action"], entry["code"]) == ("none", "not_renewable")
    result = run(node, "scheduler.conf", copies=(str(home / "config"),))
    assert (result["state"], result["copies"]) == ("committed", [])
    assert "The copy %s was left as it is. %s" % (home / "config", record.not_renewable_because) in result["warnings"]
    assert {path: path.read_bytes() for path in home.iterdir()} == before


@pytest.mark.parametrize(
    ("make", "why"),
    [(aliased, "by a YAML alias"), (in_one_file, "in one file"), (half_embedded, "not both are embedded, nor both in files")],
)
def test_its_form(node: FakeNode, home: Path, make: t.Callable[[FakeNode, Path], None], why: str) -> None:
    make(node, home)
    check(node, home, why)


def test_its_place(node: FakeNode, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount point, an immutable file, a folder on a file system that is mounted read-only: nothing that a test may make."""
    plain(node, home)
    real = replace_problems
    monkeypatch.setattr(
        _copied_user, "replace_problems", lambda paths: [*real(paths), "Cannot replace %s: it is a mount point." % next(iter(paths))]
    )
    check(node, home, "it is a mount point")


def test_one_that_nothing_keeps_is_due(node: FakeNode, home: Path) -> None:
    plain(node, home)
    give(home)
    assert [finding.code for finding in look(node, home).findings] == ["stale_copy"]
    assert run(node, "scheduler.conf", copies=(str(home / "config"),))["copies"] == [str(home / "config")]
    assert look(node, home).findings == ()


def test_a_folder_that_its_owner_may_not_write_to(node: FakeNode, home: Path) -> None:
    """Root may write anywhere; for somebody else only what that user may."""
    if home.stat().st_uid != JANE:
        pytest.skip("root may write there")
    plain(node, home)
    give(home)
    home.chmod(0o555)
    check(node, home, "Cannot write to %s" % home)


def test_users_beside_one_that_is_left_become_valid(node: FakeNode, home: Path) -> None:
    mixed = {**embedded(old(node)), "client-key-data": embedded(pki.make_leaf(node.authorities["ca"], "x"))["client-key-data"]}
    (home / "config").write_bytes(kubeconfig_of({"me": embedded(old(node)), "mixed\nThe copy": mixed}, "me"))
    give(home)
    (home / "config").chmod(0o640)
    result = run(node, "scheduler.conf", copies=(str(home / "config"),))
    assert result["copies"] == [str(home / "config")]
    (warning,) = (warning for warning in result["warnings"] if "left as it is" in warning)
    assert "user mixed\\0aThe copy does not hold the private key" in warning, "on one line"
