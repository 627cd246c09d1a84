# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Whether a kubelet's request for a serving certificate is its own, and asks for nothing but its node's names and addresses. Pure.

The cluster never approves these by itself: whoever has such a certificate for another machine's address can pass for that machine.
What kubelets send is in Kubernetes' `pkg/kubelet/certificate/kubelet.go`, what the signer accepts at all in
`pkg/apis/certificates/helpers.go` (ValidateKubeletServingCSR); here more has to be right.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import typing as t
import warnings

from ansible_collections.certops.kubernetes.plugins.module_utils._csr import KUBELET_SERVING
from ansible_collections.certops.kubernetes.plugins.module_utils._deps import CRYPTO_ERRORS, NameOID, ec, ed25519, rsa, x509
from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig, items, text
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import describe_key, render_name, render_san, shown

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._csr import SigningRequest

_USER_PREFIX = "system:node:"
_NODES = "system:nodes"
_GROUPS = (_NODES, "system:authenticated")
_USAGES = frozenset(("digital signature", "server auth"))
_ALLOWED_USAGES = _USAGES | {"key encipherment"}
_NAME_TYPES = ("Hostname", "InternalDNS", "ExternalDNS")
_ADDRESS_TYPES = ("InternalIP", "ExternalIP")
_SHORTEST_RSA_KEY = 2048
_LONGEST_RSA_KEY = 8192
_SHORTEST_EC_KEY = 256
# What Go and this Python read must be the same request: Go skips text that Python takes for the beginning of one, and the other way round.
_ONE_BLOCK = re.compile(
    rb"-----BEGIN CERTIFICATE REQUEST-----\n([A-Za-z0-9+/\n]+={0,2})\n-----END CERTIFICATE REQUEST-----\n?\Z",
)
# PKCS#9's extensionRequest, and Microsoft's (1.3.6.1.4.1.311.2.1.14), which Kubernetes ignores and cryptography may prefer.
_EXTENSIONS = bytes.fromhex("2a864886f70d01090e")
_FOREIGN_EXTENSIONS = bytes.fromhex("2b06010401823702010e")


def requesting_node(request: SigningRequest) -> str | None:
    """The name of the node whose kubelet asks, by whom the API server saw; None when it was no kubelet."""
    name = request.user[len(_USER_PREFIX) :]
    return name if request.user.startswith(_USER_PREFIX) and name else None


def refusal(request: SigningRequest, node: t.Mapping[str, t.Any] | None) -> str | None:
    """Why a request is not to be approved, as a clause; None when all of it belongs to this node.

    `node` is the Node object of the one that asks, as JSON has it; None where the cluster knows none.
    """
    name = requesting_node(request)
    if request.signer != KUBELET_SERVING:
        return "it is a request to %s" % shown(request.signer)
    if name is None:
        return "%s asks for it, who is no kubelet" % (shown(request.user) or "nobody")
    missing = [group for group in _GROUPS if group not in request.groups]
    if missing:
        return "%s asks for it without being in the group %s" % (shown(request.user), " and ".join(missing))
    if node is None or dig(node, "metadata", "name") != name:
        return "the cluster has no Node %s" % shown(name)
    usages = frozenset(request.usages)
    if not _USAGES <= usages <= _ALLOWED_USAGES:
        return "it asks for the usages %s, which are not a server's" % (shown(", ".join(request.usages)) or "(none)")
    return _content_problem(request.request_pem, name, node)


def _content_problem(request_pem: bytes, name: str, node: t.Mapping[str, t.Any]) -> str | None:
    block = _ONE_BLOCK.match(request_pem)
    if block is None:
        return "what it asks for cannot be read: it is not a single PEM block as kubelets write it"
    try:
        der = base64.b64decode(block.group(1))
        if _FOREIGN_EXTENSIONS in der or der.count(_EXTENSIONS) > 1:
            return "it asks for extensions in more than one way"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            request = x509.load_der_x509_csr(der)
            valid, key, sans = request.is_signature_valid, request.public_key(), _sans(request)
            subject = sorted((attribute.oid.dotted_string, attribute.value) for attribute in request.subject)
            asks_for = render_name(request.subject)
    except CRYPTO_ERRORS as exc:
        return "what it asks for cannot be read: %s" % (" ".join(str(exc).split()).rstrip(".")[:200] or type(exc).__name__)
    wanted = [(NameOID.ORGANIZATION_NAME.dotted_string, _NODES), (NameOID.COMMON_NAME.dotted_string, _USER_PREFIX + name)]
    if not valid:
        return "it was not signed with the key that it is about"
    if subject != sorted(wanted):
        return "it asks for the subject %s, and not for O=%s, CN=%s%s" % (asks_for, _NODES, _USER_PREFIX, shown(name))
    return _key_problem(key) or _names_problem(sans, name, node)


def _sans(request: t.Any) -> list[t.Any]:
    try:
        return list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _key_problem(key: t.Any) -> str | None:
    size = getattr(key, "key_size", 0)
    if isinstance(key, rsa.RSAPublicKey) and _SHORTEST_RSA_KEY <= size <= _LONGEST_RSA_KEY:
        return None
    if isinstance(key, ec.EllipticCurvePublicKey) and size >= _SHORTEST_EC_KEY:
        return None
    if isinstance(key, ed25519.Ed25519PublicKey):
        return None
    algorithm, bits = describe_key(key)
    return "its key (%s%s) is none that is safe and that Kubernetes can use" % (algorithm, ", %d bits" % bits if bits else "")


def _names_problem(sans: t.Sequence[t.Any], name: str, node: t.Mapping[str, t.Any]) -> str | None:
    """Whether each name and address is one that this very node has."""
    names, addresses = _names_of(node), _addresses_of(node)
    if not sans:
        return "it names no name and no address to be valid for"
    for san in sans:
        if isinstance(san, x509.DNSName):
            known = san.value in names
        elif isinstance(san, x509.IPAddress):
            known = san.value in addresses
        else:
            return "it asks for %s, and a kubelet serves under names and addresses only" % shown(render_san(san))
        if not known:
            has = ", ".join(sorted([*names, *map(str, addresses)])) or "none"
            return "it asks for %s, which Node %s does not have (it has %s)" % (shown(render_san(san)), shown(name), shown(has))
    return None


def _names_of(node: t.Mapping[str, t.Any]) -> set[str]:
    return set(_reported(node, _NAME_TYPES))


def _addresses_of(node: t.Mapping[str, t.Any]) -> set[t.Any]:
    found = set()
    for address in _reported(node, _ADDRESS_TYPES):
        try:
            found.add(ipaddress.ip_address(address))
        except ValueError:
            continue  # what is no address matches none
    return found


def _reported(node: t.Mapping[str, t.Any], types: t.Sequence[str]) -> list[str]:
    entries = items(dig(node, "status", "addresses"))
    found = [text(dig(entry, "address")) for entry in entries if dig(entry, "type") in types]
    return [address for address in found if address is not None]


__all__ = ("refusal", "requesting_node")
