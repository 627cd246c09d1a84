# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The hosts where a plan changes something, and in which order."""

from __future__ import annotations

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._plan import ACTIONS, COPY, REPAIR, RESTORE

Record = t.Mapping[str, t.Any]


def is_due(entry: t.Mapping[str, t.Any]) -> bool:
    """Whether a plan's entry makes its node one that is to be changed."""
    return entry["action"] in (*ACTIONS, REPAIR, RESTORE, COPY)


def due_hosts(plan: t.Sequence[Record]) -> list[str]:
    """The hosts where a plan changes something, in the plan's order."""
    return list(dict.fromkeys(entry["host"] for entry in plan if is_due(entry)))


def rotation_order(plan: t.Sequence[Record], nodes: t.Mapping[str, t.Mapping[str, t.Any]] | None = None) -> list[str]:
    """The hosts where a plan changes something, in the order in which they are to be changed: etcd first, those that lead the cluster last.

    Hosts outside of the cluster, which have nothing but kubeconfigs, and nodes where nothing else is due, follow: what was copied there is
    renewed before. Hosts that run
    etcd and no API server are first because API servers need them. `nodes` maps a host to what `certificate_info` says of its node;
    `leads` there names the components that lead from it. A leader that goes hands over to a node that is done already, so leadership
    moves once. The controller manager's leader is the very last: it takes longer to be followed by another one than a scheduler
    (docs/restarts.md). Otherwise the plan's order is kept.
    """
    etcd_only, outside = etcd_hosts(plan), _hosts_outside(plan)

    def weight(host: str) -> int:
        leads = ((nodes or {}).get(host) or {}).get("leads") or ()
        return 2 * ("kube-controller-manager" in leads) + ("kube-scheduler" in leads) - (host in etcd_only) + 4 * (host in outside)

    return sorted(due_hosts(plan), key=weight)


def etcd_hosts(plan: t.Sequence[Record]) -> set[str]:
    """The hosts that run etcd and no API server."""
    return {host for host, found in _components(plan).items() if "etcd" in found and "kube-apiserver" not in found}


def _hosts_outside(plan: t.Sequence[Record]) -> set[str]:
    nothing_but_kubeconfigs = {host for host, found in _components(plan).items() if "user" in found and found <= {"user", None}}
    own = {entry["host"] for entry in plan if is_due(entry) and not entry["apart"]}
    return nothing_but_kubeconfigs | {host for host in due_hosts(plan) if host not in own}


def _components(plan: t.Sequence[Record]) -> dict[str, set[str | None]]:
    found: dict[str, set[str | None]] = {}
    for entry in plan:
        found.setdefault(entry["host"], set()).add(entry["component"])
    return found


__all__ = ("due_hosts", "etcd_hosts", "is_due", "rotation_order")
