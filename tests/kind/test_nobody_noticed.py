# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What somebody who used the cluster all the time saw of the rotation."""

from __future__ import annotations

import json

import cluster
import observe


def test_no_request_failed() -> None:
    """A fresh connection every 50 ms, authenticated, on the node's own address, from before the rotation until now."""
    observe.stop()
    probe = json.loads((cluster.STATE / "probe.json").read_text())
    summary = probe[0] if isinstance(probe, list) else probe
    print(json.dumps(summary, indent=2))
    ended_early = json.loads((cluster.STATE / "ended_early.json").read_text())
    print(f"streams that were cut before the end: {[name for name in ended_early if name in ('watch', 'exec')] or 'none'}")
    assert "probe" not in ended_early
    assert summary["requests"] > 100
    assert summary["failed"] == 0, summary
    assert len(summary["serial_changes"]) >= 2, "the probe saw the old certificate, then a new one"
