#!/usr/bin/python
# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_rotation
short_description: Renew certificates of one Kubernetes node in one transaction
version_added: 0.1.0
author:
  - certops.kubernetes contributors (@certops)
description:
  - Renews certificates and the client certificates in kubeconfigs with the CA key that lies on the node, restarts what does not
    reload by itself, and proves that each process has what it should have. Where the CA's key is on another node, what was signed
    there is put in place.
  - "Everything happens in one process on the node: finish an earlier run that was stopped half-way, check what can be checked,
    make the new keys and certificates in memory, back up, replace, activate, prove, commit. If something cannot be proven, every
    file is put back, that is proven too, and the module fails with the cause."
  - A renewed certificate keeps subject, alternative names, usages, key algorithm and size of the old one.
    It never outlives its CA. A kubeconfig keeps every other byte.
  - Private keys never leave the node and are in no result, difference or journal.
  - It runs in the node's background, where it ends well when the connection to the node is lost.
  - Backups and the journal of each run are kept in C(/var/lib/certops/runs), for root alone.
requirements:
  - cryptography >= 3.4 on the node
  - PyYAML on the node
extends_documentation_fragment:
  - certops.kubernetes._attributes
  - certops.kubernetes._attributes.action_group
  - certops.kubernetes._attributes.changes_module
  - certops.kubernetes._followed
  - certops.kubernetes._lock
attributes:
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: "A second call with the same items renews them again: what is due is the plan's to say. An empty list changes nothing."
options:
  run_id:
    description:
      - The name of this run. Its journal and its backups are kept under it.
      - Letters, digits, dots, underscores and dashes.
    type: str
    required: true
  items:
    description:
      - What to do, as RV(certops.kubernetes.certificate_info#module:certificates) names it.
      - With an empty list only a run that was stopped half-way is finished.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of the certificate, such as V(apiserver) or V(admin.conf), or of the setting.
        type: str
        required: true
      action:
        description:
          - V(renew) makes a new certificate. V(activate) restarts what does not yet use the one that is on disk.
          - V(restart) restarts the component that made this one in memory when it started (C(served:…)).
          - V(configure) switches a setting of the kubelet's configuration on, C(kubelet:rotateCertificates) or
            C(kubelet:serverTLSBootstrap), and restarts the kubelet. In the file where the setting has to be, one word is replaced or one
            line added, and every other byte stays. It is a run of its own after everything else, so that what was renewed stays whatever
            becomes of it.
          - A kubelet that was switched to C(serverTLSBootstrap) serves nothing on its port until its request is approved
            (M(certops.kubernetes.kubelet_serving_approval)).
        type: str
        choices: [renew, activate, restart, configure]
        default: renew
      fingerprint_sha256:
        description: The certificate that was planned for. If another one is found, nothing is changed and the module fails.
        type: str
      signed_by:
        description:
          - The host that has the key of its CA, when this node has not.
          - Then M(certops.kubernetes.certificate_request) on this node and M(certops.kubernetes.certificate_signing) on that one come
            first, in the same run. In check mode nothing of this is needed.
        type: str
      certificate:
        description: The new certificate as PEM, when O(items[].signed_by) is given.
        type: str
      refresh_sans:
        description:
          - Whether a renewed certificate of the API server or of etcd gets the names and addresses that kubeadm would give it today, after
            the cluster's ClusterConfiguration, instead of those that it has.
          - The module fails and changes nothing when that configuration cannot be read.
        type: bool
        default: false
  restart:
    description:
      - V(auto) restarts only what does not reload by itself, or is shown not to have the new certificate.
      - V(always) restarts every component that reads a renewed certificate.
      - V(never) restarts nothing and reports what is pending.
    type: str
    choices: [auto, always, never]
    default: auto
  private_key:
    description: Whether a new private key is made or the old one is kept.
    type: str
    choices: [regenerate, keep]
    default: regenerate
  validity_days:
    description:
      - How long the new certificates are valid. Never longer than their CA.
      - Without it the cluster's own C(certificateValidityPeriod), else 365 days.
    type: int
  stop_timeout_seconds:
    description: How long a stopped API server may finish its requests before it is killed.
    type: int
    default: 2
  start_timeout_seconds:
    description:
      - How long to wait for a restarted component, and for everything to be proven, before the node is put back.
      - At least 10, because it is after 5 seconds that the kubelet's back-off is suspected and cleared, on the way back too.
    type: int
    default: 120
  keep_backups:
    description: How many runs are kept on the node. The last one that ended well is always kept.
    type: int
    default: 10
  kubeconfig_copies:
    description:
      - Paths of kubeconfigs on this node, C(~) and wildcards allowed. A user in them who has the same key as a kubeconfig of this node, or
        the same subject in a certificate of the same CA, gets the certificate and key of that one when it is renewed, or was before.
      - Every other byte stays, owner, group and mode too. Where the kubeconfig names files for them, these are replaced.
      - A file in a folder that somebody else than root may change is written with that user's rights, through no symbolic link. What cannot
        be written so is left as it is, with a warning, and keeps nothing else from its end. A file that is no kubeconfig, or has no such
        user, is left alone.
      - With an empty list of O(items), copies from before an earlier renewal are made valid.
    type: list
    elements: str
    default: []
  kubernetes_dir:
    description: The folder of the node's Kubernetes configuration.
    type: path
    default: /etc/kubernetes
seealso:
  - module: certops.kubernetes.cluster_lock
  - module: certops.kubernetes.certificate_info
  - module: certops.kubernetes.certificate_rollback
"""

EXAMPLES = r"""
- name: Renew the API server's certificate
  certops.kubernetes.certificate_rotation:
    run_id: 2026-11-24-a
    items: [{name: apiserver}]

- name: Renew two kubeconfigs with their old keys, restart nothing now
  certops.kubernetes.certificate_rotation:
    run_id: 2026-11-24-b
    private_key: keep
    restart: never
    items: [{name: controller-manager.conf}, {name: scheduler.conf}]

- name: Let the kubelet renew its client certificate by itself
  certops.kubernetes.certificate_rotation: {run_id: 2026-11-24-c, items: [{name: "kubelet:rotateCertificates", action: configure}]}
"""

RETURN = r"""
run_id:
  description: The name under which the run's journal and backups are kept; with a number behind it if the name was taken.
  type: str
  returned: always
  sample: 2026-11-24-a
certificates:
  description: What was done to each certificate, and to each setting of the kubelet.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: The name of the certificate.
      type: str
      sample: apiserver
    action:
      description: V(renew), V(activate), V(restart) or V(configure).
      type: str
      sample: renew
    before:
      description:
        - RV(ignore:subject), RV(ignore:sans), RV(ignore:serial), the dates, RV(ignore:fingerprint_sha256).
        - Of a certificate that moves from C(kubelet.conf) to a file of its own, RV(ignore:kept_in) is where it is.
        - Of a setting of the kubelet RV(ignore:setting), RV(ignore:value) and RV(ignore:path); the others are null or empty.
      type: dict
    after:
      description: The same of the new certificate. What is not known in check mode is null.
      type: dict
    in_use:
      description: Whether each process that reads it has it; V(true), V(false) or V(unknown).
      type: str
      sample: "true"
    proof:
      description: How that is known; V(handshake), V(identity), V(inode), V(process_age), V(metrics), V(path_works) or V(none).
      type: str
      sample: handshake
    message:
      description: Why it is not known better, if there is something to say; else null.
      type: str
    readers:
      description: The same for each component that reads it.
      type: list
      elements: dict
components:
  description: What was done to each component that reads one of the certificates.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: The name of the component.
      type: str
      sample: kube-scheduler
    action:
      description: V(none), V(restarted) or V(pending).
      type: str
      sample: restarted
    because:
      description: Why.
      type: str
      sample: reads scheduler.conf only when it starts
    away_seconds:
      description: From the signal until its successor was ready.
      type: float
      sample: 1.9
    leaderless_seconds:
      description: From the signal until somebody else led; null where there is no leader.
      type: float
      sample: 1.4
copies:
  description: The paths of the copies of kubeconfigs that became valid with their original.
  type: list
  elements: str
  returned: when something was renewed, or would be
  sample: [/root/.kube/config]
rolled_back:
  description: Whether every file was put back because something failed.
  type: bool
  returned: always
  sample: false
recovered:
  description: What was done about runs that had been stopped half-way.
  type: list
  elements: dict
  returned: always
  contains:
    run_id:
      description: The run.
      type: str
      sample: 2026-11-23-a
    found:
      description: The state in which it was left.
      type: str
      sample: applying
    state:
      description: V(committed) or V(rolled_back); null in check mode.
      type: str
      sample: rolled_back
    message:
      description: The same as a sentence.
      type: str
settings_run_id:
  description: The name of the run of its own that switched settings of the kubelet on; M(certops.kubernetes.certificate_rollback) takes it.
  type: str
  returned: when a setting was switched on
  sample: 2026-11-23-b-kubelet
state:
  description: The state in which the journal ended, if the run changed anything.
  type: str
  returned: when a transaction was made
  sample: committed
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.certops.kubernetes.plugins.module_utils._deps import missing_requirements
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import StateFolder
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_switches import FLAGS
from ansible_collections.certops.kubernetes.plugins.module_utils._lock_keeper import HOLDER_SPEC, kept_alive
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import node_access
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Wanted
from ansible_collections.certops.kubernetes.plugins.module_utils._result import RotationFailed
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import Request, predict, rotate
from ansible_collections.certops.kubernetes.plugins.module_utils._transaction import Limits

LARGEST_NUMBER = 1000000  # days or seconds; the timers of the operating system end at 24 days


def argument_spec() -> dict[str, t.Any]:
    return {
        "run_id": {"type": "str", "required": True},
        "items": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "action": {"type": "str", "choices": ["renew", "activate", "restart", "configure"], "default": "renew"},
                "fingerprint_sha256": {"type": "str"},
                "signed_by": {"type": "str"},
                "certificate": {"type": "str"},
                "refresh_sans": {"type": "bool", "default": False},
            },
        },
        "restart": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
        "private_key": {"type": "str", "choices": ["regenerate", "keep"], "default": "regenerate", "no_log": False},
        "validity_days": {"type": "int"},
        "stop_timeout_seconds": {"type": "int", "default": 2},
        "start_timeout_seconds": {"type": "int", "default": 120},
        "keep_backups": {"type": "int", "default": 10},
        "kubeconfig_copies": {"type": "list", "elements": "str", "default": []},
        "reconnect_timeout_seconds": {"type": "int", "default": 60},  # the action plugin's
        "lock": {"type": "dict", "options": HOLDER_SPEC},
        "kubernetes_dir": {"type": "path", "default": "/etc/kubernetes"},
    }


def check(params: dict[str, t.Any]) -> str | None:
    """What is wrong with the options beyond their types."""
    names = [item["name"] for item in params["items"]]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        return "items names %s more than once." % ", ".join(twice)
    stray = [item["name"] for item in params["items"] if item["certificate"] and not item["signed_by"]]
    named = [item["name"] for item in params["items"] if item["refresh_sans"] and (item["signed_by"] or item["action"] != "renew")]
    if named:
        return "items has refresh_sans for %s, but another host signs it, or it is only activated." % ", ".join(named)
    for action in ("restart", "configure"):
        restarted = [item["name"] for item in params["items"] if item["action"] == action]
        if restarted and params["restart"] == "never":
            return "items has action %s for %s, but restart is never." % (action, ", ".join(restarted))
    settings = sorted(item["name"] for item in params["items"] if item["action"] == "configure" and item["name"] not in FLAGS)
    if settings:
        return "items has action configure for %s, but it is for %s only." % (", ".join(settings), " and ".join(FLAGS))
    if stray:
        return "items has a certificate for %s, but does not say who signed it (signed_by)." % ", ".join(stray)
    for option, least in (
        ("validity_days", 1),
        ("stop_timeout_seconds", 0),
        ("start_timeout_seconds", 10),
        ("keep_backups", 1),
        ("reconnect_timeout_seconds", 0),
    ):
        if params[option] is not None and not least <= params[option] <= LARGEST_NUMBER:
            return "%s is %d, it must be between %d and %d." % (option, params[option], least, LARGEST_NUMBER)
    return None


def request_from(params: dict[str, t.Any]) -> Request:
    return Request(
        run_id=params["run_id"],
        items=tuple(wanted_from(item) for item in params["items"]),
        restart=params["restart"],
        keep_private_key=params["private_key"] == "keep",
        validity_days=params["validity_days"],
        keep_backups=params["keep_backups"],
        copies=tuple(params["kubeconfig_copies"]),
    )


def wanted_from(item: dict[str, t.Any]) -> Wanted:
    certificate = item["certificate"].encode() if item["certificate"] else None
    return Wanted(
        item["name"], item["action"], item["fingerprint_sha256"], item["signed_by"], certificate, refresh_sans=item["refresh_sans"]
    )


def act(params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """The module's result. Raises RotationFailed or CertopsError."""
    access = node_access(params["kubernetes_dir"], params["stop_timeout_seconds"], params["start_timeout_seconds"])
    if check_mode:
        return predict(access, StateFolder(), request_from(params))
    with kept_alive(params["lock"], params["kubernetes_dir"]):
        return rotate(access, StateFolder(), request_from(params), Limits(proof=params["start_timeout_seconds"]))


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    problems = missing_requirements() or [problem for problem in [check(module.params)] if problem]
    if problems:
        module.fail_json(msg=" ".join(problems))
    try:
        result = act(module.params, module.check_mode)
    except RotationFailed as error:
        module.fail_json(msg=str(error), **error.result)
    except CertopsError as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
