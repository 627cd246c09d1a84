# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller is killed while the node works: the node goes on, and the next run finds it well."""

from __future__ import annotations

import os
import signal
import subprocess

import node


def test_a_killed_controller_leaves_a_node_that_ends_well() -> None:
    """SIGKILL to Ansible and all its children as soon as the node has begun to replace files."""
    node.on_node("systemctl", "restart", "kubelet")
    runs = set(node.path("/var/lib/certops/runs").iterdir())
    command = node.playbook_command("rotate", *node.extra(certs_rotate_force=True))
    controller = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )

    def begun() -> bool:
        new = set(node.path("/var/lib/certops/runs").iterdir()) - runs
        return any((run / "journal.json").exists() for run in new)

    node.wait_for(lambda: begun() or controller.poll() is not None, 240)
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    assert begun(), "the run ended before it had begun"
    journal = node.newest_journal
    node.wait_for(lambda: journal()["state"] == "committed", 120)
    assert node.newest_journal()["run_id"] not in {run.name for run in runs}

    again = node.playbook("rotate")
    assert "changed=0" in again.stdout
    assert node.ask("admin.conf", f"https://{node.ADDRESS}:6443/api/v1/namespaces/default") == 200
