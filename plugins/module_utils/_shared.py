# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What must be the same on all nodes of a cluster that have it, and is not. Pure functions of certificate records.

Of a file of CAs the first counts: a controller manager signs with that.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

Record = t.Mapping[str, t.Any]

CODE = "nodes_differ"
SHARED = {
    "ca": "cluster CA",
    "front-proxy-ca": "front-proxy CA",
    "etcd/ca": "etcd CA",
    "sa": "service-account key",
}
_REMEDY = (
    "Somebody began to replace the %s and did not finish, or a node was joined with files of another cluster: make the files the same, with"
    " their keys, and restart there what reads them; certops.kubernetes.rotate changes nothing before."
)


@dataclass(frozen=True)
class Difference:
    """A sentence that says what differs, in which files and where; what to do about it; a host of those that are the fewest."""

    message: str
    remedy: str
    host: str


def differences(records: t.Sequence[Record]) -> list[Difference]:
    """What these records' hosts do not have alike, in the order of `SHARED`."""
    found = []
    for name, what in SHARED.items():
        shared = [record for record in records if record["name"] == name and record["fingerprint_sha256"]]
        hosts = hosts_by(shared, lambda record: "%s…" % record["fingerprint_sha256"][:16])
        if len(hosts) > 1:
            paths = ", ".join(sorted({str(record["path"]) for record in shared}))
            message = "The nodes have %d different %ss in %s: %s." % (len(hosts), what, paths, listed(hosts))
            found.append(Difference(message, _REMEDY % what, min(hosts.values(), key=len)[0]))
    return found


def shared_findings(records: t.Sequence[Record]) -> list[dict[str, t.Any]]:
    """nodes_differ, once for each thing that hosts of one cluster do not have alike.

    One inspection may be of several clusters, and kubeadm calls each of them the same: of one cluster are hosts that have one name for it,
    and share at least one of these things, were it a CA that stands behind the first in its file. An etcd outside knows no name.
    """
    shared = [record for record in records if record["name"].split("[")[0] in SHARED and record["fingerprint_sha256"]]
    names = {record["host"]: record["cluster"] for record in shared}
    found: dict[Difference, None] = {}
    for name in [one for one in dict.fromkeys(names.values()) if one] or [None]:
        for hosts in _related([record for record in shared if names[record["host"]] in (name, None)]):
            found.update(dict.fromkeys(differences([record for record in shared if record["host"] in hosts])))
    return [{"code": CODE, "severity": "critical", "message": one.message, "remedy": one.remedy, "host": one.host} for one in found]


def _related(records: t.Sequence[Record]) -> list[set[str]]:
    """The hosts in groups: in one are those that have a fingerprint in common, directly or through others."""
    known: dict[str, set[str]] = {}
    for record in records:
        known.setdefault(record["host"], set()).add(record["fingerprint_sha256"])
    groups: list[tuple[set[str], set[str]]] = []
    for host, fingerprints in known.items():
        joined = [group for group in groups if group[1] & fingerprints]
        groups = [group for group in groups if group not in joined]
        groups.append(({host}.union(*(group[0] for group in joined)), fingerprints.union(*(group[1] for group in joined))))
    return [hosts for hosts, _fingerprints in groups]


def hosts_by(records: t.Sequence[Record], key: t.Callable[[Record], t.Any]) -> dict[str, list[str]]:
    """The hosts of the records by a value that is not None, each once."""
    groups: dict[str, list[str]] = {}
    for record in records:
        value = key(record)
        if value is not None and record["host"] not in groups.setdefault(value, []):
            groups[value].append(record["host"])
    return groups


def listed(groups: t.Mapping[str, t.Sequence[str]]) -> str:
    """`value (host, host), value (host)`."""
    return ", ".join("%s (%s)" % (name, ", ".join(hosts)) for name, hosts in sorted(groups.items()))


__all__ = ("SHARED", "Difference", "differences", "hosts_by", "listed", "shared_findings")
