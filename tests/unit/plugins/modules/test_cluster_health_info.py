# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest

pytest.importorskip("ansible.module_utils.basic", reason="ansible-core is not there for this Python")

from ansible_collections.certops.kubernetes.plugins.module_utils._health import Check, Health, Surroundings
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Node
from ansible_collections.certops.kubernetes.plugins.modules import cluster_health_info
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import NOW

PARAMS = {
    "planned": ["apiserver"],
    "planned_elsewhere": [],
    "restarts": ["etcd"],
    "kubernetes_dir": "/etc/kubernetes",
    "etcd_unit": "etcd-main",
}
CHECKS = (
    Check("kube-apiserver", False, "not ready (expired: apiserver; renewing cures it)", ("apiserver",)),
    Check("kubelet", True, "the kubelet is healthy"),
)


def test_the_result_is_json_ready_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[t.Any] = []

    def check_health(node: Node, now: t.Any, planned: t.Sequence[str], surroundings: Surroundings) -> Health:
        assert surroundings.restarts == ("etcd",)
        asked.append((node.kubernetes_dir, now, planned))
        return Health("expired_only", CHECKS)

    def discover(now: t.Any, directory: str, etcd_unit: str) -> Node:
        assert etcd_unit == "etcd-main"
        return Node("a", None, directory)

    monkeypatch.setattr(cluster_health_info, "discover", discover)
    monkeypatch.setattr(cluster_health_info, "check_health", check_health)
    result = cluster_health_info.health(PARAMS, NOW)
    assert asked == [("/etc/kubernetes", NOW, ["apiserver"])]
    assert json.loads(json.dumps(result)) == result
    assert result["verdict"] == "expired_only"
    assert result["msg"] == "expired_only: not ready (expired: apiserver; renewing cures it)"
    assert [check["caused_by_expired"] for check in result["checks"]] == [["apiserver"], []]
    assert all(set(check) == {"name", "ok", "message", "caused_by_expired", "remark"} for check in result["checks"])


def test_a_node_that_cannot_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def discover(now: t.Any, directory: str, etcd_unit: str) -> Node:
        raise CertopsError("%s: permission denied" % directory)

    monkeypatch.setattr(cluster_health_info, "discover", discover)
    with pytest.raises(CertopsError, match="permission denied"):
        cluster_health_info.health(PARAMS, NOW)
