# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a kubeadm control-plane node: certificates, kubeconfigs, static-pod manifests, the kubelet's and etcd's data.

Subjects, SANs, usages, modes and flags are those of kubeadm 1.36 (its phases certs, kubeconfig, controlplane and etcd).
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import sys
import typing as t
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from manifests import Pod, control_plane_pods

if t.TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

PKI = "etc/kubernetes/pki"
LIFETIME = timedelta(days=365)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True)
class NodeSpec:
    """What the node is to look like: the end of its certificates and CAs (aware UTC datetimes), its name, address and keys (rsa, ec)."""

    root: Path
    name: str
    address: str
    not_after: datetime
    ca_not_after: datetime
    keys: str = "rsa"
    cluster: str = "kubernetes"

    def new_key(self) -> CertificateIssuerPrivateKeyTypes:
        """A key as kubeadm makes it with this `encryptionAlgorithm`."""
        if self.keys == "ec":
            return ec.generate_private_key(ec.SECP256R1())
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(frozen=True)
class Pair:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key as Kubernetes writes keys: PKCS#1 for RSA, SEC 1 for EC."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )


def make_node(spec: NodeSpec) -> None:
    """Write the whole tree below `spec.root`."""
    authorities = {name: _make_ca(common_name, spec) for name, common_name in _AUTHORITIES.items()}
    for name, ca in authorities.items():
        _write_pair(spec, name, ca)
    for name, (ca_name, common_name, organization, usages, sans) in _leaves(spec).items():
        _write_pair(spec, name, _issue(authorities[ca_name], common_name, organization, usages, sans, spec))
    _write_service_account_key(spec)
    _write_kubeconfigs(spec, authorities["ca"])
    _write_kubelet(spec, authorities["ca"])
    for pod in control_plane_pods(spec.name, spec.address):
        _write_manifest(spec, pod)
    _write_etcd_data(spec)


_AUTHORITIES = {"ca": "kubernetes", "front-proxy-ca": "front-proxy-ca", "etcd/ca": "etcd-ca"}

Leaf = t.Tuple[str, str, t.Optional[str], t.List[x509.ObjectIdentifier], t.List[str]]


def _leaves(spec: NodeSpec) -> dict[str, Leaf]:
    service_names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    etcd_sans = [spec.name, "localhost", spec.address, "127.0.0.1", "::1"]
    return {
        "apiserver": ("ca", "kube-apiserver", None, [SERVER], [spec.name, *service_names, "10.96.0.1", spec.address]),
        "apiserver-kubelet-client": ("ca", "kube-apiserver-kubelet-client", None, [CLIENT], []),
        "front-proxy-client": ("front-proxy-ca", "front-proxy-client", None, [CLIENT], []),
        "apiserver-etcd-client": ("etcd/ca", "kube-apiserver-etcd-client", None, [CLIENT], []),
        "etcd/server": ("etcd/ca", spec.name, None, [SERVER, CLIENT], etcd_sans),
        "etcd/peer": ("etcd/ca", spec.name, None, [SERVER, CLIENT], etcd_sans),
        "etcd/healthcheck-client": ("etcd/ca", "kube-etcd-healthcheck-client", None, [CLIENT], []),
    }


def _make_ca(common_name: str, spec: NodeSpec) -> Pair:
    key = spec.new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    begin = min(datetime.now(timezone.utc) - timedelta(minutes=5), spec.not_after - LIFETIME, spec.ca_not_after - timedelta(days=3650))
    builder = _builder(subject, subject, key, begin, spec.ca_not_after)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(certificate_sign=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def _issue(
    ca: Pair,
    common_name: str,
    organization: str | None,
    usages: list[x509.ObjectIdentifier],
    sans: list[str],
    spec: NodeSpec,
    key: CertificateIssuerPrivateKeyTypes | None = None,
) -> Pair:
    key = key or spec.new_key()
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    begin = min(datetime.now(timezone.utc) - timedelta(minutes=5), spec.not_after - LIFETIME)
    builder = _builder(subject, ca.certificate.subject, key, begin, spec.not_after)
    builder = builder.add_extension(_key_usage(), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    issuer_id = ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(san) for san in sans]), critical=False)
    return Pair(builder.sign(ca.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: CertificateIssuerPrivateKeyTypes, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    serial = x509.random_serial_number() >> 97  # at most 63 bits, as kubeadm's
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return builder.serial_number(serial).not_valid_before(begin).not_valid_after(end)


def _key_usage(certificate_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=certificate_sign,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(san: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(san))
    except ValueError:
        return x509.DNSName(san)


def _write_pair(spec: NodeSpec, name: str, pair: Pair) -> None:
    _write(spec, "%s/%s.crt" % (PKI, name), pair.certificate_pem, 0o644)
    _write(spec, "%s/%s.key" % (PKI, name), pair.key_pem, 0o600)


def _write_service_account_key(spec: NodeSpec) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _write(spec, PKI + "/sa.key", private, 0o600)
    _write(spec, PKI + "/sa.pub", public, 0o600)


def _write_kubeconfigs(spec: NodeSpec, ca: Pair) -> None:
    users = {
        "admin.conf": ("kubernetes-admin", "kubernetes-admin", "kubeadm:cluster-admins"),
        "super-admin.conf": ("kubernetes-super-admin", "kubernetes-super-admin", "system:masters"),
        "controller-manager.conf": ("system:kube-controller-manager", "system:kube-controller-manager", None),
        "scheduler.conf": ("system:kube-scheduler", "system:kube-scheduler", None),
    }
    for name, (user, common_name, organization) in users.items():
        pair = _issue(ca, common_name, organization, [CLIENT], [], spec)
        credentials = {"client-certificate-data": _base64(pair.certificate_pem), "client-key-data": _base64(pair.key_pem)}
        _write(spec, "etc/kubernetes/" + name, _kubeconfig(spec, ca, user, credentials), 0o600)


def _kubeconfig(spec: NodeSpec, ca: Pair, user: str, credentials: dict[str, str]) -> bytes:
    context = "%s@%s" % (user, spec.cluster)
    cluster = {"certificate-authority-data": _base64(ca.certificate_pem), "server": "https://%s:6443" % spec.address}
    return _yaml(
        {
            "apiVersion": "v1",
            "clusters": [{"cluster": cluster, "name": spec.cluster}],
            "contexts": [{"context": {"cluster": spec.cluster, "user": user}, "name": context}],
            "current-context": context,
            "kind": "Config",
            "users": [{"name": user, "user": credentials}],
        }
    )


def _write_kubelet(spec: NodeSpec, ca: Pair) -> None:
    user = "system:node:" + spec.name
    pair = _issue(ca, user, "system:nodes", [CLIENT], [], spec, ec.generate_private_key(ec.SECP256R1()))
    current = "/var/lib/kubelet/pki/kubelet-client-current.pem"
    dated = "kubelet-client-%s.pem" % (spec.not_after - LIFETIME).strftime("%Y-%m-%d-%H-%M-%S")
    _write(spec, "var/lib/kubelet/pki/" + dated, pair.certificate_pem + pair.key_pem, 0o600)
    link = spec.root / current[1:]
    link.symlink_to("/var/lib/kubelet/pki/" + dated)
    references = {"client-certificate": current, "client-key": current}
    _write(spec, "etc/kubernetes/kubelet.conf", _kubeconfig(spec, ca, user, references), 0o600)
    _write(spec, "var/lib/kubelet/config.yaml", _yaml(_KUBELET_CONFIGURATION), 0o644)
    _write(spec, "var/lib/kubelet/kubeadm-flags.env", b'KUBELET_KUBEADM_ARGS="--node-ip=%s"\n' % spec.address.encode(), 0o644)


_KUBELET_CONFIGURATION = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "authentication": {
        "anonymous": {"enabled": False},
        "webhook": {"cacheTTL": "0s", "enabled": True},
        "x509": {"clientCAFile": "/etc/kubernetes/pki/ca.crt"},
    },
    "authorization": {"mode": "Webhook"},
    "cgroupDriver": "systemd",
    "clusterDNS": ["10.96.0.10"],
    "clusterDomain": "cluster.local",
    "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
    "healthzBindAddress": "127.0.0.1",
    "healthzPort": 10248,
    "kind": "KubeletConfiguration",
    "rotateCertificates": True,
    "staticPodPath": "/etc/kubernetes/manifests",
}


def _write_manifest(spec: NodeSpec, pod: Pod) -> None:
    _write(spec, "etc/kubernetes/manifests/%s.yaml" % pod["metadata"]["name"], _yaml(pod), 0o600)
    (spec.root / "etc/kubernetes/manifests").chmod(0o700)


def _write_etcd_data(spec: NodeSpec) -> None:
    configuration = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "caCertificateValidityPeriod": "87600h0m0s",
        "certificateValidityPeriod": "8760h0m0s",
        "certificatesDir": "/etc/kubernetes/pki",
        "clusterName": spec.cluster,
        "encryptionAlgorithm": {"rsa": "RSA-2048", "ec": "ECDSA-P256"}[spec.keys],
        "etcd": {"local": {"dataDir": "/var/lib/etcd"}},
        "kind": "ClusterConfiguration",
        "kubernetesVersion": "v1.36.3",
        "networking": {"dnsDomain": "cluster.local", "podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/12"},
    }
    objects: dict[str, dict[str, t.Any]] = {
        "configmaps/kube-system/kubeadm-config": {
            "kind": "ConfigMap",
            "apiVersion": "v1",
            "metadata": {"name": "kubeadm-config", "namespace": "kube-system"},
            "data": {"ClusterConfiguration": _yaml(configuration).decode()},
        },
        "nodes/" + spec.name: {
            "kind": "Node",
            "apiVersion": "v1",
            "metadata": {"name": spec.name, "labels": {"node-role.kubernetes.io/control-plane": ""}},
            "status": {
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
                "addresses": [{"type": "InternalIP", "address": spec.address}, {"type": "Hostname", "address": spec.name}],
            },
        },
    }
    for name in ("default", "kube-system", "kube-node-lease"):
        objects["namespaces/" + name] = {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}}
    values = {"/registry/" + key: json.dumps(value) for key, value in objects.items()}
    store = {"revision": 2, "values": values, "changed": dict.fromkeys(values, 2)}
    _write(spec, "var/lib/etcd/sandbox.json", json.dumps(store).encode(), 0o600)
    (spec.root / "var/lib/etcd").chmod(0o700)


def _write(spec: NodeSpec, path: str, data: bytes, mode: int) -> None:
    target = spec.root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    target.chmod(mode)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _yaml(value: t.Mapping[str, t.Any]) -> bytes:
    return yaml.safe_dump(value, width=1 << 20).encode()


def main() -> None:
    """`node_tree.py ROOT NAME ADDRESS DAYS_LEFT CA_DAYS_LEFT rsa|ec`, days as decimal numbers."""
    root, name, address, days_left, ca_days_left, keys = sys.argv[1:]
    now = datetime.now(timezone.utc).replace(microsecond=0)
    end, ca_end = (now + timedelta(days=float(days)) for days in (days_left, ca_days_left))
    make_node(NodeSpec(Path(root), name, address, end, ca_end, keys=keys))


__all__ = ("NodeSpec", "make_node")

if __name__ == "__main__":
    main()
