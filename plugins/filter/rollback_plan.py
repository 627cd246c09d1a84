# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rollback_plan
short_description: Say what a rollback will do on a host, as a plan
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - One entry for each certificate that is going to be put back, as P(certops.kubernetes.rotation_plan#filter) has them.
positional: host, records
options:
  _input:
    description: What M(certops.kubernetes.certificate_rollback) returned in check mode.
    type: dict
    required: true
  host:
    description: The inventory's name of the node.
    type: str
    required: true
  records:
    description: The node's RV(certops.kubernetes.certificate_info#module:certificates).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
---
- name: Look what would be put back
  certops.kubernetes.certificate_rollback:
  check_mode: true
  register: foreseen

- name: Show it
  ansible.builtin.debug:
    msg: "{{ foreseen | certops.kubernetes.rollback_plan(inventory_hostname, []) | certops.kubernetes.plan_lines }}"
"""

RETURN = r"""
_value:
  description: Plan entries.
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._plan import rollback_plan
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to rollback_plan."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"rollback_plan": as_filter(rollback_plan)}
