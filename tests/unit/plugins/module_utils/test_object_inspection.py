# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cluster's objects as records: each certificate in them, what the servers really show, and what could not be looked at."""

from __future__ import annotations

import json
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _cluster_objects as objects
from ansible_collections.certops.kubernetes.plugins.module_utils._inspection import record_to_dict
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Finding, Record
from ansible_collections.certops.kubernetes.plugins.module_utils._object_inspection import ALL, CALLED, inspect_objects
from ansible_collections.certops.kubernetes.plugins.module_utils._object_records import name_problem
from ansible_collections.certops.kubernetes.plugins.module_utils._records import Setting
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.api_objects import (
    SERVICES,
    ObjectsApi,
    api_service,
    client_config,
    config_map,
    definition,
    encoded,
    secret,
    service,
    webhooks,
)
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import FakeServer
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.inspected import LIMITS, NOW, by_name, codes, trouble
from cryptography import x509

SETTING = Setting("blue", "cp-1", "cp-1", NOW, LIMITS)
CA = pki.make_ca("hooks-ca")
OTHER = pki.make_ca("other-ca")
SERVED = pki.make_leaf(CA, "hook", usages=("server",), sans=("DNS:hook.hooks.svc",))
HOOK = "api:ValidatingWebhookConfiguration/policy#hook0/caBundle"


class Chain(pki.Pair):
    """A pair that is served together with the certificate between it and its root."""

    between: t.ClassVar[bytes] = b""

    @property
    def cert_pem(self) -> bytes:
        return super().cert_pem + self.between


def look(api: ObjectsApi, what: str = CALLED) -> tuple[dict[str, Record], list[Finding]]:
    """The records by name, and the problems; each record is what JSON can hold."""
    records, problems = inspect_objects(api, what, SETTING, 2.0)
    assert all(json.loads(json.dumps(record_to_dict(record))) == record_to_dict(record) for record in records)
    return by_name(records), problems


def served_by(directory: Path, pair: pki.Pair, bundle: bytes | None = CA.cert_pem, policy: str = "Fail") -> Record:
    """The record of the webhook's server that shows this pair, called with this bundle."""
    with FakeServer(directory, {}, pair) as server:
        api = ObjectsApi().having(SERVICES, service("hook", "hooks", "127.0.0.1", server.port))
        api.having(objects.VALIDATING, webhooks("policy", client_config(bundle, port=server.port), policy=policy))
        found, problems = look(api)
        assert problems == []
        return found["served:hook.hooks.svc:%d" % server.port]


def test_a_webhook_that_is_well(tmp_path: Path) -> None:
    with FakeServer(tmp_path, {}, SERVED) as server:
        api = ObjectsApi().having(SERVICES, service("hook", "hooks", "127.0.0.1", server.port))
        api.having(objects.VALIDATING, webhooks("policy", client_config(CA.cert_pem, port=server.port)))
        api.having(objects.MUTATING, webhooks("policy", client_config(CA.cert_pem, port=server.port)))
        found, problems = look(api)
    name = "served:hook.hooks.svc:%d" % server.port
    assert (sorted(found), problems, trouble(found)) == ([HOOK.replace("Validating", "Mutating"), HOOK, name], [], {})
    bundle, seen = found[HOOK], found[name]
    assert (bundle.source, bundle.usage, bundle.subject, bundle.status) == ("api", "ca", "CN=hooks-ca", "ok")
    assert bundle.path == "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/policy"
    assert [(reader.component, reader.reload, reader.in_use) for reader in bundle.readers] == [("kube-apiserver", "hot", "unknown")]
    assert (seen.source, seen.address, seen.component, seen.usage) == ("served", server.address, "webhook", "server")
    assert (seen.presented_by, seen.presented_to) == ("Service hooks/hook", "kube-apiserver")
    assert "ValidatingWebhookConfiguration policy, MutatingWebhookConfiguration policy" in str(seen.not_renewable_because)
    assert not any(record.renewable or record.externally_managed for record in found.values())
    assert not any("/secrets" in path or "/configmaps" in path for path in api.asked), "nobody asked for them"


def test_a_webhook_whose_ca_was_replaced(tmp_path: Path) -> None:
    record = served_by(tmp_path, SERVED, OTHER.cert_pem)
    assert (codes(record), record.status) == ([("chain_invalid", "critical")], "critical")
    assert "the CA hook0/caBundle of ValidatingWebhookConfiguration policy" in record.findings[0].message
    assert "its issuer is CN=hooks-ca, but the CA is CN=other-ca" in record.findings[0].message


def test_both_the_old_and_the_new_ca(tmp_path: Path) -> None:
    assert codes(served_by(tmp_path, SERVED, OTHER.cert_pem + CA.cert_pem)) == []


def test_a_server_that_sends_what_is_between(tmp_path: Path) -> None:
    """An intermediate CA, which the bundle need not hold; without it the chain is broken."""
    extensions = [(pki.key_usage("key_cert_sign"), True), (x509.BasicConstraints(ca=True, path_length=None), True)]
    between = pki.make_leaf(CA, "between", extensions=extensions)
    leaf = pki.make_leaf(between, "hook", usages=("server",), sans=("DNS:hook.hooks.svc",))
    chain = Chain(leaf.cert, leaf.key)
    assert codes(served_by(tmp_path, chain)) == [("chain_invalid", "critical")]
    Chain.between = between.cert_pem
    assert codes(served_by(tmp_path, Chain(leaf.cert, leaf.key))) == []
    assert codes(served_by(tmp_path, Chain(leaf.cert, leaf.key), OTHER.cert_pem)) == [("chain_invalid", "critical")]


def test_a_server_whose_own_certificate_is_the_bundle(tmp_path: Path) -> None:
    """It signs nothing but itself, as many operators make it, and Go's library trusts it all the same."""
    key = pki.new_key()
    extensions = pki.leaf_extensions(pki.Pair(CA.cert, key), ("server",), ("DNS:hook.hooks.svc",))
    own = pki.make_leaf(pki.Pair(CA.cert, key), "hooks-ca", key=key, extensions=extensions)
    assert codes(served_by(tmp_path, own, own.cert_pem)) == []


def test_a_server_of_another_name(tmp_path: Path) -> None:
    """What it shows verifies, and the API server refuses it."""
    pair = pki.make_leaf(CA, "hook.hooks.svc", usages=("server",), sans=("DNS:hook.hooks",))
    record = served_by(tmp_path, pair)
    assert codes(record) == [("chain_invalid", "critical")]
    assert "it is asked for as hook.hooks.svc, and names DNS:hook.hooks" in record.findings[0].message


@pytest.mark.parametrize(
    ("sans", "host", "proven"),
    [
        (("DNS:a.b.svc",), "a.b.svc", True),
        (("DNS:A.b.svc",), "a.B.svc", True),
        (("DNS:*.b.svc",), "a.b.svc", True),
        (("DNS:*.svc",), "a.b.svc", False),
        (("DNS:*",), "a", False),
        (("DNS:*.b.svc",), ".b.svc", False),
        (("IP:192.0.2.1",), "192.0.2.1", True),
        (("IP:2001:db8::1",), "2001:db8:0::1", True),
        (("DNS:192.0.2.1", "IP:192.0.2.2"), "192.0.2.9", False),
        (("other:x", "URI:a.b.svc", ""), "a.b.svc", False),
        ((), "a.b.svc", False),
        (tuple("DNS:%d" % number for number in range(99)), "a", False),
    ],
)
def test_names(sans: tuple[str, ...], host: str, proven: bool) -> None:
    problem = name_problem(sans, host)
    assert (problem is None) == proven
    assert len(problem or "") < 200


def test_no_bundle_is_the_public_cas(tmp_path: Path) -> None:
    """Those of the API server's image, which nobody knows here."""
    assert codes(served_by(tmp_path, pki.make_leaf(OTHER, "x", usages=("server",)), None)) == []


def test_dates_of_what_is_served_and_of_bundles(tmp_path: Path) -> None:
    end = NOW + timedelta(days=5, hours=1)
    pair = pki.make_leaf(CA, "hook", usages=("server",), sans=("DNS:hook.hooks.svc",), not_after=end)
    record = served_by(tmp_path, pair)
    assert (codes(record), record.days_left, record.status) == ([("expiring", "critical")], 5, "critical")
    assert "Service hooks/hook" in record.findings[0].remedy
    api = ObjectsApi().having(objects.DEFINITIONS, definition("x.example.com", client_config(pki.make_ca(not_after=end).cert_pem)))
    bundle = look(api)[0]["api:CustomResourceDefinition/x.example.com#caBundle"]
    assert (codes(bundle), bundle.status) == ([("expiring", "critical")], "critical")
    assert "on cp-1" in bundle.findings[0].message


@pytest.mark.parametrize(
    ("services", "reason"),
    [
        ([], "there is no Service hooks/hook"),
        ([service("hook", "elsewhere", "127.0.0.1", 443)], "there is no Service hooks/hook"),
        ([service("hook", "hooks", "None", 443)], "the Service hooks/hook has no cluster IP"),
        ([service("hook", "hooks", None, 443)], "the Service hooks/hook has no cluster IP"),
        ([service("hook", "hooks", "127.0.0.1", 8443)], "the Service hooks/hook has no port 443"),
        ([service("hook", "hooks", "127.0.0.1", 443)], "127.0.0.1:443 was refused"),
        ([service("hook", "hooks", "a\0b", 443)], "cannot be reached"),
        ([service("hook", "hooks", "", 443, type="ExternalName", externalName="x" * 300)], "cannot be reached"),
        (403, "HTTP 403"),
    ],
)
@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
def test_a_webhook_that_cannot_be_reached(services: t.Any, reason: str, policy: str) -> None:
    """A finding; one that may be passed over is no disaster."""
    api = ObjectsApi().having(objects.VALIDATING, webhooks("policy", client_config(CA.cert_pem), policy=policy))
    api.stored[SERVICES] = services
    found, problems = look(api)
    record = found["served:hook.hooks.svc:443"]
    assert reason in record.findings[0].message
    assert "ValidatingWebhookConfiguration policy" in record.findings[0].remedy
    severity, status = ("critical", "unreachable") if policy == "Fail" else ("warning", "warning")
    assert (codes(record), record.status, problems) == ([("unreachable", severity)], status, [])


def test_a_service_that_stands_for_a_name(tmp_path: Path) -> None:
    with FakeServer(tmp_path, {}, SERVED) as server:
        api = ObjectsApi().having(SERVICES, service("hook", "hooks", "", 1, type="ExternalName", externalName="localhost"))
        api.having(objects.API_SERVICES, api_service("v1.g", client_config(CA.cert_pem, port=server.port)))
        found, _problems = look(api)
    record = found["served:hook.hooks.svc:%d" % server.port]
    assert (codes(record), record.address) == ([], "localhost:%d" % server.port)


def test_an_api_server_that_calls_through_a_proxy() -> None:
    """What it sees cannot be seen from its node; the bundles can."""
    api = ObjectsApi().having(objects.VALIDATING, webhooks("policy", client_config(CA.cert_pem)))
    records, (problem,) = inspect_objects(api, CALLED, SETTING, 2.0, "--egress-selector-config-file=/etc/egress.yaml")
    assert [record.name for record in records] == [HOOK]
    assert (problem.code, problem.severity) == ("not_inspected", "info")
    assert "/etc/egress.yaml" in problem.message


def test_a_url(tmp_path: Path) -> None:
    pair = pki.make_leaf(CA, "hook", usages=("server",), sans=("IP:127.0.0.1",))
    with FakeServer(tmp_path, {}, pair) as server:
        config = client_config(CA.cert_pem, url="https://%s/path" % server.address)
        found, problems = look(ObjectsApi().having(objects.MUTATING, webhooks("policy", config)))
    assert (codes(found["served:" + server.address]), problems) == ([], [])


GARBAGE = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def test_each_certificate_of_a_bundle() -> None:
    """Also those after one that cannot be read, and those before an end that is missing."""
    bundle = CA.cert_pem + GARBAGE + OTHER.cert_pem + CA.cert_pem[:90]
    found, _problems = look(ObjectsApi().having(objects.VALIDATING, webhooks("policy", client_config(bundle))))
    del found["served:hook.hooks.svc:443"]
    assert {name: (record.subject, record.status) for name, record in found.items()} == {
        HOOK: ("CN=hooks-ca", "ok"),
        HOOK + "[2]": (None, "unreadable"),
        HOOK + "[3]": ("CN=other-ca", "ok"),
        HOOK + "[4]": (None, "unreadable"),
    }


@pytest.mark.parametrize("pem", [b"", b"\n", b"no PEM", GARBAGE, CA.key_pem, b"\xff\xfe", b"\x30\x82\x01"])
def test_what_is_no_certificate(pem: bytes) -> None:
    """Unreadable, with a way out that fits an object. An empty caBundle is none."""
    found, _problems = look(ObjectsApi().having(objects.SECRETS, secret("web", tls_crt=pem)), ALL)
    record = found["api:Secret/default/web#tls.crt"]
    assert (codes(record), record.status) == ([("unreadable", "critical")], "unreadable")
    assert "Secret" in record.findings[0].remedy
    assert all(line not in str(record) for line in CA.key_pem.decode().splitlines()[1:-1])
    found, _problems = look(ObjectsApi().having(objects.VALIDATING, webhooks("policy", client_config(pem))))
    assert ([name for name in found if name.startswith("api:")] == []) == (pem == b"")
    assert "chain_invalid" not in trouble(found), "of a bundle that nobody can read nothing is claimed"


def everything() -> ObjectsApi:
    """An API server with all that is looked at."""
    ca = CA.cert_pem.decode()
    kubeconfig = {
        "clusters": [{"name": "", "cluster": {"server": "https://192.0.2.1:6443", "certificate-authority-data": encoded(CA.cert_pem)}}]
    }
    web = pki.make_leaf(CA, "web", usages=("server",), not_after=NOW + timedelta(days=5, hours=1))
    return (
        ObjectsApi()
        .having(
            objects.SECRETS,
            secret("web", "shop", tls_crt=web.cert_pem + CA.cert_pem, tls_key=web.key_pem, ca_crt=CA.cert_pem),
            secret("token", "shop", kind="Opaque", token=web.key_pem),
        )
        .having(
            objects.CONFIG_MAPS,
            *(config_map("kube-root-ca.crt", name, ca_crt=ca) for name in ("default", "shop")),
            config_map("cluster-info", "kube-public", kubeconfig=json.dumps(kubeconfig)),
            config_map("cluster-info", "shop", kubeconfig="somebody else's"),
            config_map(
                "extension-apiserver-authentication",
                "kube-system",
                client__ca__file=ca,
                requestheader__client__ca__file=OTHER.cert_pem.decode(),
            ),
        )
    )


def test_everything() -> None:
    found, problems = look(everything(), ALL)
    web = "api:Secret/shop/web#"
    assert (set(found), problems) == (
        {
            *(web + field for field in ("tls.crt", "tls.crt[2]", "ca.crt")),
            "api:ConfigMap/default/kube-root-ca.crt#ca.crt",
            "api:ConfigMap/kube-public/cluster-info#kubeconfig",
            "api:ConfigMap/kube-system/extension-apiserver-authentication#client-ca-file",
            "api:ConfigMap/kube-system/extension-apiserver-authentication#requestheader-client-ca-file",
        },
        [],
    )
    assert trouble(found) == {web + "tls.crt": ["expiring"]}
    usages = {name: found[web + name].usage for name in ("tls.crt", "tls.crt[2]", "ca.crt")}
    assert usages == {"tls.crt": "server", "tls.crt[2]": "ca", "ca.crt": "ca"}
    assert found["api:ConfigMap/default/kube-root-ca.crt#ca.crt"].presented_to == "pods of 2 namespaces"


def test_no_key_in_any_result() -> None:
    api = everything()
    said = json.dumps([record_to_dict(record) for record in look(api, ALL)[0].values()])
    keys = [one["data"][name] for one in api.stored[objects.SECRETS] for name in one["data"] if name in ("tls.key", "token")]
    assert len(keys) == 2
    assert all(key[at : at + 40] not in said for key in keys for at in range(0, len(key) - 40, 4))


def test_what_may_not_be_listed_is_said() -> None:
    """Once for each kind, with who asked; the others are looked at."""
    api = everything().having(objects.VALIDATING, webhooks("policy", client_config(CA.cert_pem)))
    api.stored[objects.SECRETS] = 403
    found, (problem,) = look(api, ALL)
    assert HOOK in found
    assert "api:ConfigMap/default/kube-root-ca.crt#ca.crt" in found
    assert (problem.code, problem.severity) == ("not_inspected", "warning")
    assert "may list TLS Secrets" in problem.message
    assert 'HTTP 403 (User "x" cannot list resource)' in problem.message


def test_what_is_not_served_is_no_trouble() -> None:
    api = ObjectsApi()
    api.stored[objects.DEFINITIONS] = 404
    found, (problem,) = look(api)
    assert (found, problem.code, problem.severity) == ({}, "not_inspected", "info")
    assert problem.message.startswith("This API server does not serve CustomResourceDefinitions: GET https://127.0.0.1:1/apis/")


@pytest.mark.parametrize("status", [500, 410, 301])
def test_other_answers(status: int) -> None:
    api = ObjectsApi()
    api.stored[objects.MUTATING] = status
    _found, (problem,) = look(api)
    assert (problem.code, problem.severity) == ("not_inspected", "warning")
    assert "Not all MutatingWebhookConfigurations could be looked at" in problem.message


def test_an_api_server_that_knows_nobody_is_asked_once() -> None:
    api = ObjectsApi()
    api.stored = dict.fromkeys(api.stored, 401)
    found, (problem,) = look(api, ALL)
    assert (found, problem.code, problem.severity, len(api.asked)) == ({}, "unreachable", "warning", 1)


@pytest.mark.parametrize("value", [None, 7, "x", [], [[]], {}, {"metadata": 5, "spec": [], "webhooks": 7, "data": "x"}])
def test_garbled_objects(value: t.Any) -> None:
    api = ObjectsApi()
    for path in api.stored:
        api.having(path, value, value)
    inspect_objects(api, ALL, SETTING, 0.1)
