# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: due_hosts
short_description: Take from a plan the hosts where something is done
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - The hosts where a plan renews or activates something, or where a run did not end.
options:
  _input:
    description: A plan, as P(certops.kubernetes.rotation_plan#filter) returns it.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
---
- name: Leave the other hosts alone
  ansible.builtin.group_by:
    key: "{{ 'due' if inventory_hostname in plan | certops.kubernetes.due_hosts else 'not_due' }}"
"""

RETURN = r"""
_value:
  description: Inventory names.
  type: list
  elements: str
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._plan import due_hosts
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to due_hosts."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"due_hosts": as_filter(due_hosts)}
