#!/usr/bin/python
# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeconfig_renewal
short_description: Renew users of kubeconfigs on a host that has no key of the cluster's CA
version_added: 0.1.0
author:
  - certops.kubernetes contributors (@certops)
description:
  - For a bastion or a machine that only uses a cluster. Without O(certificates) it makes a new private key for each user, and a request
    (PKCS#10) that M(certops.kubernetes.certificate_signing) can sign on a control-plane node. With them it puts what was signed, and the
    keys, into the kubeconfigs.
  - "The keys never leave this host: they wait in C(/var/lib/certops/pending), for root alone, until the second call of the same run."
  - What was signed must belong to the waiting key, verify under the CA in the kubeconfig, and say the same as its predecessor.
  - Other users, clusters and contexts in the file stay byte for byte, owner, group and mode too. A file in somebody's home is read and
    written with that user's rights, through no symbolic link.
  - A backup of each file is kept in C(/var/lib/certops/runs), for root alone.
requirements:
  - cryptography >= 3.4 on the host
  - PyYAML on the host
extends_documentation_fragment:
  - certops.kubernetes._attributes
  - certops.kubernetes._attributes.action_group
  - certops.kubernetes._attributes.changes_module
attributes:
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Each call without O(certificates) makes new keys, and each answer is taken once.
options:
  run_id:
    description: The name of the run that the keys wait for, and under which backups are kept.
    type: str
    required: true
  names:
    description:
      - The users, as C(PATH#USER), as RV(certops.kubernetes.certificate_info#module:certificates) names them. Certificate and key must be
        embedded, and so must be the cluster's CA.
      - Not used with O(certificates).
    type: list
    elements: str
    default: []
  certificates:
    description: What RV(certops.kubernetes.certificate_signing#module:certificates) holds.
    type: list
    elements: dict
    suboptions:
      name:
        description: The user, as C(PATH#USER).
        type: str
        required: true
      certificate:
        description: The new certificate as PEM.
        type: str
        required: true
  validity_days:
    description: How long new certificates are to be valid. Never longer than the CA.
    type: int
    default: 365
  keep_backups:
    description: How many runs' backups are kept on this host.
    type: int
    default: 10
seealso:
  - module: certops.kubernetes.certificate_signing
  - module: certops.kubernetes.issue_kubeconfig
"""

EXAMPLES = r"""
- name: Make a key on the bastion, and a request
  certops.kubernetes.kubeconfig_renewal:
    run_id: 2026-11-24-a
    names:
      - /home/jane/.kube/config#kubernetes-admin
  become: true
  register: asked

- name: Sign it where the key of the cluster's CA is
  certops.kubernetes.certificate_signing:
    requests: "{{ asked.requests }}"
  become: true
  delegate_to: cp-1
  register: signed

- name: Put it into the kubeconfig
  certops.kubernetes.kubeconfig_renewal:
    run_id: 2026-11-24-a
    certificates: "{{ signed.certificates }}"
  become: true
"""

RETURN = r"""
requests:
  description: What M(certops.kubernetes.certificate_signing) is to be given. Empty in check mode, and with O(certificates).
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: The user, as C(PATH#USER).
      type: str
      sample: /home/jane/.kube/config#kubernetes-admin
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
renewed:
  description: What was put into kubeconfigs, with RV(ignore:before) and RV(ignore:after) of each certificate.
  type: list
  elements: dict
  returned: success
"""

import os
import typing as t
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.certops.kubernetes.plugins.module_utils._deps import missing_requirements
from ansible_collections.certops.kubernetes.plugins.module_utils._elsewhere import Run, ask_for, look_for, put_into
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import StateFolder
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

LARGEST_NUMBER = 1000000
DAY_SECONDS = 86400


def argument_spec() -> dict[str, t.Any]:
    return {
        "run_id": {"type": "str", "required": True},
        "names": {"type": "list", "elements": "str", "default": []},
        "certificates": {
            "type": "list",
            "elements": "dict",
            "options": {"name": {"type": "str", "required": True}, "certificate": {"type": "str", "required": True}},
        },
        "validity_days": {"type": "int", "default": 365},
        "keep_backups": {"type": "int", "default": 10},
    }


def act(params: dict[str, t.Any], state: StateFolder, run: Run, check_mode: bool) -> dict[str, t.Any]:
    """The module's result. Raises CertopsError."""
    if params["certificates"] is not None:
        signed = {entry["name"]: entry["certificate"].encode() for entry in params["certificates"]}
        renewed = put_into(state, run, signed) if signed and not check_mode else []
        return {"changed": bool(signed), "requests": [], "renewed": renewed}
    if check_mode:
        return {"changed": bool(look_for(params["names"])), "requests": [], "renewed": []}
    requests = ask_for(state, run, params["names"], params["validity_days"] * DAY_SECONDS) if params["names"] else []
    return {"changed": bool(requests), "requests": [request.plain() for request in requests], "renewed": []}


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    missing = missing_requirements()
    if missing:
        module.fail_json(msg=" ".join(missing))
    params = module.params
    for name in ("validity_days", "keep_backups"):
        if not 1 <= params[name] <= LARGEST_NUMBER:
            module.fail_json(msg="%s is %d, it must be between 1 and %d." % (name, params[name], LARGEST_NUMBER))
    run = Run(params["run_id"], os.uname().nodename, os.getpid(), datetime.now(timezone.utc), params["keep_backups"])
    try:
        result = act(params, StateFolder(), run, module.check_mode)
    except CertopsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
