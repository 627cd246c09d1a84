# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: kubelet_questions
short_description: Say on which hosts which kubelets have to be asked for their certificates
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - A worker that cannot tell whether its kubelet uses the client certificate on disk says so (C(kubelet_to_ask)). Its kubelet can be
    asked on a control-plane node with the same cluster CA, by M(certops.kubernetes.kubelet_info).
  - What that returned, with the question as V(item), is taken by P(certops.kubernetes.certificate_records#filter) and the others.
positional: hosts, control_plane
options:
  _input:
    description: Results of M(certops.kubernetes.certificate_info) by inventory name.
    type: dict
    required: true
  hosts:
    description: Inventory names of the hosts whose kubelets are to be asked, where that is needed.
    type: list
    elements: str
    required: true
  control_plane:
    description: Inventory names of the control-plane nodes. No other host is to ask, whatever it says of itself.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
---
- name: Ask
  certops.kubernetes.kubelet_info:
    nodes: "{{ item.nodes.keys() | list }}"
  delegate_to: "{{ item.host }}"
  run_once: true
  loop: "{{ {'cp1': cp1_result, 'worker1': worker1_result} | certops.kubernetes.kubelet_questions(['worker1'], ['cp1']) }}"
  register: asked
"""

RETURN = r"""
_value:
  description: For each host that is to ask V(host), and V(nodes), which maps Kubernetes' names of nodes to when they were looked at.
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_answers import kubelet_questions
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to kubelet_questions."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"kubelet_questions": as_filter(kubelet_questions)}
