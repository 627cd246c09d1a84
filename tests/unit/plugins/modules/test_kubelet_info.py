# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module's door: whom it asks with what, and how it fails."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

pytest.importorskip("ansible.module_utils.basic", reason="ansible-core is not there for this Python")

from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node
from ansible_collections.certops.kubernetes.plugins.modules import kubelet_info
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import FakeNode, FakeServer

METRICS = "kubelet_certificate_manager_client_ttl_seconds 86400\n"


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


def run(monkeypatch: pytest.MonkeyPatch, node: Node, **params: t.Any) -> dict[str, t.Any]:
    """The module's result on this node."""
    monkeypatch.setattr(kubelet_info, "AnsibleModule", FakeModule)
    monkeypatch.setattr(kubelet_info, "discover", lambda now, kubernetes_dir: node)
    monkeypatch.setattr(FakeModule, "given", {"nodes": ["w1", "w2"], **params})
    with pytest.raises(Ended) as ended:
        kubelet_info.main()
    result = t.cast("dict[str, t.Any]", ended.value.args[0])
    assert json.loads(json.dumps(result)) == result
    return result


def test_the_api_server_of_the_node_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = FakeNode(tmp_path)
    with FakeServer(tmp_path, {"GET /api/v1/nodes/w1/proxy/metrics": (200, METRICS)}, made.add_pair("apiserver")) as api:
        made.add_kubeconfigs(api.address, "admin.conf")
        made.add_component("kube-apiserver", advertise_address="127.0.0.1", secure_port=str(api.port))
        result = run(monkeypatch, made.node())
    assert (result["failed"], result["changed"]) == (False, False)
    first, second = result["kubelets"]
    assert (first["node"], first["reason"]) == ("w1", None)
    assert first["earliest_end"] < first["latest_end"]
    assert (second["node"], second["earliest_end"], second["latest_end"]) == ("w2", None, None)
    assert "HTTP 404" in second["reason"]


def test_a_node_without_an_api_server_says_where_to_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = run(monkeypatch, Node("w1", None, str(tmp_path)))
    assert result["failed"]
    assert result["msg"].startswith("No kubelet could be asked: ")
    assert result["msg"].endswith("Remedy: call this module on a control-plane node.")


@pytest.mark.parametrize(
    "params", [{"timeout_seconds": 0.0}, {"limit_seconds": -1.0}, {"limit_seconds": 1e9}, {"timeout_seconds": float("nan")}]
)
def test_numbers_that_make_no_sense(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, params: dict[str, t.Any]) -> None:
    result = run(monkeypatch, Node("w1", None, str(tmp_path)), **params)
    assert result["failed"]
    assert next(iter(params)) in result["msg"]
