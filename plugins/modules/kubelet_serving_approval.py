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
      - With V(0), or with O(served_seconds), none is waited for.
    type: int
    default: 30
  served_seconds:
    description:
      - How long each of O(nodes) may take to ask, and to serve a certificate that the cluster's CA signed, seen by a handshake.
      - What they ask for meanwhile is approved. The module does not fail when one does not in time; RV(unserved) says so.
      - With V(0) nobody is looked at. In check mode neither.
    type: int
    default: 0
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
  become: true
  register: approval

- name: Wait besides until one that was just told to ask serves what the cluster signed
  certops.kubernetes.kubelet_serving_approval:
    nodes: [worker-1]
    served_seconds: 60
  become: true

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
served:
  description: The nodes that serve a certificate of the cluster.
  type: list
  elements: dict
  returned: when O(served_seconds) is more than V(0), not in check mode
  contains:
    node:
      description: The node.
      type: str
      sample: worker-1
    address:
      description: Where its kubelet serves it.
      type: str
      sample: 192.0.2.7:10250
    not_after:
      description: Until when it is valid.
      type: str
      sample: "2027-11-24T03:45:49Z"
unserved:
  description: The nodes that do not.
  type: list
  elements: dict
  returned: when O(served_seconds) is more than V(0), not in check mode
  contains:
    node:
      description: The node.
      type: str
      sample: worker-2
    reason:
      description: What was seen instead.
      type: str
      sample: "no certificate could be seen: 192.0.2.8:10250 does not answer as a TLS server: TLSV1_ALERT_INTERNAL_ERROR"
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
from ansible_collections.certops.kubernetes.plugins.module_utils._files import read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._serving_approval import approve_pending
from ansible_collections.certops.kubernetes.plugins.module_utils._serving_proof import approve_until_served
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import parse_certificates

LONGEST_WAIT = 3600  # seconds


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "list", "elements": "str", "required": True},
            "wait_seconds": {"type": "int", "default": 30},
            "served_seconds": {"type": "int", "default": 0},
            "kubernetes_dir": {"type": "path", "default": "/etc/kubernetes"},
        },
        supports_check_mode=True,
    )
    missing = missing_requirements()
    if missing:
        module.fail_json(msg=" ".join(missing))
    for name in ("wait_seconds", "served_seconds"):
        if not 0 <= module.params[name] <= LONGEST_WAIT:
            module.fail_json(msg="%s is %d, it must be between 0 and %d." % (name, module.params[name], LONGEST_WAIT))
    try:
        result = approve(module.params, module.check_mode, datetime.now(timezone.utc))
    except CertopsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(result["approved"]), **result)


def approve(params: dict[str, t.Any], check_mode: bool, now: datetime) -> dict[str, t.Any]:
    """What was approved and what was not, as the module returns it. Raises CertopsError when the API cannot be asked."""
    node = discover(now, params["kubernetes_dir"])
    client = api_client(node, now)
    seen: dict[str, t.Any] = {}
    if params["served_seconds"] and not check_mode:
        ca = node.credentials.get("ca")
        if ca is None:
            raise CertopsError("The cluster's CA is not on this node. Remedy: call this module on a control-plane node.")
        authorities = parse_certificates(read_bounded(ca.cert_path), ca.cert_path)
        outcome = approve_until_served(client, params["nodes"], authorities, params["served_seconds"])
        judged = outcome.judgement
        seen = {"served": [asdict(one) for one in outcome.served], "unserved": [asdict(one) for one in outcome.unserved]}
    else:
        judged = approve_pending(client, params["nodes"], check_mode, params["wait_seconds"])
    return {"approved": [asdict(one) for one in judged.approved], "left_alone": [asdict(one) for one in judged.left_alone], **seen}


if __name__ == "__main__":
    main()
