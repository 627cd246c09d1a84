# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Which components have to be restarted, and why. Pure: the node and its records in, decisions out.

A restart needs contrary evidence or the user's word, never a mere "unknown". A process that was there before the file was
written, and that reads this file only when it starts, is such evidence.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._in_memory import maker_of
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Item, Touched
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_api import KUBELET_CREDENTIAL
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import KUBELET
from ansible_collections.certops.kubernetes.plugins.module_utils._model import MOVED, ReaderSpec

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node, Reader, Record

# One after the other, each healthy before the next: the API server needs etcd, the others need the API server. The kubelet is last: until
# then it starts the others again, and a back-off of theirs may restart it anyway.
ORDER = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")

AUTO = "auto"
ALWAYS = "always"
NEVER = "never"

# What an item is called that is a setting of the kubelet: this, and the setting.
SETTING = "kubelet:"

NONE = "none"
RESTARTED = "restarted"
PENDING = "pending"


def record_processes(node: Node, names: t.Sequence[str]) -> tuple[Touched, ...]:
    """The components that read these certificates, with the process that each has now; nothing decided yet."""
    readers = {reader.component for name in names for reader in _specs(node, name)}
    return tuple(Touched(name, NONE, "", process=process_of(node, name)) for name in ORDER if name in readers and name in node.components)


def process_of(node: Node, component: str) -> tuple[int, int] | None:
    """PID and start time of a component's process; None when it does not run."""
    found = node.components.get(component)
    return (found.process.pid, found.process.start_ticks) if found is not None and found.process is not None else None


def decide(
    components: t.Sequence[Touched], items: t.Sequence[Item], node: Node, records: t.Sequence[Record], restart: str
) -> tuple[Touched, ...]:
    """For each component that was recorded: restarted already, to be restarted (pending) with the reason, or left alone."""
    return tuple(_decide_one(touched, items, node, records, restart) for touched in components)


def _decide_one(touched: Touched, items: t.Sequence[Item], node: Node, records: t.Sequence[Record], restart: str) -> Touched:
    if touched.action == RESTARTED:
        return touched
    now = process_of(node, touched.name)
    same_process = now is not None and now == touched.process
    if touched.action == PENDING and not same_process and now is not None:
        # Stopped by a run that was then killed itself: what runs now is new, though nobody saw how long it was away.
        return dataclasses.replace(touched, action=RESTARTED)
    if restart == ALWAYS and same_process:
        return dataclasses.replace(touched, action=PENDING, because="restart: always")
    read = [item for item in items if _reads_at_start(node, item.name, touched.name)]
    found = node.components.get(touched.name)
    if now is None and (read or (found is not None and found.unit)):
        # It may have ended for want of this very certificate; to "restart" it then means to see that it comes back. A kubelet goes on
        # to start its pods, systemd gives a unit up after a few times.
        return dataclasses.replace(touched, action=PENDING, because="is not running")
    made_at_start = [item.name for item in read if item.action == "restart"]
    if made_at_start and same_process:
        return dataclasses.replace(touched, action=PENDING, because="made %s in memory when it started" % ", ".join(made_at_start))
    stale = [
        item.name
        for item in read
        if item.action != "restart" and _is_stale(item, reader_in_use(records, item.name, touched.name), same_process)
    ]
    if stale:
        return dataclasses.replace(touched, action=PENDING, because="reads %s only when it starts" % ", ".join(stale))
    return touched


def _reads_at_start(node: Node, name: str, component: str) -> bool:
    """Who renews a certificate itself (`self`) keeps its own in memory, and reads what somebody else wrote only when it starts."""
    return any(spec.component == component and spec.reload in ("restart", "self") for spec in _specs(node, name))


def _is_stale(item: Item, in_use: str, same_process: bool) -> bool:
    # What a kubelet has in memory, a worker cannot tell: whoever made the plan has asked an API server.
    written_under_it = same_process and (item.action != "activate" or item.name == KUBELET_CREDENTIAL)
    return in_use == "false" or (in_use == "unknown" and written_under_it)


def still_stale(items: t.Sequence[Item], records: t.Sequence[Record]) -> dict[str, list[str]]:
    """Component -> certificates that it is shown not to have."""
    stale: dict[str, list[str]] = {}
    for item in items:
        for reader in readers_of(records, item.name):
            if reader.in_use == "false" and item.name not in stale.get(reader.component, []):
                stale.setdefault(reader.component, []).append(item.name)
    return stale


def force(components: t.Sequence[Touched], stale: dict[str, list[str]], because: str) -> tuple[Touched, ...]:
    """Mark for a restart what should have reloaded by itself and did not."""
    return tuple(
        dataclasses.replace(touched, action=PENDING, because=because % ", ".join(stale[touched.name]))
        if touched.name in stale and touched.action == NONE
        else touched
        for touched in components
    )


def reader_in_use(records: t.Sequence[Record], name: str, component: str) -> str:
    """What is known about one reader of one certificate: true, false or unknown; false if any way of looking says so."""
    states = [reader.in_use for reader in readers_of(records, name) if reader.component == component]
    if "false" in states:
        return "false"
    return "true" if states and all(state == "true" for state in states) else "unknown"


def readers_of(records: t.Sequence[Record], name: str) -> tuple[Reader, ...]:
    """The readers of a certificate by its record."""
    names = (name, MOVED.get(name))
    return next((record.readers for one in names for record in records if record.name == one), ())


def _specs(node: Node, name: str) -> tuple[ReaderSpec, ...]:
    credential = node.credential(name)
    if credential is not None:
        return credential.readers
    if name.startswith(SETTING):
        return (ReaderSpec(KUBELET, "restart"),)
    maker = maker_of(node, name)
    return (ReaderSpec(maker, "restart"),) if maker is not None else ()


__all__ = (
    "ALWAYS",
    "AUTO",
    "NEVER",
    "NONE",
    "ORDER",
    "PENDING",
    "RESTARTED",
    "SETTING",
    "decide",
    "force",
    "process_of",
    "reader_in_use",
    "readers_of",
    "record_processes",
    "still_stale",
)
