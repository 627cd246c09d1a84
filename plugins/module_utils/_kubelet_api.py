# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What a node asks its cluster with its kubelet's own identity: a new client certificate, and whether it is known and well.

The server is that of the kubelet's kubeconfig, as it is for the kubelet; no administrator's file is needed, so this works on workers.
"""

from __future__ import annotations

import contextlib
import os
import typing as t
from datetime import datetime, timedelta, timezone

from ansible_collections.certops.kubernetes.plugins.module_utils._access import api_client
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, ApiError, address_of_url, whoami
from ansible_collections.certops.kubernetes.plugins.module_utils._csr import (
    KUBELET_CLIENT,
    PENDING,
    create_signing_request,
    delete_signing_request,
    read_signing_request,
    wait_for_certificate,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig, items
from ansible_collections.certops.kubernetes.plugins.module_utils._files import read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import KUBELET
from ansible_collections.certops.kubernetes.plugins.module_utils._lease import get_lease
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._tls_credentials import (
    Identity,
    embedded_or_file,
    identity_from_kubeconfig,
    identity_from_pair,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._verdict import Check, blame
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import parse_certificates

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node

KUBELET_CREDENTIAL = "kubelet-client"
KUBELET_CONF = "kubelet.conf"  # the credential's name where the kubeconfig embeds its certificate
KUBELETS = (KUBELET_CREDENTIAL, KUBELET_CONF)  # a kubelet with rotation uses the first where it has both
OWN_NODE = "node"  # the check's name, as on nodes with an API server

_TIMEOUT_SECONDS = 5.0
_SIGNING_SECONDS = 30.0
_NODE_LEASES = "kube-node-lease"
_CLOCK_STEP = timedelta(seconds=2)  # how exactly a process' start is known
_NOT_APPROVED = (
    "The request %s to the signer %s is not approved within %g s, so that the kubelet's certificate is not renewed; nothing was changed on "
    "this node. The cluster approves it by itself where the group system:nodes has the ClusterRole "
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient. Remedy: kubectl create clusterrolebinding "
    "kubeadm:node-autoapprove-certificate-rotation --clusterrole=system:certificates.k8s.io:certificatesigningrequests:selfnodeclient "
    "--group=system:nodes, then run again; or approve requests by hand (kubectl certificate approve) meanwhile."
)


def kubelet_kubeconfig(node: Node) -> str:
    """The path of the kubeconfig that this node's kubelet uses."""
    kubelet = node.components.get(KUBELET)
    return (kubelet.flag("kubeconfig") if kubelet else None) or os.path.join(node.kubernetes_dir, "kubelet.conf")


def kubelet_client(node: Node, timeout: float = _TIMEOUT_SECONDS) -> ApiClient:
    """A client of the kubelet's API server with what lies on disk as its client certificate. Raises CertopsError."""
    pair = own_identity(node, datetime.now(timezone.utc))
    path = kubelet_kubeconfig(node)
    cluster = parse_kubeconfig(read_bounded(path), path).current_cluster()
    if cluster.server is None:
        raise CertopsError("%s names no server. Remedy: repair it, or make this node join again." % path)
    ca_pem = embedded_or_file(cluster.ca_data, cluster.ca_file, path)
    identity = Identity(pair.source, pair.certificate_pem, pair.private_key_pem, ca_pem)
    return ApiClient(address_of_url(cluster.server), identity, ca_pem=ca_pem, timeout=timeout)


def own_identity(node: Node, now: datetime) -> Identity:
    """The client certificate that the kubelet has in files or in its kubeconfig, one that is valid rather than one that has expired.

    Raises CertopsError where there is none that can be read.
    """
    found, reasons = [], []
    for credential in [node.credentials[name] for name in KUBELETS if name in node.credentials]:
        try:
            embedded = credential.kind == "kubeconfig"
            path = credential.cert_path
            identity = identity_from_kubeconfig(path) if embedded else identity_from_pair(path, str(credential.key_path))
            identity.not_after()
            found.append(identity)
        except CertopsError as error:
            reasons.append(error)
    if not found:
        raise reasons[0] if reasons else CertopsError("this node's kubelet has no client certificate of its own")
    return next((identity for identity in found if not identity.expired(now)), found[0])


def trusted_authorities(node: Node) -> list[t.Any]:
    """The CAs of which the cluster's signer may be one: this node's file, else those of the kubelet's kubeconfig. Raises CertopsError."""
    ca = node.credentials.get("ca")
    if ca is not None:
        return parse_certificates(read_bounded(ca.cert_path), ca.cert_path)
    path = kubelet_kubeconfig(node)
    cluster = parse_kubeconfig(read_bounded(path), path).current_cluster()
    data = embedded_or_file(cluster.ca_data, cluster.ca_file, path)
    if data is None:
        raise CertopsError("no CA was found on this node, neither the kubelet's clientCAFile nor one in %s" % path)
    return parse_certificates(data, path)


def ask_signer(node: Node, request_pem: bytes, usages: t.Sequence[str], seconds: int) -> bytes:
    """Have the cluster's own signer sign a request with the node's own identity; the certificate as PEM.

    `seconds` is for how long at most; the signer may give less. Raises CertopsError: nothing was changed on the node then.
    """
    client = kubelet_client(node)
    request = create_signing_request(client, "certops-", KUBELET_CLIENT, usages, request_pem, seconds)
    try:
        return wait_for_certificate(client, request.name, _SIGNING_SECONDS)
    except ApiError as error:
        with contextlib.suppress(ApiError):
            if read_signing_request(client, request.name).state == PENDING:
                raise CertopsError(_NOT_APPROVED % (request.name, KUBELET_CLIENT, _SIGNING_SECONDS)) from error
        raise
    finally:
        _remove_request(node, client, request.name)


def _remove_request(node: Node, client: ApiClient, name: str) -> None:
    """Nodes may not remove requests, administrators may; what is left the cluster removes itself, after an hour."""
    for other in (None, client):
        with contextlib.suppress(CertopsError):
            delete_signing_request(other or api_client(node, datetime.now(timezone.utc), _TIMEOUT_SECONDS), name)
            return


def identity_problem(node: Node, fingerprint: str | None) -> tuple[str, str, str]:
    """Whether the kubelet, as the cluster sees it, is the client with this certificate (None: with any): (in_use, proof, message).

    What lies on disk is shown to the API server, which says whom it sees; and the kubelet must have renewed its node's Lease since it
    started, which it can only with what it read then. Raises CertopsError when that cannot be asked.
    """
    client = kubelet_client(node)
    try:
        user, _groups, credential_id = whoami(client)
        own = "system:node:%s" % node.name
        if user != own:
            return "false", "identity", "the API server sees %s, not %s" % (user, own)
        if fingerprint is not None and credential_id not in (None, "X509SHA256=%s" % fingerprint):
            return "false", "identity", "the API server saw %s, expected X509SHA256=%s" % (credential_id, fingerprint)
        problem = _lease_problem(client, node)
    except ApiError as error:
        if error.status == 401:
            return "false", "identity", "the API server does not accept the kubelet's certificate: %s" % error
        raise
    if problem:
        return "false", "identity", problem
    return "true", "identity" if credential_id and fingerprint else "path_works", ""


def _lease_problem(client: ApiClient, node: Node) -> str | None:
    """Why the running kubelet is not shown to reach the API server; None when it is."""
    kubelet = node.components.get(KUBELET)
    if kubelet is None or kubelet.process is None:
        return "the kubelet does not run"
    lease = get_lease(client, str(node.name), _NODE_LEASES)
    if lease.renewed is None or lease.renewed < kubelet.process.started_at - _CLOCK_STEP:
        return "the kubelet has not renewed the Lease %s/%s since it started" % (_NODE_LEASES, node.name)
    return None


def check_node_itself(node: Node, now: datetime, expired: t.Sequence[str]) -> Check:
    """The same check as on nodes with an API server, with the node's own identity: it is Ready, and its Lease is renewed.

    `expired` names the kubelet's expired certificates.
    """
    causes = tuple(expired)
    try:
        client = kubelet_client(node)
        document = client.json("GET", "/api/v1/nodes/%s" % node.name)
        lease = get_lease(client, str(node.name), _NODE_LEASES)
    except CertopsError as error:
        return Check(OWN_NODE, False, "this node cannot ask its cluster how it is: %s%s" % (error, blame(causes) if causes else ""), causes)
    ready = next((entry for entry in items(dig(document, "status", "conditions")) if dig(entry, "type") == "Ready"), None)
    if dig(ready, "status") != "True":
        return Check(OWN_NODE, False, "node %s is not Ready: %s" % (node.name, str(dig(ready, "message") or "its kubelet is silent")[:300]))
    if not lease.fresh(now):
        return Check(OWN_NODE, False, "node %s: its kubelet does not renew the Lease %s/%s" % (node.name, _NODE_LEASES, node.name), causes)
    remark = "node %s is cordoned, which is no obstacle" % node.name if dig(document, "spec", "unschedulable") is True else None
    return Check(OWN_NODE, True, "node %s is Ready, and its Lease is renewed" % node.name, remark=remark)


def has_own_identity(node: Node) -> bool:
    """Whether this node's kubelet is a client of a cluster with a certificate of its own."""
    return node.credential(KUBELET_CONF) is not None and node.name is not None


__all__ = (
    "KUBELETS",
    "KUBELET_CONF",
    "KUBELET_CREDENTIAL",
    "ask_signer",
    "check_node_itself",
    "has_own_identity",
    "identity_problem",
    "kubelet_client",
    "kubelet_kubeconfig",
    "own_identity",
    "trusted_authorities",
)
