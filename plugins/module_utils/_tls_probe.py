# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The certificate that an address serves, as anyone sees it who connects.

We look, we do not trust: nothing is verified here, and no certificate of ours is shown. A server that insists on a client
certificate (etcd) has shown its own before it refuses us.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._tls_credentials import client_context

# More than any handshake; a server that talks on and on is none.
_MAX_BYTES = 256 * 1024
_HANDSHAKE_RECORD = 22
_CERTIFICATE_MESSAGE = 11


@dataclass(frozen=True)
class ServedCertificate:
    """What a server showed: the DER of its own (the first) certificate."""

    der: bytes


class Probe:
    """One address that is asked in a thread of its own; `result()` waits for it."""

    def __init__(self, host: str, port: int, server_name: str | None, timeout: float) -> None:
        self._asked = (host, port, server_name, timeout)
        self._served: ServedCertificate | None = None
        self._error: CertopsError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._served = served_certificate(*self._asked)
        except CertopsError as error:
            self._error = error

    def result(self) -> ServedCertificate:
        """What was served; raises CertopsError when the address could not be asked."""
        # A name that nobody resolves, or one of many addresses, takes its own time.
        self._thread.join(2 * self._asked[3] + 1)
        if self._served is None:
            raise self._error or CertopsError("%s:%d was not found, or did not answer, in time." % self._asked[:2])
        return self._served


def served_certificate(host: str, port: int, server_name: str | None, timeout: float) -> ServedCertificate:
    """The certificate served at `host:port` (TLS 1.2 or later), within `timeout` seconds altogether.

    `server_name` is sent as SNI; None sends none. Raises CertopsError that says why there is none: refused, timed out, not TLS ….
    """
    where = "[%s]:%d" % (host, port) if ":" in host else "%s:%d" % (host, port)
    deadline = time.monotonic() + timeout
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            return ServedCertificate(_ask(connection, server_name, deadline))
    except ssl.SSLError as error:
        raise CertopsError("%s does not answer as a TLS server: %s." % (where, error.reason or "the handshake failed")) from error
    except ConnectionRefusedError as error:
        raise CertopsError("The connection to %s was refused: nothing listens there." % where) from error
    except socket.timeout as error:
        raise CertopsError("%s did not answer within %g seconds." % (where, timeout)) from error
    except (OSError, ValueError) as error:  # the latter for what can be no name of a host
        reason = (
            os.strerror(error.errno) if isinstance(error, OSError) and error.errno and error.errno > 0 else str(error)
        ) or "unknown error"
        raise CertopsError("%s cannot be reached: %s." % (where, reason)) from error


def chain_refusal(host: str, port: int, server_name: str | None, timeout: float, ca_pem: bytes) -> str | None:
    """Why the chain that is served does not verify under these CAs, dates and names aside, as OpenSSL says it.

    None when it does, with the help of what the server sends beside its certificate, and when nothing could be seen.
    """
    deadline = time.monotonic() + timeout
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context = client_context(ca_pem, None, ignore_dates=True)
        with socket.create_connection((host, port), timeout=timeout) as connection:
            tls = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
            _shake_hands(connection, tls, incoming, outgoing, bytearray(), deadline)
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    except CertopsError as error:  # CAs that OpenSSL cannot read
        return str(error)
    except (OSError, ValueError, EOFError):
        return None
    return None


def _ask(connection: socket.socket, server_name: str | None, deadline: float) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
    heard = bytearray()
    try:
        _shake_hands(connection, tls, incoming, outgoing, heard, deadline)
    except (ssl.SSLError, ConnectionError, EOFError) as error:
        # TLS 1.2 only, and a client certificate is wanted: refused, but the server's own went over the wire in the clear.
        der = certificate_in_the_clear(bytes(heard))
        if der is not None:
            return der
        if isinstance(error, EOFError):
            raise CertopsError("%s:%d closed the connection during the handshake." % connection.getpeername()[:2]) from error
        raise
    der = tls.getpeercert(binary_form=True)
    if not der:
        raise CertopsError("%s:%d finished the handshake without showing a certificate." % connection.getpeername()[:2])
    return der


def _shake_hands(
    connection: socket.socket, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, heard: bytearray, deadline: float
) -> None:
    """Drive the handshake; every byte received is kept in `heard`. Raises EOFError when the server closes before its end."""
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        else:
            return
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        connection.sendall(outgoing.read())
        data = connection.recv(16384)
        if time.monotonic() > deadline:
            raise socket.timeout
        if not data or len(heard) > _MAX_BYTES:
            raise EOFError
        heard += data
        incoming.write(data)


def certificate_in_the_clear(heard: bytes) -> bytes | None:
    """The first certificate in what a TLS 1.2 server sent (RFC 5246, 6.2.1 and 7.4.2); None when there is none, as in TLS 1.3."""
    messages = bytearray()
    start = 0
    while len(heard) >= start + 5 and heard[start] == _HANDSHAKE_RECORD:
        end = start + 5 + int.from_bytes(heard[start + 3 : start + 5], "big")
        messages += heard[start + 5 : end]
        start = end
    return _first_certificate(bytes(messages))


def _first_certificate(messages: bytes) -> bytes | None:
    start = 0
    while len(messages) >= start + 4:
        end = start + 4 + int.from_bytes(messages[start + 1 : start + 4], "big")
        if messages[start] == _CERTIFICATE_MESSAGE:
            body = messages[start + 4 : end]
            # Length of the list (3 bytes), then each certificate with its length before it (3 bytes).
            size = int.from_bytes(body[3:6], "big")
            return body[6 : 6 + size] if len(body) >= 6 + size and size > 0 else None
        start = end
    return None


__all__ = ("Probe", "ServedCertificate", "certificate_in_the_clear", "chain_refusal", "served_certificate")
