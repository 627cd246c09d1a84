# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What lies in objects of the API, and what the servers show that they name → records. Pure functions."""

from __future__ import annotations

import dataclasses
import ipaddress
import ssl
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._findings import (
    CRITICAL,
    WARNING,
    About,
    chain_invalid,
    date_findings,
    status_by_severity,
    unreachable,
    unreadable,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Finding, Reader, Record
from ansible_collections.certops.kubernetes.plugins.module_utils._records import Setting, dated_record, record
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import (
    Certificate,
    CertificateFacts,
    certificates_in,
    chain_problem,
    describe,
    fingerprint,
    parse_certificates,
)

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._cluster_objects import Call, Held, Server

_KEPT_ELSEWHERE = "it lies in an object of the cluster's API, which whoever wrote it keeps"
_MOST_NAMES = 5  # in a message


def records_of_held(setting: Setting, held: Held) -> list[Record]:
    """One record for each certificate in a value of an object, and one for each that cannot be read."""
    found: t.Sequence[Certificate | CertopsError] = [CertopsError(held.problem or "")]
    if held.pem is not None:
        found = certificates_in(held.pem, str(held.place))
    return [_held_record(setting, held, number, one) for number, one in enumerate(found, 1)]


def _held_record(setting: Setting, held: Held, number: int, certificate: Certificate | CertopsError) -> Record:
    name = held.place.record_name + ("[%d]" % number if number > 1 else "")
    about = About(name, held.place.path, setting.node_name, held.remedy)
    values = {
        "name": name,
        "component": held.component,
        "presented_by": None,
        "presented_to": held.presented_to,
        "usage": held.usage,
        "source": "api",
        "path": held.place.path,
        "address": None,
        "ca": None,
        "renewable": False,
        "not_renewable_because": _KEPT_ELSEWHERE,
        "externally_managed": False,
        "readers": (Reader(held.reader, "hot", "unknown", "none"),) if held.reader else (),
    }
    try:
        if isinstance(certificate, CertopsError):
            raise certificate
        facts = describe(certificate, str(held.place))
    except CertopsError as error:
        return _unreadable_record(setting, values, about, error)
    findings = tuple(date_findings(about, facts.not_before, facts.not_after, setting.now, setting.thresholds))
    return dated_record(setting, {**values, "usage": held.usage or _usage(facts), "findings": findings}, facts)


def _unreadable_record(setting: Setting, values: t.Mapping[str, t.Any], about: About, error: CertopsError) -> Record:
    finding = dataclasses.replace(unreadable(about, str(error)), remedy=about.remedy)
    return record(setting, {**values, "findings": (finding,)}, status="unreadable")


def _usage(facts: CertificateFacts) -> str | None:
    """What a certificate says it is for; None where it does not say."""
    if facts.is_ca:
        return "ca"
    usages = [usage for usage in ("server", "client") if "%sAuth" % usage in facts.extended_key_usages]
    return "+".join(usages) or None


def record_of_server(
    setting: Setting,
    server: Server,
    calls: t.Sequence[Call],
    address: str | None,
    seen: bytes | CertopsError,
    refusal: t.Callable[[bytes], str | None],
) -> Record:
    """The record of a server that the API server calls, because of these calls.

    `address` is where it was asked and `seen` the DER that it showed, or why there is none. `refusal` says of a bundle, under which this
    certificate alone does not verify, why what is served does not either; None when it does by what is sent beside it, or is not known.
    """
    callers = ", ".join(dict.fromkeys("%s %s" % (call.place.kind, call.place.name) for call in calls))
    runs = "Service %s/%s" % server.service if server.service else server.host
    about = About("served:" + server.address, address or server.address, setting.node_name, _server_remedy(server, runs))
    values = {
        "name": about.name,
        "component": server.component,
        "presented_by": runs,
        "presented_to": "kube-apiserver",
        "usage": "server",
        "source": "served",
        "path": None,
        "address": address,
        "ca": None,
        "renewable": False,
        "not_renewable_because": "it is what %s serves, which the API server calls because of %s" % (runs, callers),
        "externally_managed": False,
        "readers": (),
    }
    if isinstance(seen, CertopsError):
        return _unreachable_record(setting, values, about, str(seen), callers, required=any(call.required for call in calls))
    try:
        certificate = parse_certificates(ssl.DER_cert_to_PEM_cert(seen).encode(), server.address)[0]
        facts = describe(certificate, server.address)
    except CertopsError as error:
        return _unreadable_record(setting, values, about, error)
    findings = date_findings(about, facts.not_before, facts.not_after, setting.now, setting.thresholds)
    for call in calls:
        problem = _call_problem(call, certificate, facts, refusal)
        if problem is not None:
            findings.append(chain_invalid(about, str(call.place), problem))
    return dated_record(setting, {**values, "findings": tuple(findings)}, facts)


def _server_remedy(server: Server, runs: str) -> str:
    if server.service is None:
        return "Have whoever runs %s renew it." % runs
    return "Have whatever gives %s its certificate (cert-manager, an operator, a Secret in its namespace) renew it." % runs


def _unreachable_record(setting: Setting, values: t.Mapping[str, t.Any], about: About, why: str, callers: str, *, required: bool) -> Record:
    """Nobody is harmed at once by a webhook that may be passed over, but what it should look after is not looked after."""
    finding = Finding(
        "unreachable",
        CRITICAL if required else WARNING,
        unreachable(about, why).message,
        "Look whether its pods run and are ready; if it is not wanted any more, remove what calls it: %s." % callers,
    )
    return record(setting, {**values, "findings": (finding,)}, status="unreachable" if required else status_by_severity((finding,)))


def _call_problem(call: Call, certificate: Certificate, facts: CertificateFacts, refusal: t.Callable[[bytes], str | None]) -> str | None:
    """Why the API server would not trust what it is shown, dates aside; None where it would, and where its object does not say whom to."""
    if call.bundle is None:
        return None
    known = [one for one in certificates_in(call.bundle, str(call.place)) if not isinstance(one, CertopsError)]
    if not known:
        return None  # that is told of the bundle itself
    # Go's x509 takes a server's own certificate for its anchor, whatever it may sign.
    if facts.fingerprint_sha256 not in [fingerprint(one) for one in known]:
        problem = chain_problem(certificate, known)
        if problem is not None and refusal(call.bundle) is not None:
            return problem
    return name_problem(facts.sans, call.server.host)


def name_problem(sans: t.Sequence[str], host: str) -> str | None:
    """Why a certificate of these alternative names (as records have them) does not prove to be `host`; None when it does."""
    if any(_names(san, host) for san in sans):
        return None
    shown = ", ".join(sans[:_MOST_NAMES]) + (" and %d more" % (len(sans) - _MOST_NAMES) if len(sans) > _MOST_NAMES else "")
    return "it is asked for as %s, and names %s" % (host, shown or "nobody")


def _names(san: str, host: str) -> bool:
    kind, _colon, value = san.partition(":")
    if kind == "IP":
        try:
            return ipaddress.ip_address(value) == ipaddress.ip_address(host)
        except ValueError:
            return False
    pattern, name = value.lower(), host.lower().rstrip(".")
    if kind == "DNS" and pattern.startswith("*."):
        return pattern[1:] == name[name.find(".") :] and not name.startswith(".")
    return kind == "DNS" and pattern == name


__all__ = ("name_problem", "record_of_server", "records_of_held")
