# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: holder_has_ended
short_description: Tell whether the run that holds a cluster's lock is known to have ended
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - True if the run was started on this very controller and its process is gone, as after a kill.
  - False if it still runs, and wherever that cannot be told, because it was started elsewhere.
options:
  _input:
    description: The holder, as RV(certops.kubernetes.cluster_lock#module:held_by) returns it.
    type: dict
    required: true
"""

EXAMPLES = r"""
---
- name: Take over what a killed run has left
  certops.kubernetes.cluster_lock:
    holder: "{{ holder }}"
    take_over: "{{ refused.held_by.run_id }}"
  when: refused.held_by is defined and refused.held_by | certops.kubernetes.holder_has_ended
"""

RETURN = r"""
_value:
  description: Whether that run has ended.
  type: bool
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._run_holder import holder_has_ended
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to holder_has_ended."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"holder_has_ended": as_filter(holder_has_ended)}
