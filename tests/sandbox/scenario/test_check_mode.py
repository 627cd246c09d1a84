# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check mode on the very first run changes nothing on the node."""

from __future__ import annotations

import node


def test_the_node_is_as_it_was_before_check_mode() -> None:
    """Content, modification time, inode, mode and owner of every file, and no new one."""
    before, after = node.recall("snapshot.json"), node.snapshot()
    assert len(before) > 40
    assert sorted(name for name in {*before, *after} if before.get(name) != after.get(name)) == []
    assert not node.path("/var/lib/certops").exists()


def test_no_process_was_touched() -> None:
    """The same process IDs."""
    assert node.processes() == node.recall("processes.json")


def test_check_mode_showed_a_plan() -> None:
    """The report of the check-mode run holds the plan, item by item with its reason, and what would be restarted."""
    report = node.newest_report("rotate")
    assert report["run"]["check_mode"] is True
    planned = {entry["name"]: entry for entry in report["plan"]}
    assert {name for name, entry in planned.items() if entry["action"] == "renew"} == {*node.PAIRS, *node.KUBECONFIGS, "kubelet-client"}
    assert all(entry["reason"] for entry in planned.values())
    restarts = {component for entry in planned.values() for component in entry["restarts"]}
    assert restarts == {"kube-controller-manager", "kube-scheduler", "kubelet"}
