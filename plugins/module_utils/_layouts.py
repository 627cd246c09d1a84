# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Tables: which flag names which credential, who reads it, and how the reader learns of a replaced file.

What reloads by itself was read in the components' own sources (Kubernetes 1.31 to 1.36: `apiserver/pkg/server/dynamiccertificates`,
`client-go/transport`; etcd 3.5 to 3.6: `client/pkg/transport/listener.go`) and measured on running clusters. File names are kubeadm's
(`cmd/kubeadm/app/constants`); a path always comes from the flag, so another directory needs no other table.
"""

from __future__ import annotations

import re
import typing as t
from collections import deque
from dataclasses import dataclass

API_SERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
ETCD = "etcd"
KUBELET = "kubelet"

_PORT = re.compile(r"[0-9]{1,5}\Z")

# The components that kubeadm runs as static pods.
STATIC_POD_COMPONENTS = (API_SERVER, CONTROLLER_MANAGER, SCHEDULER, ETCD)

HOT = "hot"
RESTART = "restart"
SELF = "self"

# Ports where a component listens when no flag says otherwise (Kubernetes `pkg/cluster/ports`, kube-apiserver's and etcd's options).
DEFAULT_PORTS = {API_SERVER: 6443, CONTROLLER_MANAGER: 10257, SCHEDULER: 10259, KUBELET: 10250}

KUBELET_DEFAULT_CONFIG = "/var/lib/kubelet/config.yaml"
KUBELET_DEFAULT_CERT_DIR = "/var/lib/kubelet/pki"


@dataclass(frozen=True)
class PairRule:
    """A flag and its partner that name a certificate and its key.

    `name` None: it is called by its path. `authority_flag` names the file of the authority that signs it, where that is told; `ca` is
    what an authority is called where it is not.
    """

    component: str
    cert_flag: str
    key_flag: str
    name: str | None
    usage: str
    ca: str | None
    presented_to: str
    reload: str
    authority_flag: str | None = None


@dataclass(frozen=True)
class KubeconfigRule:
    """A flag that names a kubeconfig whose client certificate the component presents to the API server."""

    component: str
    flag: str
    name: str


@dataclass(frozen=True)
class AuthorityRule:
    """A flag that names a file of certificate authorities."""

    component: str
    flag: str
    name: str
    reload: str


@dataclass(frozen=True)
class ClientPairConvention:
    """A client pair for etcd that no flag names and no process keeps: it lies beside the server's, and people and probes use it.

    `beside` is what the server's certificate is called; its group is what HOST stands for in the files' names. `name` None: it is
    called by its path.
    """

    beside: str
    cert: str
    key: str
    name: str | None


@dataclass(frozen=True)
class ConventionalKubeconfig:
    """A kubeconfig that no flag names: kubeadm writes it for people."""

    name: str
    component: str


PAIRS = (
    PairRule(API_SERVER, "tls-cert-file", "tls-private-key-file", "apiserver", "server", "ca", "clients of the API", HOT),
    PairRule(API_SERVER, "kubelet-client-certificate", "kubelet-client-key", "apiserver-kubelet-client", "client", "ca", KUBELET, HOT),
    PairRule(API_SERVER, "etcd-certfile", "etcd-keyfile", "apiserver-etcd-client", "client", "etcd/ca", ETCD, HOT, "etcd-cafile"),
    PairRule(
        API_SERVER,
        "proxy-client-cert-file",
        "proxy-client-key-file",
        "front-proxy-client",
        "client",
        "front-proxy-ca",
        "aggregated API servers",
        HOT,
    ),
    PairRule(ETCD, "cert-file", "key-file", "etcd/server", "server+client", "etcd/ca", "clients of etcd", HOT, "trusted-ca-file"),
    PairRule(ETCD, "client-cert-file", "client-key-file", None, "client", "etcd/ca", ETCD, HOT, "trusted-ca-file"),
    PairRule(
        ETCD, "peer-cert-file", "peer-key-file", "etcd/peer", "server+client", "etcd/ca", "other etcd members", HOT, "peer-trusted-ca-file"
    ),
    PairRule(
        ETCD, "peer-client-cert-file", "peer-client-key-file", None, "client", "etcd/ca", "other etcd members", HOT, "peer-trusted-ca-file"
    ),
    PairRule(CONTROLLER_MANAGER, "tls-cert-file", "tls-private-key-file", "controller-manager-serving", "server", None, "probes", HOT),
    PairRule(SCHEDULER, "tls-cert-file", "tls-private-key-file", "scheduler-serving", "server", None, "probes", HOT),
)

KUBECONFIGS = (
    KubeconfigRule(CONTROLLER_MANAGER, "kubeconfig", "controller-manager.conf"),
    KubeconfigRule(CONTROLLER_MANAGER, "authentication-kubeconfig", "controller-manager.conf"),
    KubeconfigRule(CONTROLLER_MANAGER, "authorization-kubeconfig", "controller-manager.conf"),
    KubeconfigRule(SCHEDULER, "kubeconfig", "scheduler.conf"),
    KubeconfigRule(SCHEDULER, "authentication-kubeconfig", "scheduler.conf"),
    KubeconfigRule(SCHEDULER, "authorization-kubeconfig", "scheduler.conf"),
)

# The first flag that is set says where the authority lies; further ones add readers (or, with another path, another authority).
AUTHORITIES = (
    AuthorityRule(API_SERVER, "client-ca-file", "ca", HOT),
    AuthorityRule(CONTROLLER_MANAGER, "client-ca-file", "ca", HOT),
    AuthorityRule(CONTROLLER_MANAGER, "cluster-signing-cert-file", "ca", HOT),
    AuthorityRule(CONTROLLER_MANAGER, "root-ca-file", "ca", RESTART),
    AuthorityRule(API_SERVER, "requestheader-client-ca-file", "front-proxy-ca", HOT),
    AuthorityRule(CONTROLLER_MANAGER, "requestheader-client-ca-file", "front-proxy-ca", HOT),
    AuthorityRule(ETCD, "trusted-ca-file", "etcd/ca", RESTART),
    AuthorityRule(ETCD, "peer-trusted-ca-file", "etcd/ca", RESTART),
    AuthorityRule(API_SERVER, "etcd-cafile", "etcd/ca", RESTART),
)

# kubeadm's (`cmd/kubeadm/app/constants`) and kubespray's (`roles/etcd/templates/make-ssl-etcd.sh.j2`). kubespray's first etcd host keeps
# copies of all hosts' pairs; only those of the host that etcd's own certificate names are this host's.
ETCD_CLIENT_PAIRS = (
    ClientPairConvention(r"(.*)", "healthcheck-client.crt", "healthcheck-client.key", "etcd/healthcheck-client"),
    ClientPairConvention(r"member-(.+)\.pem", "admin-HOST.pem", "admin-HOST-key.pem", None),
    ClientPairConvention(r"member-(.+)\.pem", "node-HOST.pem", "node-HOST-key.pem", None),
)

PEOPLES_KUBECONFIGS = (ConventionalKubeconfig("admin.conf", "user"), ConventionalKubeconfig("super-admin.conf", "user"))

# (component, flag): the service-account key pair; the public key verifies, the private one signs.
SERVICE_ACCOUNT_PUBLIC = (API_SERVER, "service-account-key-file")
SERVICE_ACCOUNT_PRIVATE = ((API_SERVER, "service-account-signing-key-file"), (CONTROLLER_MANAGER, "service-account-private-key-file"))


def parse_flags(argv: t.Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The flags of a command (its first word is the program), without leading dashes, each with all its values in order.

    Takes `--flag=value`, `--flag value` and `--flag` ("true"), with one dash or two, as Go's flag packages do.
    """
    flags: dict[str, list[str]] = {}
    words = deque(argv[1:])
    while words:
        word = words.popleft()
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not equals:
            value = words.popleft() if words and not words[0].startswith("-") else "true"
        # kube-apiserver's flag parsing takes underscores for dashes (component-base `cli/flag` WordSepNormalizeFunc).
        flags.setdefault(name.replace("_", "-"), []).append(value)
    return {name: tuple(values) for name, values in flags.items()}


def as_port(text: str | None, default: int) -> int:
    """A port number; the default for what is none, 0 for a server that is switched off."""
    return int(text) if text and _PORT.match(text) and int(text) < 65536 else default


__all__ = (
    "API_SERVER",
    "AUTHORITIES",
    "CONTROLLER_MANAGER",
    "DEFAULT_PORTS",
    "ETCD",
    "ETCD_CLIENT_PAIRS",
    "HOT",
    "KUBECONFIGS",
    "KUBELET",
    "KUBELET_DEFAULT_CERT_DIR",
    "KUBELET_DEFAULT_CONFIG",
    "PAIRS",
    "PEOPLES_KUBECONFIGS",
    "RESTART",
    "SCHEDULER",
    "SELF",
    "SERVICE_ACCOUNT_PRIVATE",
    "SERVICE_ACCOUNT_PUBLIC",
    "STATIC_POD_COMPONENTS",
    "AuthorityRule",
    "ClientPairConvention",
    "ConventionalKubeconfig",
    "KubeconfigRule",
    "PairRule",
    "as_port",
    "parse_flags",
)
