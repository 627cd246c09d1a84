# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The records of a tree, by name, and their findings in short."""

from __future__ import annotations

import dataclasses
import typing as t
from datetime import datetime, timezone

from ansible_collections.certops.kubernetes.plugins.module_utils._inspection import Thresholds, inspect_node
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Record
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import (
    KubeadmTree,
)

DAY = 86400
NOW = datetime.now(timezone.utc)
LIMITS = Thresholds(30 * DAY, 7 * DAY)


def inspect(tree: KubeadmTree, now: datetime = NOW, configuration: t.Any = None) -> dict[str, Record]:
    """The records by name, without asking any address; `configuration` is kubeadm's ClusterConfiguration."""
    node = tree.discover()
    components = {name: dataclasses.replace(component, endpoints=()) for name, component in node.components.items()}
    node = dataclasses.replace(node, components=components)
    return by_name(inspect_node(node, "inventory-name", None, now, LIMITS, configuration=lambda: configuration))


def by_name(records: list[Record]) -> dict[str, Record]:
    """The records by name, each of which is there once."""
    found = {record.name: record for record in records}
    assert len(found) == len(records)
    return found


def codes(record: Record) -> list[tuple[str, str]]:
    """A record's findings in short."""
    return [(finding.code, finding.severity) for finding in record.findings]


def trouble(records: t.Mapping[str, Record]) -> dict[str, list[str]]:
    """Codes by name, for the records that have any."""
    return {name: [finding.code for finding in record.findings] for name, record in records.items() if record.findings}
