# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What a transaction needs from its node besides files: one value of functions, so that a test can put its own in their place."""

from __future__ import annotations

import os
import socket
import time
import typing as t
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import quote

from ansible_collections.certops.kubernetes.plugins.module_utils._access import api_address, api_client, expired_credentials
from ansible_collections.certops.kubernetes.plugins.module_utils._activation import Restart, restart_component
from ansible_collections.certops.kubernetes.plugins.module_utils._api import (
    ApiClient,
    ApiError,
    cluster_certificate_validity_seconds,
    cluster_configuration,
    whoami,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._discovery import discover
from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig, items
from ansible_collections.certops.kubernetes.plugins.module_utils._etcd import etcd_servers, members_of
from ansible_collections.certops.kubernetes.plugins.module_utils._health import Health, check_health
from ansible_collections.certops.kubernetes.plugins.module_utils._inspection import Thresholds, inspect_node
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_api import (
    KUBELET_CREDENTIAL,
    KUBELETS,
    ask_signer,
    has_own_identity,
    identity_problem,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._other_tools import (
    running_kubeadm,
    scheduled_shutdown,
    systemd_obstacles,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._restarts import SETTING
from ansible_collections.certops.kubernetes.plugins.module_utils._tls_credentials import identity_from_kubeconfig, identity_from_pair

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_client import AskSigner
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential, Node, Record

_API_TIMEOUT_SECONDS = 5.0
_AGGREGATED_SECONDS = 10.0  # no further aggregated API is asked after that


@dataclass(frozen=True)
class ClientProof:
    """Whether a client certificate works where it is used. `proof` is identity, path_works or none."""

    in_use: str  # true | false | unknown
    proof: str
    message: str = ""


UNKNOWN = ClientProof("unknown", "none")


@dataclass(frozen=True)
class NodeAccess:
    """How a transaction looks at its node and acts on its processes."""

    discover: t.Callable[[], Node]
    inspect: t.Callable[[Node], t.Sequence[Record]]
    health: t.Callable[[Node, t.Sequence[str]], Health]
    # By the component's name; what is to be done while an API server that is restarted takes no more connections
    restart: t.Callable[[Node, str, t.Optional[t.Callable[[], object]]], Restart]
    client_proof: t.Callable[[Node, str, str], ClientProof]  # a credential's name, its fingerprint
    expired: t.Callable[[Node, t.Sequence[str]], t.Sequence[str]]
    validity_seconds: t.Callable[[Node], int | None]
    ask_signer: AskSigner  # the cluster's, with the identity of the node's kubelet
    other_tools: t.Callable[[], t.Sequence[str]]  # what else changes certificates here now or soon, as sentences
    now: t.Callable[[], datetime]
    monotonic: t.Callable[[], float]
    sleep: t.Callable[[float], None]
    host: str
    pid: int
    configuration: t.Callable[[Node], t.Any] = lambda node: None  # kubeadm's ClusterConfiguration; None: not known


def node_access(kubernetes_dir: str, stop_timeout: float, start_timeout: float) -> NodeAccess:
    """The real thing. Times are seconds; the stop timeout is the API server's, other components have their own."""

    def restart(node: Node, name: str, meanwhile: t.Callable[[], object] | None = None) -> Restart:
        limit = stop_timeout if name == "kube-apiserver" else None
        return restart_component(node.components[name], limit, start_timeout, node, meanwhile)

    def inspect(node: Node) -> t.Sequence[Record]:
        return inspect_node(node, socket.gethostname(), node.cluster, _now(), Thresholds(0, 0))

    return NodeAccess(
        discover=lambda: discover(_now(), kubernetes_dir),
        inspect=inspect,
        health=lambda node, planned: check_health(node, _now(), planned),
        restart=restart,
        client_proof=client_proof,
        expired=lambda node, names: expired_credentials(node, names, _now()),
        validity_seconds=_cluster_validity,
        ask_signer=ask_signer,
        other_tools=lambda: [*running_kubeadm(), *scheduled_shutdown(_now()), *systemd_obstacles(_now())],
        now=_now,
        monotonic=time.monotonic,
        sleep=time.sleep,
        host=socket.gethostname(),
        pid=os.getpid(),
        configuration=_configuration,
    )


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _cluster_validity(node: Node) -> int | None:
    """The cluster's own certificateValidityPeriod in seconds; None when it has none or cannot be asked."""
    try:
        return cluster_certificate_validity_seconds(api_client(node, _now(), _API_TIMEOUT_SECONDS, ignore_dates=True))
    except CertopsError:
        return None


def _configuration(node: Node) -> dict[str, t.Any] | None:
    try:
        return cluster_configuration(api_client(node, _now(), _API_TIMEOUT_SECONDS, ignore_dates=True))
    except CertopsError:
        return None


def client_proof(node: Node, name: str, fingerprint: str) -> ClientProof:
    """The best proof for a client certificate that no port shows: a request that goes its way.

    The API server tells a client's certificate since Kubernetes 1.32 (`apiserver/pkg/authentication/request/x509`, credential-id).
    """
    credential = node.credential(name)
    is_setting = name.startswith(SETTING) and has_own_identity(node)
    if credential is None and not is_setting:
        return UNKNOWN
    try:
        if credential is None:  # of a setting: whether the kubelet is a client of its API server at all
            return ClientProof(*identity_problem(node, None))
        if credential.kind == "pair" and credential.presented_to == "etcd":
            return _etcd_proof(node, credential)
        if name in KUBELETS:
            # Beside a file, what kubelet.conf embeds is not what is shown.
            shown = credential.name == KUBELET_CREDENTIAL or KUBELET_CREDENTIAL not in node.credentials
            return ClientProof(*identity_problem(node, fingerprint if shown else None))
        if "kube-apiserver" not in node.components:
            return UNKNOWN
        if credential.kind == "kubeconfig" and credential.component == "user":
            return _identity_proof(node, credential.cert_path, fingerprint)
        if name in _PATHS:
            return _PATHS[name](node)
    except CertopsError as error:
        return ClientProof("unknown", "none", str(error))
    return UNKNOWN


def _identity_proof(node: Node, path: str, fingerprint: str) -> ClientProof:
    identity = identity_from_kubeconfig(path)
    client = ApiClient(api_address(node), identity, ca_pem=identity.ca_pem, timeout=_API_TIMEOUT_SECONDS)
    try:
        credential_id = whoami(client)[2]
    except ApiError as error:
        if error.status == 401:
            return ClientProof("false", "identity", "the API server does not accept the certificate in %s: %s" % (path, error))
        raise
    if credential_id is None:
        return ClientProof("true", "path_works")
    if credential_id == "X509SHA256=%s" % fingerprint:
        return ClientProof("true", "identity")
    return ClientProof("false", "identity", "the API server saw %s from %s, expected X509SHA256=%s" % (credential_id, path, fingerprint))


def _answers(node: Node, path: str) -> ClientProof:
    answer = api_client(node, _now(), _API_TIMEOUT_SECONDS).request("GET", path)
    if answer.status == 200:
        return ClientProof("true", "path_works")
    return ClientProof("unknown", "none", "GET %s was answered with status %d" % (path, answer.status))


def _kubelet_path(node: Node) -> ClientProof:
    if node.name is None:
        return UNKNOWN
    return _answers(node, "/api/v1/nodes/%s/proxy/healthz" % quote(node.name, safe=""))


def _aggregated_path(node: Node) -> ClientProof:
    """A request to an aggregated API that says it is available, or to the next one; a cluster without any cannot prove this pair."""
    until = time.monotonic() + _AGGREGATED_SECONDS
    answer = api_client(node, _now(), _API_TIMEOUT_SECONDS).json("GET", "/apis/apiregistration.k8s.io/v1/apiservices")
    proof = UNKNOWN
    for item in items(answer.get("items")):
        group, version = dig(item, "spec", "group"), dig(item, "spec", "version")
        if _is_aggregated(item) and isinstance(group, str) and isinstance(version, str):
            try:
                proof = _answers(node, "/apis/%s/%s" % (quote(group, safe=""), quote(version, safe="")))
            except CertopsError as error:
                proof = ClientProof("unknown", "none", str(error))
            if proof.in_use == "true" or time.monotonic() > until:
                break
    return proof


def _is_aggregated(item: t.Any) -> bool:
    conditions = items(dig(item, "status", "conditions"))
    available = any(dig(entry, "type") == "Available" and dig(entry, "status") == "True" for entry in conditions)
    return bool(dig(item, "spec", "service")) and available


def _etcd_proof(node: Node, credential: Credential) -> ClientProof:
    """etcd answers to the very pair that is asked about, and not to another one that lies on the node; the API server has etcd too."""
    authority = node.credentials.get(credential.ca or "")
    identity = identity_from_pair(credential.cert_path, str(credential.key_path), authority.cert_path if authority else None)
    members_of(etcd_servers(node), identity, _API_TIMEOUT_SECONDS)
    if any(reader.component == "kube-apiserver" for reader in credential.readers):
        return _answers(node, "/readyz/etcd")
    return ClientProof("true", "path_works")


_PATHS: dict[str, t.Callable[[Node], ClientProof]] = {
    "apiserver-kubelet-client": _kubelet_path,
    "front-proxy-client": _aggregated_path,
}

__all__ = ("UNKNOWN", "ClientProof", "NodeAccess", "client_proof", "node_access")
