# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an address serves: servers that insist on client certificates, old TLS, silence and noise."""

from __future__ import annotations

import socket
import ssl
import threading
import time
import typing as t
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _tls_probe
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._tls_probe import (
    Probe,
    certificate_in_the_clear,
    chain_refusal,
    served_certificate,
)
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki


class Server:
    """A server on loopback that does `behave(connection)` with each connection, one after the other."""

    def __init__(self, behave: t.Callable[[socket.socket], None]) -> None:
        self._behave = behave
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._socket.accept()
            except OSError:
                return
            with connection:
                try:
                    self._behave(connection)
                except OSError:
                    continue

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()


def tls(tmp_path: Path, pair: pki.Pair, version: ssl.TLSVersion, client_ca: pki.Pair | None = None) -> t.Callable[[socket.socket], None]:
    """Serve a pair with one TLS version; with `client_ca` a client certificate is demanded."""
    path = tmp_path / "server.pem"
    path.write_bytes(pair.cert_pem + pair.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(str(path))
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.cert_pem.decode())

    def behave(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.recv(1)

    return behave


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("mutual", [False, True])
def test_the_servers_certificate_is_seen(tmp_path: Path, version: ssl.TLSVersion, mutual: bool) -> None:
    ca = pki.make_ca()
    pair = pki.make_leaf(ca, "kube-apiserver", usages=("server",))
    with Server(tls(tmp_path, pair, version, ca if mutual else None)) as server:
        probe = Probe("127.0.0.1", server.port, "kubernetes", 5)
        assert ssl.DER_cert_to_PEM_cert(probe.result().der).encode() == pair.cert_pem


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(CertopsError, match="127.0.0.1:%d was refused" % port):
        served_certificate("127.0.0.1", port, None, 1)


def test_silence_ends_in_time() -> None:
    with Server(lambda connection: time.sleep(3)) as server:
        before = time.monotonic()
        with pytest.raises(CertopsError, match="did not answer within 0.3 seconds"):
            served_certificate("127.0.0.1", server.port, None, 0.3)
        assert time.monotonic() - before < 2


def test_a_drip_of_bytes_ends_in_time() -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"\x16\x03\x03\x3f\xff")
        for _byte in range(40):
            connection.sendall(b"\x02")
            time.sleep(0.05)

    with Server(drip) as server:
        before = time.monotonic()
        with pytest.raises(CertopsError, match="did not answer within"):
            served_certificate("127.0.0.1", server.port, None, 0.3)
        assert time.monotonic() - before < 1.5


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x28", b"\x16\x03\x03\x00\x04\x0b\x00\x00\x00"]
)
def test_what_is_no_tls_server_is_said_to_be_none(answer: bytes) -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    with Server(behave) as server, pytest.raises(CertopsError, match=str(server.port)):
        served_certificate("127.0.0.1", server.port, None, 2)


@pytest.mark.parametrize("host", ["no such host.invalid", "a" * 70 + ".invalid", "", "a\0b", "\ud800"])
def test_a_name_that_means_nothing(host: str) -> None:
    with pytest.raises(CertopsError):
        served_certificate(host, 1, None, 2)


def clear(message: bytes, size: int) -> bytes:
    """A handshake message in records of so many bytes each."""
    pieces = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x03" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("size", [1, 7, 16384])
def test_a_certificate_in_the_clear(size: int) -> None:
    der = bytes(range(256)) * 3
    entry = len(der).to_bytes(3, "big") + der
    body = (2 * len(entry)).to_bytes(3, "big") + 2 * entry
    hello = b"\x02\x00\x00\x04abcd"
    heard = clear(hello + b"\x0b" + len(body).to_bytes(3, "big") + body, size)
    assert certificate_in_the_clear(heard) == der
    assert certificate_in_the_clear(heard[: len(heard) // 2]) is None


@pytest.mark.parametrize("piece", [b"\x16\x03\x03\x00\x00", b"\x16\x03\x03\x00\x04\x02\x00\x00\x00", b"\x16\x03\x03\x00\x01\x00"])
def test_very_many_records_cost_little(piece: bytes) -> None:
    started = time.monotonic()
    assert certificate_in_the_clear(piece * 1_000_000) is None
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "heard", [b"", b"\x16\x03\x03\xff\xff", b"\x16\x03\x03\x00\x07\x0b\x00\x00\x03\x00\x00\x00", b"\x16\x03\x03\x00\x00" * 3]
)
def test_no_certificate_in_the_clear(heard: bytes) -> None:
    assert certificate_in_the_clear(heard) is None


def test_a_name_that_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody resolves it, and the resolver has time limits of its own."""
    monkeypatch.setattr(_tls_probe, "served_certificate", lambda *_args: time.sleep(30))
    before = time.monotonic()
    with pytest.raises(CertopsError, match="slow.example:443 was not found, or did not answer, in time"):
        Probe("slow.example", 443, None, 0.1).result()
    assert time.monotonic() - before < 10


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("mutual", [False, True])
def test_whether_a_chain_verifies(tmp_path: Path, version: ssl.TLSVersion, mutual: bool) -> None:
    """Whatever its dates are, and whether the server wants to know us or not."""
    ca, other = pki.make_ca(), pki.make_ca("other")
    start = datetime(2001, 1, 1, tzinfo=timezone.utc)
    pair = pki.make_leaf(ca, "x", usages=("server",), not_before=start, not_after=start + timedelta(days=1))
    with Server(tls(tmp_path, pair, version, ca if mutual else None)) as server:
        assert chain_refusal("127.0.0.1", server.port, "x.default.svc", 5, ca.cert_pem) is None
        assert chain_refusal("127.0.0.1", server.port, None, 5, other.cert_pem)


def test_of_what_was_not_seen_nothing_is_claimed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert chain_refusal("127.0.0.1", port, None, 1, pki.make_ca().cert_pem) is None
    assert chain_refusal("127.0.0.1", port, "." * 300, 1, pki.make_ca().cert_pem) is None


def test_cas_that_cannot_be_read() -> None:
    assert "no readable certificate" in str(chain_refusal("127.0.0.1", 1, None, 1, b"garbage"))
