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
from ansible_collections.certops.kubernetes.plugins.module_utils._shared import differences, hosts_by, listed

Record = t.Mapping[str, t.Any]


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
    names = hosts_by(records, lambda record: record["cluster"])
    if len(names) > 1:
        return [*obstacles, "The nodes belong to %d clusters, %s; %s" % (len(names), listed(names), advice)]
    differing = ["%s If these are different clusters, %s If not: %s" % (one.message, advice, one.remedy) for one in differences(records)]
    return obstacles + differing


def _kind_of(host: str, control_plane: t.Sequence[str], etcd: t.Sequence[str]) -> str | None:
    return "a control-plane node" if host in control_plane else "a host of etcd" if host in etcd else None


__all__ = ("rotation_obstacles",)
