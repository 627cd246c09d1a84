# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module's door: what goes in, what comes out, and how it fails."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

pytest.importorskip("ansible.module_utils.basic", reason="ansible-core is not there for this Python")

import yaml
from ansible_collections.certops.kubernetes.plugins.module_utils import _issue
from ansible_collections.certops.kubernetes.plugins.modules import issue_kubeconfig
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import (
    FakeServer,
    client_pair,
    server_pair,
    write_kubeconfig,
)
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_signer import FakeSigner, review

WANTED = {"user": "jane", "groups": ["developers"], "private_key_algorithm": "ECDSA-P256"}


class Ended(Exception):
    """The module has ended, with this result."""


class FakeModule:
    """Takes AnsibleModule's place: parameters come from the test, the result goes to it."""

    given: t.ClassVar[dict[str, t.Any]] = {}
    check_mode = False

    def __init__(self, argument_spec: dict[str, dict[str, t.Any]], supports_check_mode: bool = False) -> None:
        assert supports_check_mode
        assert set(self.given) <= set(argument_spec)
        self.params = {name: self.given.get(name, option.get("default")) for name, option in argument_spec.items()}
        self.warnings: list[str] = []

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def exit_json(self, **result: t.Any) -> None:
        raise Ended({"failed": False, "warnings": self.warnings, **result})

    def fail_json(self, **result: t.Any) -> None:
        raise Ended({"failed": True, **result})


def run(monkeypatch: pytest.MonkeyPatch, **params: t.Any) -> dict[str, t.Any]:
    """The module's result."""
    monkeypatch.setattr(issue_kubeconfig, "AnsibleModule", FakeModule)
    monkeypatch.setattr(FakeModule, "given", {**WANTED, **params})
    with pytest.raises(Ended) as ended:
        issue_kubeconfig.main()
    return t.cast("dict[str, t.Any]", ended.value.args[0])


@pytest.fixture(name="node")
def fixture_node(tmp_path: Path) -> t.Iterator[dict[str, t.Any]]:
    ca, folder = pki.make_ca(), tmp_path.resolve()
    (folder / "home").mkdir(mode=0o700)
    with FakeServer(folder, {}, server_pair(ca), client_ca=ca) as server:
        signer = FakeSigner(server, ca)
        (folder / "kubernetes").mkdir()
        write_kubeconfig(folder / "kubernetes" / "admin.conf", ca, client_pair(ca, "kubernetes-admin"), server.address)
        yield {"params": {"path": str(folder / "home" / "config"), "kubernetes_dir": str(folder / "kubernetes")}, "signer": signer}


def test_it_issues_and_then_changes_nothing(node: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, **node["params"])
    assert (result["failed"], result["changed"], result["action"], result["proof"]) == (False, True, "issued", "identity")
    assert result["warnings"] == []
    assert json.loads(json.dumps(result)) == result
    documented = set(yaml.safe_load(issue_kubeconfig.RETURN))
    assert set(result) - {"failed", "changed", "warnings", "diff"} == documented
    certificate = yaml.safe_load(issue_kubeconfig.RETURN)["certificate"]["contains"]
    assert set(result["certificate"]) == set(certificate)
    again = run(monkeypatch, **node["params"])
    assert (again["failed"], again["changed"]) == (False, False)


def test_check_mode(node: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeModule, "check_mode", True)
    result = run(monkeypatch, **node["params"])
    assert (result["failed"], result["changed"]) == (False, True)
    assert not Path(node["params"]["path"]).exists()
    assert node["signer"].made == []


def test_warnings_are_warnings(node: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    node["signer"].limit = 3600
    (warning,) = run(monkeypatch, **node["params"])["warnings"]
    assert "before the 720 hours" in warning


def test_a_refusal_is_a_sentence(node: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    node["signer"].seen = review("joan")
    result = run(monkeypatch, **node["params"])
    assert result["failed"]
    assert "sees 'joan'" in result["msg"]


def test_empty_is_as_good_as_not_given(node: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    empty = dict.fromkeys(("kubeconfig", "server", "cluster", "context", "owner", "group"), "")
    assert run(monkeypatch, **node["params"], **empty)["context"] == "jane@kubernetes"


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issue_kubeconfig, "missing_requirements", lambda: ["PyYAML is missing: install python3-yaml"])
    assert run(monkeypatch, path="/x") == {"failed": True, "msg": "PyYAML is missing: install python3-yaml"}


def test_the_choices_are_those_that_can_be_made() -> None:
    assert issue_kubeconfig.argument_spec()["private_key_algorithm"]["choices"] == list(_issue.ALGORITHMS)
    documented = yaml.safe_load(issue_kubeconfig.DOCUMENTATION)["options"]
    assert documented["private_key_algorithm"]["choices"] == list(_issue.ALGORITHMS)
    assert str(_issue.LONGEST_HOURS) in documented["validity_hours"]["description"][0]
