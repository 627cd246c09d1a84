# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: run_holder
short_description: Say who a run is, for the lock of the cluster
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - Makes the holder that M(certops.kubernetes.cluster_lock) takes, of a run's id and start, and of what the controller knows about itself.
positional: playbook, job_id, user
options:
  _input:
    description: The run, with C(id) and C(started_at) (ISO 8601, UTC).
    type: dict
    required: true
  playbook:
    description: What the run does, such as V(rotate).
    type: str
    required: true
  job_id:
    description: The number of the AWX job, if it is one.
    type: raw
  user:
    description: Who started it. Without it, or when it is empty, the user of the controller's process.
    type: str
"""

EXAMPLES = r"""
---
- name: Hold the cluster
  certops.kubernetes.cluster_lock:
    holder: "{{ {'id': '2026-11-24-a', 'started_at': '2026-11-24T01:50:00Z'} | certops.kubernetes.run_holder('rotate') }}"
"""

RETURN = r"""
_value:
  description: A holder, with the keys of the option O(certops.kubernetes.cluster_lock#module:holder).
  type: dict
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._run_holder import run_holder
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to run_holder."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"run_holder": as_filter(run_holder)}
