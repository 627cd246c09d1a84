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
  - The request is signed with the present key, too, so that nobody can have somebody else's certificate renewed.
  - What was signed must belong to the waiting key, verify under the CA in the kubeconfig, and say the same as its predecessor. Before it is
    written the API server in the kubeconfig is asked whom it sees behind it. Who is refused there keeps what he had; that it cannot be
    asked is a warning.
  - Certificate and key may be embedded, or in files that the kubeconfig names, if its owner alone decides what lies there.
  - Each user is renewed as far as it goes. If one cannot be, the module fails in the end, and says what was done.
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
    support: full
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
      - The users, as C(PATH#USER), as RV(certops.kubernetes.certificate_info#module:certificates) names them. The kubeconfig must hold, or
        name, the cluster's CA.
      - Not used with O(certificates). When both are empty, only what an earlier call was stopped in is ended.
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
    copies_only: true
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
    proof:
      description: A signature of the request with the key of the certificate that is to be renewed.
      type: str
run_id:
  description: The run.
  type: str
  returned: always
certificates:
  description: What was put into kubeconfigs; in check mode what would be renewed.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: The user, as C(PATH#USER).
      type: str
      sample: /home/jane/.kube/config#kubernetes-admin
    action:
      description: Always V(renew).
      type: str
    before:
      description: Subject, names, serial number, dates and fingerprint of the old certificate.
      type: dict
    after:
      description: The same of the new one.
      type: dict
    in_use:
      description: V(true) if the API server sees this user behind the new certificate, else V(unknown).
      type: str
    proof:
      description: V(identity) or V(none).
      type: str
    message:
      description: Why the API server could not be asked.
      type: str
recovered:
  description: What was done about a run that had been stopped half-way on this host.
  type: list
  elements: dict
  returned: always
"""

import os
import typing as t
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.certops.kubernetes.plugins.module_utils._deps import missing_requirements
from ansible_collections.certops.kubernetes.plugins.module_utils._elsewhere import (
    Outcome,
    Run,
    ask_for,
    look_for,
    look_into,
    put_into,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import StateFolder
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._result import facts_text

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


def act(params: dict[str, t.Any], state: StateFolder, run: Run, check_mode: bool) -> Outcome:
    """What came of it. Raises CertopsError."""
    if params["certificates"] is not None:
        signed = {entry["name"]: entry["certificate"].encode() for entry in params["certificates"]}
        return look_into(state, run, signed) if check_mode else put_into(state, run, signed)
    seconds = params["validity_days"] * DAY_SECONDS
    return look_for(params["names"], seconds, run.now) if check_mode else ask_for(state, run, params["names"], seconds)


def result_of(outcome: Outcome, run_id: str) -> dict[str, t.Any]:
    """What the module returns."""
    return {
        "changed": bool(outcome.requests or outcome.renewed or outcome.recovered),
        "run_id": run_id,
        "requests": [request.plain() for request in outcome.requests],
        "certificates": outcome.renewed,
        "recovered": outcome.recovered,
        "diff": [
            {
                "before_header": one["name"],
                "after_header": one["name"],
                "before": facts_text(one["before"]),
                "after": facts_text(one["after"]),
            }
            for one in outcome.renewed
        ],
    }


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
        outcome = act(params, StateFolder(), run, module.check_mode)
    except CertopsError as error:
        module.fail_json(msg=str(error))
    for one in outcome.renewed:
        if one["message"] is not None:
            module.warn(one["message"])
    if outcome.problems:
        module.fail_json(msg=" ".join(outcome.problems), **result_of(outcome, params["run_id"]))
    module.exit_json(**result_of(outcome, params["run_id"]))


if __name__ == "__main__":
    main()
