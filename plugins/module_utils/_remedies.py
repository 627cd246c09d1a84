# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What to do about a certificate that is due, and about one that has to say something else. Pure functions."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import KUBELET

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential, Node
    from ansible_collections.certops.kubernetes.plugins.module_utils._renewable import Renewability

RENEW = "Renew it: certops.kubernetes.rotate does that, or kubeadm certs renew."

_KUBEADM_KUBECONFIGS = ("admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf")
_KUBEADM_PAIRS = (
    *("apiserver", "apiserver-kubelet-client", "apiserver-etcd-client", "front-proxy-client"),
    *("etcd/server", "etcd/peer", "etcd/healthcheck-client"),
)
_MADE_BY_KUBELET = "Move the file and its key away and restart the kubelet: it makes new ones."
_CONFIGURATION = "the cluster's ClusterConfiguration (kubectl -n kube-system get configmap kubeadm-config) as its --config"


def renewed(credential: Credential, renewable: Renewability) -> str:
    """How this certificate gets renewed."""
    by_kubelet = "The kubelet renews it by itself after 70 to 90 % of its lifetime: if it did not, "
    if renewable.renewable:
        if credential.managed_by == KUBELET and credential.kind == "kubeconfig":
            return "Renew it: certops.kubernetes.rotate does that, and lets the kubeconfig name a file that the kubelet renews."
        if credential.managed_by == KUBELET:
            return by_kubelet + "certops.kubernetes.rotate does."
        return RENEW if credential.component != KUBELET else "Renew it: certops.kubernetes.rotate does that."
    if credential.kind == "ca":
        return "Rotate this certificate authority before it ends; everything that it signed ends with it."
    if credential.self_signed_is_normal and not renewable.externally_managed:
        return _MADE_BY_KUBELET
    if credential.managed_by == KUBELET:
        return by_kubelet + "look at its log and at rotateCertificates."
    if renewable.externally_managed:
        return (
            "certops.kubernetes.rotate has it signed where the key of its CA is kept, if that host is in its run (here: %s)."
            % renewable.because
        )
    return "It cannot be renewed here yet: %s." % renewable.because


def new_kubeconfig(node_name: str | None) -> str:
    """The way out for a kubelet that cannot ask for a certificate any more, as the end of a sentence.

    Without the cluster's configuration kubeadm would name the API server of the node where it runs instead of the cluster's endpoint, and
    look for the CA in its own folder only.
    """
    return (
        "make this node a new kubelet.conf where the CA's key is (kubectl -n kube-system get configmap kubeadm-config "
        "-o jsonpath='{.data.ClusterConfiguration}' | kubeadm kubeconfig user --config /dev/stdin --org system:nodes "
        "--client-name system:node:%s) and restart the kubelet" % (node_name or "NAME")
    )


def made_anew(credential: Credential, node: Node) -> str:
    """How this certificate gets other names, usages or another subject: a renewal keeps what it says."""
    phase = _kubeadm_phase(credential, node.kubernetes_dir)
    if phase is not None:
        restart = "".join(", restart %s" % reader.component for reader in credential.readers if reader.reload == "restart")
        what = "the file" if credential.kind == "kubeconfig" else "it and its key"
        return "Renewing keeps what it says. Move %s away, run kubeadm init phase %s with %s%s." % (what, phase, _CONFIGURATION, restart)
    if credential.self_signed_is_normal:
        return "Renewing keeps what it says. " + _MADE_BY_KUBELET
    if credential.managed_by == KUBELET:
        way = new_kubeconfig(node.name)
        return "The kubelet's renewals keep what it says. %s." % (way[:1].upper() + way[1:])
    return "Renewing keeps what it says: have its CA sign another one, by whatever made this one."


def _kubeadm_phase(credential: Credential, kubernetes_dir: str) -> str | None:
    """The phase of kubeadm init that makes this very file; None for a file that lies elsewhere than kubeadm writes it."""
    name, path = credential.name, credential.cert_path
    if credential.kind == "kubeconfig" and name in _KUBEADM_KUBECONFIGS and path == os.path.join(kubernetes_dir, name):
        return "kubeconfig %s" % name[: -len(".conf")]
    # Below that folder, since kubespray's `certificatesDir` is not kubeadm's own.
    if name in _KUBEADM_PAIRS and path.startswith(os.path.join(kubernetes_dir, "")) and path.endswith("/%s.crt" % name):
        return "certs %s" % name.replace("/", "-")
    return None


__all__ = ("RENEW", "made_anew", "new_kubeconfig", "renewed")
