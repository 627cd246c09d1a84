# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: plan_lines
short_description: Say a plan in plain words
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - The order of the nodes, where there are several; one line for each item that is renewed, activated or reported, with its
    reason; then how many need nothing.
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
- name: Show the plan
  ansible.builtin.debug:
    msg: "{{ plan | certops.kubernetes.plan_lines }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: list
  elements: str
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._report import plan_lines
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to plan_lines."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"plan_lines": as_filter(plan_lines)}
