# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The gate before and after a node: is it healthy, and if not, is nothing but an expired certificate to blame?

Every check is made once, nothing waits: the caller repeats, so that a long wait shows its reason each time.
"""

from __future__ import annotations

import subprocess
import typing as t
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
from ansible_collections.certops.kubernetes.plugins.module_utils._etcd import (
    etcd_address,
    etcd_client,
    etcd_identity,
    member_problem,
    members,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._lease import get_lease
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._readiness import readiness_probe

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Component, Node

_TIMEOUT_SECONDS = 5.0
_SYSTEMCTL_TIMEOUT_SECONDS = 10
# Without these the API server cannot reach etcd.
_ETCD_CREDENTIALS = ("apiserver-etcd-client", "etcd/server", "etcd/peer", "etcd/ca")
_API_CREDENTIALS = ("apiserver", "ca", *_ETCD_CREDENTIALS)
_KUBELET_CREDENTIALS = ("kubelet-client", "kubelet.conf")


@dataclass(frozen=True)
class Check:
    """One answer of the gate. `caused_by_expired`: names of the expired certificates that explain a failure."""

    name: str
    ok: bool
    message: str
    caused_by_expired: tuple[str, ...] = ()


@dataclass(frozen=True)
class Health:
    """The gate's verdict: healthy, expired_only (nothing is wrong but what the plan cures) or unhealthy."""

    verdict: str
    checks: tuple[Check, ...]

    def summary(self) -> str:
        """The verdict and what led to it, in one line."""
        failed = [check.message for check in self.checks if not check.ok]
        return (
            "healthy: %s" % ", ".join(check.name for check in self.checks) if not failed else "%s: %s" % (self.verdict, "; ".join(failed))
        )


def check_health(node: Node, now: datetime, planned: t.Sequence[str] = ()) -> Health:
    """Make every check that this node's components call for, once.

    `planned` names the certificates that are about to be renewed or activated: failures that expired ones among them explain do not
    make the node unhealthy. Never raises for what is wrong with the node.
    """
    checks = []
    if "kube-apiserver" in node.components:
        checks.append(_check_api_server(node, now))
    if "etcd" in node.components:
        checks.append(_check_etcd(node, now))
    for name in OWN_KUBECONFIG:
        component = node.components.get(name)
        if component is not None and component.flag("leader-elect") != "false":
            checks.append(_check_lease(node, component, now))
    checks.extend(_check_kubelet(node, now))
    return Health(_verdict(checks, planned), tuple(checks))


def _verdict(checks: t.Sequence[Check], planned: t.Sequence[str]) -> str:
    failed = [check for check in checks if not check.ok]
    if not failed:
        return "healthy"
    cured = all(check.caused_by_expired and set(check.caused_by_expired) <= set(planned) for check in failed)
    return "expired_only" if cured else "unhealthy"


def _check_api_server(node: Node, now: datetime) -> Check:
    name = "kube-apiserver"
    try:
        readyz(api_client(node, now, _TIMEOUT_SECONDS))
    except ApiError as exc:
        causes = _causes(node, now, exc, _API_CREDENTIALS)
        return Check(name, False, _explain("the API server of this node is not ready", exc, causes), causes)
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
    name = "etcd"
    try:
        identity_name, identity = etcd_identity(node, now)
        address = etcd_address(node)
    except CertopsError as exc:
        return Check(name, False, str(exc))
    try:
        found = members(etcd_client(address, identity, _TIMEOUT_SECONDS))
        problems = [problem for problem in (member_problem(member, identity, _TIMEOUT_SECONDS) for member in found) if problem]
    except ApiError as exc:
        causes = _etcd_causes(node, now, exc, identity_name)
        return Check(name, False, _explain("etcd on this node does not answer", exc, causes), causes)
    if problems or not found:
        return Check(name, False, "%s: see `journalctl -u kubelet` and etcd's log there" % ("; ".join(problems) or "etcd lists no member"))
    return Check(name, True, "etcd: %d of %d members answer and know a leader" % (len(found), len(found)))


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
        return Check(component.name, False, _explain("the leader of %s is not known" % component.name, exc, causes), causes)
    except CertopsError as exc:
        return Check(component.name, False, str(exc), expired)
    if lease.fresh(now):
        return Check(component.name, True, "%s is led by %s" % (component.name, lease.holder))
    since = lease.renewed.strftime("%Y-%m-%dT%H:%M:%SZ") if lease.renewed else "its beginning"
    message = "%s has no leader: Lease %s/%s (holder %r) was last renewed at %s" % (component.name, namespace, name, lease.holder, since)
    remedy = _blame(expired) if expired else ": see the log of %s on the control-plane nodes" % component.name
    return Check(component.name, False, message + remedy, expired)


def _check_kubelet(node: Node, now: datetime) -> list[Check]:
    kubelet = node.components.get("kubelet")
    if kubelet is None:
        return [Check("kubelet", False, "no kubelet was found on this node: nothing would start a stopped component again")]
    causes = expired_credentials(node, _KUBELET_CREDENTIALS, now)
    checks = []
    if kubelet.unit:
        problem = _unit_problem(kubelet.unit)
        message = _explain(problem, None, causes) if problem else "unit %s is active" % kubelet.unit
        checks.append(Check("kubelet unit", problem is None, message, causes if problem else ()))
    try:
        readiness_probe(node, "kubelet", now, _TIMEOUT_SECONDS)()
    except CertopsError as exc:
        message = _explain("the kubelet is not healthy (see `journalctl -u kubelet`)", exc, causes)
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


def _explain(what: str, exc: CertopsError | None, causes: t.Sequence[str]) -> str:
    return "%s%s%s" % (what, ": %s" % exc if exc else "", _blame(causes) if causes else "")


def _blame(causes: t.Sequence[str]) -> str:
    return " (expired: %s; renewing cures it)" % ", ".join(causes)


__all__ = ("Check", "Health", "check_health")
