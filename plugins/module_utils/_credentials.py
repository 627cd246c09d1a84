# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Components' flags → the credentials of a node: where each lies, who presents it to whom, who reads it and how."""

from __future__ import annotations

import os
import re
import typing as t
from dataclasses import replace

from ansible_collections.certops.kubernetes.plugins.module_utils._files import read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import (
    Kubeconfig,
    UserCredential,
    parse_kubeconfig,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import (
    API_SERVER,
    AUTHORITIES,
    ETCD,
    ETCD_CLIENT_PAIRS,
    HOT,
    KUBECONFIGS,
    KUBELET,
    PAIRS,
    PEOPLES_KUBECONFIGS,
    RESTART,
    SELF,
    SERVICE_ACCOUNT_PRIVATE,
    SERVICE_ACCOUNT_PUBLIC,
    PairRule,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._manifests import host_path
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Component, Credential, ReaderSpec
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import parse_certificates, signed_by

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_config import KubeletSettings


class _Collection:
    """Credentials by name, while they are being found: another file under a known name gets a name of its own."""

    def __init__(self) -> None:
        self.found: dict[str, Credential] = {}

    def add(self, credential: Credential) -> None:
        """Add a credential, or the readers of one that is known already."""
        name = self._name_for(credential)
        known = self.found.get(name)
        if known is None:
            self.found[name] = replace(credential, name=name)
        else:
            self.found[name] = replace(known, readers=_with_readers(known.readers, credential.readers))

    def _name_for(self, credential: Credential) -> str:
        known = self.found.get(credential.name)
        if known is None or known.cert_path == credential.cert_path:
            return credential.name
        beside = os.path.relpath(credential.cert_path, os.path.dirname(known.cert_path))
        return credential.cert_path if beside.startswith("..") else os.path.splitext(beside)[0]


def _with_readers(known: tuple[ReaderSpec, ...], further: tuple[ReaderSpec, ...]) -> tuple[ReaderSpec, ...]:
    """Readers, each component once: what needs a restart for one of its uses needs a restart."""
    by_component = {reader.component: reader for reader in known}
    for reader in further:
        old = by_component.get(reader.component)
        if old is None or reader.reload == RESTART:
            by_component[reader.component] = reader
    return tuple(by_component.values())


def find_credentials(components: t.Mapping[str, Component], kubelet: KubeletSettings, kubernetes_dir: str) -> dict[str, Credential]:
    """The credentials of a node, in the order in which people read them. Files are looked at only to tell their kind."""
    collection = _Collection()
    authorities = _add_pairs(collection, components)
    _add_kubeconfigs(collection, components)
    _add_peoples(collection, components, kubernetes_dir)
    if kubelet.present:
        _add_kubelet(collection, kubelet)
    _add_authorities(collection, components, kubelet)
    _add_service_account(collection, components)
    return {name: _under_its_authority(credential, authorities.get(name), collection) for name, credential in collection.found.items()}


def _under_its_authority(credential: Credential, path: str | None, collection: _Collection) -> Credential:
    """With the name of the authority that lies at `path`: etcd may have one for its peers and another one for its clients."""
    names = (name for name, authority in collection.found.items() if authority.kind == "ca" and authority.cert_path == path)
    return replace(credential, ca=next(names, credential.ca))


def _add_pairs(collection: _Collection, components: t.Mapping[str, Component]) -> dict[str, str]:
    """Add what the flags name. Returns, by the credentials' names, where the authorities lie of which that is known."""
    authorities = {}
    for rule in PAIRS:
        component = components.get(rule.component)
        cert = component.flag(rule.cert_flag) if component else None
        if component is None or not cert:
            continue
        credential = _pair(rule, component, cert)
        collection.add(credential)
        authority = component.flag(rule.authority_flag) if rule.authority_flag else None
        if authority:
            authorities[credential.name] = host_path(authority, component.mounts)
        if rule.name == "etcd/server":
            for client in _client_pairs_beside(credential):
                if client.cert_path not in {known.cert_path for known in collection.found.values()}:
                    collection.add(client)
    return authorities


def _pair(rule: PairRule, component: Component, cert: str) -> Credential:
    path, key = host_path(cert, component.mounts), component.flag(rule.key_flag)
    return Credential(
        name=rule.name or path,
        kind="pair",
        cert_path=path,
        key_path=host_path(key, component.mounts) if key else None,
        usage=rule.usage,
        component=rule.component,
        ca=rule.ca,
        presented_by=rule.component,
        presented_to=rule.presented_to,
        readers=(ReaderSpec(rule.component, rule.reload, cert),),
    )


def _client_pairs_beside(server: Credential) -> t.Iterator[Credential]:
    """The client pairs for people and probes that kubeadm and kubespray put beside etcd's own."""
    folder, name = os.path.split(server.cert_path)
    for convention in ETCD_CLIENT_PAIRS:
        match = re.match(convention.beside + "$", name)
        if match:
            cert, key = (os.path.join(folder, file.replace("HOST", match.group(1))) for file in (convention.cert, convention.key))
            if os.path.lexists(cert) or os.path.lexists(key):
                own = convention.name or cert
                yield Credential(own, "pair", cert, key, "client", ETCD, "etcd/ca", presented_by="user", presented_to=ETCD)


def _add_kubeconfigs(collection: _Collection, components: t.Mapping[str, Component]) -> None:
    for rule in KUBECONFIGS:
        component = components.get(rule.component)
        inside = component.flag(rule.flag) if component else None
        if component is None or not inside:
            continue
        path = host_path(inside, component.mounts)
        files = _referenced_files(path)
        readers = (ReaderSpec(rule.component, HOT if files else RESTART, files[0] if files else inside),)
        cert, key = (host_path(files[0], component.mounts), host_path(files[1], component.mounts)) if files else (path, path)
        collection.add(
            Credential(
                name=rule.name,
                kind="pair" if files else "kubeconfig",
                cert_path=cert,
                key_path=key,
                usage="client",
                component=rule.component,
                ca="ca",
                presented_by=rule.component,
                presented_to=API_SERVER,
                readers=readers,
            )
        )


def _add_peoples(collection: _Collection, components: t.Mapping[str, Component], kubernetes_dir: str) -> None:
    """admin.conf and super-admin.conf: nothing needs them to be there (people delete them on purpose), so absence is no finding."""
    if API_SERVER not in components:
        return
    for convention in PEOPLES_KUBECONFIGS:
        path = os.path.join(kubernetes_dir, convention.name)
        if os.path.lexists(path):
            collection.add(
                Credential(
                    convention.name,
                    "kubeconfig",
                    path,
                    path,
                    "client",
                    convention.component,
                    "ca",
                    presented_by="user",
                    presented_to=API_SERVER,
                )
            )


def _add_kubelet(collection: _Collection, kubelet: KubeletSettings) -> None:
    if not kubelet.standalone:
        _add_kubelet_client(collection, kubelet)
    collection.add(_kubelet_serving(kubelet))


def _add_kubelet_client(collection: _Collection, kubelet: KubeletSettings) -> None:
    files = _referenced_files(kubelet.kubeconfig)
    current = os.path.join(kubelet.cert_dir, "kubelet-client-current.pem")
    rotated = kubelet.enabled("rotate-certificates", "rotateCertificates")
    if files is None and rotated and os.path.lexists(current):
        files = (current, current)
    if files is None or _embeds_a_certificate(kubelet.kubeconfig):
        collection.add(_kubelet_client("kubelet.conf", "kubeconfig", kubelet.kubeconfig, kubelet.kubeconfig, rotated))
    if files is not None:
        collection.add(_kubelet_client("kubelet-client", "pair", files[0], files[1], rotated))


def _kubelet_client(name: str, kind: str, cert: str, key: str, rotated: bool) -> Credential:
    return Credential(
        name=name,
        kind=kind,
        cert_path=cert,
        key_path=key,
        usage="client",
        component=KUBELET,
        ca="ca",
        presented_by=KUBELET,
        presented_to=API_SERVER,
        readers=(ReaderSpec(KUBELET, SELF, cert),),
        managed_by=KUBELET,
        rotated=rotated,
    )


def _kubelet_serving(kubelet: KubeletSettings) -> Credential:
    """The kubelet's serving certificate: an administrator's, one that the cluster signs, or (kubeadm's default) self-signed.

    What the cluster's CA has signed is renewed by it, whoever had it signed; any other administrator's certificate is renewed elsewhere.
    """
    if kubelet.serving_pair is not None:
        cert, key = kubelet.serving_pair
    elif kubelet.server_tls_bootstrap:
        cert = key = os.path.join(kubelet.cert_dir, "kubelet-server-current.pem")
    else:
        cert, key = (os.path.join(kubelet.cert_dir, "kubelet" + suffix) for suffix in (".crt", ".key"))
    by_kubelet = kubelet.server_tls_bootstrap and kubelet.serving_pair is None
    by_cluster = by_kubelet or _signed_by_any(cert, kubelet.client_ca_file)
    managed_by = KUBELET if by_kubelet else None if by_cluster or kubelet.serving_pair is None else "the administrator who set tlsCertFile"
    return Credential(
        name="kubelet-serving",
        kind="pair",
        cert_path=cert,
        key_path=key,
        usage="server",
        component=KUBELET,
        ca="ca" if by_cluster else None,
        presented_by=KUBELET,
        presented_to=API_SERVER,
        readers=(ReaderSpec(KUBELET, SELF if by_kubelet else HOT, cert),),
        self_signed_is_normal=not by_cluster and kubelet.serving_pair is None,
        managed_by=managed_by,
    )


def _signed_by_any(cert: str, authorities: str | None) -> bool:
    """Whether a file's first certificate was signed by one of an authorities' file; false where either cannot be read."""
    try:
        leaf = parse_certificates(read_bounded(cert), cert)[0]
        return any(signed_by(leaf, one) for one in parse_certificates(read_bounded(authorities), authorities)) if authorities else False
    except CertopsError:
        return False


def _add_authorities(collection: _Collection, components: t.Mapping[str, Component], kubelet: KubeletSettings) -> None:
    for rule in AUTHORITIES:
        component = components.get(rule.component)
        inside = component.flag(rule.flag) if component else None
        if component is not None and inside:
            reader = ReaderSpec(rule.component, rule.reload, inside)
            collection.add(_authority(rule.name, host_path(inside, component.mounts), rule.component, reader))
    if kubelet.client_ca_file:
        collection.add(_authority("ca", kubelet.client_ca_file, KUBELET, ReaderSpec(KUBELET, HOT, kubelet.client_ca_file)))


def _authority(name: str, path: str, component: str, reader: ReaderSpec) -> Credential:
    """A CA; its key, where it is on this node, lies beside it: `ca.key` (kubeadm) or `ca-key.pem` (kubespray, cfssl)."""
    stem, suffix = os.path.splitext(path)
    candidates = (stem + "-key" + suffix, stem + ".key") if suffix == ".pem" else (stem + ".key", stem + "-key.pem")
    key = next((candidate for candidate in candidates if os.path.lexists(candidate)), candidates[0])
    return Credential(name, "ca", path, key, "ca", component, readers=(reader,))


def _add_service_account(collection: _Collection, components: t.Mapping[str, Component]) -> None:
    public = _flag_path(components, *SERVICE_ACCOUNT_PUBLIC)
    readers: list[ReaderSpec] = []
    private: str | None = None
    for component_name, flag in SERVICE_ACCOUNT_PRIVATE:
        inside = components[component_name].flag(flag) if component_name in components else None
        if inside:
            private = private or _flag_path(components, component_name, flag)
            readers.append(ReaderSpec(component_name, RESTART, inside))
    path = public or private
    if path is not None:
        collection.add(
            Credential("sa", "signing-key", path, private, "signing-key", API_SERVER, presented_by=API_SERVER, readers=tuple(readers))
        )


def _flag_path(components: t.Mapping[str, Component], component_name: str, flag: str) -> str | None:
    component = components.get(component_name)
    inside = component.flag(flag) if component else None
    return host_path(inside, component.mounts) if component and inside else None


def read_kubeconfig(path: str) -> Kubeconfig | None:
    """A kubeconfig, or None where it cannot be read: that is the business of whoever describes it."""
    try:
        return parse_kubeconfig(read_bounded(path), path)
    except CertopsError:
        return None


def _referenced_files(path: str) -> tuple[str, str] | None:
    """The files that hold a kubeconfig's client certificate and key, when it names files instead of embedding them."""
    user = _user_of(read_kubeconfig(path))
    if user is None or user.client_certificate_data is not None or not user.client_certificate or not user.client_key:
        return None
    folder = os.path.dirname(path)
    return os.path.join(folder, user.client_certificate), os.path.join(folder, user.client_key)


def _embeds_a_certificate(path: str) -> bool:
    user = _user_of(read_kubeconfig(path))
    return user is not None and user.client_certificate_data is not None


def _user_of(config: Kubeconfig | None) -> UserCredential | None:
    try:
        return config.current_user() if config is not None else None
    except CertopsError:
        return None


__all__ = ("find_credentials", "read_kubeconfig")
