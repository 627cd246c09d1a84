#!/usr/bin/python
# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_signing
short_description: Sign the certificates of another node with the CA whose key is on this one
version_added: 0.1.0
author:
  - certops.kubernetes contributors (@certops)
description:
  - Signs what M(certops.kubernetes.certificate_request) asked for on another node, with the CA of this node that signed it before.
  - "Only renews: the certificate that is to be renewed must have been signed by a CA whose key is on this node, and subject, alternative
    names and usages of the new one are taken from it, not from the request. The request must be signed with the key that it asks for."
  - The CA's key is read and stays where it is. Nothing is written on this node.
requirements:
  - cryptography >= 3.4 on the node
  - PyYAML on the node
extends_documentation_fragment:
  - certops.kubernetes._attributes
  - certops.kubernetes._attributes.action_group
  - certops.kubernetes._attributes.info_module
options:
  requests:
    description: What RV(certops.kubernetes.certificate_request#module:requests) holds.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of the certificate on its node.
        type: str
        required: true
      request:
        description: The request as PEM.
        type: str
        required: true
      certificate:
        description: The certificate that is to be renewed, as PEM.
        type: str
        required: true
      validity_seconds:
        description: How long the new certificate is valid. Never longer than the CA.
        type: int
        required: true
      proof:
        description: A signature of the request with the key of the certificate that is to be renewed. Needed with O(copies_only).
        type: str
  copies_only:
    description:
      - For requests from hosts that are no nodes of the cluster, of M(certops.kubernetes.kubeconfig_renewal), which nobody need believe.
      - Only an identity that a kubeconfig of this node has (the kubelet's left out) is signed, and only for whoever proves by
        O(requests[].proof) that they have the key of the certificate that is to be renewed. Certificates alone are public.
    type: bool
    default: false
  kubernetes_dir:
    description: The folder of the node's Kubernetes configuration.
    type: path
    default: /etc/kubernetes
seealso:
  - module: certops.kubernetes.certificate_request
  - module: certops.kubernetes.certificate_rotation
  - module: certops.kubernetes.kubeconfig_renewal
"""

EXAMPLES = r"""
- name: Sign what the control-plane node asked for
  certops.kubernetes.certificate_signing:
    requests: "{{ asked.requests }}"
  delegate_to: etcd-1
  register: signed
"""

RETURN = r"""
certificates:
  description: The new certificates.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: The name of the certificate on its node.
      type: str
      sample: apiserver-etcd-client
    certificate:
      description: The new certificate as PEM.
      type: str
"""

import typing as t
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.certops.kubernetes.plugins.module_utils._deps import missing_requirements
from ansible_collections.certops.kubernetes.plugins.module_utils._discovery import discover
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._requests import SigningRequest, sign_requests


def argument_spec() -> dict[str, t.Any]:
    return {
        "requests": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "request": {"type": "str", "required": True},
                "certificate": {"type": "str", "required": True},
                "validity_seconds": {"type": "int", "required": True},
                "proof": {"type": "str"},
            },
        },
        "copies_only": {"type": "bool", "default": False},
        "kubernetes_dir": {"type": "path", "default": "/etc/kubernetes"},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    problems = missing_requirements()
    if problems:
        module.fail_json(msg=" ".join(problems))
    try:
        signed = sign(module.params, datetime.now(timezone.utc))
    except CertopsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, certificates=signed)


def sign(params: dict[str, t.Any], now: datetime) -> list[dict[str, str]]:
    """The new certificates as the module returns them. Raises CertopsError."""
    node = discover(now, params["kubernetes_dir"])
    requests = [
        SigningRequest(
            entry["name"],
            entry["request"].encode(),
            entry["certificate"].encode(),
            entry["validity_seconds"],
            None if entry["proof"] is None else entry["proof"].encode(),
        )
        for entry in params["requests"]
    ]
    signed = sign_requests(node, requests, now, copies_only=params["copies_only"])
    return [{"name": name, "certificate": certificate.decode()} for name, certificate in signed.items()]


if __name__ == "__main__":
    main()
