# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rotation_obstacles
short_description: Say why nothing may be rotated
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - A rotation handles one cluster, and only while all its control-plane nodes and hosts of etcd can be inspected.
  - Nodes with different cluster CAs, front-proxy CAs, etcd CAs or service-account keys stand against it, and so does a clock that is more
    than five minutes wrong.
positional: control_plane, etcd, inspections
options:
  _input:
    description: Certificate records, as M(certops.kubernetes.certificate_info) returns them.
    type: list
    elements: dict
    required: true
  control_plane:
    description: Inventory names of the control-plane nodes.
    type: list
    elements: str
    required: true
  etcd:
    description: Inventory names of the hosts of etcd, where these are others.
    type: list
    elements: str
    default: []
  inspections:
    description: The results of M(certops.kubernetes.certificate_info) by inventory name. The nodes' clocks are in them.
    type: dict
    default: {}
"""

EXAMPLES = r"""
---
- name: Refuse before anything is changed
  ansible.builtin.assert:
    that: (records | certops.kubernetes.rotation_obstacles(groups['kube_control_plane'], groups['etcd'])) == []
"""

RETURN = r"""
_value:
  description: Sentences; empty when nothing stands against a rotation.
  type: list
  elements: str
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._obstacles import rotation_obstacles
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to rotation_obstacles."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"rotation_obstacles": as_filter(rotation_obstacles)}
