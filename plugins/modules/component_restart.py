#!/usr/bin/python
# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: component_restart
short_description: Restart one component of a Kubernetes node and prove that it is back
version_added: 0.1.0
author:
  - certops.kubernetes contributors (@certops)
description:
  - Stops the process of one component of a control plane, or the kubelet, and waits until a new process of it is there, ready,
    and, for kube-controller-manager and kube-scheduler, until somebody leads again.
  - A static pod's process gets C(SIGTERM), then some time, then C(SIGKILL). The kubelet starts it again. No container tool is needed.
    A systemd unit is restarted with C(systemctl restart).
  - kube-controller-manager does not give up its leader Lease when it ends, which leaves a cluster without its controllers for 16 to 20
    seconds. Once its process is proven gone, and only if that process still holds the Lease, it is released as
    the component's own library does it.
  - The kubelet delays each further restart of a container within ten minutes. When a stopped component is not started again
    within seconds, the kubelet is restarted once, which clears that delay and does not touch any pod.
  - "Every call restarts the component: this module is not idempotent."
extends_documentation_fragment:
  - certops.kubernetes._attributes
  - certops.kubernetes._attributes.action_group
  - certops.kubernetes._attributes.changes_module
attributes:
  diff_mode:
    support: none
  idempotent:
    support: none
options:
  component:
    description: The component to restart.
    type: str
    required: true
    choices:
      - kube-apiserver
      - kube-controller-manager
      - kube-scheduler
      - etcd
      - kubelet
  stop_timeout_seconds:
    description:
      - How long the component may take to end by itself before it is killed.
      - Without it each component has its own, 2 for V(kube-apiserver), which does not end while clients watch something;
        1 for V(etcd), which does not end while API servers watch it; 5 for V(kube-controller-manager) and V(kube-scheduler).
      - With several API servers behind a load balancer, give kube-apiserver longer than the load balancer needs to notice
        that it is away.
    type: int
  start_timeout_seconds:
    description: How long to wait until the component is back. The task fails when it is not.
    type: int
    default: 120
  kubernetes_dir:
    description: The folder of the node's Kubernetes configuration.
    type: path
    default: /etc/kubernetes
seealso:
  - module: certops.kubernetes.cluster_health_info
  - module: certops.kubernetes.certificate_rotation
"""

EXAMPLES = r"""
- name: Let the scheduler read its renewed kubeconfig
  certops.kubernetes.component_restart:
    component: kube-scheduler
  register: restart

- name: Say how long there was no scheduler
  ansible.builtin.debug:
    msg: "{{ restart.component }} was away for {{ restart.away_seconds }} s"

- name: Restart an API server behind a load balancer, slowly
  certops.kubernetes.component_restart:
    component: kube-apiserver
    stop_timeout_seconds: 15
"""

RETURN = r"""
component:
  description: The component.
  type: str
  returned: always
  sample: kube-controller-manager
pid_before:
  description: The process that was stopped; null if none was running.
  type: int
  returned: success
  sample: 511
pid_after:
  description: The process that runs now. In check mode the one that still runs.
  type: int
  returned: success
  sample: 3019
away_seconds:
  description: Seconds from the signal until the new process was ready. Null in check mode.
  type: float
  returned: success
  sample: 0.994
leaderless_seconds:
  description:
    - Seconds from the signal until somebody else was seen to lead; 0 when another node led before.
    - Null in check mode, for a component that has no leader, and when it could not be seen who led before.
  type: float
  returned: success
  sample: 0.991
forced:
  description: Whether the process did not end in time and was killed.
  type: bool
  returned: success
  sample: false
lease_released:
  description: Whether the leader Lease of the stopped process was released for it.
  type: bool
  returned: success
  sample: true
back_off_cleared:
  description: Whether the kubelet had to be restarted because it delayed the start.
  type: bool
  returned: success
  sample: false
led_by:
  description: The member of etcd to which leadership was handed over before; null when there was nothing to hand over.
  type: str
  returned: success
  sample: node2
"""

import typing as t
from dataclasses import asdict
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.certops.kubernetes.plugins.module_utils._activation import Restart, restart_component
from ansible_collections.certops.kubernetes.plugins.module_utils._deps import missing_requirements
from ansible_collections.certops.kubernetes.plugins.module_utils._discovery import discover
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

LARGEST_NUMBER = 1000000  # seconds; the timers of the operating system end at 24 days
COMPONENTS = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd", "kubelet"]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "component": {"type": "str", "required": True, "choices": COMPONENTS},
            "stop_timeout_seconds": {"type": "int"},
            "start_timeout_seconds": {"type": "int", "default": 120},
            "kubernetes_dir": {"type": "path", "default": "/etc/kubernetes"},
        },
        supports_check_mode=True,
    )
    missing = missing_requirements()
    if missing:
        module.fail_json(msg=" ".join(missing))
    for option in ("stop_timeout_seconds", "start_timeout_seconds"):
        if not 0 <= (module.params[option] or 0) <= LARGEST_NUMBER:
            module.fail_json(msg="%s is %d, it must be between 0 and %d." % (option, module.params[option], LARGEST_NUMBER))
    try:
        result = restart(module.params, module.check_mode)
    except CertopsError as exc:
        module.fail_json(msg=str(exc), component=module.params["component"])
    module.exit_json(changed=True, **result)


def restart(params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Restart the component, or in check mode say which process would be restarted. Raises CertopsError."""
    name = params["component"]
    node = discover(datetime.now(timezone.utc), params["kubernetes_dir"])
    component = node.components.get(name)
    if component is None:
        found = ", ".join(sorted(node.components)) or "nothing"
        raise CertopsError("this node runs no %s (found under %s: %s)" % (name, params["kubernetes_dir"], found))
    if check_mode:
        pid = component.process.pid if component.process else None
        return {**asdict(Restart(name, pid, pid, 0.0, None, False)), "away_seconds": None}
    return asdict(restart_component(component, params["stop_timeout_seconds"], params["start_timeout_seconds"], node))


if __name__ == "__main__":
    main()
