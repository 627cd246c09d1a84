# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A small HTTPS client for the API server, the components' health ports and etcd's JSON gateway.

It asks one address, the one it is given: no proxy, no redirect, no retry, one connection per request. Which identity asks for what
is listed in `docs/api-access.md`.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import re
import socket
import ssl
import typing as t
from dataclasses import dataclass, field
from datetime import datetime, timezone
from urllib.parse import urlsplit

from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig, parse_document, parse_json, texts
from ansible_collections.certops.kubernetes.plugins.module_utils._documents import text as scalar
from ansible_collections.certops.kubernetes.plugins.module_utils._http import ask
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._tls_credentials import (
    Identity,
    client_context,
    identity_from_kubeconfig,
    identity_from_pair,
)

# The name that kubeadm puts into every API server certificate.
API_SERVER_NAME = "kubernetes"

_MAX_RESPONSE_BYTES = 4 * 1024 * 1024
_LONGEST_STATUS = 64 * 1024
_CUT_OFF = (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected, ssl.SSLEOFError)
_CERT_HAS_EXPIRED = 10  # OpenSSL: X509_V_ERR_CERT_HAS_EXPIRED
_CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_ADDRESS = re.compile(r"\[?([!-Z^-~]+)\]?:([0-9]{1,5})\Z")
_MAX_PORT = 65535
_DURATION_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|m|us|µs|μs|ns|s)")
_LONGEST_DURATION = 100
_MAX_DURATION_SECONDS = 2**63 / 1e9  # Go counts nanoseconds in 64 bits


class ApiError(CertopsError):
    """A request that failed, explained.

    `certificate_expired`: because the server's or our own certificate has expired (`expired_side` says which).
    `status`: the HTTP status, where there was an answer at all.
    """

    def __init__(self, message: str, expired_side: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.expired_side = expired_side  # server | client | None
        self.certificate_expired = expired_side is not None
        self.status = status


class TooLarge(ApiError):
    """An answer of more bytes than are read."""


@dataclass(frozen=True)
class ApiResponse:
    """An answer, whatever its status. Its body may hold keys and is kept out of the text form."""

    status: int
    body: bytes = field(repr=False)

    def text(self, limit: int = 300) -> str:
        """The beginning of the body in one line, for messages; of a Kubernetes `Status` its message."""
        message = None
        if len(self.body) <= _LONGEST_STATUS:
            with contextlib.suppress(CertopsError):
                message = dig(parse_json(self.body, "a status"), "message")
        shown = message if isinstance(message, str) else self.body[:_LONGEST_STATUS].decode("utf-8", "replace")
        return " ".join(shown.split())[:limit]


class _Connection(http.client.HTTPConnection):
    """An HTTP connection over TLS whose server proves to be the address, or one of `names`."""

    def __init__(self, host: str, port: int, timeout: float, context: ssl.SSLContext, names: tuple[str, ...]) -> None:
        super().__init__(host, port, timeout=timeout)
        self._tls = context
        self._names = names

    def connect(self) -> None:
        raw = socket.create_connection((self.host, self.port), self.timeout)
        try:
            # No server name is sent: an API server keeps one for its own loopback client, and addresses have none.
            self.sock = self._tls.wrap_socket(raw)
        except BaseException:
            raw.close()
            raise
        if self._tls.verify_mode == ssl.CERT_REQUIRED:
            sans = (self.sock.getpeercert() or {}).get("subjectAltName", ())
            if not _names_match(t.cast("t.Iterable[tuple[str, str]]", sans), self.host, self._names):
                raise ApiError("its certificate names neither this address nor %s" % (" nor ".join(self._names) or "its host name"))


class ApiClient:
    """Requests to one `host:port`, as one identity.

    Without a CA (neither `ca_pem` nor the identity's) the server cannot be verified, so that is allowed only without an identity.
    """

    def __init__(
        self,
        server: str,
        identity: Identity | None = None,
        ca_pem: bytes | None = None,
        timeout: float = 5.0,
        names: tuple[str, ...] = (API_SERVER_NAME,),
        ignore_dates: bool = False,
    ) -> None:
        self.server = server
        self.identity = identity
        self._host, self._port = split_address(server)
        self._timeout = timeout
        self._names = names
        trusted = ca_pem if ca_pem is not None else identity.ca_pem if identity else None
        if trusted is None and identity is not None:
            raise CertopsError(
                "%s: no CA is known to verify https://%s with, so the identity is not shown to it" % (identity.source, server)
            )
        self._context = client_context(trusted, identity, ignore_dates)

    def request(self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json") -> ApiResponse:
        """Ask once. An answer of any status is returned; ApiError when there is none (refused, timeout, TLS)."""
        connection = _Connection(self._host, self._port, self._timeout, self._context, self._names)
        headers = {"Accept": "application/json", "User-Agent": "certops.kubernetes"}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            status, answer = ask(connection, method, path, headers, body, limit=_MAX_RESPONSE_BYTES + 1)
        except (OSError, http.client.HTTPException, UnicodeError, ApiError) as exc:
            raise self._explained(exc, method, path) from exc
        if len(answer) > _MAX_RESPONSE_BYTES:
            raise TooLarge("%s: the answer has more than %d bytes" % (self._what(method, path), _MAX_RESPONSE_BYTES), status=status)
        return ApiResponse(status, answer)

    def json(self, method: str, path: str, document: object = None) -> dict[str, t.Any]:
        """Ask for a JSON object; ApiError for a status other than 2xx too."""
        body = None if document is None else json.dumps(document).encode()
        answer = self.succeed(self.request(method, path, body), method, path)
        try:
            value = parse_json(answer.body, "the answer")
        except CertopsError as exc:
            raise ApiError("%s: %s" % (self._what(method, path), str(exc).rstrip(".")), status=answer.status) from exc
        if not isinstance(value, dict):
            raise ApiError("%s: the answer is no JSON object" % self._what(method, path), status=answer.status)
        return value

    def succeed(self, answer: ApiResponse, method: str, path: str) -> ApiResponse:
        """Give back an answer of status 2xx, and raise an ApiError that explains any other one."""
        if 200 <= answer.status < 300:
            return answer
        who = self.identity.source if self.identity else "no identity"
        message = "%s as %s: HTTP %d (%s)" % (self._what(method, path), who, answer.status, answer.text())
        if answer.status == 401 and self.identity and self.identity.expired(datetime.now(timezone.utc)):
            end = self.identity.not_after().strftime("%Y-%m-%dT%H:%M:%SZ")
            raise ApiError("%s: the client certificate in %s expired at %s" % (message, who, end), "client", 401)
        if answer.status == 401:
            message += ": the server does not accept this client certificate"
        raise ApiError(message, status=answer.status)

    def _what(self, method: str, path: str) -> str:
        return "%s https://%s%s" % (method, self.server, path)

    def _explained(self, exc: BaseException, method: str, path: str) -> ApiError:
        what = self._what(method, path)
        if isinstance(exc, ssl.SSLCertVerificationError):
            if exc.verify_code == _CERT_HAS_EXPIRED:
                return ApiError("%s: the server's certificate has expired" % what, "server")
            return ApiError("%s: the server's certificate is not trusted (%s)" % (what, exc.verify_message))
        if isinstance(exc, ssl.SSLError) and "certificate expired" in str(exc).lower().replace("_", " "):
            source = self.identity.source if self.identity else "no certificate"
            return ApiError("%s: the server refuses our client certificate (%s) as expired" % (what, source), "client")
        if isinstance(exc, _CUT_OFF) and self.identity and self.identity.expired(datetime.now(timezone.utc)):
            # With TLS 1.3 the refusal comes after our handshake, and is lost when the connection is reset behind it.
            cut = "the server ended the connection, and the client certificate in %s has expired" % self.identity.source
            return ApiError("%s: %s" % (what, cut), "client")
        if isinstance(exc, ssl.SSLError):
            return ApiError("%s: TLS failed (%s)" % (what, exc.reason or exc.strerror or type(exc).__name__))
        if isinstance(exc, ConnectionRefusedError):
            return ApiError("%s: connection refused: nothing listens there" % what)
        if isinstance(exc, (socket.timeout, TimeoutError)):
            return ApiError("%s: no answer within %g s" % (what, self._timeout))
        if isinstance(exc, ApiError):
            return ApiError("%s: %s" % (what, exc))
        return ApiError("%s: %s" % (what, getattr(exc, "strerror", None) or str(exc) or type(exc).__name__))


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[ipv6]:port` as host and port. Raises CertopsError for anything else."""
    match = _ADDRESS.match(address)
    if match is None or int(match.group(2)) > _MAX_PORT:
        raise CertopsError("%r is no address of the form host:port" % address[:300])
    return match.group(1), int(match.group(2))


def address_of_url(url: str) -> str:
    """The `host:port` of a kubeconfig's server. Raises CertopsError for anything but `https://host` or `https://host:port`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, 443 if parts.port is None else parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, 0
    plain = parts.path in ("", "/") and not (parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme != "https" or not host or not plain or not url.isprintable():
        raise CertopsError("%r is no address of an API server. Remedy: give one like https://api.example.com:6443." % url[:300])
    address = "%s:%d" % ("[%s]" % host if ":" in host else host, port)
    split_address(address)
    return address


def _names_match(sans: t.Iterable[tuple[str, str]], host: str, names: tuple[str, ...]) -> bool:
    for kind, value in sans:
        if kind == "DNS" and value.lower() in {host.lower(), *names}:
            return True
        if kind == "IP Address" and _as_ip(value) is not None and _as_ip(value) == _as_ip(host):
            return True
    return False


def _as_ip(text: str) -> object:
    try:
        return ipaddress.ip_address(text.strip())
    except ValueError:
        return None


def readyz(client: ApiClient) -> None:
    """Ask `/readyz`; ApiError unless it answers 200 (403, as while an API server starts, is not ready)."""
    answer = client.request("GET", "/readyz")
    if answer.status != 200:
        client.succeed(answer, "GET", "/readyz")
        raise ApiError("GET https://%s/readyz: HTTP %d" % (client.server, answer.status), status=answer.status)


def whoami(client: ApiClient) -> tuple[str, tuple[str, ...], str | None]:
    """User, groups and credential id as the API server sees this client (SelfSubjectReview, allowed to everybody).

    The credential id is `X509SHA256=<sha256 of the certificate's DER>` on Kubernetes >= 1.32, and None before.
    """
    kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    info = dig(client.json("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", kind), "status", "userInfo")
    name, ids = dig(info, "username"), texts(dig(info, "extra", _CREDENTIAL_ID))
    return name if isinstance(name, str) else "", tuple(texts(dig(info, "groups"))), ids[0] if ids else None


def cluster_configuration(client: ApiClient) -> dict[str, t.Any] | None:
    """kubeadm's ClusterConfiguration, which it keeps in the cluster (ConfigMap kube-system/kubeadm-config); None where there is none.

    Each scalar in it is a text. Raises CertopsError for what cannot be read.
    """
    try:
        answer = client.json("GET", "/api/v1/namespaces/kube-system/configmaps/kubeadm-config")
    except ApiError as exc:
        if exc.status == 404:
            return None
        raise
    data = (scalar(dig(answer, "data", "ClusterConfiguration")) or "").encode("utf-8", "surrogatepass")
    configuration = parse_document(data, "ClusterConfiguration of the ConfigMap kube-system/kubeadm-config")
    return configuration if isinstance(configuration, dict) else None


def certificate_validity_seconds(configuration: dict[str, t.Any] | None) -> int | None:
    """`certificateValidityPeriod` of a ClusterConfiguration (kubeadm API v1beta4); None where it has none. Raises CertopsError."""
    value = dig(configuration, "certificateValidityPeriod")
    if value is None or (isinstance(value, str) and scalar(value) is None):
        return None
    return parse_go_duration(value if isinstance(value, str) else "a list or a mapping")


def cluster_certificate_validity_seconds(client: ApiClient) -> int | None:
    """How many seconds kubeadm makes certificates of this cluster valid for; None where that is not set. Raises CertopsError."""
    return certificate_validity_seconds(cluster_configuration(client))


def parse_go_duration(text: str) -> int:
    """Whole seconds of a Go duration such as "8760h0m0s". Raises CertopsError for anything that is not a positive one."""
    parts = _DURATION_PART.findall(text) if len(text) <= _LONGEST_DURATION else []
    seconds = sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)
    if not parts or "".join(number + unit for number, unit in parts) != text or not 1 <= seconds <= _MAX_DURATION_SECONDS:
        raise CertopsError('%r is no duration such as "8760h0m0s"' % text[:80])
    return int(seconds)


__all__ = (
    "API_SERVER_NAME",
    "ApiClient",
    "ApiError",
    "ApiResponse",
    "Identity",
    "TooLarge",
    "address_of_url",
    "certificate_validity_seconds",
    "cluster_certificate_validity_seconds",
    "cluster_configuration",
    "identity_from_kubeconfig",
    "identity_from_pair",
    "parse_go_duration",
    "readyz",
    "split_address",
    "whoami",
)
