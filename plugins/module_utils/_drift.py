# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What is wrong with a certificate besides its dates: how it is signed, its key, what it may be used for, its chain. Pure functions."""

from __future__ import annotations

import typing as t
from datetime import timedelta

from ansible_collections.certops.kubernetes.plugins.module_utils._findings import CRITICAL, INFO, WARNING, duration
from ansible_collections.certops.kubernetes.plugins.module_utils._identity import identity_findings
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import ETCD
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Finding
from ansible_collections.certops.kubernetes.plugins.module_utils._remedies import made_anew
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import describe
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso, shown

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._findings import About, Thresholds
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential, Node
    from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import Certificate, CertificateFacts

# What the first certificate of a file says, and all that are in it
Held = t.Tuple["CertificateFacts", t.Sequence["Certificate"]]

_WEAK_HASHES = ("md5", "sha1")
_RENEWED = ("pair", "kubeconfig")
_SMALLEST_KEYS = {"RSA": 2048, "EC": 224}
# What the CA/Browser Forum set as the limit for servers in 2018 (ballot 193)
_LONGEST_VALIDITY = timedelta(days=825)
# kubeadm's certificates last a year: from then on a CA cuts short what it signs
_CA_CUTS_SHORT = timedelta(days=365)
_CA_IS_URGENT = timedelta(days=180)
_USAGES = {"server": ("serverAuth",), "client": ("clientAuth",), "server+client": ("serverAuth", "clientAuth")}
_OWN_CLIENT_PAIRS = {"etcd/server": "client-cert-file", "etcd/peer": "peer-client-cert-file"}


def drift_findings(
    about: About, credential: Credential, node: Node, held: Held, now: datetime, thresholds: Thresholds
) -> t.Iterator[Finding]:
    """What is wrong with what a credential's file holds, or with what is served in its place.

    Nothing for a component's own self-signed one, which nobody verifies. `thresholds` say from when on its end is told anyway.
    """
    if about.cosmetic:
        return
    facts, certificates = held
    described = _described(facts, certificates)
    yield from _signature_findings(about, described)
    yield from key_findings(about, credential, facts.key_algorithm, facts.key_bits)
    if credential.kind == "ca":
        yield from _ca_findings(about, described, now, thresholds)
    else:
        yield from _validity_findings(about, facts, now)
        yield from _usage_findings(about, credential, node, facts)
        yield from identity_findings(about, credential, node, certificates[0])
        if len(described) == len(certificates):
            yield from _order_findings(about, described)
    yield from _expired_findings(about, credential, described, now)


def key_findings(about: About, credential: Credential, algorithm: str | None, bits: int | None) -> t.Iterator[Finding]:
    """weak_key: a key that can be broken, or will be within its lifetime."""
    smallest = _SMALLEST_KEYS.get(algorithm or "")
    if smallest is None or bits is None or bits >= smallest:
        return
    yield Finding(
        "weak_key",
        WARNING,
        about.tells("has a key (%s) of %d bits, fewer than %d" % (algorithm, bits, smallest)),
        "Renew it: the new key has %d bits or more." % smallest
        if algorithm == "RSA" and credential.kind in _RENEWED
        else "Have it made anew with a key of %d bits or more." % smallest,
    )


def _described(facts: CertificateFacts, certificates: t.Sequence[Certificate]) -> list[CertificateFacts]:
    """The certificates of a file; without those further ones that have a field that cannot be read."""
    held = [facts]
    for certificate in certificates[1:]:
        try:
            held.append(describe(certificate))
        except CertopsError:
            continue
    return held


def _signature_findings(about: About, held: t.Sequence[CertificateFacts]) -> t.Iterator[Finding]:
    """Nobody looks at the signature of a root: it is trusted because it is there."""
    weak = [one for one in held if _is_weak(one.signature_algorithm) and one.subject != one.issuer]
    if not weak:
        return
    first = weak[0]
    which = "is signed" if first is held[0] else "holds %s, which is signed" % shown(first.subject)
    more = " (and %d more in that file)" % (len(weak) - 1) if len(weak) > 1 else ""
    yield Finding(
        "weak_signature",
        WARNING,
        about.tells("%s with %s%s" % (which, first.signature_algorithm, more)),
        "Have it signed with SHA-256, as a renewal does. Programs built with Go 1.18 or later (Kubernetes since 1.24) refuse it.",
    )


def _is_weak(signature_algorithm: str) -> bool:
    return any(weak in signature_algorithm.lower() for weak in _WEAK_HASHES)


def _validity_findings(about: About, facts: CertificateFacts, now: datetime) -> t.Iterator[Finding]:
    """Only what is left counts: kubeadm before 1.31 dated the beginning of all that it made back to that of its CA."""
    left = facts.not_after - now
    if left <= _LONGEST_VALIDITY or facts.is_ca:
        return
    yield Finding(
        "long_validity",
        INFO,
        about.tells("is valid for %s more, until %s" % (duration(left.total_seconds()), iso(facts.not_after))),
        "Kubernetes cannot revoke a certificate: whoever gets at its key can use it until then. Have the next one made for a year.",
    )


def _usage_findings(about: About, credential: Credential, node: Node, facts: CertificateFacts) -> t.Iterator[Finding]:
    """A certificate without any extended key usage is good for all of them (RFC 5280, 4.2.1.12)."""
    present = facts.extended_key_usages
    absent = [usage for usage in _needed_usages(credential, node) if usage not in present]
    if not absent or not present or "anyExtendedKeyUsage" in present:
        return
    # etcd works without it, but for its gateway, which shows the server's certificate to its own server.
    harmless = credential.name == "etcd/server" and absent == ["clientAuth"]
    yield Finding(
        "usage_missing",
        WARNING if harmless else CRITICAL,
        about.tells("may not be used for %s, but %s needs that" % (" and ".join(absent), credential.presented_by or credential.component)),
        made_anew(credential, node),
    )


def _needed_usages(credential: Credential, node: Node) -> t.Sequence[str]:
    etcd = node.components.get(ETCD)
    own_client_pair = _OWN_CLIENT_PAIRS.get(credential.name)
    if etcd is not None and own_client_pair is not None and etcd.flag(own_client_pair):
        return _USAGES["server"]
    return _USAGES.get(credential.usage or "", ())


def _ca_findings(about: About, held: t.Sequence[CertificateFacts], now: datetime, thresholds: Thresholds) -> t.Iterator[Finding]:
    """ca_ends_soon, unless its successor is in the file already, or its end is so near that every certificate's would be told."""
    left = held[0].not_after - now
    told_anyway = timedelta(seconds=max(thresholds.warn_seconds, thresholds.critical_seconds))
    if not told_anyway < left <= _CA_CUTS_SHORT or any(one.not_after - now > _CA_CUTS_SHORT for one in held):
        return
    yield Finding(
        "ca_ends_soon",
        WARNING if left <= _CA_IS_URGENT else INFO,
        about.tells("ends in %s, at %s, and cuts short what it signs" % (duration(left.total_seconds()), iso(held[0].not_after))),
        about.remedy,
    )


def _order_findings(about: About, held: t.Sequence[CertificateFacts]) -> t.Iterator[Finding]:
    for number, (one, following) in enumerate(zip(held, held[1:]), start=1):
        if one.issuer != following.subject:
            text = "holds %d certificates in a wrong order: number %d (%s) did not sign number %d (%s)" % (
                *(len(held), number + 1, shown(following.subject), number),
                shown(one.subject),
            )
            remedy = "Write its own certificate first, then the CA that signed it, and so on: TLS 1.2 demands it."
            yield Finding("chain_unordered", WARNING, about.tells(text), remedy)
            return


def _expired_findings(about: About, credential: Credential, held: t.Sequence[CertificateFacts], now: datetime) -> t.Iterator[Finding]:
    """expired_in_bundle; that the first one has expired is a finding of its own."""
    expired = [one for one in held[1:] if one.not_after <= now]
    if not expired or held[0].not_after <= now:
        return
    first = expired[0]
    more = " (and %d more)" % (len(expired) - 1) if len(expired) > 1 else ""
    yield Finding(
        "expired_in_bundle",
        INFO if credential.kind == "ca" else WARNING,
        about.tells("still holds %s, which ended at %s%s" % (shown(first.subject), iso(first.not_after), more)),
        "Take the expired certificate out of that file; programs that try it first may fail with it.",
    )


__all__ = ("Held", "drift_findings", "key_findings")
