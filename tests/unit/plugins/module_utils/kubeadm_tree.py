# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A kubeadm control-plane node in a temporary folder: its files as kubeadm lays them out, and a `/proc` with its processes.

The containers see `/etc/kubernetes`, the host has it below the folder, so that paths which are not mapped are not found.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import time
import typing as t
from datetime import datetime, timezone
from pathlib import Path

from ansible_collections.certops.kubernetes.plugins.module_utils._discovery import discover
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki

INSIDE = "/etc/kubernetes"
STATIC_UID = "46a4dd371c5f841d78a9e629b84129ca"
ORDINARY_UID = "0a4522ab-02cc-4406-8fd8-ff61764165d5"

COMMANDS: dict[str, list[str]] = {
    "kube-apiserver": [
        "kube-apiserver",
        "--advertise-address=192.0.2.7",
        "--client-ca-file=/etc/kubernetes/pki/ca.crt",
        "--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt",
        "--etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt",
        "--etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key",
        "--kubelet-client-certificate=/etc/kubernetes/pki/apiserver-kubelet-client.crt",
        "--kubelet-client-key=/etc/kubernetes/pki/apiserver-kubelet-client.key",
        "--proxy-client-cert-file=/etc/kubernetes/pki/front-proxy-client.crt",
        "--proxy-client-key-file=/etc/kubernetes/pki/front-proxy-client.key",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt",
        "--secure-port=6443",
        "--service-account-key-file=/etc/kubernetes/pki/sa.pub",
        "--service-account-signing-key-file=/etc/kubernetes/pki/sa.key",
        "--tls-cert-file=/etc/kubernetes/pki/apiserver.crt",
        "--tls-private-key-file=/etc/kubernetes/pki/apiserver.key",
    ],
    "kube-controller-manager": [
        "kube-controller-manager",
        "--authentication-kubeconfig=/etc/kubernetes/controller-manager.conf",
        "--bind-address=127.0.0.1",
        "--client-ca-file=/etc/kubernetes/pki/ca.crt",
        "--cluster-name=blue",
        "--cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt",
        "--kubeconfig=/etc/kubernetes/controller-manager.conf",
        "--requestheader-client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt",
        "--root-ca-file=/etc/kubernetes/pki/ca.crt",
        "--service-account-private-key-file=/etc/kubernetes/pki/sa.key",
    ],
    "kube-scheduler": ["kube-scheduler", "--bind-address=127.0.0.1", "--kubeconfig=/etc/kubernetes/scheduler.conf"],
    "etcd": [
        "etcd",
        "--cert-file=/etc/kubernetes/pki/etcd/server.crt",
        "--key-file=/etc/kubernetes/pki/etcd/server.key",
        "--listen-client-urls=https://127.0.0.1:2379,https://192.0.2.7:2379",
        "--listen-metrics-urls=http://127.0.0.1:2381",
        "--listen-peer-urls=https://192.0.2.7:2380",
        "--peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt",
        "--peer-key-file=/etc/kubernetes/pki/etcd/peer.key",
        "--peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
        "--trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
    ],
}
MOUNTS = {
    "kube-apiserver": ["pki"],
    "kube-controller-manager": ["pki", "controller-manager.conf"],
    "kube-scheduler": ["scheduler.conf"],
    "etcd": ["pki/etcd"],
}
_ETCD_SANS = ("DNS:cp-1", "DNS:localhost", "IP:192.0.2.7", "IP:127.0.0.1", "IP:::1")
_SERVICE = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
# Of each pair: its CA, common name, usages and names, as kubeadm 1.36 makes them
LEAVES: dict[str, tuple[str, str, tuple[str, ...], tuple[str, ...]]] = {
    "apiserver": (
        "ca",
        "kube-apiserver",
        ("server",),
        ("DNS:cp-1", *("DNS:" + name for name in _SERVICE), "IP:10.96.0.1", "IP:192.0.2.7"),
    ),
    "apiserver-kubelet-client": ("ca", "kube-apiserver-kubelet-client", ("client",), ()),
    "apiserver-etcd-client": ("etcd/ca", "kube-apiserver-etcd-client", ("client",), ()),
    "front-proxy-client": ("front-proxy-ca", "front-proxy-client", ("client",), ()),
    "etcd/server": ("etcd/ca", "cp-1", ("server", "client"), _ETCD_SANS),
    "etcd/peer": ("etcd/ca", "cp-1", ("server", "client"), _ETCD_SANS),
    "etcd/healthcheck-client": ("etcd/ca", "kube-etcd-healthcheck-client", ("client",), ()),
}
# Of each kubeconfig: common name and organization
KUBECONFIGS: dict[str, tuple[str, str | None]] = {
    "admin.conf": ("kubernetes-admin", "kubeadm:cluster-admins"),
    "super-admin.conf": ("kubernetes-super-admin", "system:masters"),
    "controller-manager.conf": ("system:kube-controller-manager", None),
    "scheduler.conf": ("system:kube-scheduler", None),
}


_AUTHORITIES = {"ca": "kubernetes", "etcd/ca": "etcd-ca", "front-proxy-ca": "front-proxy-ca"}


@functools.lru_cache(maxsize=None)
def _made_once() -> dict[str, pki.Pair]:
    """All pairs of a tree by their names, the same for all trees: hundreds of tests begin with one."""
    made = {name: pki.make_ca(cn) for name, cn in _AUTHORITIES.items()}
    for name, (ca, cn, usages, sans) in LEAVES.items():
        made[name] = pki.make_leaf(made[ca], cn, usages=usages, sans=sans)
    for name, (cn, organization) in KUBECONFIGS.items():
        made[name] = pki.make_leaf(made["ca"], cn, organization=organization)
    made["sa"] = pki.Pair(None, pki.new_key())
    made["kubelet-client"] = pki.make_leaf(made["ca"], "system:node:cp-1", organization="system:nodes")
    made["kubelet's own"] = pki.make_ca("cp-1-ca@1")
    made["kubelet"] = pki.make_leaf(made["kubelet's own"], "cp-1@1", usages=("server",))
    return made


class KubeadmTree:
    """The node. `paths[name]` is where a credential lies on the host; `cas[name]` are the authorities' pairs.

    `ids[program]` is as whom (user, group) a program runs that is started from now on; of others `/proc` does not tell.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ids: dict[str, tuple[int, int]] = {}
        self.kubernetes_dir = root / "etc" / "kubernetes"
        self.pki_dir = self.kubernetes_dir / "pki"
        self.kubelet_dir = root / "var" / "lib" / "kubelet"
        self.proc = root / "proc"
        self.unit_folder = root / "etc" / "systemd" / "system"
        self.kubelet_config = self.kubelet_dir / "config.yaml"
        for folder in (self.pki_dir / "etcd", self.kubernetes_dir / "manifests", self.kubelet_dir / "pki", self.proc):
            folder.mkdir(parents=True)
        made = _made_once()
        self.cas = {name: made[name] for name in _AUTHORITIES}
        self._write_pki(made)
        self._write_kubelet(made)
        for component in COMMANDS:
            self.write_manifest(component)

    def discover(self) -> Node:
        """What discovery finds here."""
        return discover(
            datetime.now(timezone.utc),
            str(self.kubernetes_dir),
            proc=str(self.proc),
            kubelet_config=str(self.kubelet_config),
            unit_folders=[str(self.unit_folder)],
        )

    def configuration(self) -> dict[str, t.Any]:
        """kubeadm's ClusterConfiguration, as it is kept in the cluster and read by the collection: each scalar is a text."""
        return {
            "apiServer": {},
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "certificatesDir": str(self.pki_dir),
            "etcd": {"local": {"dataDir": "/var/lib/etcd"}},
            "networking": {"dnsDomain": "cluster.local", "serviceSubnet": "10.96.0.0/12"},
        }

    def cert(self, name: str) -> Path:
        """The certificate file of a pair or CA in the pki folder."""
        return self.pki_dir / (name + ".crt")

    def key(self, name: str) -> Path:
        """The key file of a pair or CA in the pki folder."""
        return self.pki_dir / (name + ".key")

    def write_pair(self, name: str, pair: pki.Pair) -> None:
        """Put a pair into the pki folder, with kubeadm's modes."""
        write(self.cert(name), pair.cert_pem, 0o644)
        write(self.key(name), pair.key_pem, 0o600)

    def leaf(self, name: str, ca: pki.Pair | None = None, **values: t.Any) -> pki.Pair:
        """The pair of that name as kubeadm makes it, but for `ca` and the `values` that pki.make_leaf() takes."""
        ca_name, common_name, usages, sans = LEAVES[name]
        given = {"usages": usages, "sans": sans, **values}
        return pki.make_leaf(ca or self.cas[ca_name], given.pop("cn", common_name), **given)

    def write_kubeconfig(self, name: str, **values: t.Any) -> None:
        """A kubeconfig as kubeadm makes it, but for the `values` that pki.make_leaf() takes."""
        common_name, organization = KUBECONFIGS[name]
        given = {"organization": organization, **values}
        self._put_kubeconfig(name, pki.make_leaf(self.cas["ca"], given.pop("cn", common_name), **given))

    def _put_kubeconfig(self, name: str, pair: pki.Pair) -> None:
        write(self.kubernetes_dir / name, kubeconfig_of({"me": embedded(pair)}, "me"), 0o600)

    def write_manifest(self, component: str, command: t.Sequence[str] | None = None, name: str | None = None) -> Path:
        """A static-pod manifest as kubeadm writes it (JSON is YAML)."""
        inside = [(INSIDE + "/" + part, str(self.kubernetes_dir / part)) for part in MOUNTS[component]]
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": component, "namespace": "kube-system"},
            "spec": {
                "containers": [
                    {
                        "name": component,
                        "command": list(command or COMMANDS[component]),
                        "volumeMounts": [{"mountPath": path, "name": "v%d" % index} for index, (path, _host) in enumerate(inside)],
                    }
                ],
                "volumes": [{"name": "v%d" % index, "hostPath": {"path": host}} for index, (_path, host) in enumerate(inside)],
            },
        }
        path = self.kubernetes_dir / "manifests" / (name or component + ".yaml")
        write(path, json.dumps(document).encode(), 0o600)
        return path

    def run(self, pid: int, argv: t.Sequence[str], cgroup: str | None = None, nesting: int = 2, start_ticks: int | None = None) -> None:
        """A process in `/proc`; by default one in a static pod, that started after all files were written."""
        cgroup = cgroup if cgroup is not None else "0::/kubepods/burstable/pod%s/0123\n" % STATIC_UID
        ids = self.ids.get(os.path.basename(argv[0])) if argv else None
        write_process(self.proc, pid, argv, cgroup, nesting, start_ticks, ids=ids)

    def run_everything(self) -> None:
        """Each component, and the kubelet."""
        for pid, command in enumerate(COMMANDS.values(), start=99999001):
            self.run(pid, command)
        self.run_kubelet()

    def run_kubelet(self, *flags: str) -> None:
        """The kubelet, as kubeadm's unit starts it."""
        argv = ["/usr/bin/kubelet", "--kubeconfig=%s" % (self.kubernetes_dir / "kubelet.conf"), "--config=%s" % self.kubelet_config]
        argv += ["--cert-dir=%s" % (self.kubelet_dir / "pki"), *flags]
        self.run(99999100, argv, "0::/system.slice/kubelet.service\n", nesting=1)

    def _write_pki(self, made: dict[str, pki.Pair]) -> None:
        for name in (*_AUTHORITIES, *LEAVES):
            self.write_pair(name, made[name])
        for name in KUBECONFIGS:
            self._put_kubeconfig(name, made[name])
        write(self.pki_dir / "sa.key", made["sa"].key_pem, 0o600)
        write(self.pki_dir / "sa.pub", pki.public_key_to_pem(made["sa"].key), 0o600)

    def _write_kubelet(self, made: dict[str, pki.Pair]) -> None:
        config = {
            "kind": "KubeletConfiguration",
            "authentication": {"x509": {"clientCAFile": str(self.pki_dir / "ca.crt")}},
            "rotateCertificates": True,
            "staticPodPath": str(self.kubernetes_dir / "manifests"),
        }
        write(self.kubelet_config, json.dumps(config).encode(), 0o644)
        client, own, serving = made["kubelet-client"], made["kubelet's own"], made["kubelet"]
        current = self.kubelet_dir / "pki" / "kubelet-client-current.pem"
        write(current, client.cert_pem + client.key_pem, 0o600)
        write(self.kubelet_dir / "pki" / "kubelet.crt", serving.cert_pem + own.cert_pem, 0o644)
        write(self.kubelet_dir / "pki" / "kubelet.key", serving.key_pem, 0o600)
        user = {"client-certificate": str(current), "client-key": str(current)}
        write(self.kubernetes_dir / "kubelet.conf", kubeconfig_of({"system:node:cp-1": user}, "system:node:cp-1"), 0o600)


def write_process(
    proc: Path,
    pid: int,
    argv: t.Sequence[str],
    cgroup: str,
    nesting: int = 1,
    start_ticks: int | None = None,
    environment: t.Mapping[str, str] | None = None,
    ids: tuple[int, int] | None = None,
) -> None:
    """A process in a `/proc`, that started after all files were written unless told otherwise; `ids` is as whom it runs (user, group)."""
    if start_ticks is None:
        start_ticks = int((time.clock_gettime(time.CLOCK_BOOTTIME) + 5) * os.sysconf("SC_CLK_TCK"))
    folder = proc / str(pid)
    folder.mkdir(exist_ok=True)
    (folder / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in argv))
    (folder / "stat").write_text("%d (a name) with ) S %s %d 0 0\n" % (pid, " ".join(["0"] * 18), start_ticks))
    (folder / "cgroup").write_text(cgroup)
    runs_as = "Uid:\t0\t%d\t0\t0\nGid:\t0\t%d\t0\t0\n" % ids if ids else ""
    (folder / "status").write_text("Name:\tx\n%sNSpid:\t%s\n" % (runs_as, "\t".join(str(pid) for _level in range(nesting))))
    (folder / "environ").write_bytes(b"".join(("%s=%s" % pair).encode() + b"\0" for pair in (environment or {}).items()))


def write(path: Path, data: bytes, mode: int) -> None:
    """Write a file with a mode, whatever the umask."""
    path.write_bytes(data)
    os.chmod(path, mode)


def embedded(pair: pki.Pair) -> dict[str, str]:
    """A kubeconfig's user with an embedded pair."""
    data = (base64.b64encode(part).decode() for part in (pair.cert_pem, pair.key_pem))
    return dict(zip(("client-certificate-data", "client-key-data"), data))


def kubeconfig_of(users: dict[str, dict[str, str]], current: str) -> bytes:
    """A kubeconfig with these users; `current` is the one of its current context."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "green", "cluster": {"server": "https://192.0.2.7:6443"}}],
        "contexts": [{"name": "c", "context": {"cluster": "green", "user": current}}],
        "current-context": "c",
        "users": [{"name": name, "user": user} for name, user in users.items()],
    }
    return json.dumps(document, indent=1).encode()
