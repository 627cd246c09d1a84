# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The node for the tests of the transaction, with a kubelet that has a client certificate as kubelets write it."""

from __future__ import annotations

import base64
import dataclasses
import os
import typing as t
from datetime import datetime, timedelta, timezone

from ansible_collections.certops.kubernetes.plugins.module_utils._credentials import find_credentials
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_config import KubeletSettings
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Credential, Node, Reader, ReaderSpec, Record
from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import NodeAccess
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import load_private_key, parse_certificates
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_request import grant_request
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import KUBELET, FakeNode

if t.TYPE_CHECKING:
    from pathlib import Path

CLIENT, CONF = "kubelet-client", "kubelet.conf"

_CONF = """\
# written by hand, keep this line
apiVersion: v1
kind: Config
clusters: [{name: k, cluster: {server: "https://10.0.0.1:6443"%s}}]
contexts: [{name: c, context: {cluster: k, user: u}}]
current-context: c
users:
- name: u
  user:
    client-certificate-data: %s
    client-key-data: "%s"  # and this one
"""


class KubeletNode(FakeNode):
    """The node. `asked` holds what the cluster's signer was asked for: usages and seconds."""

    def __init__(self, root: Path, left: timedelta = timedelta(days=3), key: str = "EC-256") -> None:
        """`left` is how long the client certificate is still valid."""
        super().__init__(root)
        self.asked: list[tuple[tuple[str, ...], int]] = []
        end = datetime.now(timezone.utc) + left
        self.pair = pki.make_leaf(
            self.authorities["ca"],
            "system:node:n1",
            organization="system:nodes",
            not_before=end - timedelta(days=300),
            not_after=end,
            key=key,
        )
        self.folder = self.path("kubelet")
        self.folder.mkdir()
        self.old = self.folder / "kubelet-client-2026-01-02-03-04-05.pem"
        self.old.write_bytes(self.pair.cert_pem + self.pair.key_pem)
        self.old.chmod(0o600)
        self.link = self.folder / "kubelet-client-current.pem"
        self.link.symlink_to(self.old)
        self.kubelet_reads = {CLIENT: "self"}
        self.run_kubelet(**self.kubelet_reads)

    def credential(self, name: str) -> Credential:
        """As discovery finds it."""
        if name != CLIENT:
            return super().credential(name)
        path = str(self.link)
        return Credential(CLIENT, "pair", path, path, "client", "kubelet", "ca", presented_to="kube-apiserver", managed_by="kubelet")

    def discover(self) -> Node:
        """The node as it is now."""
        node = super().discover()
        return dataclasses.replace(node, credentials={**node.credentials, CLIENT: self._with_kubelet(self.credential(CLIENT))})

    def start(self, component: str) -> None:
        """A kubelet reads its certificate then."""
        super().start(component)
        if component == KUBELET:
            self.loaded[component, CLIENT] = self.on_disk(CLIENT)

    def _reader(self, name: str, spec: ReaderSpec) -> Reader:
        if name != CLIENT or KUBELET not in self.processes:
            return super()._reader(name, spec)
        has_it = self.loaded[KUBELET, CLIENT] == self.on_disk(CLIENT)
        return Reader(KUBELET, spec.reload, "true" if has_it else "false", "process_age")

    def reader_states(self, name: str) -> list[str]:
        """Also of the kubelet."""
        return [self._reader(name, spec).in_use for spec in self._with_kubelet(self.credential(name)).readers]

    def inspect(self, node: Node) -> list[Record]:
        """With the kubelet's."""
        return [*super().inspect(node), self._record(CLIENT, node)]

    def sign(self, _node: Node, request: bytes, usages: t.Sequence[str], seconds: int) -> bytes:
        """The cluster's signer, which has the same CA."""
        self.asked.append((tuple(usages), seconds))
        ca = self.authorities["ca"]
        old = parse_certificates(self.pair.cert_pem, "old")[0]
        certificate, key = parse_certificates(ca.cert_pem, "ca")[0], load_private_key(ca.key_pem, "ca")
        return grant_request(request, old, certificate, key, datetime.now(timezone.utc), seconds)

    def access(self) -> NodeAccess:
        """This node for a transaction."""
        return dataclasses.replace(super().access(), ask_signer=self.sign)

    def pems(self) -> set[str]:
        """What lies in the kubelet's folder, where links lead too."""
        return {"%s -> %s" % (path.name, os.readlink(path)) if path.is_symlink() else path.name for path in self.folder.iterdir()}


class EmbeddedNode(KubeletNode):
    """The same with a kubelet.conf that embeds this certificate. `linked`: it has the link to it, too."""

    def __init__(self, root: Path, *, rotated: bool = True, linked: bool = False, left: timedelta = timedelta(days=3)) -> None:
        """`rotated`: whether the kubelet's rotation is on."""
        self.rotated = rotated
        super().__init__(root, left)
        encoded = [base64.b64encode(data).decode() for data in (self.authorities["ca"].cert_pem, self.pair.cert_pem, self.pair.key_pem)]
        self.conf = self.path(CONF)
        self.conf.write_text(_CONF % (", certificate-authority-data: " + encoded[0], *encoded[1:]))
        self.conf.chmod(0o640)
        if not linked:
            self.link.unlink()
            self.old.unlink()
        self.start(KUBELET)

    def _flags(self) -> dict[str, tuple[str, ...]]:
        rotated = "true" if self.rotated else "false"
        return {"cert-dir": (str(self.folder),), "kubeconfig": (str(self.path(CONF)),), "rotate-certificates": (rotated,)}

    def kubelets(self) -> dict[str, Credential]:
        """Its client certificates, as discovery finds them."""
        found = find_credentials({}, KubeletSettings(self._flags(), present=True), str(self.kubernetes))
        return {name: found[name] for name in (CONF, CLIENT) if name in found}

    def credential(self, name: str) -> Credential:
        """As discovery finds it."""
        if name not in (CONF, CLIENT):
            return super().credential(name)
        found = self.kubelets()
        if name not in found:
            raise CertopsError("there is no %s" % name)
        return found[name]

    def discover(self) -> Node:
        """The node as it is now."""
        node = FakeNode.discover(self)
        kubelet = dataclasses.replace(node.components[KUBELET], flags=self._flags())
        credentials = {**node.credentials, **self.kubelets()}
        return dataclasses.replace(node, components={**node.components, KUBELET: kubelet}, credentials=credentials)

    def inspect(self, node: Node) -> list[Record]:
        """With the kubelet's."""
        return [*FakeNode.inspect(self, node), *(self._record(name, node) for name in self.kubelets())]
