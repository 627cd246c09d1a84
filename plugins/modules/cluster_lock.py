#!/usr/bin/python
# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_lock
short_description: Hold the lock of a Kubernetes cluster, so that one run at a time changes its certificates
version_added: 0.1.0
author:
  - certops.kubernetes contributors (@certops)
description:
  - Takes the lock for a run, renews it, or lets it go. Runs on a control-plane node.
  - "The lock is the Lease C(certops-rotation) in the namespace C(kube-system). While the API cannot be asked, or its administrator's
    kubeconfig is not on the node, the same words are in C(/var/lib/certops/cluster-lock.json) on each node where the module runs."
  - Refused while another run holds it; the message says which one, since when, and where it was started. A run that has said nothing for
    five minutes (half an hour where the lock is a file) is taken to be dead, and its lock is taken over with a warning.
  - M(certops.kubernetes.certificate_rotation) and M(certops.kubernetes.certificate_rollback) renew the lock while they work.
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
    support: partial
    details: A lock that is held already is renewed, which is a change.
options:
  state:
    description: V(held) takes the lock or renews it, V(released) lets it go if this run has it.
    type: str
    choices:
      - held
      - released
    default: held
  holder:
    description: The run. P(certops.kubernetes.run_holder#filter) makes it on the controller.
    type: dict
    required: true
    suboptions:
      run_id:
        description: The run's id.
        type: str
        required: true
      since:
        description: When it began, ISO 8601 in UTC, such as V(2026-11-24T01:50:00Z).
        type: str
        required: true
      playbook:
        description: What it does.
        type: str
        default: ""
      user:
        description: Who started it.
        type: str
        default: ""
      controller:
        description: Where it was started.
        type: str
        default: ""
      job_id:
        description: The number of the AWX job.
        type: str
        default: ""
      process:
        description: The process of the controller, by which that controller knows later whether it still runs.
        type: str
        default: ""
  take_over:
    description:
      - The id of a run whose lock is taken although it has not expired, because that run is known to be dead.
      - V(any) takes it from whatever run has it.
    type: str
    default: ""
  cluster_ca:
    description:
      - The lower-case SHA-256 fingerprint of the cluster CA of this run's cluster.
      - On a node of another cluster nothing is done. Without it every node is taken to be of the same cluster.
    type: str
  kubernetes_dir:
    description: The folder of the node's Kubernetes configuration.
    type: path
    default: /etc/kubernetes
seealso:
  - module: certops.kubernetes.certificate_rotation
"""

EXAMPLES = r"""
- name: Hold the cluster for this run
  certops.kubernetes.cluster_lock:
    holder:
      run_id: 2026-11-24-a
      since: "2026-11-24T01:50:00Z"
      user: ada
      controller: bastion

- name: Let it go
  certops.kubernetes.cluster_lock:
    state: released
    holder:
      run_id: 2026-11-24-a
      since: "2026-11-24T01:50:00Z"
"""

RETURN = r"""
kept_in:
  description: V(lease) or V(file); empty in check mode, after a release, and on a node of another cluster.
  type: str
  returned: success
  sample: lease
because:
  description: Why the lock is kept in a file; else empty.
  type: str
  returned: success
held_by:
  description: The run that has the lock, with the keys of O(holder).
  type: dict
  returned: when another run has it
"""

import dataclasses
import typing as t
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.certops.kubernetes.plugins.module_utils._cluster_lock import Held, Holder, Kept, foresee, hold, release
from ansible_collections.certops.kubernetes.plugins.module_utils._deps import missing_requirements
from ansible_collections.certops.kubernetes.plugins.module_utils._discovery import discover
from ansible_collections.certops.kubernetes.plugins.module_utils._files import read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import STATE_DIRECTORY
from ansible_collections.certops.kubernetes.plugins.module_utils._lock_keeper import HOLDER_SPEC, lock_client
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import fingerprint, parse_certificates


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["held", "released"], "default": "held"},
            "holder": {"type": "dict", "required": True, "options": HOLDER_SPEC},
            "take_over": {"type": "str", "default": ""},
            "cluster_ca": {"type": "str"},
            "kubernetes_dir": {"type": "path", "default": "/etc/kubernetes"},
        },
        supports_check_mode=True,
    )
    missing = missing_requirements()
    if missing:
        module.fail_json(msg=" ".join(missing))
    try:
        changed, kept = act(module.params, module.check_mode)
    except Held as held:
        module.fail_json(msg=str(held), held_by=dataclasses.asdict(held.holder))
    except CertopsError as error:
        module.fail_json(msg=str(error))
    for sentence in kept.taken_over:
        module.warn(sentence)
    module.exit_json(changed=changed, kept_in=kept.kept_in, because=kept.because)


def act(params: dict[str, t.Any], check_mode: bool) -> tuple[bool, Kept]:
    """(whether something was written, where the lock is). Raises Held, or CertopsError."""
    if params["cluster_ca"] and not is_of_cluster(params["kubernetes_dir"], params["cluster_ca"]):
        return False, Kept("")
    client, holder, now = lock_client(params["kubernetes_dir"]), Holder(**params["holder"]), datetime.now(timezone.utc)
    if params["state"] == "released":
        return not check_mode and release(client, STATE_DIRECTORY, holder.run_id), Kept("")
    if check_mode:
        return True, foresee(client, STATE_DIRECTORY, holder, now, params["take_over"])
    return True, hold(client, STATE_DIRECTORY, holder, now, params["take_over"])


def is_of_cluster(kubernetes_dir: str, cluster_ca: str) -> bool:
    """Whether this node trusts that cluster CA."""
    authority = discover(datetime.now(timezone.utc), kubernetes_dir).credentials.get("ca")
    if authority is None:
        return False
    certificates = parse_certificates(read_bounded(authority.cert_path), authority.cert_path)
    return cluster_ca.lower() in {fingerprint(certificate) for certificate in certificates}


if __name__ == "__main__":
    main()
