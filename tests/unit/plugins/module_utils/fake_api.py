# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for an API server or etcd's gateway: real TLS on loopback, answers from a table. And nodes made for tests."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import ssl
import threading
import typing as t
from datetime import datetime, timedelta, timezone
from pathlib import Path

import yaml
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Component, Credential, Node
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki

Answer = t.Tuple[int, object]
NOW = datetime.now(timezone.utc)
PAST = (NOW - timedelta(days=2), NOW - timedelta(days=1))


class FakeServer:
    """Serves a table {"METHOD /path": (status, body) or a function of the request's body that gives them}.

    `client_ca`: clients must show a certificate of this CA, as etcd demands; without it none is asked for. Without `pair`: plain HTTP.
    """

    def __init__(
        self,
        directory: Path,
        routes: dict[str, t.Any],
        pair: pki.Pair | None = None,
        client_ca: pki.Pair | None = None,
        bind: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.routes = routes
        self.requests: list[tuple[str, str, bytes]] = []
        self._context = _server_context(directory, pair, client_ca) if pair else None
        self._server = http.server.ThreadingHTTPServer(bind, self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.address = "%s:%d" % (bind[0], self.port)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        self.requests.append((method, path, body))
        route = self.routes.get("%s %s" % (method, path), (404, {"message": "not found"}))
        return t.cast("Answer", route(body) if callable(route) else route)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def setup(self) -> None:
                if fake._context is not None:
                    self.request = fake._context.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
                self.request.settimeout(5)
                super().setup()

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # a handshake that the test wants to fail
                    super().handle()

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, document = fake.answer(self.command, self.path, body)
                data = document.encode() if isinstance(document, str) else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_PUT = do_DELETE = do_GET

        return Handler


def _server_context(directory: Path, pair: pki.Pair, client_ca: pki.Pair | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    path = directory / ("server-%d.pem" % id(pair))
    path.write_bytes(pair.cert_pem + pair.key_pem)
    context.load_cert_chain(str(path))
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.cert_pem.decode())
    return context


def server_pair(ca: pki.Pair, sans: t.Sequence[str] = ("IP:127.0.0.1",), expired: bool = False) -> pki.Pair:
    """A server's pair for loopback."""
    start, end = PAST if expired else (None, None)
    return pki.make_leaf(ca, "kube-apiserver", usages=("server", "client"), sans=sans, not_before=start, not_after=end)


def client_pair(ca: pki.Pair, cn: str, expired: bool = False) -> pki.Pair:
    """A client's pair."""
    start, end = PAST if expired else (None, None)
    return pki.make_leaf(ca, cn, not_before=start, not_after=end)


def write_pair(directory: Path, name: str, pair: pki.Pair) -> tuple[str, str]:
    """Write a pair as kubeadm names it, and return both paths."""
    cert, key = directory / (name + ".crt"), directory / (name + ".key")
    cert.parent.mkdir(parents=True, exist_ok=True)
    cert.write_bytes(pair.cert_pem)
    key.write_bytes(pair.key_pem)
    return str(cert), str(key)


def write_kubeconfig(path: Path, ca: pki.Pair, pair: pki.Pair, server: str) -> str:
    """Write a kubeconfig like kubeadm's, and return its path."""

    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "a@kubernetes",
        "clusters": [
            {"name": "kubernetes", "cluster": {"server": "https://" + server, "certificate-authority-data": encoded(ca.cert_pem)}}
        ],
        "contexts": [{"name": "a@kubernetes", "context": {"cluster": "kubernetes", "user": "a"}}],
        "users": [{"name": "a", "user": {"client-certificate-data": encoded(pair.cert_pem), "client-key-data": encoded(pair.key_pem)}}],
    }
    path.write_text(yaml.safe_dump(document))
    return str(path)


class FakeNode:
    """A control-plane node under a directory: files as kubeadm makes them, components with the addresses that the test gives."""

    def __init__(self, directory: Path, expired: t.Sequence[str] = ()) -> None:
        self.directory = directory
        self.ca = pki.make_ca("kubernetes")
        self.etcd_ca = pki.make_ca("etcd-ca")
        self.expired = set(expired)
        self.components: dict[str, Component] = {}
        self.credentials: dict[str, Credential] = {}

    def add_kubeconfigs(self, server: str, *names: str) -> None:
        for name in names:
            path = write_kubeconfig(self.directory / name, self.ca, client_pair(self.ca, name, name in self.expired), server)
            self.credentials[name] = Credential(name, "kubeconfig", path, None, "client", name)

    def add_pair(self, name: str) -> pki.Pair:
        ca = self.etcd_ca if "etcd" in name else self.ca
        pair = server_pair(ca, expired=name in self.expired)
        cert, key = write_pair(self.directory / "pki", name, pair)
        self.credentials[name] = Credential(name, "pair", cert, key, "server", name)
        return pair

    def add_ca(self, name: str, ca: pki.Pair) -> None:
        cert, _key = write_pair(self.directory / "pki", name, ca)
        self.credentials[name] = Credential(name, "ca", cert, None, "ca", name)

    def add_component(self, name: str, **flags: str) -> None:
        self.components[name] = Component(name, {key.replace("_", "-"): (value,) for key, value in flags.items()})

    def node(self) -> Node:
        return Node("node-1", "kubernetes", str(self.directory), dict(self.components), dict(self.credentials))


def lease_document(name: str, holder: str, renewed: datetime, duration: int = 15, acquired: datetime | None = None) -> dict[str, t.Any]:
    """A Lease as the API returns it."""

    def text(time: datetime) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-system", "resourceVersion": "41"},
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": duration,
            "acquireTime": text(acquired or renewed),
            "renewTime": text(renewed),
            "leaseTransitions": 7,
        },
    }


def lease_path(name: str) -> str:
    return "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/" + name


NODE_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases?fieldSelector=metadata.name%3D"
CONTROL_PLANE_NODES = "/api/v1/nodes?labelSelector=node-role.kubernetes.io/control-plane"
ONE_NODE = "/api/v1/nodes?fieldSelector=metadata.name%3D"


def node_document(name: str = "node-1", ready: str = "True", message: str = "", cordoned: bool = False) -> dict[str, t.Any]:
    """A Node as the API returns it."""
    conditions = [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready, "message": message}]
    addresses = [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}]
    spec = {"unschedulable": True} if cordoned else {}
    return {"metadata": {"name": name}, "spec": spec, "status": {"conditions": conditions, "addresses": addresses}}


def listed(*documents: dict[str, t.Any]) -> Answer:
    """A list's answer."""
    return 200, {"items": list(documents)}
