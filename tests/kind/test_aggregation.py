# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The front-proxy client certificate in use, towards the lab's aggregated API; what serves it, a webhook and a conversion is inspected."""

from __future__ import annotations

import base64
import json
import time
import typing as t

import cluster
import observe
import pytest

API_SERVICE = "v1.aggregated.certops.example"
HOOKS = "certops-turned"
GROUP = "turned.certops.example"
HOLDERS = {
    f"api:APIService/{API_SERVICE}#caBundle": ("apiservice", API_SERVICE, "{.spec.caBundle}"),
    f"api:ValidatingWebhookConfiguration/{HOOKS}#admit.{GROUP}/caBundle": (
        "validatingwebhookconfiguration",
        HOOKS,
        "{.webhooks[0].clientConfig.caBundle}",
    ),
    f"api:CustomResourceDefinition/turns.{GROUP}#caBundle": (
        "customresourcedefinition",
        f"turns.{GROUP}",
        "{.spec.conversion.webhook.clientConfig.caBundle}",
    ),
}
SERVED = "served:aggregated.kube-system.svc:443"


def remembered(name: str) -> t.Any:
    """What `observe.py` wrote."""
    return json.loads((cluster.STATE / name).read_text())


def read(kind: str, name: str, path: str) -> str:
    """A field of an object, as kubectl shows it."""
    return cluster.kubectl("get", kind, name, "-o", f"jsonpath={path}").strip()


def test_before_the_rotation_the_old_certificate_was_shown() -> None:
    """The lab's server sees what the API server has on disk, so that its word after the rotation means something."""
    before = remembered("front_proxy.json")
    assert before["shown"] == before["on_disk"]


def test_after_it_the_new_certificate_is_shown() -> None:
    """The API server, the same process as before, reads the pair again within a minute."""
    give_up = time.monotonic() + 90
    while (now := observe.front_proxy())["shown"] != now["on_disk"]:
        assert time.monotonic() < give_up, f"after 90 s the API server still shows {now['shown']}, {now['on_disk']} is on disk"
        time.sleep(1)
    assert now["on_disk"] != remembered("front_proxy.json")["on_disk"]


def test_the_api_is_available() -> None:
    """In the words of the API server itself."""
    assert read("apiservice", API_SERVICE, "{.status.conditions[?(@.type=='Available')].status}") == "True"


def test_the_proof_is_a_request_that_goes_the_pairs_way() -> None:
    """For each of the API server's client pairs, in the report of the run that renewed them."""
    reports = [json.loads(path.read_text()) for path in sorted(cluster.REPORTS.rglob("rotate-*.json"))]
    results = [report["results"].get(cluster.NODE, {}).get("certificates") for report in reports]
    certificates = {one["name"]: one for one in next(filter(None, results))}
    pairs = ("apiserver-kubelet-client", "apiserver-etcd-client", "front-proxy-client")
    proofs = {name: (certificates[name]["in_use"], certificates[name]["proof"]) for name in pairs}
    assert proofs == dict.fromkeys(pairs, ("true", "path_works"))


@pytest.fixture(scope="module", name="inspected")
def fixture_inspected() -> t.Iterator[dict[str, t.Any]]:
    """The records of an inspection while a webhook and a conversion of the same server are there, and the objects' versions."""
    try:
        make_objects()
        before = versions()
        cluster.playbook("inspect")
        yield {"records": cluster.newest_report("inspect")["records"], "before": before, "after": versions()}
    finally:
        cluster.kubectl("delete", "--ignore-not-found", "validatingwebhookconfiguration", HOOKS)
        cluster.kubectl("delete", "--ignore-not-found", "customresourcedefinition", f"turns.{GROUP}")


def make_objects() -> None:
    """A kind with two versions; its objects are converted between them and admitted by the lab's server, or nothing is done."""
    bundle = read("apiservice", API_SERVICE, "{.spec.caBundle}")
    service = {"namespace": "kube-system", "name": "aggregated", "port": 443}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    rule = {"apiGroups": [GROUP], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["turns"]}
    hook = {
        "name": f"admit.{GROUP}",
        "clientConfig": {"caBundle": bundle, "service": {**service, "path": "/admit"}},
        "rules": [rule],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    converter = {"clientConfig": {"caBundle": bundle, "service": {**service, "path": "/convert"}}, "conversionReviewVersions": ["v1"]}
    cluster.apply(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"turns.{GROUP}"},
            "spec": {
                "group": GROUP,
                "names": {"kind": "Turn", "plural": "turns", "singular": "turn"},
                "scope": "Cluster",
                "versions": [{"name": name, "served": True, "storage": name == "v1", "schema": schema} for name in ("v1", "v2")],
                "conversion": {"strategy": "Webhook", "webhook": converter},
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": HOOKS},
            "webhooks": [hook],
        },
    )
    cluster.kubectl("wait", "--for=condition=Established", f"customresourcedefinition/turns.{GROUP}", "--timeout=30s")


def versions() -> list[str]:
    """Of the objects that an inspection looks at; who only reads them changes none."""
    return [read(kind, name, "{.metadata.resourceVersion}") for kind, name, _path in HOLDERS.values()]


def ends(pem: str) -> str:
    """When a certificate ends, as records have it, by openssl."""
    shown = cluster.on_node("openssl", "x509", "-noout", "-enddate", "-dateopt", "iso_8601", stdin=pem)
    return shown.strip().partition("=")[2].replace(" ", "T", 1)


def test_the_webhook_and_the_conversion_are_in_use(inspected: dict[str, t.Any]) -> None:
    """The API server verifies the lab's server under both bundles: what is made is admitted with a warning, and converted."""
    assert inspected
    turn = {"apiVersion": f"{GROUP}/v1", "kind": "Turn", "metadata": {"name": "one"}, "spec": 7}
    argv = ["docker", "exec", "-i", cluster.NODE, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "create", "-f", "-"]
    give_up = time.monotonic() + 30
    while "aggregated.certops.example was asked" not in (made := cluster.run(*argv, stdin=json.dumps(turn), check=False)).stderr:
        assert time.monotonic() < give_up, made.stdout + made.stderr
        cluster.kubectl("delete", "--ignore-not-found", f"turns.v1.{GROUP}", "one")  # the webhook was not known yet
        time.sleep(1)
    assert read(f"turns.v2.{GROUP}", "one", "{.apiVersion} {.spec}") == f"{GROUP}/v2 7"


@pytest.mark.parametrize("name", HOLDERS)
def test_a_ca_bundle_is_listed_with_its_end(inspected: dict[str, t.Any], name: str) -> None:
    """The same as openssl says of what kubectl shows."""
    (record,) = [one for one in inspected["records"] if one["name"] == name]
    assert record["not_after"] == ends(base64.b64decode(read(*HOLDERS[name])).decode())
    assert (record["status"], record["findings"]) == ("ok", [])


def test_the_servers_certificate_is_listed_with_its_end(inspected: dict[str, t.Any]) -> None:
    """Once, for all who have it called; the same as openssl sees at the Service's address."""
    address = cluster.kubectl("get", "service", "-n", "kube-system", "aggregated", "-o", "jsonpath={.spec.clusterIP}").strip()
    shown = cluster.on_node("sh", "-c", f"timeout 5 openssl s_client -connect {address}:443 </dev/null 2>/dev/null | openssl x509")
    (record,) = [one for one in inspected["records"] if one["name"] == SERVED]
    assert record["not_after"] == ends(shown)
    assert (record["status"], record["findings"]) == ("ok", [])


def test_inspection_changes_none_of_them(inspected: dict[str, t.Any]) -> None:
    """Their resource versions are what they were."""
    assert inspected["before"] == inspected["after"]


def test_all_the_while_no_aggregated_request_failed() -> None:
    """A fresh connection every 200 ms through the aggregation layer, from before the rotation until now."""
    observe.stop()
    summary = remembered("aggregated.json")
    print(json.dumps(summary, indent=2))
    assert "aggregated" not in remembered("ended_early.json")
    assert summary["requests"] > 25
    assert summary["failed"] == 0, summary


def test_where_no_aggregated_api_works_there_is_no_proof_and_no_failure() -> None:
    """The certificate is renewed, nobody is restarted for what cannot be known; when the server is back, it is shown the new one."""
    before = observe.processes()
    try:
        scale(0)
        cluster.kubectl("wait", "--for=condition=Available=False", f"apiservice/{API_SERVICE}", "--timeout=90s")
        asked = {"certs_rotate_force": True, "certs_rotate_select": "[?name=='front-proxy-client']"}
        cluster.playbook("rotate", "-e", json.dumps(asked))
        result = cluster.newest_report("rotate")["results"][cluster.NODE]
    finally:
        scale(1)
        cluster.kubectl("wait", "--for=condition=Available", f"apiservice/{API_SERVICE}", "--timeout=90s")
    (renewed,) = result["certificates"]
    assert (renewed["name"], renewed["in_use"], renewed["proof"]) == ("front-proxy-client", "unknown", "none")
    assert (result["state"], result["rolled_back"], observe.processes()) == ("committed", False, before)
    now = observe.front_proxy()
    assert now["shown"] == now["on_disk"] == renewed["after"]["fingerprint_sha256"]


def scale(replicas: int) -> None:
    """Let so many of the lab's servers run."""
    cluster.kubectl("scale", "-n", "kube-system", "deployment/aggregated", f"--replicas={replicas}")
    cluster.kubectl("rollout", "status", "-n", "kube-system", "deployment/aggregated", "--timeout=90s")
