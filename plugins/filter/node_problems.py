# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: node_problems
short_description: Say what is wrong with nodes rather than certificates
author:
  - certops.kubernetes contributors (@certops)
version_added: 0.1.0
description:
  - Collects what M(certops.kubernetes.certificate_info) found wrong with each node, and compares the nodes' clocks with the controller's
    and with each other's, and what nodes of one cluster should have alike.
  - "A clock that is certainly more than five seconds wrong is a finding V(clock_skew) of severity V(warning); more than five minutes, of
    V(critical): new certificates are valid from five minutes before they are made."
  - Nodes of one cluster with different cluster CAs, front-proxy CAs, etcd CAs or service-account keys are a finding V(nodes_differ) of
    severity V(critical), once for each of these. Of one cluster are nodes that have the same name for it and share at least one of them.
  - With O(kubelet_answers), why kubelets did not tell which client certificate they use is a finding V(kubelet_not_asked).
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
- name: Whose clock is wrong
  ansible.builtin.debug:
    msg: "{{ {'node1': node1_result, 'node2': node2_result} | certops.kubernetes.node_problems | selectattr('code', 'eq', 'clock_skew') }}"
"""

RETURN = r"""
_value:
  description: Findings with V(code), V(severity), V(message), V(remedy) and V(host).
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._summary import node_problems
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's door to node_problems."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters by name."""
        return {"node_problems": as_filter(node_problems)}
