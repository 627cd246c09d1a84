# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Certificates in kubeadm's folders that nothing on a control-plane node names. Reads files, changes nothing."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._files import final_target, read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._findings import INFO
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import API_SERVER
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Finding
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import parse_certificates
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import shown

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node

_FOLDERS = ("pki", os.path.join("pki", "etcd"))
_SUFFIXES = (".crt", ".pem")
# Of a folder's files, and of the configuration files in which their names are looked for
_MOST = 500
_SHOWN = 5


def unused_files(node: Node) -> list[Finding]:
    """One finding unused_file for all of them; none on a host without an API server, where kubeadm's guides leave files for others.

    In use is what discovery found, and each file whose name follows a slash in a component's flag, in a manifest or in another file
    below the node's Kubernetes folder, whoever reads that.
    """
    if API_SERVER not in node.components:
        return []
    candidates = _strangers(node)
    for text in _texts(node) if candidates else ():
        candidates = [path for path in candidates if b"/" + os.fsencode(os.path.basename(path)) not in text]
    unused = [path for path in candidates if _is_certificate(path)]
    if not unused:
        return []
    listed = ", ".join(shown(path) for path in unused[:_SHOWN]) + (" and %d more" % (len(unused) - _SHOWN) if len(unused) > _SHOWN else "")
    message = "No process, manifest or configuration file of this node names %s%s." % (listed, " (%s)" % node.name if node.name else "")
    remedy = "If nobody else reads them, move them away together with their keys: nothing renews them, and their end alarms other tools."
    return [Finding("unused_file", INFO, message, remedy)]


def _strangers(node: Node) -> list[str]:
    """The files of kubeadm's folders that look like certificates and are no credential of the node."""
    known = {_real(path) for credential in node.credentials.values() for path in (credential.cert_path, credential.key_path)}
    folders = [os.path.join(node.kubernetes_dir, folder) for folder in _FOLDERS]
    found = (os.path.join(folder, name) for folder in folders for name in _names(folder))
    return [path for path in found if path.endswith(_SUFFIXES) and _real(path) not in known]


def _real(path: str | None) -> str | None:
    """A path without symbolic links; None for what a flag may hold, but is no path."""
    try:
        return final_target(path) if path is not None else None
    except ValueError:
        return None


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))[:_MOST]
    except OSError:
        return []


def _texts(node: Node) -> t.Iterator[bytes]:
    """What may name a file: components' flags, and the files below the Kubernetes folder and beside the manifests."""
    for component in node.components.values():
        yield "\n".join(value for values in component.flags.values() for value in values).encode("utf-8", "surrogatepass")
    manifests = {os.path.dirname(component.manifest) for component in node.components.values() if component.manifest}
    for path in _configuration_files([node.kubernetes_dir, *sorted(manifests)]):
        try:
            yield read_bounded(path)
        except CertopsError:
            continue


def _configuration_files(folders: t.Sequence[str]) -> t.Iterator[str]:
    """At most so many files below the folders; no certificates and keys, and nothing that kubeadm's upgrades put aside in `tmp`."""
    number = 0
    for folder in folders:
        for parent, below, names in os.walk(folder):
            below[:] = sorted(name for name in below if name != "tmp")
            for name in sorted(name for name in names if not name.endswith((*_SUFFIXES, ".key"))):
                number += 1
                if number > _MOST:
                    return
                yield os.path.join(parent, name)


def _is_certificate(path: str) -> bool:
    try:
        return bool(parse_certificates(read_bounded(path), path))
    except CertopsError:
        return False


__all__ = ("unused_files",)
