# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: setting_conflicts
short_description: Say which settings of a run its hosts do not agree on
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - Most variables count for the host that has them. Those that count for the run, such as C(certs_report_dir), must be the same for all.
  - Values are compared after their conversion, so that an empty text is its default.
options:
  _input:
    description: For each variable's name its values by the hosts' names.
    type: dict
    required: true
"""

EXAMPLES = r"""
---
- name: One folder for one report
  ansible.builtin.assert:
    that: (values | certops.kubernetes.setting_conflicts) == []
  vars:
    values:
      certs_report_dir:
        node1: /var/reports
        node2: /var/reports
"""

RETURN = r"""
_value:
  description: Sentences; empty when the hosts agree.
  type: list
  elements: str
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._policy import setting_conflicts
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to setting_conflicts."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"setting_conflicts": as_filter(setting_conflicts)}
