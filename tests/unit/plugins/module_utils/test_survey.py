# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A whole survey of a node, with its API server's objects: who asks for them, and that each record has a name of its own."""

from __future__ import annotations

import json
import typing as t
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _cluster_objects as objects
from ansible_collections.certops.kubernetes.plugins.module_utils import _survey
from ansible_collections.certops.kubernetes.plugins.module_utils._inspection import Thresholds, inspect_node
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import fingerprint
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.api_objects import client_config, secret, webhooks
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import FakeNode, FakeServer, listed
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import embedded, kubeconfig_of

NOW = datetime.now(timezone.utc)
PARAMS: dict[str, t.Any] = {
    "cluster": None,
    "warn_days": 30,
    "critical_days": 7,
    "kubernetes_dir": "/x",
    "probe_timeout_seconds": 2.0,
    "etcd_unit": False,
    "kubeconfigs": [],
    "kubeconfigs_only": False,
}
HOOK = "api:ValidatingWebhookConfiguration/policy#hook0/caBundle"


def survey(monkeypatch: pytest.MonkeyPatch, node: Node, what: str) -> dict[str, t.Any]:
    """The module's result on this node."""
    monkeypatch.setattr(_survey, "discover", lambda now, kubernetes_dir, etcd_unit: node)
    result = _survey.survey({**PARAMS, "cluster_objects": what}, NOW)
    assert json.loads(json.dumps(result)) == result
    return result


@pytest.mark.parametrize("what", ["none", "called", "all"])
def test_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """By admin.conf, over TLS, and no Secret before somebody wants that."""
    made = FakeNode(tmp_path)
    web = pki.make_leaf(made.ca, "web", usages=("server",))
    routes = {
        "GET %s?limit=100" % objects.VALIDATING: listed(webhooks("policy", client_config(made.ca.cert_pem))),
        "GET %s?limit=50&fieldSelector=type%%3Dkubernetes.io%%2Ftls" % objects.SECRETS: listed(
            secret("web", tls_crt=web.cert_pem, tls_key=web.key_pem)
        ),
    }
    with FakeServer(tmp_path, routes, made.add_pair("apiserver")) as api:
        made.add_kubeconfigs(api.address, "admin.conf")
        made.add_component("kube-apiserver", advertise_address="127.0.0.1", secure_port=str(api.port))
        result = survey(monkeypatch, made.node(), what)
        asked = [path for _method, path, _body in api.requests]
    names = {record["name"] for record in result["certificates"]} - {"apiserver", "admin.conf"}
    assert (
        names
        == {
            "none": set(),
            "called": {HOOK, "served:hook.hooks.svc:443"},
            "all": {HOOK, "served:hook.hooks.svc:443", "api:Secret/default/web#tls.crt"},
        }[what]
    )
    assert [path for path in asked if "secrets" in path] == [path for path in asked if "type%3Dkubernetes.io%2Ftls" in path]
    assert {problem["code"] for problem in result["problems"]} == (set() if what == "none" else {"not_inspected"}), "what is 404 there"
    assert all(line not in json.dumps(result) for line in web.key_pem.decode().splitlines()[1:-1])


def test_a_node_without_an_api_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence; the rest of the inspection is there."""
    made = FakeNode(tmp_path)
    made.add_kubeconfigs("127.0.0.1:1", "admin.conf")
    result = survey(monkeypatch, made.node(), "called")
    (problem,) = result["problems"]
    assert (problem["code"], problem["severity"]) == ("not_inspected", "warning")
    assert "this node runs no kube-apiserver" in problem["message"]
    assert [record["name"] for record in result["certificates"]] == ["admin.conf"]


def test_an_api_server_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = FakeNode(tmp_path)
    made.add_kubeconfigs("127.0.0.1:1", "admin.conf")
    made.add_component("kube-apiserver", advertise_address="127.0.0.1", secure_port="1")
    (problem,) = survey(monkeypatch, made.node(), "all")["problems"]
    assert problem["code"] == "unreachable"
    assert "127.0.0.1:1/apis/apiregistration.k8s.io/v1/apiservices" in problem["message"]
    assert "connection refused" in problem["message"]


def test_each_record_has_a_name_of_its_own(tmp_path: Path) -> None:
    """A webhook's URL may be an address of the node itself, which is there already."""
    made = FakeNode(tmp_path)
    made.add_pair("apiserver")
    (record,) = inspect_node(made.node(), "h", None, NOW, Thresholds(1, 1))
    assert [one.name for one in _survey.each_once([record, record, record])] == ["apiserver", "apiserver~2", "apiserver~3"]


def test_a_host_outside_of_the_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its kubeconfigs are looked at, whatever runs there; that it is no node is no finding."""
    monkeypatch.setattr(_survey, "discover", lambda *_args, **_kwargs: pytest.fail("it was searched for a node"))
    monkeypatch.setattr(_survey, "settings_of", lambda *_args: pytest.fail("its kubelet was looked for"))
    ca = pki.make_ca("kubernetes")
    document = json.loads(kubeconfig_of({"admin": embedded(pki.make_leaf(ca, "kubernetes-admin"))}, "admin"))
    document["clusters"][0]["cluster"]["certificate-authority-data"] = embedded(ca)["client-certificate-data"]
    path = tmp_path / "config"
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    params = {**PARAMS, "kubeconfigs": [str(path)], "kubeconfigs_only": True, "cluster_objects": "none"}
    result = _survey.survey(params, NOW)
    (record,) = result["certificates"]
    assert (record["name"], record["externally_managed"], record["ca"]) == ("%s#admin" % path, True, None)
    assert result["node"]["issued_by"] == {record["name"]: fingerprint(ca.cert)}
    assert result["problems"] == []
