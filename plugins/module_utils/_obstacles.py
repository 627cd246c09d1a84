# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Why nothing may be rotated at all, as a pure function of certificate records.

Records are plain dictionaries here: they come from `certificate_info`.
"""

from __future__ import annotations

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._clock import clock_obstacles

Record = t.Mapping[str, t.Any]

# What must be the same on every control-plane node that has it, and what it is when it is not
SHARED = {
    "ca": "cluster CA",
    "front-proxy-ca": "front-proxy CA",
    "etcd/ca": "etcd CA",
    "sa": "service-account key",
}


def rotation_obstacles(
    records: t.Sequence[Record],
    control_plane: t.Sequence[str],
    etcd: t.Sequence[str] = (),
    inspections: t.Mapping[str, t.Mapping[str, t.Any]] | None = None,
) -> list[str]:
    """Why nothing may be rotated at all, as sentences; empty when nothing stands against it.

    `control_plane` and `etcd` are the control-plane nodes and the hosts of etcd that this run covers: each must have been inspected. All
    nodes must be of one cluster: one name (where names are known), and one cluster CA, front-proxy CA, etcd CA and service-account key.
    `inspections` are the results that the records came from: they tell whose clock is too wrong to make certificates by.
    """
    unseen = [record for record in records if record["name"] == "node"]
    obstacles = [
        "%s Nothing is rotated while %s cannot be inspected." % (record["findings"][0]["message"], what)
        for record in unseen
        for what in [_kind_of(record["host"], control_plane, etcd)]
        if what
    ]
    obstacles += clock_obstacles({host: result.get("clock") for host, result in (inspections or {}).items()})
    advice = "rotate one cluster at a time: narrow the run with --limit."
    names = _hosts_by(records, lambda record: record["cluster"])
    if len(names) > 1:
        return [*obstacles, "The nodes belong to %d clusters, %s; %s" % (len(names), _listed(names), advice)]
    return obstacles + [_differing(what, found, advice) for what, found in _shared(records) if len(found) > 1]


def _kind_of(host: str, control_plane: t.Sequence[str], etcd: t.Sequence[str]) -> str | None:
    return "a control-plane node" if host in control_plane else "a host of etcd" if host in etcd else None


def _shared(records: t.Sequence[Record]) -> list[tuple[str, dict[str, list[str]]]]:
    """For each thing that nodes share: its fingerprints, with the hosts that have them."""
    return [
        (what, _hosts_by([record for record in records if record["name"] == name], lambda record: record["fingerprint_sha256"]))
        for name, what in SHARED.items()
    ]


def _differing(what: str, found: t.Mapping[str, t.Sequence[str]], advice: str) -> str:
    short = {"%s…" % fingerprint[:16]: hosts for fingerprint, hosts in found.items()}
    return (
        "The nodes have %d different %ss, %s. If these are different clusters, %s If not, somebody began to replace the %s and did not "
        "finish, or a node was joined with files of another cluster: make the files the same first."
        % (len(found), what, _listed(short), advice, what)
    )


def _hosts_by(records: t.Sequence[Record], key: t.Callable[[Record], t.Any]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for record in records:
        value = key(record)
        if value is not None and record["host"] not in groups.setdefault(value, []):
            groups[value].append(record["host"])
    return groups


def _listed(groups: t.Mapping[str, t.Sequence[str]]) -> str:
    return ", ".join("%s (%s)" % (name, ", ".join(hosts)) for name, hosts in sorted(groups.items()))


__all__ = ("rotation_obstacles",)
