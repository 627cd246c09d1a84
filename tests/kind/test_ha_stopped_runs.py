# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that is stopped in the middle of the second of three nodes: that node ends well by itself, the next run does the rest."""

from __future__ import annotations

import time

import cluster
import ha
from test_spoilt_component import COMPONENT, MEND, MEND_WHEN_ROLLING_BACK, SPOIL

CUT = "systemctl stop ssh; pkill -KILL -x sshd; true"


def test_a_controller_that_is_killed() -> None:
    """The third node is untouched; the lock of the dead run holds nobody up who is sure that it is dead."""
    before, (first, second, third) = ha.serials(), ha.order()
    with ha.begun(*ha.forced()) as run:
        ha.wait_for(lambda: run.has_begun_on(second), 240)
        run.kill()
    ha.wait_for(lambda: ha.state_of_newest_run(second) in ("committed", "rolled_back"), 120)
    after = ha.serials()
    assert (after[first] != before[first], after[third] == before[third]) == (True, True)
    assert ha.state_of_newest_run(second) == "committed"
    again = cluster.playbook("rotate", *ha.forced())
    assert "from a run which has ended without letting it go" in again.stdout
    assert ha.states() == dict.fromkeys(ha.NODES, "done")
    assert all(ha.serials()[node] != before[node] for node in ha.NODES)
    ha.assert_well()


def test_a_connection_that_is_cut() -> None:
    """The node goes on without its controller; the run ends there and says so, and the next one does the rest."""
    before, (first, second, third) = ha.serials(), ha.order()
    with ha.begun(*ha.forced()) as run:
        ha.wait_for(lambda: run.has_begun_on(second), 240)
        cluster.on_node("sh", "-c", CUT, node=second)
        try:
            code, output = run.end()
        finally:
            cluster.on_node("systemctl", "start", "ssh", node=second)
    assert code == 2, output[-3000:]
    assert f"{second} was lost during its change, which goes on there without us" in output
    ha.wait_for(lambda: ha.state_of_newest_run(second) == "committed", 120)
    assert (ha.serials()[first] != before[first], ha.serials()[third] == before[third]) == (True, True)
    assert (ha.states()[first], ha.states()[third]) == ("done", "planned")
    cluster.playbook("rotate", *ha.forced())
    assert ha.states() == dict.fromkeys(ha.NODES, "done")
    ha.assert_well()


def test_a_component_that_does_not_come_back() -> None:
    """Its node is put back and proven, the play fails with the cause, the third node is untouched."""
    before, (first, second, third) = ha.serials(), ha.order()
    for node in ha.NODES:
        cluster.on_node("systemctl", "restart", "kubelet", node=node)  # no back-off left over from earlier restarts
    time.sleep(2)
    cluster.on_node("sh", "-c", SPOIL, node=second)
    cluster.on_node("sh", "-c", MEND_WHEN_ROLLING_BACK, node=second)
    try:
        done = cluster.playbook("rotate", *ha.forced(certs_rotate_start_timeout_seconds=20), check=False)
    finally:
        cluster.on_node("sh", "-c", MEND, node=second)
    assert done.returncode == 2, done.stdout[-3000:]
    assert COMPONENT in done.stdout
    assert "rolled back" in done.stdout
    assert ha.states() == {first: "done", second: "rolled_back", third: "planned"}
    after = ha.serials()
    assert [node for node in ha.NODES if after[node] != before[node]] == [first]
    assert ha.state_of_newest_run(second) == "rolled_back"
    ha.assert_well()
