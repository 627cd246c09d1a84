# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""CertificateSigningRequests to the cluster's own signers (certificates.k8s.io/v1): ask, look, approve, take the certificate.

Only requests and certificates travel, never a key. What each signer issues, and for whom the controller manager approves by itself, is in
Kubernetes' `pkg/controller/certificates/{approver,signer}`: client certificates of kubelets yes, serving certificates of kubelets no.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import copy
import time
import typing as t
from dataclasses import dataclass, field
from datetime import datetime, timezone
from urllib.parse import quote

from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiError
from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig, items, text, texts
from ansible_collections.certops.kubernetes.plugins.module_utils._lease import parse_api_time
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
SHORTEST_SECONDS = 600  # `spec.expirationSeconds` may not be less

PENDING = "pending"
APPROVED = "approved"
DENIED = "denied"
FAILED = "failed"
ISSUED = "issued"

_PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_POLL_SECONDS = 0.2
_LONGEST_MESSAGE = 300
_MOST_REQUESTS = 5000
_APPROVALS = 3  # attempts, while others write to the same request


@dataclass(frozen=True)
class SigningRequest:
    """A request as the cluster has it. `user` and `groups` are whom the API server saw ask; `state` is one of the words above."""

    name: str
    signer: str
    user: str
    groups: tuple[str, ...]
    usages: tuple[str, ...]
    request_pem: bytes
    state: str
    message: str  # why it was denied or failed
    certificate_pem: bytes | None
    created: datetime | None
    document: dict[str, t.Any] = field(repr=False, compare=False, default_factory=dict)


def create_signing_request(
    client: ApiClient, prefix: str, signer: str, usages: t.Sequence[str], request_pem: bytes, seconds: int | None = None
) -> SigningRequest:
    """Ask a signer for a certificate. `prefix` begins the object's name; `seconds`: for how long at most (None: as the signer likes).

    Raises ApiError.
    """
    spec: dict[str, t.Any] = {"signerName": signer, "usages": list(usages), "request": base64.b64encode(request_pem).decode("ascii")}
    if seconds is not None:
        spec["expirationSeconds"] = max(SHORTEST_SECONDS, seconds)
    document = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": prefix},
        "spec": spec,
    }
    return _request_in(client, client.json("POST", _PATH, document))


def read_signing_request(client: ApiClient, name: str) -> SigningRequest:
    """A request by its name. Raises ApiError."""
    return _request_in(client, client.json("GET", "%s/%s" % (_PATH, quote(name, safe=""))))


def list_signing_requests(client: ApiClient, signer: str) -> list[SigningRequest]:
    """All requests to a signer, whatever came of them. Raises ApiError."""
    answer = client.json("GET", "%s?fieldSelector=%s" % (_PATH, quote("spec.signerName=" + signer, safe="")))
    entries = items(answer.get("items"))
    if len(entries) > _MOST_REQUESTS:
        raise ApiError(
            "https://%s has %d requests to %s, more than are looked through: delete old ones" % (client.server, len(entries), signer)
        )
    return [_request_in(client, entry) for entry in entries]


def approve_signing_request(client: ApiClient, request: SigningRequest, reason: str, message: str) -> None:
    """Approve a request as it was read; refused (409) when somebody changed it in between. Raises ApiError."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {"type": "Approved", "status": "True", "reason": reason, "message": message, "lastUpdateTime": now}
    document = copy.deepcopy(request.document)
    conditions = items(dig(document, "status", "conditions"))
    document["status"] = {"conditions": [*conditions, condition]}
    client.json("PUT", "%s/%s/approval" % (_PATH, quote(request.name, safe="")), document)


def wait_for_certificate(
    client: ApiClient,
    name: str,
    seconds: float,
    monotonic: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> bytes:
    """The certificate of a request, as PEM, as soon as it is there. Raises ApiError: denied, failed, not within this time."""
    deadline = monotonic() + seconds
    while True:
        request = read_signing_request(client, name)
        if request.certificate_pem is not None:
            return request.certificate_pem
        if request.state in (DENIED, FAILED):
            raise ApiError("the request %s to %s was %s: %s" % (name, request.signer, request.state, request.message or "no reason given"))
        if monotonic() >= deadline:
            cure = "it is not approved: see `kubectl get csr`" if request.state == PENDING else "is the controller manager's csrsigning on?"
            raise ApiError("no certificate came of the request %s to %s within %g s: %s" % (name, request.signer, seconds, cure))
        sleep(_POLL_SECONDS)


@dataclass(frozen=True)
class Application:
    """What an administrator asks for, and grants: see `create_signing_request` and `approve_signing_request`."""

    prefix: str
    signer: str
    usages: tuple[str, ...]
    request_pem: bytes
    seconds: int
    reason: str
    message: str


def obtain_certificate(
    client: ApiClient, application: Application, wait_seconds: float, sleep: t.Callable[[float], None] = time.sleep
) -> tuple[bytes, str | None]:
    """Ask for a certificate, approve that, wait for it, and remove the request whatever came of it.

    Returns the certificate as PEM, and why the request could not be removed (None: it was). Raises ApiError; of what is forbidden it
    names the permission.
    """
    signer = application.signer
    with _allowed("ask for a certificate", "create on certificatesigningrequests"):
        request = create_signing_request(
            client, application.prefix, signer, application.usages, application.request_pem, application.seconds
        )
    try:
        _approve(client, request, application)
        with _allowed("look for the certificate", "get on certificatesigningrequests"):
            certificate = wait_for_certificate(client, request.name, wait_seconds, sleep=sleep)
    except BaseException:
        with contextlib.suppress(CertopsError):
            delete_signing_request(client, request.name)
        raise
    try:
        with _allowed("remove the request %s" % request.name, "delete on certificatesigningrequests"):
            delete_signing_request(client, request.name)
    except CertopsError as exc:
        return certificate, str(exc)
    return certificate, None


def _approve(client: ApiClient, request: SigningRequest, application: Application) -> None:
    """Approve a request, read again whenever somebody changed it in between."""
    lacking = "update on certificatesigningrequests/approval, or approve on signers named %s" % application.signer
    for left in reversed(range(_APPROVALS)):
        try:
            with _allowed("approve the request %s" % request.name, lacking):
                return approve_signing_request(client, request, application.reason, application.message)
        except ApiError as exc:
            if exc.status != 409 or not left:
                raise
        request = read_signing_request(client, request.name)
        if request.state != PENDING:
            return None  # what came of it is told while its certificate is waited for
    return None


@contextlib.contextmanager
def _allowed(attempt: str, permission: str) -> t.Iterator[None]:
    try:
        yield
    except ApiError as exc:
        if exc.status != 403:
            raise
        said = "it may not %s: it lacks the permission %s (certificates.k8s.io), or an admission plugin forbids it" % (attempt, permission)
        raise ApiError("%s; %s. Remedy: grant it, or take another kubeconfig" % (exc, said), status=403) from exc


def delete_signing_request(client: ApiClient, name: str) -> None:
    """Remove a request; nothing happens when it is gone. Raises ApiError."""
    try:
        client.json("DELETE", "%s/%s" % (_PATH, quote(name, safe="")))
    except ApiError as exc:
        if exc.status != 404:
            raise


def _request_in(client: ApiClient, document: t.Any) -> SigningRequest:
    name, signer = text(dig(document, "metadata", "name")), text(dig(document, "spec", "signerName"))
    request = _decoded(dig(document, "spec", "request"))
    if not isinstance(document, dict) or name is None or signer is None or request is None:
        raise ApiError("https://%s answers with a garbled CertificateSigningRequest" % client.server)
    certificate = _decoded(dig(document, "status", "certificate"))
    state, message = _state_in(document)
    return SigningRequest(
        name=name,
        signer=signer,
        user=text(dig(document, "spec", "username")) or "",
        groups=tuple(texts(dig(document, "spec", "groups"))),
        usages=tuple(texts(dig(document, "spec", "usages"))),
        request_pem=request,
        state=ISSUED if certificate else state,
        message=message,
        certificate_pem=certificate or None,
        created=parse_api_time(dig(document, "metadata", "creationTimestamp")),
        document=document,
    )


def _state_in(document: dict[str, t.Any]) -> tuple[str, str]:
    """Failed and denied win over approved: nothing comes of such a request."""
    found = {dig(entry, "type"): entry for entry in items(dig(document, "status", "conditions")) if isinstance(dig(entry, "type"), str)}
    for kind, state in (("Failed", FAILED), ("Denied", DENIED), ("Approved", APPROVED)):
        if kind in found:
            return state, (text(dig(found[kind], "message")) or "")[:_LONGEST_MESSAGE]
    return PENDING, ""


def _decoded(value: t.Any) -> bytes | None:
    """Base64 as the API has bytes; None for what is none."""
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None


__all__ = (
    "APPROVED",
    "CLIENT",
    "DENIED",
    "FAILED",
    "ISSUED",
    "KUBELET_CLIENT",
    "KUBELET_SERVING",
    "PENDING",
    "SHORTEST_SECONDS",
    "Application",
    "SigningRequest",
    "approve_signing_request",
    "create_signing_request",
    "delete_signing_request",
    "list_signing_requests",
    "obtain_certificate",
    "read_signing_request",
    "wait_for_certificate",
)
