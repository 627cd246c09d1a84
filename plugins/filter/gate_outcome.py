# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: gate_outcome
short_description: Say whether to go on, wait or stop after an answer of the gate
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - Takes what M(certops.kubernetes.cluster_health_info) returned; each check that is not as it should be has its own time limit.
positional: gate, previous, now, limit, limits
options:
  _input:
    description: What M(certops.kubernetes.cluster_health_info) returned.
    type: dict
    required: true
  gate:
    description: Which gate it is, such as V(before) or V(after).
    type: str
    required: true
  previous:
    description: What this filter made of the last answer; V(null) at first.
    type: dict
    required: true
  now:
    description: The time, in seconds since 1970.
    type: float
    required: true
  limit:
    description: How many seconds a check is waited for.
    type: int
    required: true
  limits:
    description: Other limits in seconds, by the names of checks.
    type: dict
"""

EXAMPLES = r"""
---
- name: Judge
  ansible.builtin.set_fact:
    outcome: >-
      {{ health | certops.kubernetes.gate_outcome("before", outcome | default(none), now(utc=true).timestamp(), 60, {"etcd": 120}) }}
"""

RETURN = r"""
_value:
  description:
    - The answer with C(state) (V(passed), V(waiting) or V(failed)), C(line) (why, in words), C(waited_seconds), C(since) and C(gate) added.
  type: dict
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._gate import gate_outcome
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to gate_outcome."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"gate_outcome": as_filter(gate_outcome)}
