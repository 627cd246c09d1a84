# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time on a cluster, whatever its limit; others that change certificates are respected."""

from __future__ import annotations

import json
import typing as t
from datetime import datetime, timedelta, timezone

import cluster
import ha

LEASE = ("lease", "certops-rotation", "-n", "kube-system")
FOREIGN = """
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {{name: certops-rotation, namespace: kube-system}}
spec: {{holderIdentity: run-of-somebody, leaseDurationSeconds: 300, renewTime: "{renewed}"}}
"""


def lease() -> dict[str, t.Any] | None:
    """The lock, while a run has it."""
    shown = cluster.kubectl("get", *LEASE, "-o", "json", "--ignore-not-found")
    return json.loads(shown) if shown else None


def test_a_second_run_is_refused_at_once() -> None:
    """With who has the lock, since when and from where; the first one is not disturbed, and lets the lock go at its end."""
    before = ha.serials()
    with ha.begun(*ha.forced()) as first:
        ha.wait_for(lease, 180)
        second = cluster.playbook("rotate", *ha.forced(), "--limit", ha.NODES[2], check=False)
        held = lease()
        code, output = first.end()
    assert second.returncode == 2, second.stdout[-3000:]
    assert held is not None
    holder = json.loads(held["metadata"]["annotations"]["certops.kubernetes/holder"])
    assert f"run {holder['run_id']} (rotate, started at {holder['since']} by {holder['user']} on {holder['controller']})" in second.stdout
    assert code == 0, output[-3000:]
    assert all(ha.serials()[node] != before[node] for node in ha.NODES)
    assert lease() is None


def test_an_expired_lock_is_taken_over() -> None:
    """With a message; one that has not expired is not."""
    for age, code in ((60, 2), (600, 0)):
        renewed = (datetime.now(timezone.utc) - timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
        cluster.on_node("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "apply", "-f", "-", stdin=FOREIGN.format(renewed=renewed))
        done = cluster.playbook("rotate", *ha.forced(), "--limit", ha.NODES[0], check=False)
        assert done.returncode == code, done.stdout[-3000:]
        assert "run-of-somebody" in done.stdout + done.stderr
    assert "it has said nothing since" in done.stdout + done.stderr
    assert lease() is None


def test_a_renewal_timer_that_is_about_to_fire_is_respected() -> None:
    """kubespray's and KubeKey's, by real systemd; in check mode too."""
    before, first = ha.serials(), ha.NODES[0]
    soon = (datetime.now(timezone.utc) + timedelta(minutes=10)).strftime("%Y-%m-%d %H:%M:%S UTC")
    cluster.on_node("systemd-run", "--unit=k8s-certs-renew", f"--on-calendar={soon}", "true", node=first)
    try:
        for mode in ((), ("--check",)):
            done = cluster.playbook("rotate", *ha.forced(), "--limit", first, *mode, check=False)
            assert done.returncode == 2, done.stdout[-3000:]
            assert "k8s-certs-renew.timer" in done.stdout
            assert soon.replace(" UTC", "Z").replace(" ", "T") in done.stdout
    finally:
        cluster.on_node("systemctl", "stop", "k8s-certs-renew.timer", node=first)
    assert ha.serials() == before
