#!/usr/bin/python
# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_health_info
short_description: Ask whether a Kubernetes node's components and its cluster are healthy
version_added: 0.1.0
author:
  - certops.kubernetes contributors (@certops)
description:
  - "Makes each check once and does not wait: the API server on this node's own address is ready; this node is Ready, and its kubelet
    renews its Lease; the API servers of the other control-plane nodes are ready too, and so are these nodes; every etcd member has started,
    answers, has no alarm, knows the same leader and keeps up; the Leases of kube-controller-manager and kube-scheduler are held and
    renewed; the kubelet and its unit are healthy."
  - A cordoned node is no obstacle, but RV(msg) says that it is.
  - A node that is no control plane is asked for its kubelet only.
  - "The module does not fail because something is unhealthy: use RV(verdict) with C(until) and C(retries), so that each
    retry shows its reason."
extends_documentation_fragment:
  - certops.kubernetes._attributes
  - certops.kubernetes._attributes.action_group
  - certops.kubernetes._attributes.info_module
options:
  planned:
    description:
      - Names of the certificates that are about to be renewed, such as V(apiserver) or V(controller-manager.conf).
      - When nothing is wrong but what expired certificates among them explain, the verdict is V(expired_only).
    type: list
    elements: str
    default: []
  planned_elsewhere:
    description:
      - Names of the certificates that are about to be renewed on other nodes, such as V(apiserver) or V(etcd/server).
      - What one of these explains, on another node, is treated as with O(planned).
    type: list
    elements: str
    default: []
  restarts:
    description:
      - Components of this node that are about to be restarted.
      - With V(etcd) among them and three members or more, the verdict is V(unhealthy) when the cluster would lose its quorum.
    type: list
    elements: str
    default: []
  etcd_unit:
    description:
      - Whether an etcd that systemd runs on this host is the cluster's.
      - The playbooks of this collection say so of control-plane nodes and of the hosts in the group of etcd.
    type: bool
    default: true
  kubernetes_dir:
    description: The folder of the node's Kubernetes configuration.
    type: path
    default: /etc/kubernetes
seealso:
  - module: certops.kubernetes.component_restart
  - module: certops.kubernetes.certificate_info
"""

EXAMPLES = r"""
- name: Wait until the node is healthy
  certops.kubernetes.cluster_health_info:
  register: health
  until: health.verdict == 'healthy'
  retries: 30
  delay: 2

- name: Is anything wrong that renewing these two certificates would not cure?
  certops.kubernetes.cluster_health_info:
    planned:
      - apiserver
      - controller-manager.conf
  register: health
  failed_when: health.verdict == 'unhealthy'
"""

RETURN = r"""
verdict:
  description:
    - V(healthy) when every check is passed.
    - V(expired_only) when each failure is explained by an expired certificate that is in O(planned) or O(planned_elsewhere), or by the
      kubelet's own, which no plan renews, and which keeps nothing else from being renewed.
    - V(unhealthy) otherwise.
  type: str
  returned: always
  sample: healthy
msg:
  description: The verdict and the reasons for it, in one line.
  type: str
  returned: always
  sample: "healthy: kube-apiserver, node, other control-plane nodes, etcd, kube-controller-manager, kube-scheduler, kubelet unit, kubelet"
checks:
  description: Every check that was made.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: What was checked.
      type: str
      returned: always
      sample: etcd
    ok:
      description: Whether it is as it should be.
      type: bool
      returned: always
      sample: true
    message:
      description: What was seen, and for a failure its cause and remedy.
      type: str
      returned: always
      sample: "etcd: 3 of 3 members answer, know the same leader and keep up"
    caused_by_expired:
      description: Names of the expired certificates that explain a failure.
      type: list
      elements: str
      returned: always
      sample: []
    remark:
      description: What is worth saying although it is no failure.
      type: str
      returned: always
      sample: node cp-1 is cordoned, which is no obstacle
"""

import typing as t
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.certops.kubernetes.plugins.module_utils._deps import missing_requirements
from ansible_collections.certops.kubernetes.plugins.module_utils._discovery import discover
from ansible_collections.certops.kubernetes.plugins.module_utils._health import Surroundings, check_health
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._verdict import Check


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "planned": {"type": "list", "elements": "str", "default": []},
            "planned_elsewhere": {"type": "list", "elements": "str", "default": []},
            "restarts": {"type": "list", "elements": "str", "default": []},
            "etcd_unit": {"type": "bool", "default": True},
            "kubernetes_dir": {"type": "path", "default": "/etc/kubernetes"},
        },
        supports_check_mode=True,
    )
    missing = missing_requirements()
    if missing:
        module.fail_json(msg=" ".join(missing))
    try:
        result = health(module.params, datetime.now(timezone.utc))
    except CertopsError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, **result)


def health(params: dict[str, t.Any], now: datetime) -> dict[str, t.Any]:
    """The gate's verdict as the module returns it. Raises CertopsError when the node cannot be looked at."""
    surroundings = Surroundings(tuple(params["planned_elsewhere"]), tuple(params["restarts"]))
    verdict = check_health(discover(now, params["kubernetes_dir"], etcd_unit=params["etcd_unit"]), now, params["planned"], surroundings)
    return {"verdict": verdict.verdict, "msg": verdict.summary(), "checks": [described(check) for check in verdict.checks]}


def described(check: Check) -> dict[str, t.Any]:
    """A check as the module returns it."""
    return {
        "name": check.name,
        "ok": check.ok,
        "message": check.message,
        "caused_by_expired": list(check.caused_by_expired),
        "remark": check.remark,
    }


if __name__ == "__main__":
    main()
