# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.

from __future__ import annotations


class ModuleDocFragment:
    """The run that holds the cluster's lock, as modules take it that change a node."""

    DOCUMENTATION = r"""
options:
  lock:
    description:
      - The run that holds the lock of the cluster, as O(certops.kubernetes.cluster_lock#module:holder). The lock is renewed while the
        module works.
      - Refused when another run has the lock by now. Without this option nobody looks at the lock.
    type: dict
    suboptions:
      run_id:
        description: The run's id.
        type: str
        required: true
      since:
        description: When it began, ISO 8601 in UTC.
        type: str
        required: true
      playbook:
        description: What it does.
        type: str
        default: ""
      user:
        description: Who started it.
        type: str
        default: ""
      controller:
        description: Where it was started.
        type: str
        default: ""
      job_id:
        description: The number of the AWX job.
        type: str
        default: ""
      process:
        description: The process of the controller.
        type: str
        default: ""
"""
