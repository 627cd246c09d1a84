#!/usr/bin/python
# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubelet_info
short_description: Ask kubelets when the client certificates that they use end
version_added: 0.1.0
author:
  - certops.kubernetes contributors (@certops)
description:
  - A kubelet that renews its client certificate by itself keeps it in memory. Its metrics tell how long that one is still valid
    (C(kubelet_certificate_manager_client_ttl_seconds)).
  - A node's own identity may not read them. On a control-plane node this module asks its API server for those of other nodes
    (C(/api/v1/nodes/NAME/proxy/metrics)), several at the same time.
  - Together with what M(certops.kubernetes.certificate_info) returned for these nodes it proves whether they use what lies on their disks.
  - A kubelet that does not answer is no error of the module; RV(kubelets) says why.
requirements:
  - cryptography >= 3.4 on the node
  - PyYAML on the node
extends_documentation_fragment:
  - certops.kubernetes._attributes
  - certops.kubernetes._attributes.action_group
  - certops.kubernetes._attributes.info_module
options:
  nodes:
    description: Kubernetes' names of the nodes whose kubelets are asked.
    type: list
    elements: str
    required: true
  timeout_seconds:
    description: How many seconds each step of a question may take, such as to connect or to wait for more of the answer.
    type: float
    default: 5.0
  limit_seconds:
    description: After so many seconds no other kubelet is asked.
    type: float
    default: 60.0
  kubernetes_dir:
    description: The folder of the node's Kubernetes configuration.
    type: path
    default: /etc/kubernetes
seealso:
  - module: certops.kubernetes.certificate_info
notes:
  - Run it on a control-plane node, whose administrator's kubeconfig is used. That identity needs the verb C(get) on C(nodes/proxy).
"""

EXAMPLES = r"""
- name: Ask two workers' kubelets
  certops.kubernetes.kubelet_info:
    nodes:
      - worker-1
      - worker-2
  become: true
  register: told
"""

RETURN = r"""
kubelets:
  description: What each of O(nodes) told, in this order.
  type: list
  elements: dict
  returned: success
  contains:
    node:
      description: The node.
      type: str
      sample: worker-1
    earliest_end:
      description:
        - The certificate in the kubelet's memory does not end before this time, by the clock of the host that asked. UTC, ISO 8601.
        - V(null) when it has none, or did not tell.
      type: str
      sample: "2027-11-24T03:45:47Z"
    latest_end:
      description: It ends at this time at the latest; V(null) as above.
      type: str
      sample: "2027-11-24T03:45:52Z"
    reason:
      description: Why it did not tell; V(null) when it did.
      type: str
      sample: null
"""

from dataclasses import asdict
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.certops.kubernetes.plugins.module_utils._access import api_client
from ansible_collections.certops.kubernetes.plugins.module_utils._deps import missing_requirements
from ansible_collections.certops.kubernetes.plugins.module_utils._discovery import discover
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_told import ask_kubelets
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

LONGEST = 3600  # seconds


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "list", "elements": "str", "required": True},
            "timeout_seconds": {"type": "float", "default": 5.0},
            "limit_seconds": {"type": "float", "default": 60.0},
            "kubernetes_dir": {"type": "path", "default": "/etc/kubernetes"},
        },
        supports_check_mode=True,
    )
    missing = missing_requirements()
    if missing:
        module.fail_json(msg=" ".join(missing))
    for name in ("timeout_seconds", "limit_seconds"):
        if not 0 < module.params[name] <= LONGEST:
            module.fail_json(msg="%s is %s, but must be more than 0 and at most %d." % (name, module.params[name], LONGEST))
    now = datetime.now(timezone.utc)
    try:
        client = api_client(discover(now, module.params["kubernetes_dir"]), now, module.params["timeout_seconds"], ignore_dates=True)
    except CertopsError as error:
        reason = str(error).rstrip(".")
        module.fail_json(msg="No kubelet could be asked: %s. Remedy: call this module on a control-plane node." % reason)
    told = ask_kubelets(client, module.params["nodes"], module.params["limit_seconds"])
    module.exit_json(changed=False, kubelets=[asdict(one) for one in told])


if __name__ == "__main__":
    main()
