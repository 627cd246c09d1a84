# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The static-pod manifests that kubeadm 1.36 writes for a control-plane node with stacked etcd."""

from __future__ import annotations

import os
import typing as t

Pod = t.Dict[str, t.Any]

PKI = "/etc/kubernetes/pki"


def control_plane_pods(node: str, address: str) -> list[Pod]:
    """The four pods of a node called `node` at the IPv4 address `address`."""
    return [_etcd(node, address), _apiserver(address), _controller_manager(), _scheduler()]


def _etcd(node: str, address: str) -> Pod:
    client, peer = "https://%s:2379" % address, "https://%s:2380" % address
    command = [
        "etcd",
        "--advertise-client-urls=" + client,
        "--cert-file=%s/etcd/server.crt" % PKI,
        "--client-cert-auth=true",
        "--data-dir=/var/lib/etcd",
        "--feature-gates=InitialCorruptCheck=true",
        "--initial-advertise-peer-urls=" + peer,
        "--initial-cluster=%s=%s" % (node, peer),
        "--key-file=%s/etcd/server.key" % PKI,
        "--listen-client-urls=https://127.0.0.1:2379," + client,
        "--listen-metrics-urls=http://127.0.0.1:2381",
        "--listen-peer-urls=" + peer,
        "--name=" + node,
        "--peer-cert-file=%s/etcd/peer.crt" % PKI,
        "--peer-client-cert-auth=true",
        "--peer-key-file=%s/etcd/peer.key" % PKI,
        "--peer-trusted-ca-file=%s/etcd/ca.crt" % PKI,
        "--snapshot-count=10000",
        "--trusted-ca-file=%s/etcd/ca.crt" % PKI,
        "--watch-progress-notify-interval=5s",
    ]
    probe = {"host": "127.0.0.1", "port": 2381, "scheme": "HTTP"}
    mounts = [
        ("etcd-data", "/var/lib/etcd", "/var/lib/etcd", "DirectoryOrCreate", False),
        ("etcd-certs", PKI + "/etcd", PKI + "/etcd", "DirectoryOrCreate", False),
    ]
    annotations = {"kubeadm.kubernetes.io/etcd.advertise-client-urls": client}
    return _pod("etcd", command, mounts, {"livenessProbe": (probe, "/livez"), "readinessProbe": (probe, "/readyz")}, annotations)


def _apiserver(address: str) -> Pod:
    command = [
        "kube-apiserver",
        "--advertise-address=" + address,
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--client-ca-file=%s/ca.crt" % PKI,
        "--enable-admission-plugins=NodeRestriction",
        "--enable-bootstrap-token-auth=true",
        "--etcd-cafile=%s/etcd/ca.crt" % PKI,
        "--etcd-certfile=%s/apiserver-etcd-client.crt" % PKI,
        "--etcd-keyfile=%s/apiserver-etcd-client.key" % PKI,
        "--etcd-servers=https://127.0.0.1:2379",
        "--kubelet-client-certificate=%s/apiserver-kubelet-client.crt" % PKI,
        "--kubelet-client-key=%s/apiserver-kubelet-client.key" % PKI,
        "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
        "--proxy-client-cert-file=%s/front-proxy-client.crt" % PKI,
        "--proxy-client-key-file=%s/front-proxy-client.key" % PKI,
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-client-ca-file=%s/front-proxy-ca.crt" % PKI,
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        "--secure-port=6443",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--service-account-key-file=%s/sa.pub" % PKI,
        "--service-account-signing-key-file=%s/sa.key" % PKI,
        "--service-cluster-ip-range=10.96.0.0/12",
        "--tls-cert-file=%s/apiserver.crt" % PKI,
        "--tls-private-key-file=%s/apiserver.key" % PKI,
    ]
    probe = {"host": address, "port": 6443, "scheme": "HTTPS"}
    probes = {"livenessProbe": (probe, "/livez"), "readinessProbe": (probe, "/readyz"), "startupProbe": (probe, "/livez")}
    annotations = {"kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint": address + ":6443"}
    return _pod("kube-apiserver", command, [*_system_certificates(), _pki()], probes, annotations)


def _controller_manager() -> Pod:
    kubeconfig = "/etc/kubernetes/controller-manager.conf"
    command = [
        "kube-controller-manager",
        "--allocate-node-cidrs=true",
        "--authentication-kubeconfig=" + kubeconfig,
        "--authorization-kubeconfig=" + kubeconfig,
        "--bind-address=127.0.0.1",
        "--client-ca-file=%s/ca.crt" % PKI,
        "--cluster-cidr=10.244.0.0/16",
        "--cluster-name=kubernetes",
        "--cluster-signing-cert-file=%s/ca.crt" % PKI,
        "--cluster-signing-key-file=%s/ca.key" % PKI,
        "--controllers=*,bootstrapsigner,tokencleaner",
        "--kubeconfig=" + kubeconfig,
        "--leader-elect=true",
        "--requestheader-client-ca-file=%s/front-proxy-ca.crt" % PKI,
        "--root-ca-file=%s/ca.crt" % PKI,
        "--service-account-private-key-file=%s/sa.key" % PKI,
        "--service-cluster-ip-range=10.96.0.0/12",
        "--use-service-account-credentials=true",
    ]
    probe = {"host": "127.0.0.1", "port": 10257, "scheme": "HTTPS"}
    probes = {"livenessProbe": (probe, "/healthz"), "startupProbe": (probe, "/healthz")}
    mounts = [*_system_certificates(), _pki(), ("kubeconfig", kubeconfig, kubeconfig, "FileOrCreate", True)]
    return _pod("kube-controller-manager", command, mounts, probes, {})


def _scheduler() -> Pod:
    kubeconfig = "/etc/kubernetes/scheduler.conf"
    command = [
        "kube-scheduler",
        "--authentication-kubeconfig=" + kubeconfig,
        "--authorization-kubeconfig=" + kubeconfig,
        "--bind-address=127.0.0.1",
        "--kubeconfig=" + kubeconfig,
        "--leader-elect=true",
    ]
    probe = {"host": "127.0.0.1", "port": 10259, "scheme": "HTTPS"}
    probes = {"livenessProbe": (probe, "/livez"), "readinessProbe": (probe, "/readyz"), "startupProbe": (probe, "/livez")}
    return _pod("kube-scheduler", command, [("kubeconfig", kubeconfig, kubeconfig, "FileOrCreate", True)], probes, {})


Mount = t.Tuple[str, str, str, str, bool]  # name, path in the container, path on the node, type, read-only


def _pki() -> Mount:
    return ("k8s-certs", PKI, PKI, "DirectoryOrCreate", True)


def _system_certificates() -> list[Mount]:
    # kubeadm mounts those of the usual places that exist on the node
    places = {
        "ca-certs": "/etc/ssl/certs",
        "etc-ca-certificates": "/etc/ca-certificates",
        "usr-share-ca-certificates": "/usr/share/ca-certificates",
    }
    return [(name, path, path, "DirectoryOrCreate", True) for name, path in places.items() if os.path.isdir(path)]


def _pod(
    name: str, command: list[str], mounts: list[Mount], probes: dict[str, tuple[dict[str, t.Any], str]], annotations: dict[str, str]
) -> Pod:
    image = "registry.k8s.io/etcd:3.6.8-0" if name == "etcd" else "registry.k8s.io/%s:v1.36.3" % name
    container: dict[str, t.Any] = {
        "command": command,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "name": name,
        "resources": {"requests": {"cpu": "100m"}},
        "volumeMounts": [
            {"mountPath": path, "name": volume, **({"readOnly": True} if ro else {})} for volume, path, _host, _type, ro in mounts
        ],
    }
    for kind, (probe, path) in probes.items():
        delay = {} if kind == "readinessProbe" else {"initialDelaySeconds": 10}
        container[kind] = {
            "failureThreshold": {"livenessProbe": 8, "readinessProbe": 3, "startupProbe": 24}[kind],
            "httpGet": {**probe, "path": path},
            "periodSeconds": 1 if kind == "readinessProbe" else 10,
            "timeoutSeconds": 15,
            **delay,
        }
    metadata: dict[str, t.Any] = {"labels": {"component": name, "tier": "control-plane"}, "name": name, "namespace": "kube-system"}
    if annotations:
        metadata["annotations"] = annotations
    spec = {
        "containers": [container],
        "hostNetwork": True,
        "priority": 2000001000,
        "priorityClassName": "system-node-critical",
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"hostPath": {"path": host, "type": kind}, "name": volume} for volume, _path, host, kind, _ro in mounts],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {}}


__all__ = ("Pod", "control_plane_pods")
