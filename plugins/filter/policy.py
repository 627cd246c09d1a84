# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: policy
short_description: Convert the roles' variables to values
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - All variables of the roles may arrive as strings, V("false"), V("30") and V("") included, as AWX surveys send them.
  - This filter is the one place where they are converted. An empty string means the variable's default.
options:
  _input:
    description: Variables of the roles by name.
    type: dict
    required: true
"""

EXAMPLES = r"""
---
- name: Fail early when a variable has no meaning
  ansible.builtin.debug:
    msg: "{{ {'certs_rotate_force': 'false', 'certs_rotate_renew_before_days': ''} | certops.kubernetes.policy }}"
    # → {"force": false, "renew_before_days": 30}
"""

RETURN = r"""
_value:
  description: The values; their keys lack the role's name.
  type: dict
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._policy import policy
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to policy."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"policy": as_filter(policy)}
