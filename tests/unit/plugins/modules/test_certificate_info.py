# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module's door: what goes in, what comes out, and how it fails."""

from __future__ import annotations

import json
import typing as t
from datetime import datetime, timezone
from pathlib import Path

import pytest

pytest.importorskip("ansible.module_utils.basic", reason="ansible-core is not there for this Python")

import yaml
from ansible_collections.certops.kubernetes.plugins.module_utils import _survey
from ansible_collections.certops.kubernetes.plugins.module_utils._inspection import node_to_dict
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Journal, StateFolder
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Record
from ansible_collections.certops.kubernetes.plugins.modules import certificate_info
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import KubeadmTree


class Ended(Exception):
    """The module has ended, with this result."""


class FakeModule:
    """Takes AnsibleModule's place: parameters come from the test, the result goes to it."""

    given: t.ClassVar[dict[str, t.Any]] = {}

    def __init__(self, argument_spec: dict[str, dict[str, t.Any]], supports_check_mode: bool = False) -> None:
        assert supports_check_mode
        self.params = {name: self.given.get(name, option.get("default")) for name, option in argument_spec.items()}

    def exit_json(self, **result: t.Any) -> None:
        raise Ended({"failed": False, **result})

    def fail_json(self, **result: t.Any) -> None:
        raise Ended({"failed": True, **result})


def run(monkeypatch: pytest.MonkeyPatch, **params: t.Any) -> dict[str, t.Any]:
    """The module's result."""
    monkeypatch.setattr(certificate_info, "AnsibleModule", FakeModule)
    monkeypatch.setattr(FakeModule, "given", params)
    with pytest.raises(Ended) as ended:
        certificate_info.main()
    return t.cast("dict[str, t.Any]", ended.value.args[0])


def test_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = KubeadmTree(tmp_path)
    node = tree.discover()
    monkeypatch.setattr(_survey, "discover", lambda now, kubernetes_dir, etcd_unit: node)
    result = run(monkeypatch, cluster="mine", probe_timeout_seconds=0.1)
    assert (result["failed"], result["changed"], result["problems"]) == (False, False, [])
    assert {record["cluster"] for record in result["certificates"]} == {"mine"}
    assert (result["node"]["name"], result["node"]["cluster"], result["node"]["certificate_validity_seconds"]) == ("cp-1", "mine", None)
    assert json.loads(json.dumps(result)) == result


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate_info, "missing_requirements", lambda: ["PyYAML is missing: install python3-yaml"])
    assert run(monkeypatch) == {"failed": True, "msg": "PyYAML is missing: install python3-yaml"}


@pytest.mark.parametrize("params", [{"warn_days": -1}, {"critical_days": 10**9}, {"probe_timeout_seconds": float("nan")}])
def test_numbers_that_make_no_sense(monkeypatch: pytest.MonkeyPatch, params: dict[str, t.Any]) -> None:
    result = run(monkeypatch, **params)
    assert result["failed"]
    assert next(iter(params)) in result["msg"]


def test_the_documentation_names_every_key(tmp_path: Path) -> None:
    tree = KubeadmTree(tmp_path)
    documented = yaml.safe_load(certificate_info.RETURN)
    assert set(documented["certificates"]["contains"]) == set(Record.__dataclass_fields__)
    described = node_to_dict(tree.discover(), None, datetime.now(timezone.utc))
    assert set(documented["node"]["contains"]) == {
        *described,
        "certificate_validity_seconds",
        "issued_by",
        "kubelet_settings",
        "kubelet_to_ask",
        "leads",
        "seconds_taken",
        "signing_seconds",
        "signs",
        "unfinished_run",
    }


@pytest.mark.parametrize(("state", "found"), [("applied", "run-1"), ("committed", None)])
def test_a_run_that_was_stopped_half_way(tmp_path: Path, state: str, found: str | None) -> None:
    folder = StateFolder(str(tmp_path))
    folder.save(Journal(run_id="run-1", host="h", started_at="2026-11-24T01:50:00Z", state=state, restart="auto"))
    assert _survey.unfinished_run(folder) == (found, [])


def test_a_damaged_journal_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "runs" / "run-1").mkdir(parents=True)
    (tmp_path / "runs" / "run-1" / "journal.json").write_text("{")
    name, problems = _survey.unfinished_run(StateFolder(str(tmp_path)))
    assert name is None
    assert [problem.code for problem in problems] == ["unreadable"]
