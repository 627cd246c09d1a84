# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rotation_items
short_description: Take from a plan what is to be done on one host
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - Reduces the entries of a plan to the items that M(certops.kubernetes.certificate_rotation) takes.
positional: host, signed
options:
  _input:
    description: A plan, as P(certops.kubernetes.rotation_plan#filter) returns it.
    type: list
    elements: dict
    required: true
  host:
    description: Inventory name of the host.
    type: str
    required: true
  signed:
    description: What was signed for this host on another one, as M(certops.kubernetes.certificate_signing) returns it.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
---
- name: Rotate what is due here
  certops.kubernetes.certificate_rotation:
    run_id: "{{ run_id }}"
    items: "{{ plan | certops.kubernetes.rotation_items(inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: Items to renew or to activate; empty when nothing is due on the host.
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._plan import rotation_items
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to rotation_items."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"rotation_items": as_filter(rotation_items)}
