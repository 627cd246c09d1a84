# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rotation_plan
short_description: Plan a rotation from certificate records and a policy
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - Says for each certificate record, and for each setting of a kubelet that is wanted on, what a rotation does about it, and why.
  - A pure function, the same in check mode and in real runs.
positional: policy
options:
  _input:
    description: Certificate records, as M(certops.kubernetes.certificate_info) returns them.
    type: list
    elements: dict
    required: true
  policy:
    description:
      - Values of the C(certs_rotate_) variables, as P(certops.kubernetes.policy#filter) returns them.
      - With V(approver) empty there is no control-plane node that could approve what a kubelet asks for.
    type: dict
    required: true
  nodes:
    description:
      - What M(certops.kubernetes.certificate_info) says of each node, such as the validity that it asks for, or the kubelet's settings.
    type: dict
    default: {}
"""

EXAMPLES = r"""
---
- name: What would be renewed
  ansible.builtin.debug:
    msg: "{{ records | certops.kubernetes.rotation_plan(policy) | selectattr('action', 'eq', 'renew') | map(attribute='name') }}"
  vars:
    policy: "{{ {'certs_rotate_renew_before_days': 30, 'certs_rotate_restart': '', 'certs_rotate_force': ''} | certops.kubernetes.policy }}"
"""

RETURN = r"""
_value:
  description:
    - One entry for each record, for each setting that is wanted on and is off, and for each run that did not end.
    - Each has V(action), V(code) and V(reason).
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._plan import rotation_plan
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to rotation_plan."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"rotation_plan": as_filter(rotation_plan)}
