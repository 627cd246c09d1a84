# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Whether a client certificate is for the user and the groups that kubeadm makes it for. Pure functions.

The identities are those of kubeadm 1.28 to 1.36 (`cmd/kubeadm/app/phases/certs/certlist.go`, `phases/kubeconfig/kubeconfig.go`).
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._deps import NameOID
from ansible_collections.certops.kubernetes.plugins.module_utils._findings import INFO, WARNING
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import API_SERVER, KUBELET
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Finding
from ansible_collections.certops.kubernetes.plugins.module_utils._remedies import made_anew
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import shown

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._findings import About
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential, Node
    from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import Certificate

_MASTERS = "system:masters"
_CLUSTER_ADMINS = "kubeadm:cluster-admins"
_NODES = "system:nodes"
_NODE_PREFIX = "system:node:"
_KUBELETS = ("kubelet-client", "kubelet.conf")


@dataclass(frozen=True)
class _Identity:
    """`groups` are those that kubeadm gives it today, `earlier` others that it once gave it. `peoples`: no component lives by it."""

    user: str
    groups: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()
    peoples: bool = False


_IDENTITIES = {
    "apiserver-kubelet-client": _Identity("kube-apiserver-kubelet-client", earlier=(_CLUSTER_ADMINS, _MASTERS)),
    "controller-manager.conf": _Identity("system:kube-controller-manager"),
    "scheduler.conf": _Identity("system:kube-scheduler"),
    "admin.conf": _Identity("kubernetes-admin", (_CLUSTER_ADMINS,), peoples=True),
    "super-admin.conf": _Identity("kubernetes-super-admin", (_MASTERS,), peoples=True),
}


def identity_findings(about: About, credential: Credential, node: Node, certificate: Certificate) -> t.Iterator[Finding]:
    """unexpected_subject and unexpected_group; nothing for a certificate whose user and groups nobody looks at."""
    user, groups = _last(_values(certificate, NameOID.COMMON_NAME)), _values(certificate, NameOID.ORGANIZATION_NAME)
    remedy = made_anew(credential, node)
    if credential.name == "front-proxy-client":
        yield from _proxy_findings(about, node, user, remedy)
        return
    identity = _kubelet(node, user) if credential.name in _KUBELETS else _IDENTITIES.get(credential.name)
    if identity is None:
        return
    if user != identity.user:
        # Who is a master may do everything under any name.
        severity = INFO if identity.peoples or _MASTERS in groups else WARNING
        text = "is for %s, but kubeadm makes it for the user %s" % (_named(user), identity.user)
        yield Finding("unexpected_subject", severity, about.tells(text), remedy)
    yield from _group_findings(about, identity, groups, remedy)


def _kubelet(node: Node, user: str) -> _Identity:
    """Only --hostname-override says for certain how a kubelet calls its node: a cloud's provider may call it otherwise than the host."""
    kubelet = node.components.get(KUBELET)
    name = (kubelet.flag("hostname-override") or "").strip().lower() if kubelet is not None else ""
    if name:
        return _Identity(_NODE_PREFIX + name, (_NODES,))
    known = user if user.startswith(_NODE_PREFIX) and user != _NODE_PREFIX else _NODE_PREFIX + (node.name or "NAME")
    return _Identity(known, (_NODES,))


def _proxy_findings(about: About, node: Node, user: str, remedy: str) -> t.Iterator[Finding]:
    """Aggregated API servers believe the names that the API server's flag lists; every name, if it lists none."""
    api_server = node.components.get(API_SERVER)
    values = api_server.flags.get("requestheader-allowed-names", ()) if api_server is not None else ()
    allowed = [name.strip() for value in values for name in value.split(",") if name.strip()]
    if allowed and user not in allowed:
        text = "is for %s, but --requestheader-allowed-names of the API server names %s alone" % (_named(user), ", ".join(allowed))
        yield Finding("unexpected_subject", WARNING, about.tells(text), remedy)


def _group_findings(about: About, identity: _Identity, groups: t.Sequence[str], remedy: str) -> t.Iterator[Finding]:
    absent = [group for group in identity.groups if group not in groups]
    # A group that is called like the user, as some guides want it, is bound to nothing.
    further = [group for group in groups if group not in (*identity.groups, *identity.earlier, identity.user)]
    if identity.peoples and absent == [_CLUSTER_ADMINS] and further == [_MASTERS]:
        text = "is in the group %s, which may do everything, and no role binding can take that from it" % _MASTERS
        advice = "Since Kubernetes 1.29 kubeadm gives it %s, and %s to super-admin.conf alone. %s" % (_CLUSTER_ADMINS, _MASTERS, remedy)
        yield Finding("unexpected_group", INFO, about.tells(text), advice)
    elif absent or further:
        harmful = not identity.peoples and (absent or _MASTERS in further)
        text = "is in %s, but kubeadm makes it for %s" % (_listed(groups), _listed(identity.groups))
        yield Finding("unexpected_group", WARNING if harmful else INFO, about.tells(text), remedy)


def _values(certificate: Certificate, kind: t.Any) -> list[str]:
    """The values of an attribute of the subject, in its order, as Go reads them."""
    values = (attribute.value for attribute in certificate.subject.get_attributes_for_oid(kind))
    return [value if isinstance(value, str) else bytes(value).decode("utf-8", "replace") for value in values]


def _last(values: t.Sequence[str]) -> str:
    return values[-1] if values else ""


def _named(user: str) -> str:
    return "the user %s" % shown(user) if user else "nobody (it has no common name)"


def _listed(groups: t.Sequence[str]) -> str:
    if not groups:
        return "no group"
    return "the group%s %s" % ("s" if len(groups) > 1 else "", ", ".join(shown(group) for group in groups))


__all__ = ("identity_findings",)
