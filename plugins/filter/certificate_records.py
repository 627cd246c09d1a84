# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: certificate_records
short_description: Collect the certificate records of many hosts
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - Joins what M(certops.kubernetes.certificate_info) returned for several hosts to one list of records.
  - A host that was not reached, or where the module failed, becomes a record too, named V(node), that says so.
  - With O(kubelet_answers) the records of workers tell whether their kubelets use the client certificates on disk.
  - Kubeconfigs on workers and on hosts outside of the cluster are compared with what its control-plane nodes have (C(stale_copy),
    C(foreign_copy)).
positional: kubelet_answers
options:
  _input:
    description: Results of M(certops.kubernetes.certificate_info) by inventory name.
    type: dict
    required: true
  kubelet_answers:
    description: Results of M(certops.kubernetes.kubelet_info), each with one of P(certops.kubernetes.kubelet_questions#filter) as V(item).
    type: list
    elements: dict
"""

EXAMPLES = r"""
---
- name: All records of a cluster
  ansible.builtin.debug:
    msg: "{{ {'node1': node1_result, 'node2': node2_result} | certops.kubernetes.certificate_records }}"
"""

RETURN = r"""
_value:
  description: The records; V(host) is the inventory name.
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._summary import certificate_records
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to certificate_records."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"certificate_records": as_filter(certificate_records)}
