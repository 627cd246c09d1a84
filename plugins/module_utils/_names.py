# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Whether a server's certificate has the names that kubeadm's configuration of the cluster wants. Pure functions.

The names are those of kubeadm 1.31 to 1.36 (`cmd/kubeadm/app/util/pkiutil/pki_helpers.go`: GetAPIServerAltNames, GetEtcdAltNames).
"""

from __future__ import annotations

import ipaddress
import os
import re
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig, text, texts
from ansible_collections.certops.kubernetes.plugins.module_utils._findings import INFO, WARNING
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import API_SERVER
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Finding
from ansible_collections.certops.kubernetes.plugins.module_utils._remedies import made_anew
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import shown

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._findings import About
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential, Node

_ETCD_SANS = {"etcd/server": "serverCertSANs", "etcd/peer": "peerCertSANs"}
_SHOWN = 5
_DNS_NAME = re.compile(r"(?:\*\.)?[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\Z")


def names_findings(about: About, credential: Credential, node: Node, sans: t.Sequence[str], configuration: t.Any) -> t.Iterator[Finding]:
    """sans_differ. `sans` are the certificate's, as records show them; `configuration` is kubeadm's ClusterConfiguration, None: not known.

    Nothing for what lies elsewhere than in the configuration's own folder, since kubeadm did not make it.
    """
    wanted = wanted_names(credential, node, configuration)
    if not wanted:
        return
    present = {"DNS:%s" % san[4:].lower() if san.startswith("DNS:") else san for san in sans}
    own = _san(node.name or "")
    missing = [name for name in wanted if name not in present]
    further = sorted(present.difference(wanted, {own}))
    if not missing and not further:
        return
    differs = (["lacks %s" % _listed(missing)] if missing else []) + (["has %s beyond it" % _listed(further)] if further else [])
    yield Finding(
        "sans_differ",
        # Hardly anybody asks for a node by its name, and a cloud's provider may have renamed it.
        WARNING if set(missing) - {own} else INFO,
        about.tells("has other names than kubeadm's configuration of the cluster wants: it %s" % " and ".join(differs)),
        "Put the certificate right, or the configuration. certops.kubernetes.rotate renews it with the names of the configuration if"
        " certs_rotate_refresh_sans is true. Without that: %s" % made_anew(credential, node),
    )


def wanted_names(credential: Credential, node: Node, configuration: t.Any) -> list[str]:
    """The names (as records show them) that kubeadm would put into that certificate on this node.

    Empty for one that has none, and for what lies elsewhere than in the configuration's own folder.
    """
    folder = text(dig(configuration, "certificatesDir")) or os.path.join(node.kubernetes_dir, "pki")
    if not isinstance(configuration, dict) or credential.cert_path != os.path.join(folder, credential.name + ".crt"):
        return []
    return _wanted(credential.name, node, configuration)


def refreshed_names(credential: Credential, node: Node, configuration: t.Any) -> tuple[str, ...]:
    """`wanted_names` for a new certificate, in kubeadm's order. Raises CertopsError when it is not known for certain what they are."""
    api_server = node.components.get(API_SERVER)
    unknown = [
        what
        for what, known in (
            ("kubeadm's ClusterConfiguration (ConfigMap kube-system/kubeadm-config)", configuration),
            ("this node's name", node.name),
            ("the API server's --advertise-address", api_server is not None and api_server.flag("advertise-address")),
            ("the first address of serviceSubnet", _first_address(text(dig(configuration, "networking", "serviceSubnet")))),
        )
        if not known
    ]
    names = [] if unknown else wanted_names(credential, node, configuration)
    if not names:
        raise CertopsError(
            "the names that it should have are not known: %s. Remedy: see to that, or run with certs_rotate_refresh_sans false, which keeps"
            " its names." % (" and ".join(unknown) + " could not be read" if unknown else "kubeadm did not make this one")
        )
    # kubeadm (RemoveDuplicateAltNames) sorts the names of the DNS, which come first, and leaves addresses in their order.
    return (*sorted(name for name in names if name.startswith("DNS:")), *(name for name in names if name.startswith("IP:")))


def _wanted(name: str, node: Node, configuration: dict[str, t.Any]) -> list[str]:
    """The names that kubeadm would put into that certificate on this node; empty for one that has none, or is not kubeadm's."""
    api_server = node.components.get(API_SERVER)
    address = api_server.flag("advertise-address") if api_server is not None else None
    if name == "apiserver":
        service = "kubernetes.default.svc"
        networking = configuration.get("networking")
        found = [node.name, "kubernetes", "kubernetes.default", service]
        found += ["%s.%s" % (service, text(dig(networking, "dnsDomain")) or "cluster.local")]
        found += [_first_address(text(dig(networking, "serviceSubnet"))), address, _host(text(configuration.get("controlPlaneEndpoint")))]
        found += texts(dig(configuration, "apiServer", "certSANs"))
    elif name in _ETCD_SANS and isinstance(dig(configuration, "etcd", "local"), dict):
        found = [node.name, "localhost", address, "127.0.0.1", "::1", *texts(dig(configuration, "etcd", "local", _ETCD_SANS[name]))]
    else:
        return []
    return list(dict.fromkeys(_san(one) for one in found if one and _is_name(one)))


def _first_address(subnets: str | None) -> str | None:
    """The API's own address among those of services: the first one of the first subnet."""
    try:
        return str(ipaddress.ip_network((subnets or "").split(",")[0].strip(), strict=False)[1])
    except (ValueError, IndexError):
        return None


def _host(endpoint: str | None) -> str | None:
    """The host of `host`, `host:port`, `[ipv6]:port` or an IPv6 address."""
    if not endpoint or _address(endpoint) is not None:
        return endpoint
    host, colon, port = endpoint.rpartition(":")
    return (host if colon and port.isdigit() else endpoint).strip("[]")


def _is_name(name: str) -> bool:
    """kubeadm leaves out what is neither an address nor a name of the DNS in lower case, with or without a star."""
    return _address(name) is not None or _DNS_NAME.match(name) is not None


def _san(name: str) -> str:
    """A name as records show it, so that equal ones are equal texts."""
    address = _address(name)
    return "DNS:%s" % name.lower() if address is None else "IP:%s" % address


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name) if "%" not in name else None  # Go knows no zones in a certificate
    except ValueError:
        return None


def _listed(names: t.Sequence[str]) -> str:
    more = " and %d more" % (len(names) - _SHOWN) if len(names) > _SHOWN else ""
    return ", ".join(shown(name) for name in names[:_SHOWN]) + more


__all__ = ("names_findings", "refreshed_names", "wanted_names")
