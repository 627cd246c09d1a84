# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Kubeconfigs on hosts without an original, compared with what nodes have: whose they are, and who can renew them. Pure functions.

Records are plain dictionaries here: they come from `certificate_info`. A host outside of the cluster knows neither its CA nor the
kubeconfigs that its own may be copies of, and a worker only that CA; both are in the records of the control-plane nodes. Only a copy of an
identity that a node has is ever renewed: that a certificate ends is all that takes an identity back in Kubernetes.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import API_SERVER
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import shown

Record = t.Mapping[str, t.Any]
Nodes = t.Mapping[str, t.Mapping[str, t.Any]]

_CLUSTER_CA = re.compile(r"ca(\[\d+\])?\Z")
_HARMLESS = {"expired": "warning", "expiring": "info"}  # how bad an end is of whom is not ours, as on a node
_RANKS = ("info", "warning", "critical")


class Elsewhere:
    """What the nodes of a run have that kubeconfigs elsewhere may be of."""

    def __init__(self, records: t.Sequence[Record], nodes: Nodes) -> None:
        """`nodes` maps a host to what `certificate_info` says of its node: `signs` and `issued_by`."""
        self.nodes = nodes
        self._authorities: dict[str, list[Record]] = {}
        for record in records:
            if record["usage"] == "ca" and _CLUSTER_CA.match(record["name"]) and record["fingerprint_sha256"]:
                self._authorities.setdefault(record["fingerprint_sha256"], []).append(record)
        self._nodes = {record["host"] for record in records if record["component"] != "user"}  # elsewhere there is nothing else
        self._originals = [record for record in records if record["host"] in self._nodes and _is_original(record)]
        # Where originals are, there the node itself says what is a copy, and renews it with them.
        self._with_originals = {record["host"] for record in records if record["component"] == API_SERVER or _is_nodes_kubeconfig(record)}
        self._roots: dict[str, set[str]] = {}
        for record in records:
            if record["usage"] == "ca" and record["fingerprint_sha256"]:
                self._roots.setdefault(record["host"], set()).add(record["fingerprint_sha256"])

    def covers(self, record: Record) -> bool:
        """Whether this is a user in a kubeconfig on a host that has no original: outside of the cluster, or a node such as a worker.

        A worker's are compared with the nodes of its own cluster, if those are in the run; what it says is foreign stays so.
        """
        if not _is_somebodys(record) or record["host"] in self._with_originals:
            return False
        if record["host"] not in self._nodes:
            return record["ca"] is None
        return self._has_its_cluster(record["host"]) and not any(finding["code"] == "foreign_copy" for finding in record["findings"])

    def is_outside(self, host: str) -> bool:
        """Whether there is nothing of a node on it."""
        return host not in self._nodes

    def address(self, host: str) -> str:
        """Where the controller finds it."""
        return str((self.nodes.get(host) or {}).get("address") or host)

    def _has_its_cluster(self, host: str) -> bool:
        """Whether a node with originals is of the same cluster: they have a CA in common."""
        roots = self._roots.get(host, set())
        return any(roots & self._roots.get(other, set()) for other in self._with_originals)

    @property
    def has_authorities(self) -> bool:
        """Whether there is a node to compare with."""
        return bool(self._authorities)

    def authority(self, record: Record) -> Record | None:
        """The record of the cluster CA that signed it; None where no node of the run has that CA."""
        found = self._authorities.get(self._issuer(record) or "")
        return found[0] if found else None

    def _issuer(self, record: Record) -> str | None:
        issued_by = (self.nodes.get(record["host"]) or {}).get("issued_by") or {}
        return t.cast("t.Optional[str]", issued_by.get(record["name"]))

    def foreign(self, record: Record) -> bool:
        """Whether another CA than those of the nodes signed it, as far as its kubeconfig tells and there are nodes to compare with."""
        return self.has_authorities and self._issuer(record) is not None and self.authority(record) is None

    def originals(self, record: Record) -> list[Record]:
        """The kubeconfigs of nodes that have the same subject under the same CA; with several control planes there are several."""
        hosts = {one["host"] for one in self._authorities.get(self._issuer(record) or "", ())}
        return [one for one in self._originals if one["host"] in hosts and one["subject"] == record["subject"]]

    def signer(self, record: Record) -> str | None:
        """The first host that has such an original, and the key of its CA: a further one in the same file (`ca[2]`) has none there."""
        with_key = {
            one["host"]
            for one in self._authorities.get(self._issuer(record) or "", ())
            if one["name"] in ((self.nodes.get(one["host"]) or {}).get("signs") or ())
        }
        return next((one["host"] for one in self.originals(record) if one["host"] in with_key), None)

    def stale(self, record: Record) -> bool:
        """Whether each of its originals has been renewed since it was made, and it is not one of those."""
        return self._outdated(record, frozenset())

    def why_outdated(self, record: Record, renewed: t.Collection[tuple[str, str]]) -> str | None:
        """Why it is due whatever its age; `renewed` are (host, name) of what is going to be renewed."""
        if self.stale(record):
            return "its original was renewed since it was made"
        return "its original is renewed, too" if self._outdated(record, renewed) else None

    def _outdated(self, record: Record, renewed: t.Collection[tuple[str, str]]) -> bool:
        originals = self.originals(record)
        return bool(originals) and all(
            (one["host"], one["name"]) in renewed
            or (one["fingerprint_sha256"] != record["fingerprint_sha256"] and str(one["not_before"]) > str(record["not_before"]))
            for one in originals
        )


def under_one_name(entries: t.Sequence[dict[str, t.Any]], known: Elsewhere) -> list[dict[str, t.Any]]:
    """A plan's entries; of a machine with two names in the inventory, such as a worker, each user is renewed under one: not the node's."""
    second: dict[tuple[t.Any, str], str] = {}
    for entry in entries:
        if entry["apart"] and known.is_outside(entry["host"]):
            second.setdefault((known.address(entry["host"]), entry["name"]), entry["host"])
    return [_unless(second.get((known.address(entry["host"]), entry["name"])), entry) for entry in entries]


def _unless(other: str | None, entry: dict[str, t.Any]) -> dict[str, t.Any]:
    if other is None or other == entry["host"] or not entry["apart"]:
        return entry
    done = dict.fromkeys(("ends_after", "signed_by"))
    return {**entry, **done, "action": "none", "code": "second_name", "reason": "renewed under its other name, %s" % other, "apart": False}


def _is_somebodys(record: Record) -> bool:
    return record["component"] == "user" and "#" in record["name"]


def _is_nodes_kubeconfig(record: Record) -> bool:
    # Of its own kubelet's nobody has a copy, and its renewal is another matter.
    return record["source"] == "kubeconfig" and record["name"] != "kubelet.conf" and "#" not in record["name"]


def _is_original(record: Record) -> bool:
    return _is_nodes_kubeconfig(record) and bool(record["subject"])


def believed(result: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What is taken from `certificate_info` on a host outside of the cluster: what it tells of users in kubeconfigs.

    That it has a CA, its key, a leader or a kubelet is not: others would wait for it, or be sent there to have something signed.
    """
    claims: dict[str, t.Any] = {
        "signs": [],
        "leads": [],
        "signing_seconds": None,
        "certificate_validity_seconds": None,
        "kubelet_settings": {},
        "kubelet_to_ask": None,
    }
    users = [record for record in result["certificates"] if _is_of_a_user(record)]
    return dict(result, certificates=users, node={**result["node"], **claims})


def _is_of_a_user(record: Record) -> bool:
    return (record["component"], record["usage"], record["source"], record["ca"]) == ("user", "client", "kubeconfig", None)


def compared(records: t.Sequence[dict[str, t.Any]], nodes: Nodes) -> list[dict[str, t.Any]]:
    """The records; those of kubeconfigs elsewhere tell whose they are (`stale_copy`, `foreign_copy`) and what renews them.

    A worker's that there is nothing to compare with are left as the worker tells of them, but that nobody is to sign them.
    """
    known = Elsewhere(records, nodes)
    return [
        _compared(record, known) if known.covers(record) else dict(record, externally_managed=False) if _is_somebodys(record) else record
        for record in records
    ]


def _compared(record: dict[str, t.Any], known: Elsewhere) -> dict[str, t.Any]:
    if record["subject"] is None:
        return record
    if known.foreign(record):
        return _foreign(record)
    authority, originals = known.authority(record), known.originals(record)
    because, remedy = _why_not(record, known, originals)
    findings = [dict(finding, remedy=remedy) if finding["code"] in _HARMLESS else finding for finding in record["findings"]]
    if record["externally_managed"] and known.stale(record):
        findings.append(_stale(record, originals))
    changed = dict(
        record,
        cluster=record["cluster"] or (authority or {}).get("cluster"),
        findings=findings,
        externally_managed=bool(record["externally_managed"] and known.signer(record)),
        not_renewable_because=because,
    )
    return dict(changed, status=status_by_findings(changed))


def _why_not(record: Record, known: Elsewhere, originals: t.Sequence[Record]) -> tuple[str, str]:
    """Why the host itself does not renew it, and what to do about its end."""
    if known.authority(record) is None and known.has_authorities:
        return "no CA in its kubeconfig signed it", "Copy a valid kubeconfig in its place."
    if known.authority(record) is None:
        return "no control-plane node of this run tells whose it is", "Look at it together with its cluster: certops.kubernetes.inspect."
    if not originals:
        return (
            "no kubeconfig of a control-plane node is for %s" % record["subject"],
            "Have a new one made (certops.kubernetes.issue_kubeconfig), or copied again by whoever made this one.",
        )
    if not record["externally_managed"]:
        return "it does not hold the key of its certificate in a way that can be renewed", "Copy %s again." % originals[0]["path"]
    if known.signer(record) is None:
        return "the key of its CA is on no control-plane node of this run that has its original", "Have it signed where the CA's key is."
    return "the key of its CA is on the control-plane nodes", "Renew it: certops.kubernetes.rotate does that, with its original."


def _foreign(record: dict[str, t.Any]) -> dict[str, t.Any]:
    remedy = "Renew it with the tools of its own cluster, or take it out of the file."
    findings = [
        dict(finding, severity=_HARMLESS[finding["code"]], remedy=remedy) if finding["code"] in _HARMLESS else finding
        for finding in record["findings"]
    ]
    text = "%s was signed by no CA of a node of this run, but by %s (%s on %s)."
    findings.append(
        {
            "code": "foreign_copy",
            "severity": "info",
            "message": text % (shown(record["name"]), shown(str(record["issuer"])), shown(record["path"]), record["host"]),
            "remedy": "Nothing, if the file is for several clusters: it is left alone. If not, take that user out of it.",
        }
    )
    changed = dict(record, findings=findings, externally_managed=False, not_renewable_because="no CA of a node of this run signed it")
    return dict(changed, status=status_by_findings(changed))


def _stale(record: Record, originals: t.Sequence[Record]) -> dict[str, t.Any]:
    newest = max(originals, key=lambda one: str(one["not_after"]))
    where = "%s on %s" % (newest["path"], newest["host"])
    return {
        "code": "stale_copy",
        "severity": "warning",
        "message": "%s is a copy of %s from before that was renewed; the original is valid until %s (%s on %s)."
        % (shown(record["name"]), where, newest["not_after"], shown(record["path"]), record["host"]),
        "remedy": "certops.kubernetes.rotate renews it (certs_rotate_kubeconfig_copies); or copy %s again." % where,
    }


def status_by_findings(record: Record) -> str:
    """As `certificate_info` has it: the worst of its findings, but for what no date makes."""
    if record["status"] not in ("ok", "warning", "critical"):
        return str(record["status"])
    worst = max((finding["severity"] for finding in record["findings"]), key=_RANKS.index, default="info")
    return "ok" if worst == "info" else str(worst)


__all__ = ("Elsewhere", "believed", "compared", "status_by_findings", "under_one_name")
