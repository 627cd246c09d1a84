# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The gate before and after a node: is it healthy, and if not, is nothing but an expired certificate to blame?

Every check is made once, nothing waits: the caller repeats, so that a long wait shows its reason each time.
"""

from __future__ import annotations

import functools
import subprocess
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._access import (
    OWN_KUBECONFIG,
    api_address,
    api_client,
    expired_credentials,
    leader_client,
    node_identity,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiError, readyz
from ansible_collections.certops.kubernetes.plugins.module_utils._cluster_health import check_etcd_members, check_other_api_servers
from ansible_collections.certops.kubernetes.plugins.module_utils._etcd import (
    endpoint_status,
    etcd_address,
    etcd_client,
    etcd_identity,
    members,
    status_problem,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_api import check_node_itself, has_own_identity
from ansible_collections.certops.kubernetes.plugins.module_utils._lease import get_lease
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._node_objects import (
    OWN_NODE,
    check_own_node,
    control_plane_nodes,
    node_lease,
    node_object,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._readiness import readiness_probe
from ansible_collections.certops.kubernetes.plugins.module_utils._verdict import Check, Health, blame, explain, judge

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Component, Node

_TIMEOUT_SECONDS = 5.0
_SYSTEMCTL_TIMEOUT_SECONDS = 10
# Without these the API server cannot reach etcd.
_ETCD_CREDENTIALS = ("apiserver-etcd-client", "etcd/server", "etcd/peer", "etcd/ca")
_API_CREDENTIALS = ("apiserver", "ca", *_ETCD_CREDENTIALS)
_LOG_OF_A_POD = "`journalctl -u kubelet` and etcd's log there"
_KUBELET_CREDENTIALS = ("kubelet-client", "kubelet.conf")


@dataclass(frozen=True)
class Surroundings:
    """What is known about the rest of the cluster by whoever asks for it to be looked at too."""

    planned_elsewhere: tuple[str, ...] = ()  # certificates that are about to be renewed on other nodes
    restarts: tuple[str, ...] = ()  # components of this node that are about to be restarted


def check_health(node: Node, now: datetime, planned: t.Sequence[str] = (), surroundings: Surroundings | None = None) -> Health:
    """Make every check that this node's components call for, once and all at a time; with `surroundings` also those of the whole cluster.

    `planned` names the certificates that are about to be renewed or activated: failures that expired ones among them explain do not
    make the node unhealthy. Never raises for what is wrong with the node.
    """
    steps: list[t.Callable[[], Check | list[Check]]] = []
    if "kube-apiserver" in node.components:
        steps.append(lambda: _check_api_server_and_nodes(node, now, whole_cluster=surroundings is not None))
    if surroundings and ("etcd" in node.components or "kube-apiserver" in node.components):
        steps.append(lambda: check_etcd_members(node, now, "etcd" in surroundings.restarts))
    elif "etcd" in node.components:
        steps.append(lambda: _check_etcd(node, now))
    for name in OWN_KUBECONFIG:
        component = node.components.get(name)
        if component is not None and component.flag("leader-elect") != "false":
            steps.append(functools.partial(_check_lease, node, component, now))
    steps.append(lambda: _check_kubelet(node, now))
    if "kube-apiserver" not in node.components and has_own_identity(node):
        steps.append(lambda: check_node_itself(node, now, expired_credentials(node, _KUBELET_CREDENTIALS, now)))
    with ThreadPoolExecutor(len(steps)) as pool:
        answers = list(pool.map(lambda step: step(), steps))
    checks = [check for answer in answers for check in (answer if isinstance(answer, list) else [answer])]
    return judge(checks, planned, surroundings.planned_elsewhere if surroundings else ())


def _check_api_server_and_nodes(node: Node, now: datetime, whole_cluster: bool) -> list[Check]:
    """This node's API server, and what it says of this node and of the other control-plane nodes."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(_check_nodes, node, now, whole_cluster)
        own = _check_api_server(node, now)
        try:
            return [own, *asked.result()]
        except CertopsError as exc:
            # Why this node's own API server cannot be asked is in its own check.
            return [own, Check(OWN_NODE, False, "what the cluster says of its nodes is not known: %s" % exc)] if own.ok else [own]


def _check_nodes(node: Node, now: datetime, whole_cluster: bool) -> list[Check]:
    client, name = api_client(node, now, _TIMEOUT_SECONDS, ignore_dates=True), str(node.name)
    with ThreadPoolExecutor(1) as pool:
        lease = pool.submit(node_lease, client, name)
        listed = control_plane_nodes(client) if whole_cluster else []
        found = next((other for other in listed if other.name == name), None) or node_object(client, name)
        own = check_own_node(node, now, found, lease.result())
    others = check_other_api_servers(node, now, listed)
    return [own, others] if others else [own]


def _check_api_server(node: Node, now: datetime) -> Check:
    name = "kube-apiserver"
    try:
        readyz(api_client(node, now, _TIMEOUT_SECONDS))
    except ApiError as exc:
        causes = _causes(node, now, exc, _API_CREDENTIALS)
        return Check(name, False, explain("the API server of this node is not ready", exc, causes), causes)
    except CertopsError as exc:
        return Check(name, False, str(exc))
    return Check(name, True, "the API server at %s is ready" % api_address(node))


def _causes(node: Node, now: datetime, exc: ApiError, relevant: tuple[str, ...]) -> tuple[str, ...]:
    """Which expired certificates explain a failed request to the API server.

    The files decide; a server that still serves an expired certificate although its file is fresh counts too. When the server's
    dates are overlooked, what remains wrong must be explained by expired certificates as well.
    """
    causes = set(expired_credentials(node, relevant, now))
    remaining: ApiError | None = exc
    if exc.expired_side == "server":
        causes.add("apiserver")
        remaining = _readyz_error_without_dates(node, now)
    if remaining is not None and remaining.expired_side == "client":
        causes.add(node_identity(node, now)[0])
    elif remaining is not None and not causes.intersection(_ETCD_CREDENTIALS):
        # Not ready for a reason that no expired certificate of the API server explains.
        return ()
    return tuple(sorted(causes))


def _readyz_error_without_dates(node: Node, now: datetime) -> ApiError | None:
    try:
        readyz(api_client(node, now, _TIMEOUT_SECONDS, ignore_dates=True))
    except ApiError as exc:
        return exc
    return None


def _check_etcd(node: Node, now: datetime) -> Check:
    """This node's member, and through it a quorum; what is wrong with other members is not this node's fault."""
    name = "etcd"
    try:
        identity_name, identity = etcd_identity(node, now)
        client = etcd_client(etcd_address(node), identity, _TIMEOUT_SECONDS)
    except CertopsError as exc:
        return Check(name, False, str(exc))
    try:
        found = members(client)
        problem = status_problem("this node's etcd member", endpoint_status(client))
    except ApiError as exc:
        causes = _etcd_causes(node, now, exc, identity_name)
        return Check(name, False, explain("etcd on this node does not answer", exc, causes), causes)
    if problem:
        unit = node.components["etcd"].unit
        return Check(name, False, "%s: see %s" % (problem, "`journalctl -u %s`" % unit if unit else _LOG_OF_A_POD))
    return Check(name, True, "this node's etcd member answers and knows a leader of %d" % len(found))


def _etcd_causes(node: Node, now: datetime, exc: ApiError, identity_name: str) -> tuple[str, ...]:
    causes = set(expired_credentials(node, ("etcd/server", "etcd/peer", "etcd/ca"), now))
    if exc.expired_side == "server":
        causes.add("etcd/server")
    if exc.expired_side == "client":
        causes.add(identity_name)
    return tuple(sorted(causes))


def _check_lease(node: Node, component: Component, now: datetime) -> Check:
    own = OWN_KUBECONFIG[component.name]
    name = component.flag("leader-elect-resource-name") or component.name
    namespace = component.flag("leader-elect-resource-namespace") or "kube-system"
    expired = expired_credentials(node, (own,), now)
    try:
        lease = get_lease(leader_client(node, component.name, now, _TIMEOUT_SECONDS), name, namespace)
    except ApiError as exc:
        causes = tuple(sorted({*expired, *_causes(node, now, exc, (own, *_API_CREDENTIALS))}))
        return Check(component.name, False, explain("the leader of %s is not known" % component.name, exc, causes), causes)
    except CertopsError as exc:
        return Check(component.name, False, str(exc), expired)
    if lease.fresh(now):
        return Check(component.name, True, "%s is led by %s" % (component.name, lease.holder))
    since = lease.renewed.strftime("%Y-%m-%dT%H:%M:%SZ") if lease.renewed else "its beginning"
    message = "%s has no leader: Lease %s/%s (holder %r) was last renewed at %s" % (component.name, namespace, name, lease.holder, since)
    remedy = blame(expired) if expired else ": see the log of %s on the control-plane nodes" % component.name
    if lease.renewed is not None and lease.renewed > now:
        remedy = ", and it is only %s on this node: the nodes' clocks differ" % now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Check(component.name, False, message + remedy, expired)


def _check_kubelet(node: Node, now: datetime) -> list[Check]:
    kubelet = node.components.get("kubelet")
    if kubelet is None and node.components and all(component.unit for component in node.components.values()):
        return []  # systemd starts what is stopped here
    if kubelet is None:
        return [Check("kubelet", False, "no kubelet was found on this node: nothing would start a stopped component again")]
    causes = expired_credentials(node, _KUBELET_CREDENTIALS, now)
    checks = []
    if kubelet.unit:
        problem = _unit_problem(kubelet.unit)
        message = explain(problem, None, causes) if problem else "unit %s is active" % kubelet.unit
        checks.append(Check("kubelet unit", problem is None, message, causes if problem else ()))
    try:
        readiness_probe(node, "kubelet", now, _TIMEOUT_SECONDS)()
    except CertopsError as exc:
        message = explain("the kubelet is not healthy (see `journalctl -u kubelet`)", exc, causes)
        return [*checks, Check("kubelet", False, message, causes)]
    return [*checks, Check("kubelet", True, "the kubelet is healthy")]


def _unit_problem(unit: str) -> str | None:
    try:
        result = subprocess.run(  # pylint: disable=ansible-bad-function  # there is no AnsibleModule in here
            ["systemctl", "is-active", unit],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_SYSTEMCTL_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return "the state of unit %s cannot be read (systemctl is-active: %s)" % (unit, exc)
    state = result.stdout.decode("utf-8", "replace").strip()
    return None if result.returncode == 0 else "unit %s is %s, not active: see `journalctl -u %s`" % (unit, state[:80], unit)


__all__ = ("Check", "Health", "Surroundings", "check_health")
