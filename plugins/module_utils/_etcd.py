# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""etcd's members and their state, through the JSON gateway that every member serves beside gRPC on its client port."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._access import component_address
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, ApiError
from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig, items, texts
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._tls_credentials import Identity, identity_from_pair

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node

# Client certificates that etcd accepts, those made for asking it first.
_IDENTITIES = ("etcd/healthcheck-client", "apiserver-etcd-client")
_LAST_IDENTITY = "etcd/server"

# Each member is asked at once, in a thread; etcd's own advice is seven of them.
_MOST_MEMBERS = 50
_MOST_URLS = 10
_MOST_ALARMS = 10
_LONGEST_TEXT = 300
_NUMBER = re.compile(r"[0-9]{1,20}\Z")  # an unsigned integer of 64 bits


@dataclass(frozen=True)
class Member:
    """A member of the etcd cluster, as the cluster knows it. `name` is empty while it has never started."""

    id: str
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool


@dataclass(frozen=True)
class Status:
    """What one member says of itself. `leader_id` is "0" while it knows no leader."""

    member_id: str
    leader_id: str
    raft_term: int
    raft_index: int
    revision: int  # of the key space; the same on every member that keeps up
    version: str
    errors: tuple[str, ...]  # alarms such as NOSPACE and CORRUPT
    is_learner: bool


def etcd_identity(node: Node, now: datetime) -> tuple[str, Identity]:
    """The first client certificate for etcd that has not expired, else the first that can be read; with its name.

    It carries etcd's CA. Raises CertopsError, with every reason, when none can be read.
    """
    ca = node.credentials.get("etcd/ca")
    if ca is None:
        raise CertopsError("this node's etcd CA is not known, so that etcd cannot be asked")
    readable, reasons = [], []
    for name in _identities(node):
        credential = node.credentials.get(name)
        if credential is None or credential.key_path is None:
            continue
        try:
            identity = identity_from_pair(credential.cert_path, credential.key_path, ca.cert_path)
            if not identity.expired(now):
                return name, identity
            readable.append((name, identity))
        except CertopsError as exc:
            reasons.append(str(exc))
    if readable:
        return readable[0]
    raise CertopsError("no client certificate of this node can be used to ask etcd: %s" % ("; ".join(reasons) or "none is known"))


def _identities(node: Node) -> list[str]:
    """kubeadm's names, then other client pairs for etcd that lie on the node (kubespray's), then what etcd itself has."""
    clients = [
        name for name, credential in node.credentials.items() if credential.component == "etcd" and credential.presented_to == "etcd"
    ]
    return list(dict.fromkeys([*_IDENTITIES, *clients, _LAST_IDENTITY]))


def etcd_address(node: Node) -> str:
    """Where this node's own member serves clients. Raises CertopsError on a node without etcd."""
    component = node.components.get("etcd")
    urls = (component.flag("listen-client-urls") or "").split(",") if component else []
    for endpoint in component.endpoints if component else ():
        # The peer port is an endpoint as well, and answers no client.
        if any(url.strip().endswith(":%d" % endpoint.port) for url in urls):
            return endpoint.address
    return address_of_url(urls[0]) if urls and urls[0] else component_address(node, "etcd", "", "", 2379)


def etcd_servers(node: Node) -> list[str]:
    """Where etcd can be asked from this node: its own member, else every server that its API server uses. Raises CertopsError."""
    if "etcd" in node.components:
        return [etcd_address(node)]
    api_server = node.components.get("kube-apiserver")
    urls = (api_server.flag("etcd-servers") or "") if api_server else ""
    if not urls:
        raise CertopsError("this node runs no etcd, and its API server does not say where etcd is (--etcd-servers)")
    return [address_of_url(url) for url in urls.split(",") if url.strip()]


def etcd_client(server: str, identity: Identity, timeout: float = 5.0) -> ApiClient:
    """A client of one member, whose certificate must name the address (kubeadm writes each address into it)."""
    return ApiClient(server, identity, timeout=timeout, names=())


def members(client: ApiClient) -> list[Member]:
    """The members of the cluster, read through its leader, which proves a quorum. Raises ApiError."""
    path = "/v3/cluster/member/list"
    try:
        answer = _ask(client, path, {"linearizable": True})
    except ApiError as exc:
        if exc.status != 400:  # etcd < 3.5 does not know the field, and always reads through the leader
            raise
        answer = _ask(client, path, {})
    entries = items(answer.get("members"))
    try:
        found = [_member(entry) for entry in entries[:_MOST_MEMBERS]]
    except ValueError as exc:
        raise ApiError("POST https://%s%s: the answer is garbled (%s)" % (client.server, path, exc)) from exc
    if len({member.id for member in found}) < len(entries):
        what = "%d members, not all of them different" % len(entries)
        raise ApiError("POST https://%s%s: the answer is garbled (%s)" % (client.server, path, what))
    return found


def members_of(servers: t.Sequence[str], identity: Identity, timeout: float = 5.0) -> list[Member]:
    """The members, asked of the first server that answers. Raises the first one's ApiError when none does."""
    error: ApiError | None = None
    for server in servers:
        try:
            return members(etcd_client(server, identity, timeout))
        except CertopsError as exc:
            error = error or (exc if isinstance(exc, ApiError) else ApiError(str(exc)))
    raise t.cast("ApiError", error)


def _ask(client: ApiClient, path: str, body: dict[str, t.Any]) -> dict[str, t.Any]:
    try:
        return client.json("POST", path, body)
    except ApiError as exc:
        if exc.status != 404:
            raise
        # etcd before 3.5 has it off when a configuration file does not say otherwise.
        raise ApiError(
            "%s; its JSON gateway is switched off, without which it is not asked: set enable-grpc-gateway: true" % exc, status=exc.status
        ) from exc


def endpoint_status(client: ApiClient) -> Status:
    """What this member says of itself. Raises ApiError."""
    path = "/v3/maintenance/status"
    answer = _ask(client, path, {})
    try:
        return Status(
            member_id=_number(dig(answer, "header", "member_id")),
            leader_id=_number(answer.get("leader")),
            raft_term=int(_number(answer.get("raftTerm"))),
            raft_index=int(_number(answer.get("raftIndex"))),
            revision=int(_number(dig(answer, "header", "revision"))),
            version=_text(answer.get("version")),
            errors=_alarms(answer.get("errors")),
            is_learner=_flag(answer.get("isLearner")),
        )
    except ValueError as exc:
        raise ApiError("POST https://%s%s: the answer is garbled (%s)" % (client.server, path, exc)) from exc


def _number(value: t.Any) -> str:
    """The digits of a whole number, which the gateway writes as text; "0" for one that is left out. Raises ValueError."""
    if value is None:
        return "0"
    digits = str(value) if type(value) in (int, str) else ""
    if _NUMBER.match(digits):
        return digits
    raise ValueError("%.40r is no number" % (value,))


def _flag(value: t.Any) -> bool:
    if value is not None and not isinstance(value, bool):
        raise ValueError("%.40r is neither true nor false" % (value,))
    return bool(value)


def _text(value: t.Any) -> str:
    return value[:_LONGEST_TEXT] if isinstance(value, str) else ""


def _alarms(value: t.Any) -> tuple[str, ...]:
    """What a member complains about. That cannot be read for certain, so anything that is not nothing counts."""
    if value is None or value == []:
        return ()
    return tuple(_text(entry) or "an alarm without a name" for entry in (value if isinstance(value, list) else [value])[:_MOST_ALARMS])


def ask_member(member: Member, identity: Identity, timeout: float = 5.0) -> Status:
    """What a member says of itself, asked at its own addresses. Raises ApiError with every reason when it does not answer."""
    if not member.name or not member.client_urls:
        raise ApiError("it was added (%s) but has never started" % ", ".join(member.peer_urls))
    reasons: list[ApiError] = []
    for url in member.client_urls:
        try:
            return endpoint_status(etcd_client(address_of_url(url), identity, timeout))
        except CertopsError as exc:
            reasons.append(exc if isinstance(exc, ApiError) else ApiError(str(exc)))
    expired = next((reason.expired_side for reason in reasons if reason.expired_side), None)
    raise ApiError("; ".join(str(reason) for reason in reasons), expired)


def address_of_url(url: str) -> str:
    """`host:port` of a URL such as https://10.0.0.1:2379."""
    return url.strip().split("://", 1)[-1].split("/", 1)[0]


def status_problem(who: str, status: Status) -> str | None:
    """Why a member that answers is not healthy, or None; `who` begins the sentence."""
    if status.errors:
        return "%s has raised an alarm: %s" % (who, ", ".join(status.errors))
    if status.leader_id == "0":
        return "%s knows no leader" % who
    if status.is_learner:
        return "%s is a learner that is not promoted yet" % who
    return None


def _member(entry: t.Any) -> Member:
    return Member(
        id=_number(dig(entry, "ID")),
        name=_text(dig(entry, "name")),
        peer_urls=tuple(texts(dig(entry, "peerURLs")))[:_MOST_URLS],
        client_urls=tuple(texts(dig(entry, "clientURLs")))[:_MOST_URLS],
        is_learner=_flag(dig(entry, "isLearner")),
    )


__all__ = (
    "Member",
    "Status",
    "address_of_url",
    "ask_member",
    "endpoint_status",
    "etcd_address",
    "etcd_client",
    "etcd_identity",
    "etcd_servers",
    "members",
    "members_of",
    "status_problem",
)
