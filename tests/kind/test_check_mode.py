# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check mode on the very first run changes nothing on the node."""

from __future__ import annotations

import json

import cluster


def test_the_node_is_as_it_was_before_check_mode() -> None:
    """Content, modification time, inode, mode and owner of every file, and no new one."""
    before = json.loads((cluster.STATE / "snapshot.json").read_text())
    after = cluster.snapshot()
    assert len(before) > 30
    ours = {path for path in {*before, *after} if before.get(path) != after.get(path) and not path.startswith("/root")}
    assert ours == set()
    assert "/var/lib/certops" not in after


def test_check_mode_showed_a_plan() -> None:
    """The report of the check-mode run holds the plan, item by item with its reason."""
    report = cluster.newest_report("rotate")
    assert report["run"]["check_mode"] is True
    planned = {entry["name"]: entry for entry in report["plan"]}
    assert planned["apiserver"]["action"] == "renew"
    assert all(entry["reason"] for entry in planned.values())
