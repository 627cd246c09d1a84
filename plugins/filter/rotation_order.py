# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rotation_order
short_description: Take from a plan the hosts where something is done, in the order to do it
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - The hosts where a plan changes something, or where a run did not end.
  - Hosts that run etcd and no API server come first, those outside of the cluster, which have kubeconfigs only, at the end, with nodes
    where only copies of other nodes' kubeconfigs are due.
  - Of the others those whose kube-scheduler or kube-controller-manager leads the cluster come last, so that leadership moves once.
positional: nodes
options:
  _input:
    description: A plan, as P(certops.kubernetes.rotation_plan#filter) returns it.
    type: list
    elements: dict
    required: true
  nodes:
    description: What RV(certops.kubernetes.certificate_info#module:node) says, by inventory name.
    type: dict
"""

EXAMPLES = r"""
---
- name: Put the hosts into a group in this order
  ansible.builtin.add_host:
    name: "{{ item }}"
    groups: [due]
  loop: "{{ plan | certops.kubernetes.rotation_order(nodes) }}"
"""

RETURN = r"""
_value:
  description: Inventory names, the first to be changed first.
  type: list
  elements: str
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._order import rotation_order
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to rotation_order."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"rotation_order": as_filter(rotation_order)}
