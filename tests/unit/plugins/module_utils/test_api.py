# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gc
import json
import os
import socket
import struct
import threading
import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _api
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, ApiError, Identity, address_of_url
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import (
    NOW,
    FakeServer,
    client_pair,
    server_pair,
    write_kubeconfig,
    write_pair,
)

READY: dict[str, t.Any] = {"GET /readyz": (200, "ok")}


@pytest.fixture(name="ca", scope="module")
def fixture_ca() -> pki.Pair:
    return pki.make_ca()


def identity(ca: pki.Pair, expired: bool = False) -> Identity:
    pair = client_pair(ca, "kubernetes-admin", expired)
    return Identity("admin.conf", pair.cert_pem, pair.key_pem, ca.cert_pem)


def serve(tmp_path: Path, ca: pki.Pair, routes: dict[str, t.Any], **kwargs: t.Any) -> FakeServer:
    return FakeServer(tmp_path, routes, server_pair(ca), **kwargs)


def failure(client: ApiClient) -> ApiError:
    with pytest.raises(ApiError) as caught:
        _api.readyz(client)
    return caught.value


def test_a_ready_server_that_asks_for_a_client_certificate(tmp_path: Path, ca: pki.Pair) -> None:
    with serve(tmp_path, ca, READY, client_ca=ca) as server:
        _api.readyz(ApiClient(server.address, identity(ca)))
    assert server.requests == [("GET", "/readyz", b"")]


def test_proxy_variables_are_ignored(tmp_path: Path, ca: pki.Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with serve(tmp_path, ca, READY) as server:
        _api.readyz(ApiClient(server.address, identity(ca)))


@pytest.mark.parametrize("sans", [["IP:127.0.0.1"], ["DNS:kubernetes"], ["IP:10.0.0.1", "DNS:KUBERNETES"]])
def test_the_address_or_the_name_that_every_api_server_has_is_accepted(tmp_path: Path, ca: pki.Pair, sans: list[str]) -> None:
    with FakeServer(tmp_path, READY, server_pair(ca, sans)) as server:
        _api.readyz(ApiClient(server.address, identity(ca)))


def test_a_certificate_for_another_server_is_refused(tmp_path: Path, ca: pki.Pair) -> None:
    with FakeServer(tmp_path, READY, server_pair(ca, ["DNS:other", "IP:10.0.0.1"])) as server:
        assert "names neither this address nor kubernetes" in str(failure(ApiClient(server.address, identity(ca))))
    assert server.requests == []


def test_a_certificate_of_another_ca_is_refused(tmp_path: Path, ca: pki.Pair) -> None:
    with FakeServer(tmp_path, READY, server_pair(pki.make_ca())) as server:
        error = failure(ApiClient(server.address, identity(ca)))
    assert "not trusted" in str(error)
    assert not error.certificate_expired


def test_an_expired_server_certificate_is_recognised_and_may_be_overlooked(tmp_path: Path, ca: pki.Pair) -> None:
    with FakeServer(tmp_path, READY, server_pair(ca, expired=True)) as server:
        error = failure(ApiClient(server.address, identity(ca)))
        _api.readyz(ApiClient(server.address, identity(ca), ignore_dates=True))
    assert (error.certificate_expired, error.expired_side) == (True, "server")
    assert server.address in str(error)


def test_overlooking_dates_does_not_overlook_signatures(tmp_path: Path, ca: pki.Pair) -> None:
    with FakeServer(tmp_path, READY, server_pair(pki.make_ca(), expired=True)) as server:
        assert "not trusted" in str(failure(ApiClient(server.address, identity(ca), ignore_dates=True)))


def test_an_expired_client_certificate_whose_refusal_is_lost(ca: pki.Pair) -> None:
    """The server resets the connection, as happens when our request crosses its refusal."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)

        def reset() -> None:
            accepted = listener.accept()[0]
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()

        server = threading.Thread(target=reset)
        server.start()
        error = failure(ApiClient("127.0.0.1:%d" % listener.getsockname()[1], identity(ca, expired=True)))
        server.join()
    assert (error.certificate_expired, error.expired_side) == (True, "client")
    assert "ended the connection" in str(error)


def test_an_expired_client_certificate_refused_in_the_handshake(tmp_path: Path, ca: pki.Pair) -> None:
    with serve(tmp_path, ca, READY, client_ca=ca) as server:
        error = failure(ApiClient(server.address, identity(ca, expired=True)))
    assert (error.certificate_expired, error.expired_side) == (True, "client")


def test_an_expired_client_certificate_refused_with_401(tmp_path: Path, ca: pki.Pair) -> None:
    with serve(tmp_path, ca, {"GET /readyz": (401, {"message": "Unauthorized"})}) as server:
        expired = failure(ApiClient(server.address, identity(ca, expired=True)))
        foreign = failure(ApiClient(server.address, identity(ca)))
    assert (expired.expired_side, expired.status) == ("client", 401)
    assert (foreign.expired_side, foreign.status) == (None, 401)


@pytest.mark.parametrize("status", [403, 404, 500, 301, 204])
def test_anything_but_200_is_not_ready(tmp_path: Path, ca: pki.Pair, status: int) -> None:
    with serve(tmp_path, ca, {"GET /readyz": (status, "")}) as server:
        assert failure(ApiClient(server.address, identity(ca))).status == status


def test_a_kubernetes_status_is_shown_in_one_short_line(tmp_path: Path, ca: pki.Pair) -> None:
    with serve(tmp_path, ca, {"GET /readyz": (500, {"message": "a\nb " + "x" * 1000})}) as server:
        text = str(failure(ApiClient(server.address, identity(ca))))
    assert "(a b xxx" in text
    assert len(text) < 500


def test_nothing_listens(ca: pki.Pair) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = failure(ApiClient("127.0.0.1:%d" % unused.getsockname()[1], identity(ca)))
    assert "connection refused" in str(error)


def test_a_server_that_never_answers(ca: pki.Pair) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        error = failure(ApiClient("127.0.0.1:%d" % silent.getsockname()[1], identity(ca), timeout=0.1))
    assert "no answer within 0.1 s" in str(error)


def test_a_server_without_tls(tmp_path: Path, ca: pki.Pair) -> None:
    with FakeServer(tmp_path, READY) as server:
        assert "TLS failed" in str(failure(ApiClient(server.address, identity(ca))))


def test_an_identity_is_not_shown_to_a_server_that_cannot_be_verified(ca: pki.Pair) -> None:
    unverified = Identity("admin.conf", identity(ca).certificate_pem, identity(ca).private_key_pem)
    with pytest.raises(CertopsError, match="no CA is known"):
        ApiClient("127.0.0.1:1", unverified)


def test_the_private_key_is_in_no_text_of_an_identity(ca: pki.Pair) -> None:
    assert "PRIVATE" not in repr(identity(ca))


def test_a_key_of_another_certificate(ca: pki.Pair) -> None:
    mixed = Identity("admin.conf", identity(ca).certificate_pem, identity(ca).private_key_pem, ca.cert_pem)
    with pytest.raises(CertopsError, match=r"admin.conf.*belong together"):
        ApiClient("127.0.0.1:1", mixed)


@pytest.mark.parametrize("pem", [b"", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\ngarbage\n-----END CERTIFICATE-----\n"])
def test_garbage_as_ca_or_as_certificate_is_explained(ca: pki.Pair, pem: bytes) -> None:
    good = identity(ca)
    for bad in (Identity("x", good.certificate_pem, good.private_key_pem, pem), Identity("x", pem, good.private_key_pem, ca.cert_pem)):
        with pytest.raises(CertopsError):
            ApiClient("127.0.0.1:1", bad)


def test_a_python_without_memory_files_is_explained(ca: pki.Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(CertopsError, match="memfd_create"):
        ApiClient("127.0.0.1:1", identity(ca))


def test_no_descriptor_is_left_open(ca: pki.Pair) -> None:
    ApiClient("127.0.0.1:1", identity(ca))
    gc.collect()  # what another test has left open may be closed at any time
    before = set(os.listdir("/proc/self/fd"))
    ApiClient("127.0.0.1:1", identity(ca))
    assert set(os.listdir("/proc/self/fd")) <= before


def test_identity_from_a_kubeconfig_and_from_a_pair(tmp_path: Path, ca: pki.Pair) -> None:
    pair = client_pair(ca, "a", expired=True)
    from_config = _api.identity_from_kubeconfig(write_kubeconfig(tmp_path / "a.conf", ca, pair, "10.0.0.1:6443"))
    from_pair = _api.identity_from_pair(*write_pair(tmp_path, "a", pair))
    assert from_config.certificate_pem == from_pair.certificate_pem
    assert from_config.server == "https://10.0.0.1:6443"
    assert from_config.ca_pem == ca.cert_pem
    assert from_config.expired(NOW)


@pytest.mark.parametrize("text", ["", "[]", "users: 3", "current-context: x", "\x00", "a: *b"])
def test_kubeconfigs_without_identity_are_explained(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.conf").write_text(text)
    with pytest.raises(CertopsError, match=r"x\.conf"):
        _api.identity_from_kubeconfig(str(tmp_path / "x.conf"))


def test_whoami(tmp_path: Path, ca: pki.Pair) -> None:
    info = {
        "username": "kubernetes-admin",
        "groups": ["a", "b"],
        "extra": {"authentication.kubernetes.io/credential-id": ["X509SHA256=ab"]},
    }
    path = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews"
    with serve(tmp_path, ca, {path: (201, {"status": {"userInfo": info}})}) as server:
        assert _api.whoami(ApiClient(server.address, identity(ca))) == ("kubernetes-admin", ("a", "b"), "X509SHA256=ab")
        server.routes[path] = (201, {"status": {"userInfo": {"username": "x"}}})
        assert _api.whoami(ApiClient(server.address, identity(ca))) == ("x", (), None)
    assert json.loads(server.requests[0][2])["kind"] == "SelfSubjectReview"


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        ((200, {"data": {"ClusterConfiguration": "certificateValidityPeriod: 8760h0m0s\n"}}), 31536000),
        ((200, {"data": {"ClusterConfiguration": "clusterName: x\n"}}), None),
        ((200, {"data": None}), None),
        ((200, {"data": ["ClusterConfiguration"]}), None),
        ((200, {"data": {"ClusterConfiguration": 5}}), None),
        ((200, {"data": {"ClusterConfiguration": "certificateValidityPeriod: null\n"}}), None),
        ((200, {"data": {"ClusterConfiguration": "built: 2026-13-45\ncertificateValidityPeriod: 1h\n"}}), 3600),
        ((404, {}), None),
    ],
)
def test_certificate_validity_of_the_cluster(tmp_path: Path, ca: pki.Pair, answer: object, seconds: int | None) -> None:
    with serve(tmp_path, ca, {"GET /api/v1/namespaces/kube-system/configmaps/kubeadm-config": answer}) as server:
        assert _api.cluster_certificate_validity_seconds(ApiClient(server.address, identity(ca))) == seconds


UNREADABLE = [
    (200, {"data": {"ClusterConfiguration": text}})
    for text in ("a: [", "[" * 5000, "\ud800", "\0", "certificateValidityPeriod: {}", "certificateValidityPeriod: 2026-13-45")
]


@pytest.mark.parametrize("answer", [(403, {}), (200, "no json"), (200, "[]"), *UNREADABLE])
def test_certificate_validity_that_cannot_be_read_is_explained(tmp_path: Path, ca: pki.Pair, answer: object) -> None:
    with serve(tmp_path, ca, {"GET /api/v1/namespaces/kube-system/configmaps/kubeadm-config": answer}) as server, pytest.raises(
        CertopsError
    ):
        _api.cluster_certificate_validity_seconds(ApiClient(server.address, identity(ca)))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("8760h0m0s", 31536000), ("1h30m", 5400), ("90s", 90), ("1.5h", 5400), ("1m500ms", 60), ("4m0s", 240), (".5h", 1800)],
)
def test_go_durations(text: str, seconds: int) -> None:
    assert _api.parse_go_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "8760", "1d", "h", "-1h", "1h 30m", "1h30", "500ms", "1hh"])
def test_what_is_no_go_duration(text: str) -> None:
    with pytest.raises(CertopsError, match="duration"):
        _api.parse_go_duration(text)


@pytest.mark.parametrize(("address", "expected"), [("10.0.0.1:6443", ("10.0.0.1", 6443)), ("[fd00::1]:6443", ("fd00::1", 6443))])
def test_split_address(address: str, expected: tuple[str, int]) -> None:
    assert _api.split_address(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        "",
        "host",
        ":1",
        "host:",
        "host:x",
        "host:²",
        "host:٣",
        "host:65536",
        "host:" + "9" * 5000,
        "[]:1",
        "a\nb:1",
        "a b:1",
        "a\0:1",
        "é:1",
    ],
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(CertopsError, match="host:port"):
        _api.split_address(address)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"status": None},
        {"status": []},
        {"status": {"userInfo": None}},
        {"status": {"userInfo": "x"}},
        {"status": {"userInfo": {"username": None, "groups": 5, "extra": "x"}}},
        {"status": {"userInfo": {"groups": [1, None], "extra": {"authentication.kubernetes.io/credential-id": 5}}}},
        {"status": {"userInfo": {"extra": {"authentication.kubernetes.io/credential-id": {"a": 1}}}}},
        {"status": {"userInfo": {"extra": {"authentication.kubernetes.io/credential-id": [{}]}}}},
    ],
)
def test_whoami_of_a_server_that_does_not_say(ca: pki.Pair, monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    monkeypatch.setattr(ApiClient, "json", lambda *_arguments: answer)
    assert _api.whoami(ApiClient("127.0.0.1:1", identity(ca))) == ("", (), None)


@pytest.mark.parametrize("host", ["a" * 70, "a..b", "%"])
def test_a_host_that_cannot_be_resolved_is_explained(host: str) -> None:
    with pytest.raises(ApiError, match="https"):
        ApiClient(host + ":1", timeout=2).request("GET", "/")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://192.0.2.7:6443", "192.0.2.7:6443"),
        ("https://api.example.com/", "api.example.com:443"),
        ("https://[2001:db8::1]:6443", "[2001:db8::1]:6443"),
    ],
)
def test_the_address_in_a_kubeconfigs_server(url: str, address: str) -> None:
    assert address_of_url(url) == address


@pytest.mark.parametrize(
    "url",
    ["", "http://a", "https://", "a:6443", "https://a/path", "https://u@a", "https://a:x", "https://a:99999", "https://[a", "https://a\n"],
)
def test_a_server_that_is_no_address(url: str) -> None:
    with pytest.raises(CertopsError, match="is no address of an API server"):
        address_of_url(url)
