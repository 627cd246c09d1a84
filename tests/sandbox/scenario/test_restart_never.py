# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`certs_rotate_restart: never` reports what is pending; the next run does it without another renewal."""

from __future__ import annotations

import node

FORCED = node.extra(
    certs_rotate_force=True, certs_rotate_select="[?name=='scheduler.conf' || name=='apiserver']", certs_rotate_restart="never"
)


def sees_the_file() -> bool:
    """Whether the running scheduler has the kubeconfig that lies on disk, by inode."""
    paths = ["/etc/kubernetes/scheduler.conf", f"/proc/{node.processes()['kube-scheduler']}/root/etc/kubernetes/scheduler.conf"]
    mine, theirs = node.on_node("stat", "-L", "-c", "%d:%i", *paths).split()
    return mine == theirs


def test_never_leaves_it_pending_and_the_next_run_does_it() -> None:
    """Three runs: renewed but pending, activated, nothing to do."""
    node.on_node("systemctl", "restart", "kubelet")  # no back-off left over from earlier restarts
    before = node.processes()
    node.playbook("rotate", *FORCED)
    result = node.newest_report("rotate")["results"]["sandbox"]
    assert {component["name"]: component["action"] for component in result["components"]}["kube-scheduler"] == "pending"
    assert node.processes() == before
    assert not sees_the_file()
    renewed = node.path("/etc/kubernetes/scheduler.conf").read_bytes()

    node.playbook("rotate")
    report = node.newest_report("rotate")
    assert [(entry["name"], entry["action"]) for entry in report["plan"] if entry["action"] in ("renew", "activate")] == [
        ("scheduler.conf", "activate")
    ]
    after = node.processes()
    assert {name for name in before if before[name] != after[name]} == {"kube-scheduler"}
    assert sees_the_file()
    assert node.path("/etc/kubernetes/scheduler.conf").read_bytes() == renewed

    again = node.playbook("rotate")
    assert "changed=0" in again.stdout
