# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""With which credential of a node its own API server is asked, and whether a credential's file has expired.

The API server is asked on the node's own address, never through a load balancer, so that the answer is about this node.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient
from ansible_collections.certops.kubernetes.plugins.module_utils._files import read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._tls_credentials import Identity, identity_from_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import not_after, parse_certificates

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node

# Who may ask, best first. admin.conf may be deleted or expired; every authenticated identity may read /readyz.
ADMIN_KUBECONFIGS = ("admin.conf", "super-admin.conf", "controller-manager.conf")
# A leader elector may get and update its own Lease, and no other one.
OWN_KUBECONFIG = {"kube-controller-manager": "controller-manager.conf", "kube-scheduler": "scheduler.conf"}
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def component_address(node: Node, name: str, bind_flag: str, port_flag: str, default_port: int) -> str:
    """Where a component of this node serves: its discovered endpoint, else its flags. `host:port`."""
    component = node.components.get(name)
    if component is None:
        raise CertopsError("this node runs no %s (no manifest or unit of it was found)" % name)
    if component.endpoints:
        return component.endpoints[0].address
    host = component.flag(bind_flag) or "127.0.0.1"
    host = _ANY_ADDRESS.get(host, host)
    return "%s:%s" % ("[%s]" % host if ":" in host else host, component.flag(port_flag) or default_port)


def api_address(node: Node) -> str:
    """Where this node's API server serves. Raises CertopsError on a node that has none."""
    return component_address(node, "kube-apiserver", "advertise-address", "secure-port", 6443)


def kubeconfig_path(node: Node, name: str) -> str:
    """The path of one of the node's kubeconfigs, by its credential's name such as "admin.conf"."""
    credential = node.credentials.get(name)
    return credential.cert_path if credential else os.path.join(node.kubernetes_dir, name)


def node_identity(node: Node, now: datetime, names: t.Sequence[str] = ADMIN_KUBECONFIGS) -> tuple[str, Identity]:
    """The first of these kubeconfigs that has not expired, else the first that can be read; with its name.

    Raises CertopsError, with every reason, when none can be read.
    """
    readable, reasons = [], []
    for name in names:
        try:
            identity = identity_from_kubeconfig(kubeconfig_path(node, name))
            if not identity.expired(now):
                return name, identity
            readable.append((name, identity))
        except CertopsError as exc:
            reasons.append(str(exc))
    if readable:
        return readable[0]
    raise CertopsError("no kubeconfig of this node can be used to ask its API server: %s" % "; ".join(reasons))


def api_client(node: Node, now: datetime, timeout: float = 5.0, ignore_dates: bool = False, server: str | None = None) -> ApiClient:
    """A client of this node's API server (or of the one at `server`), with the best identity that the node has. Raises CertopsError."""
    identity = node_identity(node, now)[1]
    return ApiClient(server or api_address(node), identity, ca_pem=_cluster_ca(node, identity), timeout=timeout, ignore_dates=ignore_dates)


def leader_client(node: Node, component: str, now: datetime, timeout: float = 5.0) -> ApiClient:
    """A client that may read and release a component's Lease: the component's own identity, else an administrator's."""
    names = (OWN_KUBECONFIG[component], "admin.conf", "super-admin.conf")
    identity = node_identity(node, now, names)[1]
    return ApiClient(api_address(node), identity, ca_pem=_cluster_ca(node, identity), timeout=timeout)


def expired_credentials(node: Node, names: t.Iterable[str], now: datetime) -> tuple[str, ...]:
    """Which of these credentials' certificates on disk have expired. What cannot be read has not."""
    return tuple(name for name in names if name in node.credentials and _expired(node, name, now))


def _expired(node: Node, name: str, now: datetime) -> bool:
    credential = node.credentials[name]
    try:
        if credential.kind == "kubeconfig":
            return identity_from_kubeconfig(credential.cert_path).expired(now)
        if credential.kind == "signing-key":
            return False
        return not_after(parse_certificates(read_bounded(credential.cert_path), credential.cert_path)[0]) <= now
    except CertopsError:
        return False


def _cluster_ca(node: Node, identity: Identity) -> bytes | None:
    """The kubeconfig's own bundle; where it has none, the cluster's CA file."""
    if identity.ca_pem is not None or "ca" not in node.credentials:
        return identity.ca_pem
    return read_bounded(node.credentials["ca"].cert_path)


__all__ = (
    "ADMIN_KUBECONFIGS",
    "OWN_KUBECONFIG",
    "api_address",
    "api_client",
    "component_address",
    "expired_credentials",
    "kubeconfig_path",
    "leader_client",
    "node_identity",
)
