# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The same identity in two places of one node with different keys: whoever replaces one of them forgets the other. Pure functions.

Only client certificates of one CA count. kubeadm makes each of those once on a node; that other nodes have keys of their own for the same
identity is as it should be, and so are etcd's two certificates for servers of one name. The kubelet's own lie in several places by design.
"""

from __future__ import annotations

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._files import final_target
from ansible_collections.certops.kubernetes.plugins.module_utils._findings import INFO
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Finding
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import public_bytes
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import shown

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._findings import About
    from ansible_collections.certops.kubernetes.plugins.module_utils._material import Material
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential, Node


def twin_findings(about: About, credential: Credential, node: Node, materials: t.Mapping[str, Material]) -> t.Iterator[Finding]:
    """identity_twice: other files of the node hold the same subject of the same CA with another key."""
    own = _identity(credential, materials)
    if own is None:
        return
    others = []
    for name, other in node.credentials.items():
        found = _identity(other, materials)
        if found is not None and found[:2] == own[:2] and found[2] != own[2] and not _same_file(credential, other):
            others.append("%s (%s)" % (name, other.cert_path))
    if others:
        yield Finding(
            "identity_twice",
            INFO,
            about.tells("is for %s, for whom there is another key in %s" % (shown(own[1]), " and ".join(others))),
            "Keep one of them, or give each a user of its own: the API server cannot tell them apart.",
        )


def _identity(credential: Credential, materials: t.Mapping[str, Material]) -> tuple[str, str, bytes] | None:
    """The CA, the subject and the public key of a client's certificate; None for all others."""
    material = materials.get(credential.name)
    if credential.usage != "client" or credential.ca is None or credential.managed_by is not None or material is None:
        return None
    if material.leaf is None or material.facts is None:
        return None
    return credential.ca, material.facts.subject, public_bytes(material.leaf.public_key())


def _same_file(one: Credential, other: Credential) -> bool:
    return final_target(one.cert_path) == final_target(other.cert_path)


__all__ = ("twin_findings",)
