# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""One HTTP request whose answer is bounded in size and in time, whatever the server does.

`http.client` waits for so many seconds for each piece of an answer: a server that sends a byte now and then, or one "100 Continue" after
the other, would hold its client for ever.
"""

from __future__ import annotations

import functools
import http.client
import io
import socket
import time
import typing as t

# Connecting, shaking hands, sending and each piece of the answer may take as long as the timeout says; all of it as long as so many.
_STEPS = 4


class _TimedReader(io.RawIOBase):
    """What a connection sends, until a deadline (of the monotonic clock); then reading raises socket.timeout."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket, deadline: float) -> None:
        """`raw` reads from the socket `connection`, and is closed with this."""
        self._raw, self._connection, self._deadline = raw, connection, deadline

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: t.Any) -> int | None:
        """The next piece of what was sent."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        wait = self._connection.gettimeout()
        self._connection.settimeout(left if wait is None else min(wait, left))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Let go of the socket too."""
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: t.Any, deadline: float, **kwargs: t.Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock, deadline))


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: t.Mapping[str, str],
    body: bytes | None = None,
    limit: int = 65536,
) -> tuple[int, bytes]:
    """(status, the first `limit` bytes of the body) of one request. Raises what `http.client` raises, and closes the connection."""
    try:
        timeout = t.cast("float", connection.timeout)
        connection.response_class = t.cast(
            "type[http.client.HTTPResponse]", functools.partial(_Answer, deadline=time.monotonic() + _STEPS * timeout)
        )
        connection.request(method, path, body=body, headers=dict(headers, Connection="close"))
        answer = connection.getresponse()
        return answer.status, answer.read(limit)
    finally:
        connection.close()


__all__ = ("ask",)
