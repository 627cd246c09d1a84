# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What was discovered on a node → its records: what lies in files, what is served, who has what, and what is wrong."""

from __future__ import annotations

import hashlib
import ssl
import typing as t
from dataclasses import asdict, dataclass, fields

from ansible_collections.certops.kubernetes.plugins.module_utils._drift import drift_findings, key_findings
from ansible_collections.certops.kubernetes.plugins.module_utils._findings import (
    About,
    Thresholds,
    chain_invalid,
    date_findings,
    hard_linked,
    key_mismatch,
    key_readable_by_others,
    missing,
    not_signed,
    other_users,
    outlives_ca,
    process_has_older_file,
    served_differs,
    status_by_severity,
    unreachable,
    unreadable,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._further_records import further_records
from ansible_collections.certops.kubernetes.plugins.module_utils._in_memory import PREFIX, is_made_at_start, loopback_endpoints
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_api import KUBELET_CONF, KUBELET_CREDENTIAL, kubelet_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_findings import rotation_findings
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_use import kubelet_readers
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import KUBELET
from ansible_collections.certops.kubernetes.plugins.module_utils._material import (
    Material,
    attributes_by_path,
    issuers_of,
    read_material,
    watched_links,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import (
    CertopsError,
    Credential,
    Endpoint,
    Finding,
    Node,
    Reader,
    Record,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._names import names_findings
from ansible_collections.certops.kubernetes.plugins.module_utils._owners import owner_findings
from ansible_collections.certops.kubernetes.plugins.module_utils._readers import Served, readers_of
from ansible_collections.certops.kubernetes.plugins.module_utils._records import Setting, dated_record, record
from ansible_collections.certops.kubernetes.plugins.module_utils._remedies import renewed
from ansible_collections.certops.kubernetes.plugins.module_utils._renewable import renewability
from ansible_collections.certops.kubernetes.plugins.module_utils._tls_probe import Probe
from ansible_collections.certops.kubernetes.plugins.module_utils._twins import twin_findings
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import (
    Certificate,
    CertificateFacts,
    chain_problem,
    describe,
    not_after,
    parse_certificates,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._files import Attributes

_OTHERS = 0o007


@dataclass(frozen=True)
class _Inspection(Setting):
    """The setting, and what was found."""

    found: Node
    materials: t.Mapping[str, Material]
    configuration: t.Any = None  # kubeadm's ClusterConfiguration


def inspect_node(
    node: Node,
    host: str,
    cluster: str | None,
    now: datetime,
    thresholds: Thresholds,
    probe_timeout_seconds: float = 2.0,
    configuration: t.Callable[[], t.Any] = lambda: None,
) -> list[Record]:
    """The records of a node: each credential, then what each address serves (all asked at once, each for `probe_timeout_seconds`).

    `host` is the inventory's name of it; `cluster` overrides the discovered name; `configuration` gives kubeadm's
    ClusterConfiguration, or None, and is waited for after the addresses. Never raises for what it finds.
    """
    endpoints = [endpoint for component in node.components.values() for endpoint in component.endpoints]
    loopback = loopback_endpoints(node)
    probes = {one: Probe(one.host, one.port, one.server_name, probe_timeout_seconds) for one in (*endpoints, *loopback)}
    materials = {name: read_material(credential) for name, credential in node.credentials.items()}
    shown = {endpoint: _shown(probe) for endpoint, probe in probes.items()}
    for endpoint in loopback:
        seen = shown[endpoint]
        if isinstance(seen, CertopsError) or seen in [shown[one] for one in endpoints if one.port == endpoint.port]:
            del shown[endpoint]  # it has none, or what is the matter with the address is told already
    inspection = _Inspection(cluster or node.cluster, host, node.name, now, thresholds, node, materials, configuration())
    served: Served = {endpoint: hashlib.sha256(seen).hexdigest() if isinstance(seen, bytes) else None for endpoint, seen in shown.items()}
    records = []
    for name, credential in node.credentials.items():
        records.append(_file_record(inspection, credential, served))
        records.extend(further_records(inspection, credential, materials[name].certificates))
    records.extend(_served_record(inspection, endpoint, seen) for endpoint, seen in shown.items())
    return records


def record_to_dict(described: Record) -> dict[str, t.Any]:
    """A record as JSON knows it: every key there, lists for tuples, null for what has no value."""
    return {entry.name: _plain(getattr(described, entry.name)) for entry in fields(described)}


def finding_to_dict(finding: Finding) -> dict[str, str]:
    """A finding as JSON knows it."""
    return asdict(finding)


def node_to_dict(node: Node, cluster: str | None, now: datetime) -> dict[str, t.Any]:
    """What was discovered, as JSON knows it; flags are left out, they may hold anything."""
    return {
        "name": node.name,
        "cluster": cluster or node.cluster,
        "now": iso(now),
        "components": {
            name: {
                "pid": component.process.pid if component.process else None,
                "started_at": iso(component.process.started_at) if component.process else None,
                "manifest": component.manifest,
                "unit": component.unit,
                "endpoints": [endpoint.address for endpoint in component.endpoints],
            }
            for name, component in node.components.items()
        },
    }


def _plain(value: t.Any) -> t.Any:
    if isinstance(value, tuple):
        return [asdict(entry) if isinstance(entry, (Reader, Finding)) else entry for entry in value]
    return value


def _shown(probe: Probe) -> bytes | CertopsError:
    try:
        return probe.result().der
    except CertopsError as error:
        return error


# --- files -----------------------------------------------------------------------------------------------------------


def _file_record(inspection: _Inspection, credential: Credential, served: Served) -> Record:
    material = inspection.materials[credential.name]
    renewable = renewability(credential, material, inspection.found, inspection.materials, inspection.now)
    about = About(
        credential.name,
        credential.cert_path,
        inspection.node_name,
        renewed(credential, renewable),
        cosmetic=credential.self_signed_is_normal,
    )
    fingerprint = material.facts.fingerprint_sha256 if material.facts else None
    readers = readers_of(credential, inspection.found, fingerprint, served)
    readers = kubelet_readers(readers, credential, inspection.found, inspection.materials)
    findings = (
        *_file_findings(inspection, credential, material, about),
        *_key_findings(credential, material, about),
        *owner_findings(about, credential, inspection.found, _attributes(credential, material, inspection.found)),
        *twin_findings(about, credential, inspection.found, inspection.materials),
        *_reader_findings(readers, about),
        *(hard_linked(about, path, names, component) for path, names, component in watched_links(credential)),
    )
    values = {
        "name": credential.name,
        "component": credential.component,
        "presented_by": credential.presented_by,
        "presented_to": credential.presented_to,
        "usage": credential.usage,
        "source": "kubeconfig" if credential.kind == "kubeconfig" else "file",
        "path": credential.cert_path,
        "address": None,
        "ca": credential.ca,
        "renewable": renewable.renewable,
        "not_renewable_because": renewable.because,
        "externally_managed": renewable.externally_managed,
        "readers": readers,
        "findings": findings,
    }
    if material.facts is None:
        return record(inspection, values, status=material.problem_code or status_by_severity(findings), **_key_identity(material))
    return dated_record(inspection, values, material.facts)


def _key_identity(material: Material) -> dict[str, t.Any]:
    if material.key_id is None:
        return {}
    return dict(zip(("fingerprint_sha256", "key_algorithm", "key_bits"), material.key_id))


def _file_findings(inspection: _Inspection, credential: Credential, material: Material, about: About) -> t.Iterator[Finding]:
    if material.problem is not None:
        if material.problem_code == "missing":
            asks = credential.managed_by == KUBELET and credential.usage == "server"
            yield not_signed(about) if asks else missing(about, material.problem)
        else:
            yield unreadable(about, material.problem)
    if material.facts is not None:
        facts = material.facts
        yield from date_findings(about, facts.not_before, facts.not_after, inspection.now, inspection.thresholds)
        yield from _chain_findings(inspection, credential.ca, material.certificates, about)
        yield from _drift(inspection, credential, facts, material.certificates, about)
        yield from names_findings(about, credential, inspection.found, facts.sans, inspection.configuration)
    if material.key_id is not None:
        yield from key_findings(about, credential, *material.key_id[1:])
    yield from rotation_findings(about, credential, material, inspection.found, inspection.now)
    if material.other_users:
        yield other_users(about, material.other_users)


def _drift(
    inspection: _Inspection, credential: Credential, facts: CertificateFacts, certificates: t.Sequence[Certificate], about: About
) -> t.Iterator[Finding]:
    return drift_findings(about, credential, inspection.found, (facts, certificates), inspection.now, inspection.thresholds)


def _chain_findings(
    inspection: _Inspection, ca_name: str | None, certificates: t.Sequence[Certificate], about: About
) -> t.Iterator[Finding]:
    """Whether a certificate (with what follows it in its file) verifies under its CA. A CA that cannot be read has a finding itself."""
    ca = inspection.materials.get(ca_name or "")
    if ca is None or ca_name is None or not ca.certificates:
        return
    leaf, chain = certificates[0], certificates[1:]
    issuers = issuers_of(leaf, ca.certificates) or [one for one in issuers_of(leaf, chain) if issuers_of(one, ca.certificates)]
    if not issuers:
        problem = chain_problem(leaf, ca.certificates) or "no certificate of that file signed it"
        yield chain_invalid(about, inspection.found.credentials[ca_name].cert_path, problem)
        return
    end = max(not_after(issuer) for issuer in issuers)
    if not_after(leaf) > end:
        yield outlives_ca(about, inspection.found.credentials[ca_name].cert_path, not_after(leaf), end)


def _key_findings(credential: Credential, material: Material, about: About) -> t.Iterator[Finding]:
    if credential.key_path is None:
        return
    if material.key_state == "mismatch":
        yield key_mismatch(about, credential.key_path)
    elif material.key_state == "unreadable":
        yield unreadable(about, material.key_problem or "its key cannot be read")
    elif material.key_state == "missing" and credential.kind != "ca":
        # A CA whose key is kept elsewhere is a way to work, no mistake.
        yield missing(about, material.key_problem or "its key is not there")
    found = material.attributes.get(credential.key_path)
    if found is not None and found.mode & _OTHERS:
        yield key_readable_by_others(about, credential.key_path, found.mode)


def _attributes(credential: Credential, material: Material, node: Node) -> t.Mapping[str, Attributes]:
    """Of its files, and of a kubelet's kubeconfig that only names them: it says from which server the kubelet takes its orders."""
    if credential.name != KUBELET_CREDENTIAL or KUBELET_CONF in node.credentials:
        return material.attributes
    return {**material.attributes, **attributes_by_path(kubelet_kubeconfig(node))}


def _reader_findings(readers: t.Sequence[Reader], about: About) -> t.Iterator[Finding]:
    for reader in readers:
        if reader.in_use == "false" and reader.proof != "handshake":
            yield process_has_older_file(about, reader.component, reader.proof)


# --- addresses -------------------------------------------------------------------------------------------------------


def _served_record(inspection: _Inspection, endpoint: Endpoint, seen: bytes | CertopsError) -> Record:
    credential = inspection.found.credentials.get(endpoint.credential or "")
    # The API server does verify the one that it shows to itself.
    self_signed = endpoint.server_name is None and (credential is None or credential.self_signed_is_normal)
    made_at_start = is_made_at_start(inspection.found, endpoint)
    remedy = (
        "Restart %s on this node: it makes a new one. certops.kubernetes.rotate does that when it is due." % endpoint.component
        if made_at_start
        else "Have %s make a new one." % endpoint.component
        if credential is None
        else "Renew %s." % credential.cert_path
    )
    about = About(PREFIX + endpoint.address, endpoint.address, inspection.node_name, remedy, cosmetic=self_signed)
    values = {
        "name": about.name,
        "component": endpoint.component,
        "presented_by": endpoint.component,
        "presented_to": credential.presented_to if credential else None,
        "usage": "server",
        "source": "served",
        "path": None,
        "address": endpoint.address,
        "ca": credential.ca if credential else None,
        "renewable": made_at_start,
        "not_renewable_because": None
        if made_at_start
        else "it is what an address serves; its file is %s" % (credential.cert_path if credential else "kept by the component itself"),
        "externally_managed": False,
        "readers": (),
    }
    if isinstance(seen, CertopsError):
        return record(inspection, {**values, "findings": (unreachable(about, str(seen)),)}, status="unreachable")
    on_disk = inspection.materials[credential.name] if credential else Material()
    try:
        certificate, facts = _served_certificate(endpoint, seen, on_disk)
    except CertopsError as error:
        return record(inspection, {**values, "findings": (unreadable(about, str(error)),)}, status="unreadable")
    findings = tuple(_served_findings(inspection, credential, certificate, facts, about))
    return dated_record(inspection, {**values, "findings": findings}, facts)


def _served_certificate(endpoint: Endpoint, seen: bytes, on_disk: Material) -> tuple[Certificate, CertificateFacts]:
    """What was seen, described; nearly always it is what lies on disk, and that is described already. Raises CertopsError."""
    if on_disk.leaf is not None and on_disk.facts is not None and on_disk.facts.fingerprint_sha256 == hashlib.sha256(seen).hexdigest():
        return on_disk.leaf, on_disk.facts
    certificate = parse_certificates(ssl.DER_cert_to_PEM_cert(seen).encode(), endpoint.address)[0]
    return certificate, describe(certificate, endpoint.address)


def _served_findings(
    inspection: _Inspection, credential: Credential | None, certificate: Certificate, facts: CertificateFacts, about: About
) -> t.Iterator[Finding]:
    yield from date_findings(about, facts.not_before, facts.not_after, inspection.now, inspection.thresholds)
    on_disk = inspection.materials[credential.name].facts if credential else None
    if credential is not None and on_disk is not None and on_disk.fingerprint_sha256 != facts.fingerprint_sha256:
        yield served_differs(about, credential.cert_path)
        yield from _chain_findings(inspection, credential.ca, [certificate], about)
        yield from _drift(inspection, credential, facts, [certificate], about)


__all__ = ("Thresholds", "finding_to_dict", "inspect_node", "node_to_dict", "record_to_dict")
