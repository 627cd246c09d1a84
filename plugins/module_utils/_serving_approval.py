# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Approve the pending requests for serving certificates that are a kubelet's own; say of the others why they are left alone."""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass
from urllib.parse import quote

from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiError
from ansible_collections.certops.kubernetes.plugins.module_utils._csr import (
    KUBELET_SERVING,
    PENDING,
    approve_signing_request,
    list_signing_requests,
    read_signing_request,
    wait_for_certificate,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._serving_requests import refusal, requesting_node
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import describe, parse_certificates
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso, shown

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient
    from ansible_collections.certops.kubernetes.plugins.module_utils._csr import SigningRequest

_REASON = "CertopsMatchesNode"
_MESSAGE = "certops.kubernetes: requester, subject, usages, names and addresses are those of the Node"
_CHANGED_MEANWHILE = 409


@dataclass(frozen=True)
class Approved:
    """A request that was approved, or in check mode would be. `not_after` is of its certificate; None while there is none."""

    request: str
    node: str
    not_after: str | None = None


@dataclass(frozen=True)
class LeftAlone:
    """A pending request that is not approved: by whom, and why, as a clause."""

    request: str
    requester: str
    reason: str


@dataclass(frozen=True)
class Judgement:
    """What became of all requests that were pending."""

    approved: tuple[Approved, ...] = ()
    left_alone: tuple[LeftAlone, ...] = ()


def approve_pending(
    client: ApiClient,
    names: t.Collection[str],
    predict: bool = False,
    wait_seconds: float = 0.0,
    sleep: t.Callable[[float], None] = time.sleep,
) -> Judgement:
    """Approve each pending request of these nodes that is wholly its node's own, and wait for its certificate.

    `names`: Kubernetes' names of the nodes. With `predict` nothing is approved. `wait_seconds`: for all certificates together; 0: none is
    waited for. Raises ApiError: the API cannot be asked or refuses, or no certificate came in time.
    """
    pending = [request for request in list_signing_requests(client, KUBELET_SERVING) if request.state == PENDING]
    objects = {name: _node_object(client, name) for name in sorted({requesting_node(one) for one in pending} & set(names), key=str)}
    approved: list[Approved] = []
    left: list[LeftAlone] = []
    for request in pending:
        name = requesting_node(request)
        reason = "it is of no node of this play" if name is not None and name not in objects else refusal(request, objects.get(name))
        if reason is None and not predict:
            reason = _approve(client, request)
        if reason is not None:
            left.append(LeftAlone(shown(request.name), shown(request.user), reason))
        elif name is not None:
            approved.append(Approved(request.name, name))
    if not predict and wait_seconds:
        approved = _await_all(client, approved, wait_seconds, sleep)
    return Judgement(tuple(approved), tuple(left))


def _node_object(client: ApiClient, name: str | None) -> dict[str, t.Any] | None:
    try:
        return client.json("GET", "/api/v1/nodes/" + quote(str(name), safe=""))
    except ApiError as exc:
        if exc.status == 404:
            return None
        raise


def _approve(client: ApiClient, request: SigningRequest) -> str | None:
    """Approve what was judged and nothing else. Why that was not possible, as a clause."""
    try:
        approve_signing_request(client, request, _REASON, _MESSAGE)
    except ApiError as exc:
        if exc.status == 404:
            return "it was removed meanwhile"
        if exc.status != _CHANGED_MEANWHILE:
            raise
        return None if read_signing_request(client, request.name).state != PENDING else "somebody changed it meanwhile: run again"
    return None


def _await_all(client: ApiClient, approved: t.Sequence[Approved], wait_seconds: float, sleep: t.Callable[[float], None]) -> list[Approved]:
    deadline = time.monotonic() + wait_seconds
    found = []
    for one in approved:
        certificate = wait_for_certificate(client, one.request, max(0.0, deadline - time.monotonic()), sleep=sleep)
        leaf = parse_certificates(certificate, "the certificate of the request %s" % one.request)[0]
        found.append(Approved(one.request, one.node, iso(describe(leaf).not_after)))
    return found


__all__ = ("Approved", "Judgement", "LeftAlone", "approve_pending")
