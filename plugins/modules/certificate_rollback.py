#!/usr/bin/python
# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_rollback
short_description: Put the backup of an earlier rotation back on one Kubernetes node
version_added: 0.1.0
author:
  - certops.kubernetes contributors (@certops)
description:
  - Puts the files that an earlier run replaced back in their place, restarts what does not reload by itself, and proves it, in a
    transaction like that of M(certops.kubernetes.certificate_rotation). This run has a backup of its own.
  - Refused when an old certificate has expired, does not match its key, or is not signed by the CA that is on the node now.
  - A run that switched settings of the kubelet on (C(-kubelet) is behind its id) is put back likewise. Refused when the file was changed
    since.
  - A second call changes nothing.
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
    support: full
options:
  run_id:
    description:
      - The run whose backup is put back.
      - Without it the newest rotation that ended well. A node without any is left alone, with a warning.
    type: str
  missing_run:
    description:
      - What a node does that has no run O(run_id). V(ignore) leaves it alone, which is right for a run that ended before its turn came.
    type: str
    choices:
      - fail
      - ignore
    default: fail
  new_run_id:
    description: The name of this run itself. Without it V(rollback-) and the time.
    type: str
  restart:
    description: As in M(certops.kubernetes.certificate_rotation).
    type: str
    choices:
      - auto
      - always
      - never
    default: auto
  allow_expired:
    description: Put certificates back although they have expired.
    type: bool
    default: false
  stop_timeout_seconds:
    description: How long a stopped API server may finish its requests before it is killed.
    type: int
    default: 2
  start_timeout_seconds:
    description:
      - How long to wait for a restarted component, and for everything to be proven, before the present files are put back.
      - At least 10.
    type: int
    default: 120
  keep_backups:
    description: How many runs are kept on the node. The last one that ended well is always kept.
    type: int
    default: 10
  kubernetes_dir:
    description: The folder of the node's Kubernetes configuration.
    type: path
    default: /etc/kubernetes
seealso:
  - module: certops.kubernetes.cluster_lock
  - module: certops.kubernetes.certificate_rotation
"""

EXAMPLES = r"""
- name: Undo the last rotation on this node
  certops.kubernetes.certificate_rollback:

- name: Undo a certain one
  certops.kubernetes.certificate_rollback:
    run_id: 2026-11-24-a
"""

RETURN = r"""
run_id:
  description: The name of this run.
  type: str
  returned: always
  sample: rollback-20261124T015000Z
restored_run_id:
  description: The run whose backup was put back; null if there was none.
  type: str
  returned: success
  sample: 2026-11-24-a
runs:
  description: The runs that this node has kept, the newest first.
  type: list
  elements: str
  returned: success
  sample: [2026-11-24-a]
certificates:
  description: As RV(certops.kubernetes.certificate_rotation#module:certificates), with the action V(restore).
  type: list
  elements: dict
  returned: always
components:
  description: As RV(certops.kubernetes.certificate_rotation#module:components).
  type: list
  elements: dict
  returned: always
rolled_back:
  description: Whether the files were put back to what they were before this call, because something failed.
  type: bool
  returned: always
  sample: false
recovered:
  description: As RV(certops.kubernetes.certificate_rotation#module:recovered).
  type: list
  elements: dict
  returned: always
state:
  description: The state in which the journal ended, if the run changed anything.
  type: str
  returned: when a transaction was made
  sample: committed
"""

import typing as t
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.certops.kubernetes.plugins.module_utils._deps import missing_requirements
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import StateFolder
from ansible_collections.certops.kubernetes.plugins.module_utils._lock_keeper import HOLDER_SPEC, kept_alive
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import node_access
from ansible_collections.certops.kubernetes.plugins.module_utils._result import RotationFailed
from ansible_collections.certops.kubernetes.plugins.module_utils._rollback import RollbackRequest, predict_rollback, roll_back
from ansible_collections.certops.kubernetes.plugins.module_utils._transaction import Limits

LARGEST_NUMBER = 1000000  # days or seconds; the timers of the operating system end at 24 days


def argument_spec() -> dict[str, t.Any]:
    return {
        "run_id": {"type": "str"},
        "missing_run": {"type": "str", "choices": ["fail", "ignore"], "default": "fail"},
        "new_run_id": {"type": "str"},
        "restart": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
        "allow_expired": {"type": "bool", "default": False},
        "stop_timeout_seconds": {"type": "int", "default": 2},
        "start_timeout_seconds": {"type": "int", "default": 120},
        "keep_backups": {"type": "int", "default": 10},
        "reconnect_timeout_seconds": {"type": "int", "default": 60},  # the action plugin's
        "lock": {"type": "dict", "options": HOLDER_SPEC},
        "kubernetes_dir": {"type": "path", "default": "/etc/kubernetes"},
    }


def check(params: dict[str, t.Any]) -> str | None:
    """What is wrong with the options beyond their types."""
    for option, least in (
        ("stop_timeout_seconds", 0),
        ("start_timeout_seconds", 10),
        ("keep_backups", 1),
        ("reconnect_timeout_seconds", 0),
    ):
        if not least <= params[option] <= LARGEST_NUMBER:
            return "%s is %d, it must be between %d and %d." % (option, params[option], least, LARGEST_NUMBER)
    return None


def request_from(params: dict[str, t.Any], now: datetime) -> RollbackRequest:
    return RollbackRequest(
        run_id=params["run_id"] or None,
        new_run_id=params["new_run_id"] or now.strftime("rollback-%Y%m%dT%H%M%SZ"),
        ignore_missing=params["missing_run"] == "ignore",
        restart=params["restart"],
        allow_expired=params["allow_expired"],
        keep_backups=params["keep_backups"],
    )


def act(params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """The module's result. Raises RotationFailed or CertopsError."""
    access = node_access(params["kubernetes_dir"], params["stop_timeout_seconds"], params["start_timeout_seconds"])
    request = request_from(params, datetime.now(timezone.utc))
    if check_mode:
        return predict_rollback(access, StateFolder(), request)
    with kept_alive(params["lock"], params["kubernetes_dir"]):
        return roll_back(access, StateFolder(), request, Limits(proof=params["start_timeout_seconds"]))


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
