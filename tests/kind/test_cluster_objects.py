# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificates in the objects of a real API, as inspect lists them, against what kubectl and openssl find there."""

from __future__ import annotations

import base64
import collections
import functools
import json
import re
import time
import typing as t

import cluster
import pytest

SPACE = "certops-objects"
FOLDER = "/run/certops-objects"
HOOK = f"hook.{SPACE}.svc"
NEVER = [{"apiGroups": ["objects.certops.example"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nothing"]}]
BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)

# A certificate that ends in five days, a CA that ends in twenty, a server that it signed, and a CA that signed nothing.
MAKE = f"""
mkdir -p {FOLDER}
cd {FOLDER}
new() {{ openssl req -x509 -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.crt" -days "$2" -subj "/CN=$1" $3 $4; }}
new web 5 -addext subjectAltName=DNS:web.example
new hooks-ca 20
new other-ca 3000
new hook 100 -addext subjectAltName=DNS:{HOOK} >/dev/null
openssl req -new -key hook.key -subj /CN=hook -out hook.csr
printf 'subjectAltName=DNS:{HOOK}\\nextendedKeyUsage=serverAuth\\n' >hook.ext
openssl x509 -req -in hook.csr -CA hooks-ca.crt -CAkey hooks-ca.key -days 100 -extfile hook.ext -out hook.crt
"""
# Several at a time: openssl's own server has one client after the other, and waits for what the first one wants.
SERVE = f"""
import http.server, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("{FOLDER}/hook.crt", "{FOLDER}/hook.key")
server = http.server.ThreadingHTTPServer(("", 9443), http.server.BaseHTTPRequestHandler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"""


def file(name: str) -> str:
    """A file that was made on the node."""
    return cluster.on_node("cat", f"{FOLDER}/{name}")


def encoded(text: str) -> str:
    """As bytes are in the API's JSON."""
    return base64.b64encode(text.encode()).decode()


def webhook(name: str, service: str, bundle: str) -> dict[str, t.Any]:
    """A webhook that no request comes to, and that may be passed over."""
    config = {"caBundle": encoded(bundle), "service": {"namespace": SPACE, "name": service, "path": "/"}}
    return {
        "name": f"{name}.certops.example",
        "clientConfig": config,
        "rules": NEVER,
        "failurePolicy": "Ignore",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }


def make_objects() -> None:
    """A TLS Secret, a Service whose server is on the node, and what names it: webhooks, and a definition with a conversion."""
    hooks_ca, other_ca = file("hooks-ca.crt"), file("other-ca.crt")
    registration = "admissionregistration.k8s.io/v1"
    port = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": 9443}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"group": "objects.certops.example", "names": {"kind": "Thing", "plural": "things", "singular": "thing"}, "scope": "Namespaced"}
    conversion = webhook("x", "hook", hooks_ca)["clientConfig"]
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})
    cluster.on_node(
        *("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "-n", SPACE, "create", "secret", "tls", "web"),
        *(f"--cert={FOLDER}/web.crt", f"--key={FOLDER}/web.key"),
    )
    cluster.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook", "namespace": SPACE}, "spec": {"ports": [port]}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "hook-1", "namespace": SPACE, "labels": {"kubernetes.io/service-name": "hook"}},
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": 9443, "protocol": "TCP"}],
            "endpoints": [{"addresses": [cluster.node_address()], "conditions": {"ready": True}}],
        },
        {
            "apiVersion": registration,
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "certops-well"},
            "webhooks": [webhook("well", "hook", other_ca + hooks_ca), webhook("gone", "gone", hooks_ca)],
        },
        {
            "apiVersion": registration,
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "certops-spoilt"},
            "webhooks": [webhook("spoilt", "hook", other_ca)],
        },
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.objects.certops.example"},
            "spec": {
                **names,
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
                "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": conversion, "conversionReviewVersions": ["v1"]}},
            },
        },
    )


def remove_objects() -> None:
    """All of it."""
    cluster.kubectl("delete", "--ignore-not-found", "validatingwebhookconfiguration", "certops-well")
    cluster.kubectl("delete", "--ignore-not-found", "mutatingwebhookconfiguration", "certops-spoilt")
    cluster.kubectl("delete", "--ignore-not-found", "customresourcedefinition", "things.objects.certops.example")
    cluster.kubectl("delete", "--ignore-not-found", "namespace", SPACE)
    cluster.on_node("sh", "-c", f"pkill -f '[h]ttp.server.ThreadingHTTPServer'; rm -rf {FOLDER}", check=False)


@pytest.fixture(scope="module", name="seen")
def fixture_seen() -> t.Iterator[dict[str, t.Any]]:
    """What inspect says and reports, without and with the variable, while the objects are there."""
    try:
        cluster.on_node("sh", "-ec", MAKE)
        make_objects()
        cluster.run("docker", "exec", "-d", cluster.NODE, "python3", "-c", SERVE)
        address = cluster.kubectl("get", "service", "-n", SPACE, "hook", "-o", "jsonpath={.spec.clusterIP}").strip()
        wait_for_server(address)
        by_default = cluster.playbook("inspect")
        called = cluster.newest_report("inspect")
        done = cluster.playbook("inspect", "-e", "certs_inspect_cluster_objects=true", "-vvv")
        yield {
            "called": called["records"],
            "all": cluster.newest_report("inspect")["records"],
            "problems": cluster.newest_report("inspect")["problems"],
            "output": by_default.stdout + by_default.stderr + done.stdout + done.stderr,
            "reports": "\n".join(path.read_text() for path in cluster.REPORTS.rglob("*") if path.is_file()),
            "found": read_independently(),
            "served": fingerprint(cluster.on_node("sh", "-c", shown_at(address))),
            "keys": [file(f"{name}.key") for name in ("web", "hook", "hooks-ca", "other-ca")],
        }
    finally:
        remove_objects()


def shown_at(address: str) -> str:
    """A command that prints what the server shows at an address; before the Service's rules are there, who knows where that leads."""
    return f"timeout 5 openssl s_client -connect {address}:443 -servername {HOOK} </dev/null 2>/dev/null | openssl x509"


def wait_for_server(address: str) -> None:
    """The Service's rules are everywhere, and the server listens."""
    give_up = time.monotonic() + 60
    while "BEGIN CERTIFICATE" not in cluster.on_node("sh", "-c", shown_at(address), check=False):
        assert time.monotonic() < give_up, "the Service's cluster IP does not lead to the server"
        time.sleep(0.5)


@functools.cache
def fingerprint(pem: str) -> str:
    """By openssl, as records have it."""
    said = cluster.on_node("openssl", "x509", "-noout", "-fingerprint", "-sha256", stdin=pem)
    return said.strip().partition("=")[2].replace(":", "").lower()


def objects(kind: str) -> list[dict[str, t.Any]]:
    """All objects of a kind."""
    return t.cast("list[dict[str, t.Any]]", json.loads(cluster.kubectl("get", kind, "--all-namespaces", "-o", "json"))["items"])


def decoded(data: str | None) -> str:
    """The text of a field of bytes."""
    return base64.b64decode(data or "").decode()


def texts() -> t.Iterator[tuple[str, str]]:
    """(name as records have it, text with certificates) of all that inspect promises to look at."""
    for item in objects("apiservices"):
        yield f"api:APIService/{item['metadata']['name']}#caBundle", decoded(item["spec"].get("caBundle"))
    for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
        for item in objects(kind):
            for hook in item.get("webhooks", ()):
                yield f"api:{kind}/{item['metadata']['name']}#{hook['name']}/caBundle", decoded(hook["clientConfig"].get("caBundle"))
    for item in objects("customresourcedefinitions"):
        config = item["spec"].get("conversion", {}).get("webhook", {}).get("clientConfig", {})
        yield f"api:CustomResourceDefinition/{item['metadata']['name']}#caBundle", decoded(config.get("caBundle"))
    for item in objects("secrets"):
        if item["type"] == "kubernetes.io/tls":
            for name in ("tls.crt", "ca.crt"):
                where = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
                yield f"api:Secret/{where}#{name}", decoded(item["data"].get(name))
    root_cas: dict[str, list[str]] = collections.defaultdict(list)
    for item in objects("configmaps"):
        place = (item["metadata"]["namespace"], item["metadata"]["name"])
        data = item.get("data", {})
        if place[1] == "kube-root-ca.crt":
            root_cas[data["ca.crt"]].append(place[0])
        elif place == ("kube-public", "cluster-info"):
            found = re.findall(r"certificate-authority-data: (\S+)", data["kubeconfig"])
            yield "api:ConfigMap/kube-public/cluster-info#kubeconfig", "".join(map(decoded, found))
        elif place == ("kube-system", "extension-apiserver-authentication"):
            for name in ("client-ca-file", "requestheader-client-ca-file"):
                yield f"api:ConfigMap/kube-system/extension-apiserver-authentication#{name}", data[name]
    for text, namespaces in root_cas.items():
        yield f"api:ConfigMap/{min(namespaces)}/kube-root-ca.crt#ca.crt", text


def read_independently() -> collections.Counter[tuple[str, str]]:
    """How often (name, fingerprint) is there."""
    return collections.Counter((name, fingerprint(pem)) for name, text in texts() for pem in BLOCK.findall(text))


def listed(records: list[dict[str, t.Any]]) -> collections.Counter[tuple[str, str]]:
    """The same of records, the number of a further certificate left out."""
    names = [(re.sub(r"\[\d+\]\Z", "", one["name"]), one["fingerprint_sha256"]) for one in records if one["source"] == "api"]
    return collections.Counter(names)


def one_record(records: list[dict[str, t.Any]], name: str) -> dict[str, t.Any]:
    """The record of this name, which is there once."""
    (found,) = [one for one in records if one["name"] == name]
    return found


def codes(record: dict[str, t.Any]) -> list[tuple[str, str]]:
    """Its findings in short."""
    return [(finding["code"], finding["severity"]) for finding in record["findings"]]


def test_nothing_is_missed_and_nothing_invented(seen: dict[str, t.Any]) -> None:
    """Each certificate by its fingerprint, where it lies."""
    assert len(seen["found"]) >= 9
    assert listed(seen["all"]) == seen["found"]
    assert [problem for problem in seen["problems"] if problem["code"] in ("not_inspected", "unreachable")] == []


def test_by_default_it_is_what_the_api_server_calls(seen: dict[str, t.Any]) -> None:
    """And no Secret, nor a ConfigMap."""
    called = {key: count for key, count in seen["found"].items() if not key[0].startswith(("api:Secret/", "api:ConfigMap/"))}
    assert called
    assert listed(seen["called"]) == called


def test_what_ends_soon_is_said(seen: dict[str, t.Any]) -> None:
    """The Secret's certificate in five days, the CA in twenty."""
    web = one_record(seen["all"], f"api:Secret/{SPACE}/web#tls.crt")
    assert (codes(web), web["status"], web["days_left"]) == ([("expiring", "critical")], "critical", 4)
    ca = one_record(seen["all"], "api:CustomResourceDefinition/things.objects.certops.example#caBundle")
    assert (codes(ca), ca["status"]) == ([("expiring", "warning")], "warning")
    assert f"{web['name']} ends in" in seen["output"]


def test_the_root_ca_is_listed_once_for_all_namespaces(seen: dict[str, t.Any]) -> None:
    """With their number; the controller manager writes it into each."""
    (record,) = [one for one in seen["all"] if "/kube-root-ca.crt#" in one["name"]]
    assert record["presented_to"] == f"pods of {len(objects('namespaces'))} namespaces"


def test_what_a_server_shows_at_its_cluster_ip(seen: dict[str, t.Any]) -> None:
    """It verifies under one bundle and not under the other, whose object is named."""
    record = one_record(seen["called"], f"served:{HOOK}:443")
    assert record["fingerprint_sha256"] == seen["served"]
    assert codes(record) == [("chain_invalid", "critical")]
    assert "MutatingWebhookConfiguration certops-spoilt" in record["findings"][0]["message"]


def test_a_webhook_without_a_server_is_a_finding(seen: dict[str, t.Any]) -> None:
    """No disaster, as it may be passed over."""
    record = one_record(seen["called"], f"served:gone.{SPACE}.svc:443")
    assert (codes(record), record["status"]) == ([("unreachable", "warning")], "warning")


@pytest.mark.parametrize("where", ["output", "reports"])
def test_no_key_in_any_output(seen: dict[str, t.Any], where: str) -> None:
    """No line of one, as it is and as the API's JSON has it."""
    everything = seen[where].replace("\\n", "\n")
    assert len(everything) > 200
    for key in seen["keys"]:
        lines = [line for line in key.splitlines() if len(line) >= 40 and "-----" not in line]
        whole = encoded(key)
        assert len(lines) > 5
        assert not any(line in everything for line in [*lines, *(whole[at : at + 60] for at in range(60, len(whole) - 60, 60))])
