# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: inspection_summary
short_description: Say what an inspection found in numbers and in words
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - Counts certificate records by status, finds the worst and the next to end, and applies an exit policy.
positional: fail_on
options:
  _input:
    description: Certificate records, as M(certops.kubernetes.certificate_info) returns them.
    type: list
    elements: dict
    required: true
  fail_on:
    description: From which level on V(artifact.failed) is true.
    type: str
    choices: [never, warning, critical, expired]
    default: never
  problems:
    description: Findings about nodes rather than certificates.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
---
- name: What a scheduler reads
  ansible.builtin.set_stats:
    data:
      certops_inspect: "{{ (records | certops.kubernetes.inspection_summary('critical')).artifact }}"
    per_host: false
"""

RETURN = r"""
_value:
  description: V(artifact) (numbers, small and free of secrets), V(headline) (one line) and V(lines) (a table in plain words).
  type: dict
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._summary import inspection_summary
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to inspection_summary."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"inspection_summary": as_filter(inspection_summary)}
