# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What objects of the API say: where certificates lie, whom the API server calls, and nothing of what is garbage or secret."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _cluster_objects as objects
from ansible_collections.certops.kubernetes.plugins.module_utils._cluster_objects import Found
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.api_objects import (
    api_service,
    client_config,
    config_map,
    definition,
    encoded,
    metadata,
    secret,
    webhooks,
)

CA = pki.make_ca("hooks-ca")
DEEP: t.Any = {"caBundle": "x"}
for _level in range(50):
    DEEP = {"a": [DEEP], "clientConfig": DEEP}
ODD: list[t.Any] = [None, True, 7, -1, 1.5, "x", "", "null", [], [[]], [None], ["x"], {}, {"a": 1}, DEEP, "é", "%", "http://[", "a" * 5000]


def of_validating(item: t.Any) -> Found:
    return objects.of_webhooks("ValidatingWebhookConfiguration", objects.VALIDATING, item)


def one_root_ca(item: t.Any) -> Found:
    return objects.of_root_ca([item])


KUBECONFIG = """\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: %s
    server: https://192.0.2.1:6443
  name: ""
contexts: null
current-context: ""
kind: Config
preferences: {}
users: null
"""
READERS: dict[str, tuple[t.Callable[[t.Any], Found], t.Any]] = {
    "APIService": (objects.of_api_service, api_service("v1.g", client_config(CA.cert_pem))),
    "webhooks": (of_validating, webhooks("policy", client_config(CA.cert_pem), client_config(CA.cert_pem, url="https://h.example:8443/x"))),
    "definition": (objects.of_definition, definition("x.example.com", client_config(CA.cert_pem))),
    "secret": (objects.of_secret, secret("web", tls_crt=CA.cert_pem, tls_key=CA.key_pem, ca_crt=CA.cert_pem)),
    "root CA": (one_root_ca, config_map("kube-root-ca.crt", "default", ca_crt=CA.cert_pem.decode())),
    "cluster-info": (
        objects.of_cluster_info,
        config_map("cluster-info", "kube-public", kubeconfig=KUBECONFIG % encoded(CA.cert_pem)),
    ),
    "extension": (
        objects.of_extension_authentication,
        config_map("extension-apiserver-authentication", "kube-system", client__ca__file=CA.cert_pem.decode()),
    ),
}


@pytest.mark.parametrize("kind", sorted(READERS))
def test_where_certificates_lie(kind: str) -> None:
    read, item = READERS[kind]
    held = read(item).held
    assert [str(one.place) for one in held] == {
        "APIService": ["caBundle of APIService v1.g"],
        "webhooks": ["hook%d/caBundle of ValidatingWebhookConfiguration policy" % number for number in (0, 1)],
        "definition": ["caBundle of CustomResourceDefinition x.example.com"],
        "secret": ["tls.crt of Secret default/web", "ca.crt of Secret default/web"],
        "root CA": ["ca.crt of ConfigMap default/kube-root-ca.crt"],
        "cluster-info": ["kubeconfig of ConfigMap kube-public/cluster-info"],
        "extension": ["client-ca-file of ConfigMap kube-system/extension-apiserver-authentication"],
    }[kind]
    assert all(one.pem == CA.cert_pem and one.problem is None for one in held)
    assert {one.usage for one in held if one.place.field != "tls.crt"} == {"ca"}


def test_the_path_is_one_that_kubectl_can_get() -> None:
    (held, _ca) = objects.of_secret(READERS["secret"][1]).held
    assert (held.place.path, held.place.record_name) == ("/api/v1/namespaces/default/secrets/web", "api:Secret/default/web#tls.crt")
    (held,) = objects.of_api_service(READERS["APIService"][1]).held
    assert held.place.path == "/apis/apiregistration.k8s.io/v1/apiservices/v1.g"


def test_whom_the_api_server_calls() -> None:
    """By which name and port, whether it insists, and by what it verifies."""
    calls = of_validating(READERS["webhooks"][1]).calls
    assert [(call.server.address, call.server.service, call.server.server_name, call.required, call.bundle) for call in calls] == [
        ("hook.hooks.svc:443", ("hooks", "hook"), "hook.hooks.svc", True, CA.cert_pem),
        ("h.example:8443", None, "h.example", True, CA.cert_pem),
    ]
    (ignored,) = of_validating(webhooks("w", client_config(None, url="https://192.0.2.9/x"), policy="Ignore")).calls
    assert (ignored.server.address, ignored.server.server_name, ignored.required, ignored.bundle) == ("192.0.2.9:443", None, False, None)
    (six,) = of_validating(webhooks("w", client_config(None, url="https://[2001:db8::1]:9443"))).calls
    assert (six.server.address, six.server.server_name) == ("[2001:db8::1]:9443", None)


def test_an_api_service_that_is_not_verified() -> None:
    (call,) = objects.of_api_service(api_service("v1.g", client_config(None, port=4443), insecureSkipTLSVerify=True)).calls
    assert (call.server.address, call.server.component, call.bundle) == ("hook.hooks.svc:4443", "aggregated-api", None)


def test_what_says_nothing() -> None:
    """Local APIServices, definitions that nobody converts, Secrets of other types, a CA that a Secret need not name."""
    assert objects.of_api_service(api_service("v1.apps", None)) == Found()
    assert objects.of_definition(definition("x.example.com", None)) == Found()
    assert objects.of_secret(secret("x", kind="Opaque", tls_crt=CA.cert_pem)) == Found()
    assert [one.place.field for one in objects.of_secret(secret("x", tls_crt=CA.cert_pem, ca_crt=b"")).held] == ["tls.crt"]


def test_no_key_is_taken_from_a_secret() -> None:
    """Neither as it is nor as it was written."""
    found = repr(objects.of_secret(secret("x", tls_crt=CA.cert_pem, tls_key=CA.key_pem)))
    assert encoded(CA.key_pem) not in found
    assert all(line not in found for line in CA.key_pem.decode().splitlines()[1:-1])


def test_namespaces_with_the_same_root_ca_are_one() -> None:
    other = pki.make_ca("other")
    found = [config_map("kube-root-ca.crt", name, ca_crt=CA.cert_pem.decode()) for name in ("web", "default", "kube-system")]
    found.append(config_map("kube-root-ca.crt", "strange", ca_crt=other.cert_pem.decode()))
    found.append(config_map("kube-root-ca.crt", "spoilt", ca_crt=7))
    assert [(one.place.name, one.presented_to, one.problem) for one in objects.of_root_ca(found).held] == [
        ("default/kube-root-ca.crt", "pods of 3 namespaces", None),
        ("strange/kube-root-ca.crt", "pods of 1 namespace", None),
        ("spoilt/kube-root-ca.crt", "pods of 1 namespace", "it is no text"),
    ]


@pytest.mark.parametrize(
    ("value", "problem"),
    [("!!", "it is not base64"), ("é", "it is not base64"), (7, "it is no text"), ({}, "it is no text"), ("QQ", "it is not base64")],
)
def test_a_bundle_that_is_none(value: t.Any, problem: str) -> None:
    item = api_service("v1.g", client_config(None), caBundle=value)
    (held,) = objects.of_api_service(item).held
    assert (held.pem, held.problem) == (None, problem)
    (first, _ca) = objects.of_secret(
        {"metadata": metadata("x", "n"), "type": "kubernetes.io/tls", "data": {"tls.crt": value, "ca.crt": "QQ=="}}
    ).held
    assert (first.pem, first.problem) == (None, problem)


def test_a_secret_without_a_certificate() -> None:
    (held,) = objects.of_secret(secret("x", tls_crt=b"")).held
    assert held.problem == "it is empty"


@pytest.mark.parametrize("text", ["", "{", "- a", "clusters: 5", KUBECONFIG % "!", KUBECONFIG % '""', "clusters: []", "x: &a [*a]"])
def test_a_cluster_info_that_is_none(text: str) -> None:
    (held,) = objects.of_cluster_info(config_map("cluster-info", "kube-public", kubeconfig=text)).held
    assert held.pem is None
    assert held.problem


def changed(document: t.Any, value: t.Any) -> t.Iterator[t.Any]:
    """The document with each of its parts in turn replaced by the value."""
    yield value
    if isinstance(document, (dict, list)):
        for key in document if isinstance(document, dict) else range(len(document)):
            for inner in changed(document[key], value):
                copy: t.Any = dict(document) if isinstance(document, dict) else list(document)
                copy[key] = inner
                yield copy


@pytest.mark.parametrize("kind", sorted(READERS))
def test_any_garbage_in_any_place(kind: str) -> None:
    """It is understood or left out; a port is one, and a name is a text."""
    read, item = READERS[kind]
    for value in ODD:
        for garbled in changed(item, value):
            found = read(garbled)
            assert all((one.pem is None) == (one.problem is not None) for one in found.held)
            assert all(isinstance(one.place.record_name, str) and one.place.path.startswith("/api") for one in found.held)
            assert all(0 < call.server.port < 65536 and call.server.host for call in found.calls)
