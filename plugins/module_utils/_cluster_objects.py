# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Objects of the API → the certificates that lie in them, and the servers that the API server calls because of them. Pure functions.

An object is what JSON had: anything may be missing or of another type. Of a Secret nothing but two named fields is ever taken.
Facts: k8s.io/api `admissionregistration/v1`, `apiregistration/v1`, `apiextensions/v1`, `core/v1` (types.go); whom the API server calls by
which name: k8s.io/apiserver `pkg/util/webhook/client.go`, k8s.io/kube-aggregator `pkg/apiserver/handler_proxy.go`.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import typing as t
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig, items, text
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

AGGREGATED, WEBHOOK = "aggregated-api", "webhook"  # components of records
API_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
VALIDATING = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
MUTATING = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SECRETS, CONFIG_MAPS = "/api/v1/secrets", "/api/v1/configmaps"
TLS_SECRET = "kubernetes.io/tls"
ROOT_CA = "kube-root-ca.crt"

_MAX_PORT = 65535
_BUNDLE = (
    "Have the CA's present certificate put into caBundle: whatever installed this object (an operator, cert-manager) may do it itself."
)
_SECRET = "Have whatever made this Secret (cert-manager, a person) put a new certificate into it; what uses it may have to be restarted."
_REMEDIES = {
    ROOT_CA: "kube-controller-manager writes it into each namespace, from its --root-ca-file: see to that file.",
    "cluster-info": "kubeadm wrote it: put the cluster's present CA into it (kubectl -n kube-public edit configmap cluster-info).",
    "extension-apiserver-authentication": "kube-apiserver writes it, from its --client-ca-file and --requestheader-client-ca-file.",
}


@dataclass(frozen=True)
class Place:
    """Where in the API certificates lie. `name` has the namespace before it where the object has one; `path` is the object's own."""

    kind: str
    name: str
    field: str
    path: str

    @property
    def record_name(self) -> str:
        """What a record of it is called."""
        return "api:%s/%s#%s" % (self.kind, self.name, self.field)

    def __str__(self) -> str:
        return "%s of %s %s" % (self.field, self.kind, self.name)


@dataclass(frozen=True)
class Held:
    """A value in which certificates lie: PEM, or why there is none. `usage` is None where each certificate says itself what it is for."""

    place: Place
    pem: bytes | None
    problem: str | None
    component: str
    usage: str | None
    remedy: str
    presented_to: str | None = None
    reader: str | None = None  # the component that reads it


@dataclass(frozen=True)
class Server:
    """A server that the API server calls: a Service (namespace, name), or the host of a URL. `host` is the name that it must prove."""

    host: str
    port: int
    service: tuple[str, str] | None
    component: str = field(compare=False)

    @property
    def server_name(self) -> str | None:
        """What is sent as SNI: a name, never an address."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return self.host
        return None

    @property
    def address(self) -> str:
        """`host:port`, with brackets around an IPv6 address."""
        return ("[%s]:%d" if ":" in self.host else "%s:%d") % (self.host, self.port)


@dataclass(frozen=True)
class Call:
    """That it is called, because of which object. `bundle` is what its certificate must verify under, where the object says so.

    `required`: requests fail when it cannot be called.
    """

    server: Server
    place: Place
    bundle: bytes | None
    required: bool


@dataclass(frozen=True)
class Found:
    """What an object says."""

    held: tuple[Held, ...] = ()
    calls: tuple[Call, ...] = ()


def of_api_service(item: t.Any) -> Found:
    """An APIService; one that the API server serves itself says nothing."""
    spec = dig(item, "spec")
    if not isinstance(dig(spec, "service"), dict):
        return Found()
    place = _place("APIService", item, "caBundle", API_SERVICES)
    verified = dig(spec, "insecureSkipTLSVerify") is not True
    return _client(place, AGGREGATED, spec, required=True, verified=verified)


def of_webhooks(kind: str, path: str, item: t.Any) -> Found:
    """A Validating- or MutatingWebhookConfiguration."""
    found = [
        _client(
            _place(kind, item, "%s/caBundle" % (text(dig(hook, "name")) or "?"), path),
            WEBHOOK,
            dig(hook, "clientConfig"),
            required=dig(hook, "failurePolicy") != "Ignore",
        )
        for hook in items(dig(item, "webhooks"))
    ]
    return Found(tuple(held for one in found for held in one.held), tuple(call for one in found for call in one.calls))


def of_definition(item: t.Any) -> Found:
    """A CustomResourceDefinition whose versions a webhook converts; any other one says nothing."""
    conversion = dig(item, "spec", "conversion")
    if dig(conversion, "strategy") != "Webhook":
        return Found()
    place = _place("CustomResourceDefinition", item, "caBundle", DEFINITIONS)
    return _client(place, WEBHOOK, dig(conversion, "webhook", "clientConfig"), required=True)


def of_secret(item: t.Any) -> Found:
    """A Secret of type kubernetes.io/tls: its certificates and, where it has one, its CA's; its key is not looked at."""
    if dig(item, "type") != TLS_SECRET:
        return Found()
    values = {name: dig(item, "data", name) for name in ("tls.crt", "ca.crt")}
    held = []
    for name, value in values.items():
        pem, problem = _decoded(value)
        if pem is None and problem is None:
            if name == "ca.crt":  # empty where the CA is a public one
                continue
            problem = "it is empty"
        usage = "ca" if name == "ca.crt" else None
        held.append(Held(_place("Secret", item, name, SECRETS), pem, problem, "workload", usage, _SECRET))
    return Found(tuple(held))


def of_root_ca(found: t.Iterable[t.Any]) -> Found:
    """The ConfigMaps kube-root-ca.crt of all namespaces: one value for all that say the same."""
    alike: dict[str | None, list[t.Any]] = {}
    for item in found:
        value = dig(item, "data", "ca.crt")
        alike.setdefault(value if isinstance(value, str) else None, []).append(item)
    held = []
    for value, those in alike.items():
        first = min(those, key=lambda item: text(dig(item, "metadata", "namespace")) or "")
        readers = "pods of %d namespace%s" % (len(those), "" if len(those) == 1 else "s")
        held.append(_config_map(first, "ca.crt", value, "workload", readers))
    return Found(tuple(held))


def of_cluster_info(item: t.Any) -> Found:
    """The ConfigMap kube-public/cluster-info: the CA in the kubeconfig that it holds."""
    place = _place("ConfigMap", item, "kubeconfig", CONFIG_MAPS)
    data, problem = dig(item, "data", "kubeconfig"), None
    bundle = None
    try:
        config = parse_kubeconfig(data.encode("utf-8", "replace") if isinstance(data, str) else b"", str(place))
        bundle = b"\n".join(cluster.ca_data for cluster in config.clusters.values() if cluster.ca_data)
    except CertopsError as error:
        problem = str(error)
    if not bundle and problem is None:
        problem = "its kubeconfig has no CA embedded"
    return Found((Held(place, bundle or None, problem, "kubelet", "ca", _REMEDIES["cluster-info"], "nodes that join"),))


def of_extension_authentication(item: t.Any) -> Found:
    """The ConfigMap kube-system/extension-apiserver-authentication: whom aggregated servers let in."""
    names = [name for name in ("client-ca-file", "requestheader-client-ca-file") if dig(item, "data", name) is not None]
    return Found(tuple(_config_map(item, name, dig(item, "data", name), AGGREGATED, "aggregated servers") for name in names))


def _config_map(item: t.Any, name: str, value: t.Any, component: str, presented_to: str) -> Held:
    place = _place("ConfigMap", item, name, CONFIG_MAPS)
    pem = value.encode("utf-8", "replace") if isinstance(value, str) else None
    remedy = _REMEDIES.get(text(dig(item, "metadata", "name")) or "", "")
    return Held(place, pem, None if pem is not None else "it is no text", component, "ca", remedy, presented_to)


def _client(place: Place, component: str, config: t.Any, *, required: bool, verified: bool = True) -> Found:
    """What a `clientConfig`, or the like of an APIService, says."""
    bundle, problem = _decoded(dig(config, "caBundle"))
    held = () if bundle is None and problem is None else (Held(place, bundle, problem, component, "ca", _BUNDLE, None, "kube-apiserver"),)
    server = _server(component, config)
    return Found(held, () if server is None else (Call(server, place, bundle if verified else None, required),))


def _server(component: str, config: t.Any) -> Server | None:
    """Where it serves; None for what the API server would not have stored."""
    service = dig(config, "service")
    if service is not None:
        namespace, name, port = text(dig(service, "namespace")), text(dig(service, "name")), dig(service, "port")
        port = 443 if port is None else port
        if namespace is None or name is None or not _is_port(port):
            return None
        return Server("%s.%s.svc" % (name, namespace), port, (namespace, name), component)
    try:
        url = urlsplit(text(dig(config, "url")) or "")
        host, port = url.hostname, 443 if url.port is None else url.port
    except ValueError:
        return None
    return Server(host, port, None, component) if host and host.isprintable() and _is_port(port) else None


def _is_port(value: t.Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_PORT


def _decoded(value: t.Any) -> tuple[bytes | None, str | None]:
    """The bytes of a field of type []byte, or why there are none; neither where it is not set. Go ignores line ends in it."""
    if value is None or value == "":
        return None, None
    if not isinstance(value, str):
        return None, "it is no text"
    try:
        return base64.b64decode(value.replace("\r", "").replace("\n", "").encode("ascii"), validate=True), None
    except (binascii.Error, UnicodeEncodeError):
        return None, "it is not base64"


def _place(kind: str, item: t.Any, name: str, listed_at: str) -> Place:
    """`listed_at`: the path of the list over all namespaces."""
    namespace, own = text(dig(item, "metadata", "namespace")), text(dig(item, "metadata", "name")) or "?"
    path = "%s/%s" % (listed_at, quote(own, safe=""))
    if namespace is not None:
        folder, _slash, plural = listed_at.rpartition("/")
        path = "%s/namespaces/%s/%s/%s" % (folder, quote(namespace, safe=""), plural, quote(own, safe=""))
    return Place(kind, own if namespace is None else "%s/%s" % (namespace, own), name, path)


__all__ = (
    "AGGREGATED",
    "API_SERVICES",
    "CONFIG_MAPS",
    "DEFINITIONS",
    "MUTATING",
    "ROOT_CA",
    "SECRETS",
    "TLS_SECRET",
    "VALIDATING",
    "WEBHOOK",
    "Call",
    "Found",
    "Held",
    "Place",
    "Server",
    "of_api_service",
    "of_cluster_info",
    "of_definition",
    "of_extension_authentication",
    "of_root_ca",
    "of_secret",
    "of_webhooks",
)
