# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`certs_rotate_restart: always` restarts the components that read renewed certificates, and the node is well after it."""

from __future__ import annotations

import json

import cluster
import observe

RESTARTED = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")


def test_all_are_restarted_one_after_the_other() -> None:
    """New processes, the time that each was away in the report, and an API server that answers."""
    cluster.on_node("systemctl", "restart", "kubelet")  # no back-off left over from earlier restarts
    before = observe.processes()
    cluster.playbook("rotate", "-e", json.dumps({"certs_rotate_force": True, "certs_rotate_restart": "always"}))
    after = observe.processes()
    assert {name for name in before if before[name] != after[name]} == set(RESTARTED)
    components = cluster.newest_report("rotate")["results"][cluster.NODE]["components"]
    away = {component["name"]: component["away_seconds"] for component in components}
    print(f"seconds away: {away}")
    assert tuple(away) == RESTARTED
    assert all(away.values())
    assert cluster.kubectl("get", "--raw", "/readyz") == "ok"
