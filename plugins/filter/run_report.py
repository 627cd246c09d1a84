# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: run_report
short_description: Make the report of a run from its modules' results
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - Puts the inspections, the plan and the results of a run together. Only named keys of the modules' results get into a report.
positional: inspections
options:
  _input:
    description: The run with V(id), V(playbook), V(started_at), V(written_at), V(check_mode).
    type: dict
    required: true
  inspections:
    description: Results of M(certops.kubernetes.certificate_info) by inventory name.
    type: dict
    required: true
  plan:
    description: A plan, as P(certops.kubernetes.rotation_plan#filter) returns it.
    type: list
    elements: dict
    default: []
  obstacles:
    description: Sentences of P(certops.kubernetes.rotation_obstacles#filter).
    type: list
    elements: str
    default: []
  rotations:
    description: Results of M(certops.kubernetes.certificate_rotation).
    type: dict
    default: {}
  gates_before:
    description: Results of M(certops.kubernetes.cluster_health_info) before a node was changed.
    type: dict
    default: {}
  gates_after:
    description: Results of M(certops.kubernetes.cluster_health_info) after a node was changed.
    type: dict
    default: {}
  kubelet_answers:
    description: Results of M(certops.kubernetes.kubelet_info), each with one of P(certops.kubernetes.kubelet_questions#filter) as V(item).
    type: list
    elements: dict
"""

EXAMPLES = r"""
---
- name: The report of an inspection
  ansible.builtin.copy:
    content: "{{ run | certops.kubernetes.run_report({'node1': node1_result}) | to_nice_json }}"
    dest: /tmp/report.json
    mode: "0644"
  vars:
    run: {id: mine, playbook: inspect, started_at: null, written_at: null, check_mode: false}
"""

RETURN = r"""
_value:
  description: The report, as the JSON file holds it.
  type: dict
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._report import run_report
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to run_report."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"run_report": as_filter(run_report)}
