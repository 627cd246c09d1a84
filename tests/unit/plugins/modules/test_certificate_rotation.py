# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of the doors certificate_rotation and certificate_rollback: options in, results and failures out."""

from __future__ import annotations

import json
import os
import typing as t

import pytest

pytest.importorskip("ansible.module_utils.basic", reason="ansible-core is not there for this Python")
pytest.importorskip("ansible.module_utils.testing", reason="this ansible-core has no way to give a module its arguments")

from ansible.module_utils import testing
from ansible_collections.certops.kubernetes.plugins.modules import certificate_rollback, certificate_rotation
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import NAMES, FakeNode

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="node")
def fixture_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNode:
    node = FakeNode(tmp_path)
    for module in (certificate_rotation, certificate_rollback):
        monkeypatch.setattr(module, "node_access", lambda *_args: node.access())
        monkeypatch.setattr(module, "StateFolder", lambda: node.state)
    return node


def call(module: t.Any, capsys: pytest.CaptureFixture[str], check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
    with testing.patch_module_args(dict(options, _ansible_check_mode=check_mode)), pytest.raises(SystemExit):
        module.main()
    result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
    return result


def test_rotates_and_rolls_back(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    before = node.tree()
    options: dict[str, t.Any] = {"run_id": "run", "items": [{"name": name, "fingerprint_sha256": node.on_disk(name)} for name in NAMES]}
    planned = call(certificate_rotation, capsys, check_mode=True, **options)
    assert planned["changed"]
    assert node.tree() == before
    done = call(certificate_rotation, capsys, **options)
    assert done["changed"]
    assert done["state"] == "committed"
    assert set(planned) <= set(done) | {"recovered"}
    assert node.tree() != before
    foreseen = call(certificate_rollback, capsys, check_mode=True)
    assert foreseen["restored_run_id"] == "run"
    undone = call(certificate_rollback, capsys)
    assert undone["changed"]
    assert node.tree() == before


def test_a_failure_has_a_result(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.stubborn.add("kube-scheduler")
    failed = call(certificate_rotation, capsys, run_id="run", items=[{"name": "scheduler.conf"}])
    assert failed["failed"]
    assert failed["rolled_back"]
    assert "rolled back" in failed["msg"]
    assert "Traceback" not in json.dumps(failed)


def test_a_refusal_is_a_sentence(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    for check_mode in (True, False):
        failed = call(certificate_rotation, capsys, check_mode, run_id="run", items=[{"name": "nothing"}])
        assert failed["failed"]
        assert "nothing was changed" in failed["msg"]
        failed = call(certificate_rollback, capsys, check_mode, run_id="nothing")
        assert "There is no run nothing" in failed["msg"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"items": [{"name": "apiserver"}, {"name": "apiserver"}]}, "more than once"),
        (
            {"items": [{"name": "kubelet:x", "action": "configure"}]},
            "configure for kubelet:x, but it is for kubelet:rotateCertificates and",
        ),
        ({"items": [{"name": "kubelet:rotateCertificates", "action": "configure"}], "restart": "never"}, "but restart is never"),
        ({"validity_days": 0}, "validity_days is 0"),
        ({"keep_backups": 0}, "keep_backups is 0"),
        ({"stop_timeout_seconds": -1}, "stop_timeout_seconds"),
        ({"restart": "perhaps"}, "restart"),
        # Only a restart makes that one anew, so that nothing could be proven and everything would be put back.
        (
            {"restart": "never", "items": [{"name": "served:127.0.0.1:10259", "action": "restart"}]},
            "action restart for served:127.0.0.1:10259, but restart is never",
        ),
    ],
)
@pytest.mark.usefixtures("node")
def test_options_that_make_no_sense(options: dict[str, t.Any], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    failed = call(certificate_rotation, capsys, **dict({"run_id": "run", "items": []}, **options))
    assert failed["failed"]
    assert reason in failed["msg"]


def test_a_node_without_runs_is_left_alone(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    before = node.everything()
    result = call(certificate_rollback, capsys, run_id="")
    assert not result["changed"]
    assert node.everything() == before


def test_copies_of_any_name(node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in (b"\xff", b"a\nb"):
        with open(os.path.join(os.fsencode(home), name), "wb") as stream:
            stream.write(node.path("admin.conf").read_bytes())
    done = call(certificate_rotation, capsys, run_id="run", items=[{"name": "admin.conf"}], kubeconfig_copies=["%s/*" % home])
    assert len(done["copies"]) == 2
