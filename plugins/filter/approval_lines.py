# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: approval_lines
short_description: Say in plain words which requests of kubelets were approved
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - Requests that were approved, or in check mode would be, and those that are left alone, with the reason.
options:
  _input:
    description: What M(certops.kubernetes.kubelet_serving_approval) returned, or the error with which it failed.
    type: dict
    required: true
"""

EXAMPLES = r"""
---
- name: Say what was approved
  ansible.builtin.debug:
    msg: "{{ result | certops.kubernetes.approval_lines }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: list
  elements: str
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._report import approval_lines
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to approval_lines."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"approval_lines": as_filter(approval_lines)}
