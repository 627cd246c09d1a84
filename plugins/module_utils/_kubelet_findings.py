# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Why a kubelet does not, or cannot, renew its client certificate by itself."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._findings import CRITICAL, WARNING, About
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import KUBELET
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Finding
from ansible_collections.certops.kubernetes.plugins.module_utils._remedies import new_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import not_after

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._material import Material
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential, Node

_CLIENT, _EMBEDDED = "kubelet-client", "kubelet.conf"
_CONVERT = (
    "Let the user of that kubeconfig name kubelet-client-current.pem in the kubelet's --cert-dir as client-certificate and client-key: "
    "certops.kubernetes.rotate does it when it renews this one (certs_rotate_select \"[?name=='kubelet.conf']\" with certs_rotate_force "
    "at once); or kubeadm init phase kubelet-finalize, and restart the kubelet."
)


def rotation_findings(about: About, credential: Credential, material: Material, node: Node, now: datetime) -> list[Finding]:
    """rotation_off and cannot_renew_itself, of the kubelet's client certificate; nothing for any other one."""
    if credential.name not in (_CLIENT, _EMBEDDED):
        return []
    findings = []
    if credential.rotated is False:
        findings.append(
            Finding(
                "rotation_off",
                WARNING,
                about.tells("is not renewed by the kubelet: its rotateCertificates (--rotate-certificates) is off"),
                "Run certops.kubernetes.rotate with certs_rotate_enable_kubelet_rotation: true, or set rotateCertificates: true in the "
                "kubelet's configuration and restart the kubelet. Until then certops.kubernetes.rotate renews it.",
            )
        )
    reason = _obstacle(credential, material, now)
    if reason is not None:
        gone = credential.name == _CLIENT or (material.leaf is not None and not_after(material.leaf) <= now)
        text = "cannot be renewed by the kubelet: %s" % reason
        findings.append(
            Finding(
                "cannot_renew_itself",
                CRITICAL if gone else WARNING,
                about.tells(text + (", and %s" % _bootstrap(node) if gone else "")),
                _way_out(node) if gone else _CONVERT,
            )
        )
    return findings


def _obstacle(credential: Credential, material: Material, now: datetime) -> str | None:
    if material.leaf is not None and not_after(material.leaf) <= now:
        return "it has expired, so that the cluster takes no request from it"
    if credential.name == _EMBEDDED:
        return "it is embedded in the kubeconfig" if material.leaf is not None else None
    if material.problem_code == "missing" and os.path.islink(credential.cert_path):
        return "the link leads to %s, which is not there" % os.readlink(credential.cert_path)
    return None


def _bootstrap(node: Node) -> str:
    kubelet = node.components.get(KUBELET)
    path = kubelet.flag("bootstrap-kubeconfig") if kubelet else None
    if path is None and (kubelet is None or kubelet.process is None):
        return "as it does not run, nothing tells of a --bootstrap-kubeconfig to ask for another one with"
    if path is None:
        return "it has no --bootstrap-kubeconfig to ask for another one with"
    if not os.path.exists(path):
        return "there is no %s to ask for another one with" % path
    return "only with a valid token in %s it gets another one when it is restarted" % path


def _way_out(node: Node) -> str:
    return "Renew it with certops.kubernetes.rotate where the CA's key is on this node; else %s." % new_kubeconfig(node.name)


__all__ = ("rotation_findings",)
