#!/usr/bin/python
# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubelet_serving_approval
short_description: Approve kubelets' requests for serving certificates that ask for their own names only
version_added: 0.1.0
author:
  - certops.kubernetes contributors (@certops)
description:
  - A kubelet with C(serverTLSBootstrap) asks the cluster to sign its serving certificate (signer C(kubernetes.io/kubelet-serving)),
    and the cluster never approves that by itself.
  - "Approves a pending request when all of it belongs to the Node object of a node in O(nodes): the API server saw this node's kubelet
    ask, in the groups C(system:nodes) and C(system:authenticated); the subject is exactly C(O=system:nodes, CN=system:node:NAME);
    there is at least one alternative name, each is a DNS name or an IP address, and each is among the node's C(status.addresses); the
    usages are those of a server; the request is signed with its own key, and that key is strong."
  - Everything else is left as it is, pending, and returned with the reason. No request is denied or removed.
  - A Node's addresses are what its kubelet, or the cloud's controller, reports. Whoever rules a kubelet can report others.
  - Run it on one control-plane node, whose administrator's kubeconfig is used.
requirements:
  - cryptography >= 3.4 on the node
  - PyYAML on the node
extends_documentation_fragment:
  - certops.kubernetes._attributes
  - certops.kubernetes._attributes.action_group
attributes:
  check_mode:
    support: full
    details: Check mode says what would be approved, and approves nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  nodes:
    description: Kubernetes' names of the nodes whose requests may be approved.
    type: list
    elements: str
    required: true
  wait_seconds:
    description:
      - How long the certificates of all approved requests are waited for. The module fails when one has not been issued by then.
      - With V(0) none is waited for.
    type: int
    default: 30
  kubernetes_dir:
    description: The folder of the node's Kubernetes configuration.
    type: path
    default: /etc/kubernetes
seealso:
  - module: certops.kubernetes.certificate_info
  - module: certops.kubernetes.certificate_rotation
"""

EXAMPLES = r"""
- name: Approve what two kubelets ask for, as far as it is theirs
  certops.kubernetes.kubelet_serving_approval:
    nodes:
      - cp-1
      - worker-1
  register: approval

- name: Show what is left alone, and why
  ansible.builtin.debug:
    var: approval.left_alone
"""

RETURN = r"""
approved:
  description: The requests that were approved, or in check mode would be.
  type: list
  elements: dict
  returned: success
  contains:
    request:
      description: The name of the CertificateSigningRequest.
      type: str
      sample: csr-x7k2p
    node:
      description: The node whose kubelet asked.
      type: str
      sample: cp-1
    not_after:
      description: The end of the certificate that was issued; null in check mode and when none was waited for.
      type: str
      sample: "2027-11-24T03:45:49Z"
left_alone:
  description: The pending requests that were not approved.
  type: list
  elements: dict
  returned: success
  contains:
    request:
      description: The name of the CertificateSigningRequest.
      type: str
      sample: csr-q9f4z
    requester:
      description: Whom the API server saw ask.
      type: str
      sample: system:node:worker-1
    reason:
      description: Why it was not approved.
      type: str
      sample: it asks for IP:192.0.2.1, which Node worker-1 does not have (it has 192.0.2.7, worker-1)
"""

import typing as t
from dataclasses import asdict
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.certops.kubernetes.plugins.module_utils._access import api_client
from ansible_collections.certops.kubernetes.plugins.module_utils._deps import missing_requirements
from ansible_collections.certops.kubernetes.plugins.module_utils._discovery import discover
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._serving_approval import approve_pending

LONGEST_WAIT = 3600  # seconds


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "list", "elements": "str", "required": True},
            "wait_seconds": {"type": "int", "default": 30},
            "kubernetes_dir": {"type": "path", "default": "/etc/kubernetes"},
        },
        supports_check_mode=True,
    )
    missing = missing_requirements()
    if missing:
        module.fail_json(msg=" ".join(missing))
    if not 0 <= module.params["wait_seconds"] <= LONGEST_WAIT:
        module.fail_json(msg="wait_seconds is %d, it must be between 0 and %d." % (module.params["wait_seconds"], LONGEST_WAIT))
    try:
        result = approve(module.params, module.check_mode, datetime.now(timezone.utc))
    except CertopsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(result["approved"]), **result)


def approve(params: dict[str, t.Any], check_mode: bool, now: datetime) -> dict[str, t.Any]:
    """What was approved and what was not, as the module returns it. Raises CertopsError when the API cannot be asked."""
    client = api_client(discover(now, params["kubernetes_dir"]), now)
    judged = approve_pending(client, params["nodes"], check_mode, params["wait_seconds"])
    return {"approved": [asdict(one) for one in judged.approved], "left_alone": [asdict(one) for one in judged.left_alone]}


if __name__ == "__main__":
    main()
