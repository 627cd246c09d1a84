# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""etcd's members and their state, through the JSON gateway that every member serves beside gRPC on its client port."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._access import component_address
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, ApiError
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._tls_credentials import Identity, identity_from_pair

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node

# Client certificates that etcd accepts, those made for asking it first.
_IDENTITIES = ("etcd/healthcheck-client", "apiserver-etcd-client")
_LAST_IDENTITY = "etcd/server"


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
    return [_member(entry) for entry in answer.get("members") or [] if isinstance(entry, dict)]


def members_of(servers: t.Sequence[str], identity: Identity, timeout: float = 5.0) -> list[Member]:
    """The members, asked of the first server that answers. Raises the first one's ApiError when none does."""
    error: ApiError | None = None
    for server in servers:
        try:
            return members(etcd_client(server, identity, timeout))
        except ApiError as exc:
            error = error or exc
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
    answer = _ask(client, "/v3/maintenance/status", {})
    return Status(
        member_id=str((answer.get("header") or {}).get("member_id", "0")),
        leader_id=str(answer.get("leader", "0")),
        raft_term=int(answer.get("raftTerm", 0)),
        raft_index=int(answer.get("raftIndex", 0)),
        revision=int((answer.get("header") or {}).get("revision", 0)),
        version=str(answer.get("version", "")),
        errors=tuple(str(error) for error in answer.get("errors") or ()),
        is_learner=bool(answer.get("isLearner", False)),
    )


def ask_member(member: Member, identity: Identity, timeout: float = 5.0) -> Status:
    """What a member says of itself, asked at its own addresses. Raises ApiError with every reason when it does not answer."""
    if not member.name or not member.client_urls:
        raise ApiError("it was added (%s) but has never started" % ", ".join(member.peer_urls))
    reasons: list[ApiError] = []
    for url in member.client_urls:
        try:
            return endpoint_status(etcd_client(address_of_url(url), identity, timeout))
        except ApiError as exc:
            reasons.append(exc)
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


def _member(entry: dict[str, t.Any]) -> Member:
    return Member(
        id=str(entry.get("ID", "0")),
        name=str(entry.get("name", "")),
        peer_urls=tuple(entry.get("peerURLs") or ()),
        client_urls=tuple(entry.get("clientURLs") or ()),
        is_learner=bool(entry.get("isLearner", False)),
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
