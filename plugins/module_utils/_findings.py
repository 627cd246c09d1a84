# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What can be wrong with a certificate: stable codes, severities, and what to do about each. Pure functions.

A code never changes its meaning; a message names the file (or address) and the node.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._model import Finding
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso

if t.TYPE_CHECKING:
    from datetime import datetime

INFO = "info"
WARNING = "warning"
CRITICAL = "critical"

_DAY = 86400
_SEVERITIES = (INFO, WARNING, CRITICAL)


@dataclass(frozen=True)
class Thresholds:
    """How many seconds before its end a certificate becomes a warning, and how many before it is critical."""

    warn_seconds: int
    critical_seconds: int


@dataclass(frozen=True)
class About:
    """What a finding is about, and what its dates mean.

    `remedy` is how this certificate gets renewed. `cosmetic`: nobody verifies it (a component's self-signed one), so that its end
    harms nobody.
    """

    name: str
    where: str  # path or address
    node: str
    remedy: str
    cosmetic: bool = False

    def tells(self, text: str) -> str:
        """A message: which certificate, what about it, where."""
        return "%s %s (%s on %s)." % (self.name, text, self.where, self.node)


def date_findings(about: About, not_before: datetime, not_after: datetime, now: datetime, thresholds: Thresholds) -> list[Finding]:
    """expired, not_yet_valid or expiring; nothing for a certificate that is far from its ends."""
    left = (not_after - now).total_seconds()
    if left <= 0:
        severity = WARNING if about.cosmetic else CRITICAL
        return [Finding("expired", severity, about.tells("ended %s ago, at %s" % (duration(-left), iso(not_after))), about.remedy)]
    if not_before > now:
        text = "is not valid yet: its validity begins in %s, at %s" % (duration((not_before - now).total_seconds()), iso(not_before))
        return [
            Finding(
                "not_yet_valid",
                CRITICAL,
                about.tells(text),
                "Check this node's clock (timedatectl); if it is right, %s" % _lower(about.remedy),
            )
        ]
    if left > max(thresholds.warn_seconds, thresholds.critical_seconds):
        return []
    severity = INFO if about.cosmetic else CRITICAL if left <= thresholds.critical_seconds else WARNING
    return [Finding("expiring", severity, about.tells("ends in %s, at %s" % (duration(left), iso(not_after))), about.remedy)]


def key_mismatch(about: About, key_path: str) -> Finding:
    """The private key belongs to another certificate."""
    return Finding(
        "key_mismatch",
        CRITICAL,
        about.tells("does not belong to its private key %s" % key_path),
        "Restore the pair from one backup. A process that reads both refuses them together, and fails when it starts again.",
    )


def chain_invalid(about: About, ca: str, problem: str) -> Finding:
    """It does not verify under its CA; `problem` is a clause that says why."""
    return Finding(
        "chain_invalid",
        CRITICAL,
        about.tells("does not verify under the CA %s: %s" % (ca, problem)),
        "Find out which of the two was replaced. If the CA is the right one, let it sign this certificate anew.",
    )


def outlives_ca(about: About, ca: str, not_after: datetime, ca_not_after: datetime) -> Finding:
    """It claims to be valid longer than the CA that signed it."""
    return Finding(
        "outlives_ca",
        WARNING,
        about.tells("says that it is valid until %s, but its CA %s ends at %s" % (iso(not_after), ca, iso(ca_not_after))),
        "Count with the CA's end, and rotate the CA in time.",
    )


def served_differs(about: About, path: str) -> Finding:
    """The port shows another certificate than the file."""
    return Finding(
        "served_differs",
        WARNING,
        about.tells("is not the certificate that lies in %s" % path),
        "The process has not taken the file: look at its log; if the file is right, restart that component.",
    )


def process_has_older_file(about: About, component: str, proof: str) -> Finding:
    """A process still works with what the file was before."""
    why = {"inode": "its mount still shows the file that was replaced", "metrics": "its metrics tell another end"}.get(
        proof, "the file was written after it started"
    )
    return Finding(
        "process_has_older_file",
        WARNING,
        about.tells("was replaced, but %s does not have the new one: %s" % (component, why)),
        "Restart %s on this node; certops.kubernetes.rotate does it, one node after the other." % component,
    )


def key_readable_by_others(about: About, path: str, mode: int) -> Finding:
    """Every user of the node can get at a private key."""
    return Finding(
        "key_readable_by_others",
        WARNING,
        about.tells("has a private key in %s that every user of the node may access (mode %04o)" % (path, mode)),
        "chmod 0600 %s; if strangers have accounts on the node, renew it with a new key." % path,
    )


def hard_linked(about: About, path: str, names: int, component: str) -> Finding:
    """A file that a component watches has other names: the watch stays with them when this name gets a new file."""
    return Finding(
        "hard_linked",
        WARNING,
        about.tells(
            "has %d names for one file, %s among them: %s, which watches it, sees its next replacement, and none after that"
            % (names, path, component)
        ),
        "Remove the other names (find / -xdev -samefile %s), which a backup with cp -al leaves; a copy does no harm." % path,
    )


def missing(about: About, what: str) -> Finding:
    """A file that a flag or a configuration names is not there."""
    return Finding(
        "missing",
        CRITICAL,
        about.tells("is missing: %s" % what.rstrip(".")),
        "Restore it from a backup, or have it made anew; whatever reads it fails when it starts again.",
    )


def not_signed(about: About) -> Finding:
    """A kubelet that has its serving certificate signed by the cluster has none."""
    return Finding(
        "not_signed",
        CRITICAL,
        about.tells("is not there: this kubelet has it signed by the cluster (serverTLSBootstrap), and none was issued"),
        "certops.kubernetes.rotate approves a pending request (kubectl get csr) that is the node's own, unless "
        "certs_rotate_approve_serving_requests is false."
        " Where none is pending, see why (journalctl -u kubelet). Until then kubectl logs and exec fail on this node.",
    )


def unreadable(about: About, why: str) -> Finding:
    """There is something, but no certificate or key can be read from it."""
    return Finding(
        "unreadable", CRITICAL, about.tells("cannot be read: %s" % why.rstrip(".")), "Look at that file, and restore it from a backup."
    )


def unreachable(about: About, why: str) -> Finding:
    """Nothing could be seen at an address where a component of this node should serve."""
    return Finding(
        "unreachable",
        CRITICAL,
        about.tells("could not be seen: %s" % why.rstrip(".")),
        "Look whether that component runs (crictl ps -a, journalctl -u kubelet), and why not.",
    )


def other_users(about: About, count: int) -> Finding:
    """A kubeconfig holds more users than that of its current context."""
    return Finding(
        "other_users",
        INFO,
        about.tells("holds %d more user%s; only that of the current context is looked at" % (count, "" if count == 1 else "s")),
        "Keep one user in a kubeconfig of the control plane.",
    )


def status_of(not_before: datetime, not_after: datetime, now: datetime, findings: t.Sequence[Finding]) -> str:
    """A record's status: its dates first, then the worst of its findings."""
    if not_after <= now:
        return "expired"
    if not_before > now:
        return "not_yet_valid"
    return status_by_severity(findings)


def status_by_severity(findings: t.Sequence[Finding]) -> str:
    """ok, warning or critical: the worst of the findings."""
    worst = max((_SEVERITIES.index(finding.severity) for finding in findings), default=0)
    return ("ok", "warning", "critical")[worst]


def duration(seconds: float) -> str:
    """A span of time in the largest unit that says enough: `364 days`, `5 hours`, `40 seconds`."""
    for size, unit in ((_DAY, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return "%d %ss" % (seconds // size, unit)
    return "%d second%s" % (seconds, "" if int(seconds) == 1 else "s")


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


__all__ = (
    "CRITICAL",
    "INFO",
    "WARNING",
    "About",
    "Thresholds",
    "chain_invalid",
    "date_findings",
    "duration",
    "hard_linked",
    "key_mismatch",
    "key_readable_by_others",
    "missing",
    "not_signed",
    "other_users",
    "outlives_ca",
    "process_has_older_file",
    "served_differs",
    "status_by_severity",
    "status_of",
    "unreachable",
    "unreadable",
)
