# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The values that travel through the collection: what is on a node, and what is said about it.

Everything here is immutable and knows no Ansible. Times are timezone-aware UTC datetimes, durations are seconds.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

if t.TYPE_CHECKING:
    from datetime import datetime

SCHEMA_VERSION = 1

Usage = t.Optional[str]  # server | client | server+client | ca | signing-key


class CertopsError(Exception):
    """A failure that is explained to the user; its text names file or address, cause and remedy."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a certificate, and what to do about it."""

    code: str
    severity: str  # info | warning | critical
    message: str
    remedy: str


@dataclass(frozen=True)
class Process:
    """A running process. `start_ticks` (clock ticks since boot) tells it from a later one with the same PID.

    `uid` and `gid` are what it runs as; None where that is not known.
    """

    pid: int
    start_ticks: int
    argv: tuple[str, ...]
    started_at: datetime
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True)
class Endpoint:
    """An address where a component of this node serves TLS, and which credential it should show there."""

    component: str
    host: str
    port: int
    credential: str | None  # name of the credential that it should serve; None: self-signed in memory
    server_name: str | None = None  # the name that has to be asked for (SNI); None: without one

    @property
    def address(self) -> str:
        """`host:port`, with brackets around an IPv6 address, and with `#name` where a name has to be asked for."""
        where = "[%s]:%d" % (self.host, self.port) if ":" in self.host else "%s:%d" % (self.host, self.port)
        return "%s#%s" % (where, self.server_name) if self.server_name else where


@dataclass(frozen=True)
class Component:
    """A component of the control plane, etcd or the kubelet, as this node runs it."""

    name: str  # kube-apiserver | kube-controller-manager | kube-scheduler | etcd | kubelet
    flags: dict[str, tuple[str, ...]]  # the running process' own, else the manifest's; without leading dashes
    manifest: str | None = None  # path of the static-pod manifest on the host
    unit: str | None = None  # systemd unit, where it is one
    process: Process | None = None
    mounts: tuple[tuple[str, str], ...] = ()  # (path in the container, path on the host)
    endpoints: tuple[Endpoint, ...] = ()

    def flag(self, name: str, default: str | None = None) -> str | None:
        """The last value given for a flag, as the components' own flag parsing takes it."""
        values = self.flags.get(name)
        return values[-1] if values else default


@dataclass(frozen=True)
class ReaderSpec:
    """A component that reads a credential, and how it learns of a replaced file.

    `reload` is hot (by itself), restart (only a new process reads it) or self (the component renews it itself).
    `container_path` is where the component's own mount namespace shows the file.
    """

    component: str
    reload: str
    container_path: str | None = None


@dataclass(frozen=True)
class Credential:
    """A certificate with its key, a kubeconfig's client certificate, a CA or a signing key on this node."""

    name: str
    kind: str  # pair | kubeconfig | ca | signing-key
    cert_path: str  # the kubeconfig itself for kind kubeconfig; the public key for signing-key
    key_path: str | None
    usage: Usage
    component: str
    ca: str | None = None  # name of the CA credential that signs it
    presented_by: str | None = None
    presented_to: str | None = None
    readers: tuple[ReaderSpec, ...] = ()
    self_signed_is_normal: bool = False
    managed_by: str | None = None  # e.g. "kubelet": renewed by somebody else
    rotated: bool | None = None  # whether that is switched on there; None: it has no such switch


# What a run has moved: certificates by the name that they had, with the name that they have since.
MOVED = {"kubelet.conf": "kubelet-client"}


@dataclass(frozen=True)
class Node:
    """What was discovered on a node."""

    name: str | None  # Kubernetes' name of it
    cluster: str | None  # kubeadm's clusterName or the cluster's name in admin.conf
    kubernetes_dir: str  # /etc/kubernetes
    components: dict[str, Component] = field(default_factory=dict)
    credentials: dict[str, Credential] = field(default_factory=dict)
    problems: tuple[Finding, ...] = ()  # what could not be discovered (garbage in a manifest, for example)

    def credential(self, name: str) -> Credential | None:
        """A credential by its name, or by the one that it had before a run moved it into files of its own."""
        return self.credentials.get(name) or self.credentials.get(MOVED.get(name, name))


@dataclass(frozen=True)
class Reader:
    """Whether a component has what lies on disk, and by which proof that is known."""

    component: str
    reload: str  # hot | restart | self
    in_use: str  # true | false | unknown
    proof: str  # handshake | identity | inode | process_age | metrics | path_works | none


@dataclass(frozen=True)
class Record:
    """One certificate, as every report shows it. Contract: keys are stable for a `schema_version`; no value is None."""

    cluster: str | None
    host: str
    node: str | None
    name: str
    component: str
    presented_by: str | None
    presented_to: str | None
    usage: Usage
    source: str  # file | kubeconfig | served | api
    path: str | None
    address: str | None
    subject: str | None
    issuer: str | None
    sans: tuple[str, ...] | None  # "DNS:kubernetes", "IP:10.96.0.1", "URI:…", "email:…"
    serial: str | None  # lower-case hex without leading zeros
    fingerprint_sha256: str | None  # lower-case hex of the DER's SHA-256; of the SPKI's for a signing key
    key_algorithm: str | None  # RSA | EC | Ed25519 | …
    key_bits: int | None
    signature_algorithm: str | None  # sha256WithRSAEncryption …
    not_before: str | None  # 2026-11-24T01:50:00Z
    not_after: str | None
    seconds_left: int | None
    days_left: int | None
    lifetime_days: int | None
    status: str  # ok | warning | critical | expired | not_yet_valid | missing | unreadable | unreachable
    ca: str | None
    renewable: bool
    not_renewable_because: str | None
    externally_managed: bool
    readers: tuple[Reader, ...]
    findings: tuple[Finding, ...]
    schema_version: int = SCHEMA_VERSION


__all__ = (
    "MOVED",
    "SCHEMA_VERSION",
    "CertopsError",
    "Component",
    "Credential",
    "Endpoint",
    "Finding",
    "Node",
    "Process",
    "Reader",
    "ReaderSpec",
    "Record",
    "Usage",
)
