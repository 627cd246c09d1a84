# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What comes of a gate's answer."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._gate import gate_outcome


def sick(*names: str) -> dict[str, t.Any]:
    """An answer in which these checks have failed."""
    checks = [{"name": name, "ok": False, "message": "%s is ill" % name, "caused_by_expired": []} for name in names]
    return {"verdict": "unhealthy", "msg": "unhealthy", "checks": [*checks, {"name": "kubelet", "ok": True, "message": "fine"}]}


@pytest.mark.parametrize("verdict", ["healthy", "expired_only"])
def test_well_enough(verdict: str) -> None:
    outcome = gate_outcome({"verdict": verdict, "msg": "fine", "checks": []}, "before", None, 100.0, 60)
    assert (outcome["state"], outcome["line"], outcome["waited_seconds"]) == ("passed", "fine", 0.0)


def test_a_wait_says_what_for_and_ends() -> None:
    first = gate_outcome(sick("etcd"), "before", None, 100.0, 60)
    assert (first["state"], first["line"]) == ("waiting", "Waiting, 0 of 60 s: etcd is ill")
    later = gate_outcome(sick("etcd"), "before", first, 159.0, 60)
    assert (later["state"], later["line"]) == ("waiting", "Waiting, 59 of 60 s: etcd is ill")
    last = gate_outcome(sick("etcd"), "before", later, 160.0, 60)
    assert (last["state"], last["line"]) == ("failed", "etcd is ill (waited for 60 s)")


def test_each_check_has_its_own_limit() -> None:
    first = gate_outcome(sick("etcd", "kube-scheduler"), "after", None, 0.0, 60, {"etcd": 300})
    assert first["line"] == "Waiting, 0 of 300 s: etcd is ill; kube-scheduler is ill"
    assert gate_outcome(sick("etcd"), "after", first, 299.0, 60, {"etcd": 300})["state"] == "waiting"
    assert gate_outcome(sick("etcd", "kube-scheduler"), "after", first, 61.0, 60, {"etcd": 300})["state"] == "failed"


def test_another_gate_begins_anew() -> None:
    before = gate_outcome(sick("etcd"), "before", None, 0.0, 60)
    assert gate_outcome(sick("etcd"), "after", before, 100.0, 60)["state"] == "waiting"
    failed = gate_outcome(sick("etcd"), "before", before, 100.0, 60)
    assert gate_outcome(sick("etcd"), "before", failed, 101.0, 60)["waited_seconds"] == 0.0


def test_a_lost_connection_is_waited_for() -> None:
    outcome = gate_outcome({"unreachable": True, "msg": "Connection  timed\nout"}, "after", None, 0.0, 60)
    assert (outcome["state"], outcome["line"]) == ("waiting", "Waiting, 0 of 60 s: Connection timed out")
