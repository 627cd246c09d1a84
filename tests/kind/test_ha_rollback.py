# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way back on three control planes: any kept run, one node or all, in check mode first, proven like the way forward."""

from __future__ import annotations

import stat

import cluster
import ha


def test_one_node_and_then_all() -> None:
    """Each has its earlier certificates again and serves them; a node that has them already is left alone."""
    before = ha.serials()
    cluster.playbook("rotate", *ha.forced())
    renewed = ha.serials()
    assert all(renewed[node] != before[node] for node in ha.NODES)
    run_id = cluster.newest_report("rotate")["run"]["id"]
    asked = ("-e", f"certs_rotate_rollback_run_id={run_id}")

    shown = cluster.playbook("rollback", "--check", "--diff", *asked)
    assert f"restore apiserver: run {run_id} replaced it" in shown.stdout
    assert ha.serials() == renewed

    cluster.playbook("rollback", *asked, "--limit", ha.NODES[1])
    assert ha.serials() == {**renewed, ha.NODES[1]: before[ha.NODES[1]]}
    cluster.playbook("rollback", *asked)
    assert ha.serials() == before
    states = {host: node["state"] for host, node in cluster.newest_report("rollback")["run"]["nodes"].items()}
    assert [states[node] for node in ha.NODES] == ["done", "nothing_due", "done"]
    assert "changed=0" in cluster.playbook("rollback", *asked).stdout
    ha.assert_well()


def test_a_rollback_can_be_undone() -> None:
    """It is a run like any other."""
    before = ha.serials()
    run_id = ha.runs(ha.NODES[0])[-1]
    cluster.playbook("rollback", "-e", f"certs_rotate_rollback_run_id={run_id}", "--limit", ha.NODES[0])
    assert ha.serials()[ha.NODES[0]] != before[ha.NODES[0]]
    ha.assert_well()


def test_as_many_runs_are_kept_as_asked_for() -> None:
    """Never fewer than the last good one; nobody but root gets in."""
    node = ha.NODES[0]
    assert len(ha.runs(node)) > 2
    cluster.playbook("rotate", *ha.forced(certs_rotate_keep_backups=2), "--limit", node)
    assert len(ha.runs(node)) == 2
    for folder in ("/var/lib/certops", "/var/lib/certops/runs", f"/var/lib/certops/runs/{ha.runs(node)[-1]}/backup"):
        assert stat.S_IMODE(int(cluster.on_node("stat", "-c", "%f", folder, node=node), 16)) == 0o700
    assert cluster.on_node("find", "/var/lib/certops", "-type", "f", "-perm", "/077", node=node) == ""
    run_id = ha.runs(node)[-1]
    renewed = ha.serials()[node]
    cluster.playbook("rollback", "-e", f"certs_rotate_rollback_run_id={run_id}", "--limit", node)
    assert ha.serials()[node] != renewed
    ha.assert_well()
