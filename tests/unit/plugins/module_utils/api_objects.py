# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects of the API with certificates in them, as its JSON has them, and an API server that lists them."""

from __future__ import annotations

import base64
import json
import typing as t
from urllib.parse import parse_qs, urlsplit

from ansible_collections.certops.kubernetes.plugins.module_utils import _cluster_objects as objects
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, ApiResponse, TooLarge

KINDS = (objects.API_SERVICES, objects.VALIDATING, objects.MUTATING, objects.DEFINITIONS, objects.SECRETS, objects.CONFIG_MAPS)
SERVICES = "/api/v1/services"

Json = t.Dict[str, t.Any]


def encoded(data: bytes) -> str:
    """As Go's []byte is in JSON."""
    return base64.b64encode(data).decode()


def metadata(name: str, namespace: str | None = None) -> Json:
    return {"name": name} if namespace is None else {"name": name, "namespace": namespace}


def client_config(bundle: bytes | None, service: str = "hooks/hook", port: int | None = None, url: str | None = None) -> Json:
    namespace, _slash, name = service.partition("/")
    config: Json = {"url": url} if url else {"service": {"namespace": namespace, "name": name, **({"port": port} if port else {})}}
    return config if bundle is None else {**config, "caBundle": encoded(bundle)}


def webhooks(name: str, *configs: Json, policy: str = "Fail") -> Json:
    """A Validating- or MutatingWebhookConfiguration whose webhooks are called hook0, hook1 …"""
    hooks = [{"name": "hook%d" % number, "failurePolicy": policy, "clientConfig": config} for number, config in enumerate(configs)]
    return {"metadata": metadata(name), "webhooks": hooks}


def api_service(name: str, config: Json | None, **spec: t.Any) -> Json:
    """An APIService; a local one without a configuration."""
    return {"metadata": metadata(name), "spec": {"group": "g", "version": "v1", **(config or {}), **spec}}


def definition(name: str, config: Json | None) -> Json:
    webhook = {"strategy": "Webhook", "webhook": {"clientConfig": config, "conversionReviewVersions": ["v1"]}}
    return {"metadata": metadata(name), "spec": {"conversion": webhook if config else {"strategy": "None"}}}


def secret(name: str, namespace: str = "default", kind: str = "kubernetes.io/tls", **data: bytes) -> Json:
    """A Secret; `tls_crt` is its `tls.crt`."""
    return {
        "metadata": metadata(name, namespace),
        "type": kind,
        "data": {key.replace("_", "."): encoded(value) for key, value in data.items()},
    }


def config_map(name: str, namespace: str, **data: t.Any) -> Json:
    return {"metadata": metadata(name, namespace), "data": {key.replace("__", "-").replace("_", "."): value for key, value in data.items()}}


def service(name: str, namespace: str, cluster_ip: str | None, port: int, **spec: t.Any) -> Json:
    ports = [{"port": port, "targetPort": 8443}]
    return {"metadata": metadata(name, namespace), "spec": {"type": "ClusterIP", "clusterIP": cluster_ip, "ports": ports, **spec}}


class ObjectsApi(ApiClient):
    """A client of an API server that has these objects, by the path of their list over all namespaces; the others are empty.

    Lists, pages and selects as the API does. A status in the place of objects is what is answered.
    """

    def __init__(self) -> None:
        super().__init__("127.0.0.1:1")
        self.stored: dict[str, t.Any] = {path: [] for path in (*KINDS, SERVICES)}
        self.asked: list[str] = []
        self.largest = 10**9

    def having(self, path: str, *found: t.Any) -> ObjectsApi:
        """The same with these objects."""
        self.stored[path] = list(found)
        return self

    def request(self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json") -> ApiResponse:
        assert (method, body) == ("GET", None), "it is only looked at"
        self.asked.append(path)
        url = urlsplit(path)
        words = url.path.split("/")
        namespace = words.pop(words.index("namespaces") + 1) if "namespaces" in words else None
        stored = self.stored.get("/".join(word for word in words if word != "namespaces"), 404)
        if isinstance(stored, int):
            message = {403: 'User "x" cannot list resource', 404: "the server could not find the requested resource"}.get(stored, "?")
            return ApiResponse(stored, json.dumps({"kind": "Status", "message": message}).encode())
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        chosen = [one for one in stored if _selected(one, namespace, query.get("fieldSelector", ""))]
        start, limit = int(query.get("continue", "0")), int(query["limit"])
        more = {"continue": str(start + limit)} if start + limit < len(chosen) else {}
        answer = json.dumps({"kind": "List", "metadata": more, "items": chosen[start : start + limit] or None}).encode()
        if len(answer) > self.largest:
            raise TooLarge("the answer has too many bytes", status=200)
        return ApiResponse(200, answer)


def _selected(one: t.Any, namespace: str | None, fields: str) -> bool:
    if not isinstance(one, dict) or not isinstance(one.get("metadata"), dict):
        return True  # garbage comes back whatever was asked for
    key, _equals, value = fields.partition("=")
    found = {"type": one.get("type"), "metadata.name": one["metadata"].get("name")}
    return namespace in (None, one["metadata"].get("namespace")) and (not fields or found[key] == value)
