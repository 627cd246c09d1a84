# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The part of the gate that looks beyond the node: every API server, every control-plane node, every etcd member.

Everything is asked from this node, with its own credentials and at each one's own address, never through a load balancer.
"""

from __future__ import annotations

import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.certops.kubernetes.plugins.module_utils._access import api_address, api_client, node_identity
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiError, readyz, split_address
from ansible_collections.certops.kubernetes.plugins.module_utils._etcd import (
    Member,
    Status,
    address_of_url,
    ask_member,
    endpoint_status,
    etcd_address,
    etcd_client,
    etcd_identity,
    etcd_servers,
    members_of,
    status_problem,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._verdict import ELSEWHERE, Check, explain

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node
    from ansible_collections.certops.kubernetes.plugins.module_utils._node_objects import NodeObject
    from ansible_collections.certops.kubernetes.plugins.module_utils._tls_credentials import Identity

_TIMEOUT_SECONDS = 5.0
_QUORUM_MATTERS_FROM = 3  # members; with fewer every restart of one is a loss of quorum, as everybody who runs so few knows


def check_other_api_servers(node: Node, now: datetime, nodes: t.Sequence[NodeObject]) -> Check | None:
    """The API servers of the other control-plane nodes among `nodes` are ready, and these nodes are too. None for a cluster of one."""
    name = "other control-plane nodes"
    others = [(other, other.address) for other in nodes if other.name != node.name and other.address]
    if not others:
        return None
    port = split_address(api_address(node))[1]
    with ThreadPoolExecutor(len(others)) as pool:
        answers = list(pool.map(lambda entry: _ask_api_server(node, now, entry[1], port), others))
    failed: list[tuple[str, tuple[str, ...]]] = []
    for (other, _address), error in zip(others, answers):
        if error is not None:
            causes = _causes_elsewhere(node, now, error)
            failed.append((explain("the API server of node %s is not ready" % other.name, error, causes), causes))
        elif other.problem:
            failed.append(("node %s is not ready: %s" % (other.name, other.problem), ()))
    if not failed:
        words = ["%s%s" % (other.name, " (cordoned)" if other.cordoned else "") for other, _address in others]
        return Check(name, True, "%s: ready" % ", ".join(words))
    return _failure(name, failed)


def _failure(name: str, failed: t.Sequence[tuple[str, tuple[str, ...]]], where: str = "") -> Check:
    """One check of several failures, each with the expired certificates that explain it; one that nothing explains spoils them all."""
    explained = all(causes for _message, causes in failed)
    causes = tuple(sorted({cause for _message, causes in failed for cause in causes})) if explained else ()
    return Check(name, False, "; ".join(message for message, _causes in failed) + where, causes)


def _causes_elsewhere(node: Node, now: datetime, error: ApiError) -> tuple[str, ...]:
    if error.expired_side == "server":
        return (ELSEWHERE + "apiserver",)
    return (node_identity(node, now)[0],) if error.expired_side == "client" else ()


def _ask_api_server(node: Node, now: datetime, address: str, port: int) -> ApiError | None:
    server = "%s:%d" % ("[%s]" % address if ":" in address else address, port)
    try:
        readyz(api_client(node, now, _TIMEOUT_SECONDS, server=server))
    except ApiError as exc:
        return exc
    return None


def check_etcd_members(node: Node, now: datetime, restart_planned: bool = False) -> Check:
    """Every member has started, answers, knows the same leader and keeps up; and one may be stopped, where that is planned."""
    name = "etcd"
    try:
        identity_name, identity = etcd_identity(node, now)
        servers = etcd_servers(node)
    except CertopsError as exc:
        return Check(name, False, str(exc))
    try:
        found = members_of(servers, identity, _TIMEOUT_SECONDS)
    except ApiError as exc:
        causes = _own_causes(node, exc, identity_name)
        message = explain("etcd does not answer at %s" % ", ".join(servers), exc, causes)
        if restart_planned and causes and _expected_members(node) >= _QUORUM_MATTERS_FROM:
            message += "; whether it would survive the restart of a member cannot be seen: renew with certs_rotate_restart: auto first"
            causes = ()
        return Check(name, False, message, causes)
    states = _states(found, identity)
    problems = [problem for problem in (_problem(node, member, state) for member, state in zip(found, states)) if problem]
    well = {member.id: state for member, state in zip(found, states) if isinstance(state, Status)}
    problems += _unlisted_problems(node, servers, found, identity)
    problems += [(problem, ()) for problem in (_leader_problem(well.values()), _lag_problem(found, well, identity)) if problem]
    if restart_planned and len(found) >= _QUORUM_MATTERS_FROM and len(well) - 1 <= len(found) // 2:
        numbers = (len(found), len(well))
        problems.append(("etcd has %d members, %d of them well: it would lose its quorum when one is restarted" % numbers, ()))
    if problems or not found:
        return _failure(name, problems or [("etcd lists no member", ())], ": see etcd's log there")
    return Check(name, True, "etcd: %d of %d members answer, know the same leader and keep up" % (len(found), len(found)))


def _states(found: t.Sequence[Member], identity: Identity) -> list[Status | ApiError]:
    def ask(member: Member) -> Status | ApiError:
        try:
            return ask_member(member, identity, _TIMEOUT_SECONDS)
        except ApiError as exc:
            return exc

    with ThreadPoolExecutor(max(1, len(found))) as pool:
        return list(pool.map(ask, found))


def _problem(node: Node, member: Member, state: Status | ApiError) -> tuple[str, tuple[str, ...]] | None:
    who = "etcd member %s" % (member.name or member.id)
    if isinstance(state, Status):
        problem = status_problem(who, state)
        return (problem, ()) if problem else None
    causes: tuple[str, ...] = ()
    if state.expired_side == "server":
        causes = ("etcd/server" if _is_own(node, member) else ELSEWHERE + "etcd/server",)
    return explain("%s does not answer" % who, state, causes), causes


def _unlisted_problems(
    node: Node, servers: t.Sequence[str], found: t.Sequence[Member], identity: Identity
) -> list[tuple[str, tuple[str, ...]]]:
    """What is wrong with addresses that the API server uses and no member calls its own."""
    listed = {address_of_url(url) for member in found for url in member.client_urls}
    problems = []
    for server in servers if "etcd" not in node.components else ():
        try:
            if server not in listed:
                endpoint_status(etcd_client(server, identity, _TIMEOUT_SECONDS))
        except ApiError as exc:
            causes = _own_causes(node, exc, "apiserver-etcd-client")
            problems.append((explain("the API server's etcd server %s does not answer" % server, exc, causes), causes))
    return problems


def _is_own(node: Node, member: Member) -> bool:
    if "etcd" not in node.components:
        return False
    addresses = [etcd_address(node), *(endpoint.address for endpoint in node.components["etcd"].endpoints)]
    own = {"127.0.0.1", *map(_host, addresses)} - {None}
    return any(_host(address_of_url(url)) in own for url in member.client_urls)


def _host(address: str) -> str | None:
    try:
        return split_address(address)[0]
    except CertopsError:
        return None


def _leader_problem(states: t.Iterable[Status]) -> str | None:
    leaders = sorted({state.leader_id for state in states if state.leader_id != "0"})
    return "etcd's members see %d different leaders" % len(leaders) if len(leaders) > 1 else None


def _lag_problem(found: t.Sequence[Member], well: t.Mapping[str, Status], identity: Identity) -> str | None:
    """A member must by now have what the farthest one had when all were asked; those that had not are asked once more."""
    goal = max((state.revision for state in well.values()), default=0)
    for member in found:
        if member.id not in well or well[member.id].revision >= goal:
            continue
        try:
            now_at = ask_member(member, identity, _TIMEOUT_SECONDS).revision
        except ApiError as exc:
            return "etcd member %s does not answer any more: %s" % (member.name, exc)
        if now_at < goal:
            return "etcd member %s lags behind: it is at revision %d, and others were at %d before" % (member.name, now_at, goal)
    return None


def _own_causes(node: Node, exc: ApiError, identity_name: str) -> tuple[str, ...]:
    if exc.expired_side == "server":
        return ("etcd/server" if "etcd" in node.components else ELSEWHERE + "etcd/server",)
    return (identity_name,) if exc.expired_side == "client" else ()


def _expected_members(node: Node) -> int:
    etcd = node.components.get("etcd")
    return len((etcd.flag("initial-cluster") or "").split(",")) if etcd else len(etcd_servers(node))


__all__ = ("check_etcd_members", "check_other_api_servers")
