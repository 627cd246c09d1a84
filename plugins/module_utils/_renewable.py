# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Whether this node can renew a certificate, and if not, why not. The transaction checks the same again before it changes anything."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._files import final_target
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_api import (
    KUBELET_CONF,
    KUBELET_CREDENTIAL,
    KUBELETS,
    trusted_authorities,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import API_SERVER, ETCD, KUBELET
from ansible_collections.certops.kubernetes.plugins.module_utils._material import issuers_of, read_material
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._remedies import new_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._self_signed import foreign_signer
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import chain_problem, not_after
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._material import Material
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential, Node


@dataclass(frozen=True)
class Renewability:
    """Whether this node can renew a certificate; `because` says why not. Externally managed: its CA's key is kept elsewhere."""

    renewable: bool
    because: str | None = None
    externally_managed: bool = False


def renewability(
    credential: Credential, material: Material, node: Node, materials: t.Mapping[str, Material], now: datetime
) -> Renewability:
    """Whether this node can renew that credential. `materials` holds what lies in the files of each credential of the node, by name."""
    kept_elsewhere = _is_control_plane(node)
    if credential.kind == "ca":
        external = kept_elsewhere and material.leaf is not None and material.key_state == "missing"
        return Renewability(False, "certificate authorities are rotated by a procedure of their own", external)
    if credential.kind == "signing-key":
        return Renewability(False, "service-account keys are rotated by a procedure of their own")
    if credential.name in KUBELETS:
        return _kubelet_client(credential, material, node, materials, now)
    if credential.managed_by is not None:
        return Renewability(False, _managed(credential), externally_managed=credential.managed_by != KUBELET)
    problem = _own_problem(credential, material)
    if problem is not None:
        return Renewability(False, problem)
    if credential.self_signed_is_normal:
        return _by_itself(material)
    if credential.ca is None or credential.ca not in node.credentials:
        return Renewability(False, "no CA that signs it was found on this node")
    return _by_ca(node.credentials[credential.ca], material, materials[credential.ca], now)


def authorities_with_key(node: Node) -> list[str]:
    """Names of the CAs whose key is on this node and belongs to them."""
    return [
        credential.name
        for credential in node.credentials.values()
        if credential.kind == "ca" and read_material(credential).key_state == "matching"
    ]


def _managed(credential: Credential) -> str:
    return "the kubelet renews it itself" if credential.managed_by == KUBELET else "it belongs to %s" % credential.managed_by


def _kubelet_client(
    credential: Credential, material: Material, node: Node, materials: t.Mapping[str, Material], now: datetime
) -> Renewability:
    """The cluster's signer renews it while it is valid; once it has expired, only a CA whose key is on this node does."""
    if material.leaf is None:
        return Renewability(False, "there is no certificate to renew: %s" % (material.problem or "nothing was found").rstrip("."))
    ca = node.credentials.get(credential.ca or "")
    beside = materials[KUBELET_CREDENTIAL].leaf if credential.name == KUBELET_CONF and KUBELET_CREDENTIAL in materials else None
    if beside is not None and beside.subject != material.leaf.subject:
        return Renewability(False, "%s is for another client than %s" % (node.credentials[KUBELET_CREDENTIAL].cert_path, KUBELET_CONF))
    if any(not_after(one) > now for one in (material.leaf, beside) if one is not None):
        try:
            trusted = materials[ca.name].certificates if ca is not None else trusted_authorities(node)
        except CertopsError as error:
            return Renewability(False, "what the cluster signs could not be verified: %s" % str(error).rstrip("."))
        return Renewability(True) if issuers_of(material.leaf, trusted) else Renewability(False, "the CA on this node did not sign it")
    by_ca = _by_ca(ca, material, materials[ca.name], now) if ca is not None else Renewability(False, "no CA was found on this node")
    if by_ca.renewable:
        return by_ca
    return Renewability(
        False,
        "it has expired, so that the cluster takes no request from this kubelet, and %s: %s" % (by_ca.because, new_kubeconfig(node.name)),
    )


def _own_problem(credential: Credential, material: Material) -> str | None:
    if material.leaf is None:
        return "there is no certificate to renew: %s" % (material.problem or "nothing was found").rstrip(".")
    same_file = credential.key_path is not None and final_target(credential.key_path) == final_target(credential.cert_path)
    if credential.kind == "pair" and (credential.key_path is None or same_file):
        return "its key has no file of its own"
    return None


def _by_itself(material: Material) -> Renewability:
    stranger = foreign_signer(material.certificates)
    if stranger is not None:
        return Renewability(False, "%s signed it, which is not on this node" % stranger, externally_managed=True)
    return Renewability(True)


def _by_ca(ca: Credential, material: Material, ca_material: Material, now: datetime) -> Renewability:
    if ca_material.leaf is None:
        return Renewability(False, "its CA cannot be used: %s" % (ca_material.problem or "it was not found").rstrip("."))
    if ca_material.key_state == "missing":
        return Renewability(False, "the key of its CA is not on this node (%s)" % ca.key_path, externally_managed=True)
    if ca_material.key_state == "mismatch":
        return Renewability(False, "the CA key %s does not belong to the CA certificate %s" % (ca.key_path, ca.cert_path))
    if ca_material.key_state != "matching":
        return Renewability(False, "the key of its CA cannot be used: %s" % (ca_material.key_problem or "it was not found").rstrip("."))
    signers = issuers_of(material.leaf, ca_material.certificates)
    if not signers:
        because = "the CA on this node did not sign it: %s" % (chain_problem(material.leaf, ca_material.certificates) or "another one did")
        return Renewability(False, because, externally_managed=True)
    if all(not_after(certificate) <= now for certificate in signers):
        return Renewability(False, "its CA %s ended at %s" % (ca.cert_path, iso(not_after(signers[0]))))
    return Renewability(True)


def _is_control_plane(node: Node) -> bool:
    return API_SERVER in node.components or ETCD in node.components


__all__ = ("Renewability", "authorities_with_key", "renewability")
