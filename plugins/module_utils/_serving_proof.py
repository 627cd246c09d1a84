# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Approve what kubelets ask for until each serves what the cluster signed: seen by a handshake where API servers reach it."""

from __future__ import annotations

import ssl
import time
import typing as t
from dataclasses import dataclass
from urllib.parse import quote

from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig, items, text
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import DEFAULT_PORTS, KUBELET, as_port
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._serving_approval import Judgement, approve_pending
from ansible_collections.certops.kubernetes.plugins.module_utils._tls_probe import served_certificate
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import describe, parse_certificates, signed_by
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso, render_name

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient
    from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import Certificate

# As kubeadm sets the API server's --kubelet-preferred-address-types
_ADDRESS_TYPES = ("InternalIP", "ExternalIP", "Hostname")
_TIMEOUT_SECONDS = 2.0
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Served:
    """A kubelet that serves a certificate of the cluster: where, and until when that is valid."""

    node: str
    address: str
    not_after: str


@dataclass(frozen=True)
class Unserved:
    """A kubelet that does not, and what was seen instead, as a clause."""

    node: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What became of requests, and what each node serves now."""

    judgement: Judgement
    served: tuple[Served, ...]
    unserved: tuple[Unserved, ...]


def approve_until_served(
    client: ApiClient,
    names: t.Sequence[str],
    authorities: t.Sequence[Certificate],
    seconds: float,
    sleep: t.Callable[[float], None] = time.sleep,
    monotonic: t.Callable[[], float] = time.monotonic,
) -> Outcome:
    """Approve what these nodes ask for, again and again, until each serves what one of `authorities` signed, or the time is over.

    `names`: Kubernetes' names of the nodes. Raises ApiError when the API cannot be asked or refuses.
    """
    deadline = monotonic() + seconds
    approved: list[t.Any] = []
    while True:
        judged = approve_pending(client, names)
        approved.extend(judged.approved)
        seen = [_look(client, name, authorities) for name in names]
        unserved = tuple(one for one in seen if isinstance(one, Unserved))
        if not unserved or monotonic() > deadline:
            served = tuple(one for one in seen if isinstance(one, Served))
            return Outcome(Judgement(tuple(approved), judged.left_alone), served, unserved)
        sleep(_POLL_SECONDS)


def _look(client: ApiClient, name: str, authorities: t.Sequence[Certificate]) -> Served | Unserved:
    node = client.json("GET", "/api/v1/nodes/" + quote(name, safe=""))
    addresses = [(dig(entry, "type"), text(dig(entry, "address"))) for entry in items(dig(node, "status", "addresses"))]
    host = next((address for kind in _ADDRESS_TYPES for known, address in addresses if known == kind and address), None)
    if host is None:
        return Unserved(name, "its Node object has no address")
    port = as_port(str(dig(node, "status", "daemonEndpoints", "kubeletEndpoint", "Port")), DEFAULT_PORTS[KUBELET])
    try:
        shown = ssl.DER_cert_to_PEM_cert(served_certificate(host, port, None, _TIMEOUT_SECONDS).der)
        leaf = parse_certificates(shown.encode(), "what %s:%d shows" % (host, port))[0]
    except CertopsError as error:
        return Unserved(name, "no certificate could be seen: %s" % str(error).rstrip("."))
    if not any(signed_by(leaf, authority) for authority in authorities):
        return Unserved(name, "%s:%d shows a certificate that %s signed, not the cluster's CA" % (host, port, render_name(leaf.issuer)))
    return Served(name, "%s:%d" % (host, port), iso(describe(leaf).not_after))


__all__ = ("Outcome", "Served", "Unserved", "approve_until_served")
