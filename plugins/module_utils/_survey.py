# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What `certificate_info` calls: a node is discovered, inspected and asked, and told as the module returns it."""

from __future__ import annotations

import os
import time
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._asked import Asked
from ansible_collections.certops.kubernetes.plugins.module_utils._discovery import discover
from ansible_collections.certops.kubernetes.plugins.module_utils._inspection import (
    Thresholds,
    finding_to_dict,
    inspect_node,
    node_to_dict,
    record_to_dict,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import StateFolder
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Finding
from ansible_collections.certops.kubernetes.plugins.module_utils._renewable import authorities_with_key

if t.TYPE_CHECKING:
    from datetime import datetime

_DAY = 86400


def survey(params: t.Mapping[str, t.Any], now: datetime) -> dict[str, t.Any]:
    """The node's records, the node itself and its problems, as the module with these parameters returns them."""
    began = time.monotonic()
    node = discover(now, params["kubernetes_dir"], etcd_unit=params["etcd_unit"])
    asked = Asked(node, now, params["probe_timeout_seconds"])
    thresholds = Thresholds(params["warn_days"] * _DAY, params["critical_days"] * _DAY)
    records = inspect_node(node, node.name or os.uname().nodename, params["cluster"], now, thresholds, params["probe_timeout_seconds"])
    described = node_to_dict(node, params["cluster"], now)
    described["certificate_validity_seconds"] = asked.certificate_validity_seconds()
    described["leads"] = list(asked.leads())
    described["signs"] = authorities_with_key(node)
    described["unfinished_run"], problems = unfinished_run(StateFolder())
    described["seconds_taken"] = round(time.monotonic() - began, 3)
    return {
        "certificates": [record_to_dict(record) for record in records],
        "node": described,
        "problems": [finding_to_dict(problem) for problem in (*node.problems, *problems)],
    }


def unfinished_run(state: StateFolder) -> tuple[str | None, list[Finding]]:
    """The id of the oldest run that was stopped half-way on this node, and what is wrong with the journals."""
    try:
        unfinished = state.unfinished()
    except CertopsError as error:
        return None, [Finding("unreadable", "critical", str(error), "Look at that journal before anything is rotated on this node.")]
    return (unfinished[0].run_id if unfinished else None), []


__all__ = ("survey", "unfinished_run")
