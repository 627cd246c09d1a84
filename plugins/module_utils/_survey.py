# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What `certificate_info` calls: a node is discovered, inspected and asked, and told as the module returns it."""

from __future__ import annotations

import dataclasses
import os
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.certops.kubernetes.plugins.module_utils._access import api_client
from ansible_collections.certops.kubernetes.plugins.module_utils._api import parse_go_duration
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
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig_records import inspect_kubeconfigs
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_switches import look_at_switches, settings_of
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_use import kubelet_to_ask
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import API_SERVER, CONTROLLER_MANAGER
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Finding, Node
from ansible_collections.certops.kubernetes.plugins.module_utils._object_inspection import NONE, inspect_objects
from ansible_collections.certops.kubernetes.plugins.module_utils._records import Setting
from ansible_collections.certops.kubernetes.plugins.module_utils._renewable import authorities_with_key
from ansible_collections.certops.kubernetes.plugins.module_utils._unused import unused_files

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Record

_API_TIMEOUT_SECONDS = 5.0
_DAY = 86400
_SIGNING_DURATION = "8760h"  # the controller manager's default
_PROXY = "egress-selector-config-file"  # of the API server


def survey(params: t.Mapping[str, t.Any], now: datetime) -> dict[str, t.Any]:
    """The node's records, the node itself and its problems, as the module with these parameters returns them."""
    began = time.monotonic()
    if params["kubeconfigs_only"]:  # whatever else runs there is none of this cluster's
        node = Node(None, None, params["kubernetes_dir"])
    else:
        node = discover(now, params["kubernetes_dir"], etcd_unit=params["etcd_unit"])
    timeout, host = params["probe_timeout_seconds"], node.name or os.uname().nodename
    asked = Asked(node, now, timeout)
    thresholds = Thresholds(params["warn_days"] * _DAY, params["critical_days"] * _DAY)
    with ThreadPoolExecutor(1) as pool:  # the API server and the node's own addresses are asked at the same time
        setting = Setting(params["cluster"] or node.cluster, host, node.name, now, thresholds)
        from_api = pool.submit(cluster_objects, node, params["cluster_objects"], setting, timeout)
        records = inspect_node(node, host, params["cluster"], now, thresholds, timeout, asked.configuration)
        in_objects, unseen = from_api.result()
    of_users = inspect_kubeconfigs(node, params["kubeconfigs"], setting)
    described = node_to_dict(node, params["cluster"], now)
    described["certificate_validity_seconds"] = asked.certificate_validity_seconds()
    described["leads"] = list(asked.leads())
    described["signing_seconds"] = signing_seconds(node)
    described["signs"] = authorities_with_key(node)
    switches = {} if params["kubeconfigs_only"] else look_at_switches(settings_of(node))
    described["kubelet_settings"] = {name: dataclasses.asdict(switch) for name, switch in switches.items()}
    described["kubelet_to_ask"] = kubelet_to_ask(node, records)
    described["issued_by"] = dict(of_users.issued_by)
    described["unfinished_run"], problems = unfinished_run(StateFolder())
    described["seconds_taken"] = round(time.monotonic() - began, 3)
    unused = () if params["kubeconfigs_only"] else unused_files(node)
    found = (*node.problems, *unused, *problems, *of_users.problems, *unseen)
    return {
        "certificates": [record_to_dict(record) for record in each_once([*records, *of_users.records, *in_objects])],
        "node": described,
        "problems": [finding_to_dict(problem) for problem in found],
    }


def signing_seconds(node: Node) -> int | None:
    """How long what the controller manager of this node signs is valid at most; None where there is none."""
    manager = node.components.get(CONTROLLER_MANAGER)
    try:
        return int(parse_go_duration(manager.flag("cluster-signing-duration") or _SIGNING_DURATION)) if manager else None
    except CertopsError:
        return None  # one that cannot be read keeps the controller manager from starting


def cluster_objects(node: Node, what: str, setting: Setting, timeout: float) -> tuple[list[Record], list[Finding]]:
    """The records of what lies in the API's objects, and what could not be looked at; `what` is `none`, `called` or `all`."""
    if what == NONE:
        return [], []
    try:
        client = api_client(node, setting.now, _API_TIMEOUT_SECONDS, ignore_dates=True)
    except CertopsError as error:
        message = "The certificates in the cluster's API objects could not be looked at: %s." % str(error).rstrip(".")
        return [], [Finding("not_inspected", "warning", message, "Look at them from a control-plane node whose admin.conf can be read.")]
    proxy = node.components[API_SERVER].flag(_PROXY)
    return inspect_objects(client, what, setting, timeout, "--%s=%s" % (_PROXY, proxy) if proxy else None)


def each_once(records: t.Sequence[Record]) -> list[Record]:
    """The records, each of a name of its own: a webhook may be at an address of the node itself, and objects may be garbled."""
    seen: dict[str, int] = {}
    named = []
    for record in records:
        count = seen[record.name] = seen.get(record.name, 0) + 1
        named.append(record if count == 1 else dataclasses.replace(record, name="%s~%d" % (record.name, count)))
    return named


def unfinished_run(state: StateFolder) -> tuple[str | None, list[Finding]]:
    """The id of the oldest run that was stopped half-way on this node, and what is wrong with the journals."""
    try:
        unfinished = state.unfinished()
    except CertopsError as error:
        return None, [Finding("unreadable", "critical", str(error), "Look at that journal before anything is rotated on this node.")]
    return (unfinished[0].run_id if unfinished else None), []


__all__ = ("cluster_objects", "each_once", "survey", "unfinished_run")
