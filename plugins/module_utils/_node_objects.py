# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What the cluster says of its nodes: which are control planes, whether they are Ready or cordoned, and whether their kubelets report.

Everything is asked with `list`: the controller manager, who asks where no administrator's kubeconfig is left, may not `get` a node.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from urllib.parse import quote

from ansible_collections.certops.kubernetes.plugins.module_utils._access import expired_credentials
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiError
from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig, items, text
from ansible_collections.certops.kubernetes.plugins.module_utils._lease import lease_of
from ansible_collections.certops.kubernetes.plugins.module_utils._remedies import new_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._verdict import Check, blame

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient
    from ansible_collections.certops.kubernetes.plugins.module_utils._lease import Lease
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node

OWN_NODE = "node"  # the check's name

_CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"
_NODES = "/api/v1/nodes"
_MOST_NODES = 100  # each is asked at once, in a thread
_LONGEST_MESSAGE = 300
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
# Without these a kubelet does not reach its API server.
_API_SERVERS = ("apiserver", "ca")
# No plan renews these; an API server that works again is what their cure begins with.
_KUBELETS = ("kubelet-client", "kubelet.conf")
_EXPIRED_KUBELET = "%s of its kubelet has expired, so that it cannot ask for a new one: %s"


@dataclass(frozen=True)
class NodeObject:
    """A node as the cluster knows it. `ready` is True, False, Unknown, or empty where its kubelet has never reported."""

    name: str
    address: str | None  # its InternalIP
    ready: str
    message: str
    cordoned: bool

    @property
    def problem(self) -> str | None:
        """Why it is not Ready; None when it is."""
        if self.ready == "True":
            return None
        return self.message or ("its condition Ready is %s" % self.ready if self.ready else "its kubelet has never reported")


def control_plane_nodes(client: ApiClient) -> list[NodeObject]:
    """Each node that carries the control plane's label. Raises ApiError."""
    return _nodes(client, "labelSelector=" + quote(_CONTROL_PLANE_LABEL))


def node_object(client: ApiClient, name: str) -> NodeObject | None:
    """One node by its name; None when the cluster has none of that name. Raises ApiError."""
    return next(iter(_nodes(client, _named(name))), None)


def node_lease(client: ApiClient, name: str) -> Lease | None:
    """The Lease that a node's kubelet renews; None when there is none. Raises ApiError."""
    path = "%s?%s" % (_LEASES, _named(name))
    found = items(client.json("GET", path).get("items"))
    return lease_of(found[0], name, "GET https://%s%s" % (client.server, path)) if found else None


def _named(name: str) -> str:
    return "fieldSelector=" + quote("metadata.name=%s" % name)


def _nodes(client: ApiClient, selector: str) -> list[NodeObject]:
    entries = client.json("GET", "%s?%s" % (_NODES, selector)).get("items") or []
    # A list that cannot be read must not pass for a cluster of one.
    if not isinstance(entries, list) or not all(text(dig(item, "metadata", "name")) for item in entries):
        raise ApiError("https://%s answers with a garbled list of nodes" % client.server)
    if len(entries) > _MOST_NODES:
        raise ApiError("https://%s lists %d control-plane nodes, more than can be believed" % (client.server, len(entries)))
    return [_node(item) for item in entries]


def _node(item: t.Any) -> NodeObject:
    conditions = items(dig(item, "status", "conditions"))
    ready = next((entry for entry in conditions if dig(entry, "type") == "Ready"), None)
    addresses = [text(dig(entry, "address")) for entry in items(dig(item, "status", "addresses")) if dig(entry, "type") == "InternalIP"]
    return NodeObject(
        name=text(dig(item, "metadata", "name")) or "",
        address=addresses[0] if addresses else None,
        ready=text(dig(ready, "status")) or "",
        message=(text(dig(ready, "message")) or "")[:_LONGEST_MESSAGE],
        cordoned=dig(item, "spec", "unschedulable") is True,
    )


def check_own_node(node: Node, now: datetime, found: NodeObject | None, lease: Lease | None) -> Check:
    """This node is Ready, and its kubelet has renewed its Lease in time; that it is cordoned is no obstacle, but said.

    The Lease's time is of this node's own clock: its own kubelet wrote it.
    """
    if found is None and _is_standalone(node):
        return Check(OWN_NODE, True, "this node's kubelet belongs to no cluster (it has no --kubeconfig), so no cluster says how it is")
    if found is None:
        return Check(OWN_NODE, False, "the cluster knows no node %s, as this one's kubelet calls it: see `kubectl get nodes`" % node.name)
    problems = []
    reports = lease is not None and lease.fresh(now)
    if found.problem:
        problems.append("node %s is not Ready: %s" % (found.name, found.problem))
    if not reports:
        problems.append(_silence(found.name, lease))
    remark = "node %s is cordoned, which is no obstacle" % found.name if found.cordoned else None
    if not problems:
        return Check(OWN_NODE, True, "node %s is Ready, and its Lease is renewed" % found.name, remark=remark)
    # What a kubelet reports of its own node is no matter of certificates, as long as it can report.
    kubelets = () if reports else expired_credentials(node, _KUBELETS, now)
    servers = () if reports else expired_credentials(node, _API_SERVERS, now)
    message = "; ".join(problems) + (blame(servers) if servers else "")
    if kubelets:
        message += "; " + _EXPIRED_KUBELET % (" and ".join(kubelets), new_kubeconfig(found.name))
    elif not servers:
        message += ": see `kubectl describe node %s`, and `journalctl -u kubelet` on it" % found.name
    return Check(OWN_NODE, False, message, (*servers, *kubelets), tolerated=kubelets, remark=remark)


def _is_standalone(node: Node) -> bool:
    kubelet = node.components.get("kubelet")
    return kubelet is not None and kubelet.process is not None and kubelet.flag("kubeconfig") is None


def _silence(name: str, lease: Lease | None) -> str:
    what = "the Lease kube-node-lease/%s" % name
    if lease is None or lease.renewed is None:
        return "%s, which its kubelet renews every few seconds, does not exist" % what
    return "%s was last renewed at %s, so its kubelet does not reach the API server" % (what, lease.renewed.strftime("%Y-%m-%dT%H:%M:%SZ"))


__all__ = ("OWN_NODE", "NodeObject", "check_own_node", "control_plane_nodes", "node_lease", "node_object")
