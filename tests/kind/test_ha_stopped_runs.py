# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs that are stopped in the middle of the second of three nodes: that node ends well by itself, the next run does the rest.

Then the way back from there. In this order: each begins with what the one before left.
"""

from __future__ import annotations

import json
import stat

import cluster
import ha

CUT = "systemctl stop ssh; pkill -KILL -x sshd; true"


def test_a_controller_that_is_killed() -> None:
    """The second node, in whose middle that was, ends well by itself; the third one is untouched."""
    before = ha.serials()
    with ha.begun(*ha.forced()) as run:
        first, second, third = run.order()
        ha.wait_for(lambda: run.has_begun_on(second), 240)
        run.kill()
    ha.wait_for(lambda: ha.state_of_newest_run(second) in ("committed", "rolled_back"), 120)
    assert ha.state_of_newest_run(second) == "committed"
    after = ha.serials()
    assert (after[first] != before[first], after[third] == before[third]) == (True, True)


def test_a_connection_that_is_cut() -> None:
    """The lock of the dead run holds nobody up. The node goes on without its controller, whose run ends there and says so."""
    before = ha.serials()
    with ha.begun(*ha.forced(certs_rotate_health_timeout_seconds=30)) as run:
        first, second, third = run.order()
        ha.wait_for(lambda: run.has_begun_on(second), 240)
        cluster.on_node("sh", "-c", CUT, node=second)
        try:
            code, output = run.end()
        finally:
            cluster.on_node("systemctl", "start", "ssh", node=second)
    assert "from a run which has ended without letting it go" in output, output[-3000:]
    assert code == 2, output[-3000:]
    assert f"{second} was lost during its change, which goes on there without us" in output
    ha.wait_for(lambda: ha.state_of_newest_run(second) == "committed", 120)
    after = ha.serials()
    assert ha.states() == {first: "done", second: "failed", third: "planned"}
    assert (after[first] != before[first], after[third] == before[third]) == (True, True)


def test_the_next_run_does_the_rest() -> None:
    """And keeps as many backups as it is asked for; nobody but root gets in. While it has the lock, another run is refused at once."""
    before = ha.serials()
    with ha.begun(*ha.forced(certs_rotate_keep_backups=2)) as run:
        ha.wait_for(ha.lease, 180)
        held = ha.lease()
        refused = cluster.playbook("rotate", *ha.forced(), "--limit", ha.NODES[2], check=False)
        code, output = run.end()
    assert code == 0, output[-3000:]
    assert refused.returncode == 2, refused.stdout[-3000:]
    assert held is not None
    holder = json.loads(held["metadata"]["annotations"]["certops.kubernetes/holder"])
    said = f"run {holder['run_id']} (rotate, started at {holder['since']} by {holder['user']} on {holder['controller']})"
    assert said in refused.stdout
    assert {ha.state_of_newest_run(node) for node in ha.NODES} == {"committed"}
    assert all(ha.serials()[node] != before[node] for node in ha.NODES)
    assert ha.lease() is None
    ha.assert_well()
    for node in ha.NODES:
        assert len(ha.runs(node)) == 2
        for folder in ("/var/lib/certops", "/var/lib/certops/runs", f"/var/lib/certops/runs/{ha.runs(node)[-1]}/backup"):
            assert stat.S_IMODE(int(cluster.on_node("stat", "-c", "%f", folder, node=node), 16)) == 0o700
        assert cluster.on_node("find", "/var/lib/certops", "-type", "f", "-perm", "/077", node=node) == ""


def test_it_is_put_back_on_one_node_and_then_on_all() -> None:
    """Each has its earlier certificates again and serves them; a node that has them already is left alone."""
    renewed, one = ha.serials(), ha.NODES[1]
    run_id = ha.runs(one)[-1]
    asked = ("-e", f"certs_rotate_rollback_run_id={run_id}")

    shown = cluster.playbook("rollback", "--check", "--diff", *asked)
    assert f"restore apiserver: run {run_id} replaced it" in shown.stdout
    assert ha.serials() == renewed

    cluster.playbook("rollback", *asked, "--limit", one)
    assert [node for node in ha.NODES if ha.serials()[node] != renewed[node]] == [one]
    put_back = ha.serials()[one]
    cluster.playbook("rollback", *asked)
    assert [node for node in ha.NODES if ha.serials()[node] != renewed[node]] == list(ha.NODES)
    assert ha.serials()[one] == put_back
    states = {host: node["state"] for host, node in cluster.newest_report("rollback")["run"]["nodes"].items()}
    assert [states[node] for node in ha.NODES] == ["done", "nothing_due", "done"]
    assert "changed=0" in cluster.playbook("rollback", *asked).stdout
    ha.assert_well()
