# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Let another member of etcd lead before this node's own is stopped.

A member that leads and goes away takes with it what the others had sent to it: such a write waits until etcd gives it up, five seconds and
two election timeouts later (etcd `server/config`: ReqTimeout). etcd hands leadership over when it ends by itself, which is after its
watchers have gone, seconds after its listeners are closed and after it has been killed here.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._etcd import (
    ask_member,
    endpoint_status,
    etcd_address,
    etcd_client,
    etcd_identity,
    members,
    status_problem,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._etcd import Member, Status
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node

_PATH = "/v3/maintenance/transfer-leadership"


def hand_over(node: Node, now: datetime, timeout: float = 5.0) -> str | None:
    """Name of the member that leads now in the place of this node's; None when this node's did not lead, or is alone. Raises CertopsError.

    `timeout` in seconds, for each question.
    """
    _name, identity = etcd_identity(node, now)
    client = etcd_client(etcd_address(node), identity, timeout)
    own = endpoint_status(client)
    if own.leader_id == "0" or own.leader_id != own.member_id:
        return None
    healthy: list[tuple[Status, Member]] = []
    for member in members(client):
        with contextlib.suppress(CertopsError):
            status = ask_member(member, identity, timeout) if member.id != own.member_id else own
            if status is not own and status_problem(member.name, status) is None:
                healthy.append((status, member))
    if not healthy:
        return None
    _status, successor = max(healthy, key=lambda found: found[0].raft_index)
    client.json("POST", _PATH, {"targetID": successor.id})
    return successor.name


__all__ = ("hand_over",)
