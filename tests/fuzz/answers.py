# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What servers answer: any JSON to each question, any stream to the HTTP client, any word where one is expected."""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import json
import socket
import typing as t
from datetime import datetime, timezone

from ansible_collections.certops.kubernetes.plugins.module_utils import (
    _api,
    _etcd,
    _http,
    _inspection,
    _layouts,
    _lease,
    _listing,
    _node_access,
    _node_objects,
    _object_inspection,
    _processes,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, ApiResponse
from ansible_collections.certops.kubernetes.plugins.module_utils._findings import Thresholds
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Component, Node, Process
from ansible_collections.certops.kubernetes.plugins.module_utils._records import Setting

NOW = datetime(2026, 11, 24, 1, 50, tzinfo=timezone.utc)
LONGEST_MESSAGE = 2000
KEYS = (
    *("status", "userInfo", "username", "groups", "extra", "authentication.kubernetes.io/credential-id", "data", "ClusterConfiguration"),
    *("spec", "holderIdentity", "leaseDurationSeconds", "acquireTime", "renewTime", "members", "ID", "name", "peerURLs", "clientURLs"),
    *("isLearner", "header", "member_id", "revision", "leader", "raftTerm", "raftIndex", "errors", "version", "items", "metadata"),
    *("addresses", "type", "address", "conditions", "message", "group", "service", "webhooks", "clientConfig", "caBundle", "url"),
    *("namespace", "port", "conversion", "strategy", "webhook", "tls.crt", "ca.crt", "kubeconfig", "client-ca-file"),
)
EMPTY_BUNDLE = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBQUEKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo="
WORDS = (
    *("", "x", "InternalIP", "Ready", "True", "5", "10.0.0.1", "https://10.0.0.1:2379", "2026-11-24T01:50:00.000000Z", "Available", "v1"),
    *("kubernetes.io/tls", "Webhook", EMPTY_BUNDLE, "clusters: []"),
)


class Canned(ApiClient):
    """A client whose server has one answer to everything."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1:1")
        self.answer = ApiResponse(200, b"")

    def request(self, *_args: t.Any, **_kwargs: t.Any) -> ApiResponse:
        return self.answer


@functools.lru_cache(maxsize=None)
def canned() -> Canned:
    return Canned()


def answer(data: bytes) -> None:
    """The first byte says whether the rest is the body itself, or draws a document of known names."""
    body = data[1:] if data[:1] < b"\x80" else json.dumps(draw(io.BytesIO(data[1:]))).encode()
    client = canned()
    client.answer = ApiResponse(200, body)
    assert len(client.answer.text()) <= 300
    for question in (_api.whoami, _api.cluster_certificate_validity_seconds, lease, _etcd.members, status, nodes, aggregated, objects):
        try:
            question(client)
        except CertopsError as error:
            assert 0 < len(str(error)) < LONGEST_MESSAGE
    client.answer = ApiResponse(403, body)
    with contextlib.suppress(CertopsError):
        _api.readyz(client)


def lease(client: ApiClient) -> None:
    found = _lease.get_lease(client, "kube-scheduler")
    found.fresh(NOW)
    found.held_by(Process(1, 1, (), NOW), "x")
    _lease.release_lease(client, "kube-scheduler", found.holder)


def status(client: ApiClient) -> None:
    found = _etcd.endpoint_status(client)
    assert 0 <= found.revision < 10**20
    _etcd.status_problem("x", found)


def nodes(client: ApiClient) -> None:
    for node in _node_objects.control_plane_nodes(client):
        assert node.name
        assert node.address is None or isinstance(node.address, str)
        assert node.ready == "True" or node.problem


def aggregated(client: ApiClient) -> None:
    setattr(_node_access, "api_client", lambda *_args: client)  # noqa: B010  # it is not one of its names for others
    node = Node("x", None, "/etc/kubernetes", {"kube-apiserver": Component("kube-apiserver", {})})
    _node_access._aggregated_path(node)


def objects(client: ApiClient) -> None:
    """No server is called, whatever a webhook names."""
    _listing.MOST_OBJECTS = 5
    setting = Setting(None, "h", "h", NOW, Thresholds(86400, 3600))
    for record in _object_inspection.inspect_objects(client, _object_inspection.ALL, setting, 1.0, proxy="x")[0]:
        _inspection.record_to_dict(record)


def draw(source: io.BytesIO, depth: int = 0) -> t.Any:
    """A JSON value out of bytes."""
    kind, number = (source.read(2) + b"\0\0")[:2]
    size = number % 5 if depth < 8 else 0
    if kind < 100:
        return {KEYS[(source.read(1) or b"\0")[0] % len(KEYS)]: draw(source, depth + 1) for _entry in range(size)}
    if kind < 140:
        return [draw(source, depth + 1) for _entry in range(size)]
    if kind < 200:
        return WORDS[number % len(WORDS)]
    if kind < 220:
        return source.read(number).decode("utf-8", "replace")
    return (None, True, False, number, -number, number * 1e300, number / 7, str(number), 10**number)[kind % 9]


class _Stream(socket.socket):
    """A connection on which only this was ever sent."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def sendall(self, data: t.Any, flags: int = 0) -> None:
        """It goes nowhere."""

    def makefile(self, *_args: t.Any, **_kwargs: t.Any) -> t.Any:
        return io.BufferedReader(io.BytesIO(self._data))  # type: ignore[arg-type,unused-ignore]


def http_stream(data: bytes) -> None:
    """The client raises what it is documented to, and gives back no more than the limit."""
    connection = http.client.HTTPConnection("127.0.0.1", 1, timeout=1)
    connection.sock = _Stream(data)
    with contextlib.suppress(OSError, http.client.HTTPException):
        code, body = _http.ask(connection, "GET", "/", {}, limit=100)
        assert 0 <= code <= 999
        assert len(body) <= 100


def words(data: bytes) -> None:
    """Durations, addresses, ports, control groups."""
    word = data.decode("utf-8", "surrogateescape")
    with contextlib.suppress(CertopsError):
        assert 1 <= _api.parse_go_duration(word) <= 2**63 // 10**9
    with contextlib.suppress(CertopsError):
        host, port = _api.split_address(_etcd.address_of_url(word))
        assert host.isascii()
        assert 0 <= port < 65536
    assert 0 <= _layouts.as_port(word, 1) < 65536
    uid = _processes.pod_uid(word)
    assert uid is None or len(uid) in (32, 36)
