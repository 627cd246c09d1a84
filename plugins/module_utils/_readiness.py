# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Is a component of this node ready? One question to its own health endpoint, once.

Where they are (kubeadm's probes ask the same): API server https /readyz; controller manager and scheduler https on loopback, open
without authentication; etcd plain http on its metrics address; kubelet plain http on loopback.
"""

from __future__ import annotations

import http.client
import socket
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._access import api_client, component_address
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, ApiError, readyz, split_address
from ansible_collections.certops.kubernetes.plugins.module_utils._documents import parse_document
from ansible_collections.certops.kubernetes.plugins.module_utils._documents import text as scalar
from ansible_collections.certops.kubernetes.plugins.module_utils._etcd import (
    address_of_url,
    endpoint_status,
    etcd_address,
    etcd_client,
    etcd_identity,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._files import read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._http import ask
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node

_KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
_KUBELET_HEALTHZ_PORT = 10248

Probe = t.Callable[[], None]


def readiness_probe(node: Node, component: str, now: datetime, timeout: float = 2.0) -> Probe:
    """A function that returns when the component is ready at this moment, and raises a CertopsError that says why not.

    Raises CertopsError when it is not known how to ask.
    """
    if component == "kube-apiserver":
        client = api_client(node, now, timeout)
        return lambda: readyz(client)
    if component == "kube-controller-manager":
        return _https_probe(component_address(node, component, "bind-address", "secure-port", 10257), ("/healthz",), timeout)
    if component == "kube-scheduler":
        address = component_address(node, component, "bind-address", "secure-port", 10259)
        return _https_probe(address, ("/readyz", "/healthz"), timeout)  # /readyz since 1.32
    if component == "etcd":
        return _etcd_probe(node, now, timeout)
    if component == "kubelet":
        address = kubelet_address(node)
        return lambda: _http_ok(address, ("/healthz",), timeout)
    raise CertopsError("%s is no component whose health can be asked for" % component)


def kubelet_address(node: Node) -> str:
    """Where the kubelet answers /healthz: its flags, else its configuration file, else 127.0.0.1:10248."""
    component = node.components.get("kubelet")
    flag = component.flag if component else lambda name: None
    configuration = _kubelet_configuration(flag("config") or _KUBELET_CONFIG)
    port = flag("healthz-port") or scalar(configuration.get("healthzPort")) or _KUBELET_HEALTHZ_PORT
    host = flag("healthz-bind-address") or scalar(configuration.get("healthzBindAddress")) or "127.0.0.1"
    return "%s:%s" % ("[%s]" % host if ":" in host else host, port)


def _kubelet_configuration(path: str) -> dict[str, t.Any]:
    """The kubelet's configuration; an unreadable one means its defaults here, discovery reports it."""
    try:
        document = parse_document(read_bounded(path), path)
    except CertopsError:
        return {}
    return document if isinstance(document, dict) else {}


def _etcd_probe(node: Node, now: datetime, timeout: float) -> Probe:
    """etcd's own readiness (a read through the leader) on its metrics address; without one, a status through TLS."""
    component = node.components.get("etcd")
    url = (component.flag("listen-metrics-urls") or "").split(",")[0] if component else ""
    if url.startswith("http://"):
        address = address_of_url(url)
        return lambda: _http_ok(address, ("/readyz", "/health"), timeout)  # /readyz since etcd 3.5.11
    client = etcd_client(etcd_address(node), etcd_identity(node, now)[1], timeout)

    def ask() -> None:
        if endpoint_status(client).leader_id == "0":
            raise ApiError("etcd at %s knows no leader" % client.server)

    return ask


def _https_probe(address: str, paths: tuple[str, ...], timeout: float) -> Probe:
    """Ask without identity and without verification: the certificate there is self-signed in memory."""
    client = ApiClient(address, None, None, timeout)

    def ask() -> None:
        for path in paths:
            answer = client.request("GET", path)
            if answer.status != 404:
                break
        if answer.status != 200:
            raise ApiError("GET https://%s%s: HTTP %d (%s)" % (address, path, answer.status, answer.text()), status=answer.status)

    return ask


def _http_ok(address: str, paths: tuple[str, ...], timeout: float) -> None:
    for path in paths:
        status, text = _http_get(address, path, timeout)
        if status != 404:
            break
    if status != 200:
        raise ApiError("GET http://%s%s: HTTP %d (%s)" % (address, path, status, text), status=status)


def _http_get(address: str, path: str, timeout: float) -> tuple[int, str]:
    host, port = split_address(address)
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        status, body = ask(connection, "GET", path, {})
        return status, " ".join(body.decode("utf-8", "replace").split())[:300]
    except ConnectionRefusedError as exc:
        raise ApiError("GET http://%s%s: connection refused: nothing listens there" % (address, path)) from exc
    except (socket.timeout, TimeoutError) as exc:
        raise ApiError("GET http://%s%s: no answer within %g s" % (address, path, timeout)) from exc
    except (OSError, http.client.HTTPException) as exc:
        raise ApiError("GET http://%s%s: %s" % (address, path, str(exc) or type(exc).__name__)) from exc


__all__ = ("Probe", "kubelet_address", "readiness_probe")
