#!/usr/bin/python
# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_request
short_description: Make requests for certificates whose CA's key is on another node
version_added: 0.1.0
author:
  - certops.kubernetes contributors (@certops)
description:
  - Makes a new private key for each certificate, and a request (PKCS#10) that another node can sign with
    M(certops.kubernetes.certificate_signing). The API server's client certificate for an etcd outside of the cluster is such a one.
  - "The keys stay on this node: they wait in C(/var/lib/certops/pending), for root alone, until M(certops.kubernetes.certificate_rotation)
    takes them in the same run. What is returned is public."
  - Nothing that is in use is changed. Keys that waited for an earlier run are thrown away.
requirements:
  - cryptography >= 3.4 on the node
  - PyYAML on the node
extends_documentation_fragment:
  - certops.kubernetes._attributes
  - certops.kubernetes._attributes.action_group
  - certops.kubernetes._attributes.changes_module
attributes:
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Each call makes new keys. With V(private_key=keep) nothing is written at all.
options:
  run_id:
    description: The name of the run that the keys wait for.
    type: str
    required: true
  names:
    description:
      - Names of the certificates, as RV(certops.kubernetes.certificate_info#module:certificates) has them.
      - Of several names for one file only the first gets a request.
    type: list
    elements: str
    required: true
  private_key:
    description: Whether a new private key is made or the old one is kept.
    type: str
    choices:
      - regenerate
      - keep
    default: regenerate
  validity_days:
    description:
      - How long the new certificates are to be valid.
      - Without it the cluster's own C(certificateValidityPeriod), else 365 days.
    type: int
  kubernetes_dir:
    description: The folder of the node's Kubernetes configuration.
    type: path
    default: /etc/kubernetes
seealso:
  - module: certops.kubernetes.certificate_signing
  - module: certops.kubernetes.certificate_rotation
"""

EXAMPLES = r"""
- name: Ask for a new certificate for the API server's way to etcd
  certops.kubernetes.certificate_request:
    run_id: 2026-11-24-a
    names:
      - apiserver-etcd-client
  register: asked

- name: Sign it where the key of etcd's CA is
  certops.kubernetes.certificate_signing:
    requests: "{{ asked.requests }}"
  delegate_to: etcd-1
  register: signed

- name: Put it in place, with the key that waits for it
  certops.kubernetes.certificate_rotation:
    run_id: 2026-11-24-a
    items:
      - name: apiserver-etcd-client
        signed_by: etcd-1
        certificate: "{{ signed.certificates[0].certificate }}"
"""

RETURN = r"""
requests:
  description: What the other node is to be given. Empty in check mode.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: The name of the certificate.
      type: str
      sample: apiserver-etcd-client
    request:
      description: The request as PEM.
      type: str
    certificate:
      description: The certificate that is to be renewed, as PEM.
      type: str
    validity_seconds:
      description: How long the new certificate is to be valid.
      type: int
      sample: 31536000
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.certops.kubernetes.plugins.module_utils._deps import missing_requirements
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import StateFolder
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import node_access
from ansible_collections.certops.kubernetes.plugins.module_utils._requests import request_signatures


def argument_spec() -> dict[str, t.Any]:
    return {
        "run_id": {"type": "str", "required": True},
        "names": {"type": "list", "elements": "str", "required": True},
        "private_key": {"type": "str", "choices": ["regenerate", "keep"], "default": "regenerate", "no_log": False},
        "validity_days": {"type": "int"},
        "kubernetes_dir": {"type": "path", "default": "/etc/kubernetes"},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    problems = missing_requirements()
    if problems:
        module.fail_json(msg=" ".join(problems))
    params = module.params
    if params["validity_days"] is not None and params["validity_days"] < 1:
        module.fail_json(msg="validity_days is %d, it must be at least 1." % params["validity_days"])
    keep = params["private_key"] == "keep"
    changed = bool(params["names"]) and not keep
    if module.check_mode or not params["names"]:
        module.exit_json(changed=changed, requests=[])
    access = node_access(params["kubernetes_dir"], 0, 0)
    try:
        requests = request_signatures(access, StateFolder(), params["run_id"], params["names"], keep, params["validity_days"])
    except CertopsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, requests=[request.plain() for request in requests])


if __name__ == "__main__":
    main()
