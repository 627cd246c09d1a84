# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node whose certificates have expired while it ran: its administrator is let in nowhere, and the rotation cures it."""

from __future__ import annotations

import time
from pathlib import Path

import node

URL = f"https://{node.ADDRESS}:6443/api/v1/namespaces/default"


def test_an_expired_node_is_cured(tmp_path: Path) -> None:
    """One run of the same playbook."""
    time.sleep(max(0.0, node.recall("expires.json") + 5 - time.time()))
    expired = node.EXPIRED
    assert node.ask("admin.conf", URL, directory=expired) == 0
    inventory = tmp_path / "inventory.json"
    inventory.write_text(node.sandbox("inventory", directory=expired))
    done = node.playbook("rotate", *node.extra(certs_report_dir=str(node.REPORTS)), inventory=str(inventory))
    assert "failed=0" in done.stdout
    assert node.ask("admin.conf", URL, directory=expired) == 200
    leases = URL.rpartition("/api/")[0] + "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/"
    assert node.ask("scheduler.conf", leases + "kube-scheduler", directory=expired) == 200
    again = node.playbook("rotate", *node.extra(certs_report_dir=str(node.REPORTS)), inventory=str(inventory))
    assert "changed=0" in again.stdout
