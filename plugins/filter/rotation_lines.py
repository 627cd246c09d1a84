# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rotation_lines
short_description: Say in plain words what was done on a node
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - Certificates with their old and new end, settings of the kubelet with their old and new value, and components with the
    time that they were away.
options:
  _input:
    description: What M(certops.kubernetes.certificate_rotation) or M(certops.kubernetes.certificate_rollback) returned.
    type: dict
    required: true
"""

EXAMPLES = r"""
---
- name: Say what was done
  ansible.builtin.debug:
    msg: "{{ result | certops.kubernetes.rotation_lines }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: list
  elements: str
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._report import rotation_lines
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to rotation_lines."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"rotation_lines": as_filter(rotation_lines)}
