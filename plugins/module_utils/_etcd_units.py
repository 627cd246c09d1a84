# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The etcd that systemd runs on a host, as kubespray and hand-made clusters have it.

Accepted is the process of a unit, or an enabled unit that does not run just now; never one of a pod, of a container or of somebody's
shell. On a host with an API server it must be an etcd that this API server uses: others keep their own etcd there (Patroni).
"""

from __future__ import annotations

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._etcd_config import ENVIRONMENT_PREFIX, addresses, etcd_flags
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import ETCD
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Component, Finding
from ansible_collections.certops.kubernetes.plugins.module_utils._processes import RunningProcess, environment
from ansible_collections.certops.kubernetes.plugins.module_utils._systemd_units import enabled_services

# kubespray, Debian, Fedora and etcd's own documentation agree on it.
_USUAL_UNIT = "etcd.service"
_EVERY_ADDRESS = ("0.0.0.0", "::")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_DEFAULT_CLIENT_URLS = "http://localhost:2379"


def find_etcd_unit(
    running: t.Sequence[RunningProcess], api_server: Component | None, proc: str, unit_folders: t.Sequence[str]
) -> tuple[Component | None, list[Finding]]:
    """The etcd of this host that is a unit, and what is wrong with its configuration; other units' etcds are named, not taken."""
    found = list(_candidates(running, proc, unit_folders))
    ours = [entry for entry in found if api_server is None or _serves(entry[0], api_server)]
    ours.sort(key=lambda entry: (entry[0].unit != _USUAL_UNIT, entry[0].process is None))
    chosen, problems = ours[0] if ours else (None, ())
    others = sorted(str(entry[0].unit) for entry in found if entry[0] is not chosen)
    return chosen, [*problems, *([_not_looked_at(others)] if others else [])]


def _candidates(
    running: t.Sequence[RunningProcess], proc: str, unit_folders: t.Sequence[str]
) -> t.Iterator[tuple[Component, tuple[Finding, ...]]]:
    by_unit: dict[str, RunningProcess] = {}
    for candidate in sorted(running, key=lambda candidate: candidate.process.start_ticks):
        if candidate.service is not None and candidate.program == ETCD:
            by_unit[candidate.service] = candidate
    for unit, candidate in by_unit.items():
        flags, problems = etcd_flags(candidate.argv, environment(candidate.process.pid, ENVIRONMENT_PREFIX, proc))
        yield Component(ETCD, flags, unit=unit, process=candidate.process), problems
    for service in enabled_services(ETCD, unit_folders):
        if service.unit not in by_unit:
            flags, problems = etcd_flags(service.argv, service.environment)
            yield Component(ETCD, flags, unit=service.unit), problems


def _serves(etcd: Component, api_server: Component) -> bool:
    """Whether the API server's --etcd-servers name an address where this etcd is."""
    urls = [etcd.flag(flag) or "" for flag in ("listen-client-urls", "advertise-client-urls")]
    own = {(host, port) for _scheme, host, port in addresses(",".join(urls) if any(urls) else _DEFAULT_CLIENT_URLS)}
    everywhere = {port for host, port in own if host in _EVERY_ADDRESS}
    used = addresses(api_server.flag("etcd-servers"))
    return any((host, port) in own or (host in _LOOPBACK and port in everywhere) for _scheme, host, port in used)


def _not_looked_at(units: t.Sequence[str]) -> Finding:
    return Finding(
        code="other_etcd",
        severity="info",
        message="%s on this host also run%s etcd, but not the cluster's own: certificates of it are not looked at."
        % (" and ".join(units), "s" if len(units) == 1 else ""),
        remedy="Nothing, if it belongs to something else. The etcd of a second store, such as kubespray's for events, is renewed by hand.",
    )


__all__ = ("find_etcd_unit",)
