# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers whose answers have no end: given up in time, or read up to a limit."""

from __future__ import annotations

import contextlib
import socket
import threading
import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _readiness
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiError


@contextlib.contextmanager
def server_that_sends(*pieces: bytes) -> t.Iterator[str]:
    """An address where every client gets the first piece, and then the others again and again."""
    stop = threading.Event()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)

        def serve() -> None:
            with contextlib.suppress(OSError):
                client = listener.accept()[0]
                with client:
                    client.recv(65536)
                    client.sendall(pieces[0])
                    while not stop.wait(0.01):
                        for piece in pieces[1:]:
                            client.sendall(piece)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield "127.0.0.1:%d" % listener.getsockname()[1]
        stop.set()
    thread.join(10)


DRIPS = {
    "a body": (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    "a chunked body": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "headers": (b"HTTP/1.1 200 OK\r\na: ", b"x"),
    "a status line": (b"HTTP/1.1 200 ", b"O"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("drip", sorted(DRIPS))
def test_a_server_that_drips_is_given_up(drip: str) -> None:
    with server_that_sends(*DRIPS[drip]) as address, pytest.raises(ApiError, match="no answer within"):
        _readiness._http_get(address, "/healthz", 0.2)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\na: " + b"x" * 100_000,
        b"HTTP/1.1 99999 OK\r\n\r\n",
    ],
)
def test_what_is_no_http_is_explained(data: bytes) -> None:
    with server_that_sends(data, b"x" * 65536) as address, pytest.raises(ApiError, match="http://127.0.0.1"):
        _readiness._http_get(address, "/healthz", 0.5)


def test_a_body_is_read_up_to_a_limit_only() -> None:
    with server_that_sends(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536) as address:
        assert _readiness._http_get(address, "/healthz", 5) == (200, "x" * 300)
