# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time on a cluster, whatever its limit; others that change certificates are respected."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import cluster
import ha

FOREIGN = """
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {{name: certops-rotation, namespace: kube-system}}
spec: {{holderIdentity: run-of-somebody, leaseDurationSeconds: 300, renewTime: "{renewed}"}}
"""


def test_an_expired_lock_is_taken_over() -> None:
    """With a message; one that has not expired is not. And --limit narrows what is changed, while the gates ask the whole cluster."""
    before = ha.serials()
    for age, code in ((60, 2), (600, 0)):
        renewed = (datetime.now(timezone.utc) - timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
        cluster.on_node("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "apply", "-f", "-", stdin=FOREIGN.format(renewed=renewed))
        done = cluster.playbook("rotate", *ha.forced(), "--limit", ha.NODES[0], check=False)
        assert done.returncode == code, done.stdout[-3000:]
        assert "run-of-somebody" in done.stdout + done.stderr
    assert "it has said nothing since" in done.stdout + done.stderr
    assert ha.lease() is None
    assert [node for node in ha.NODES if ha.serials()[node] != before[node]] == [ha.NODES[0]]


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


def test_nodes_that_differ_are_refused() -> None:
    """A service-account key that somebody began to replace: the API servers go on with what they have read, and nothing is rotated."""
    before, second, public = ha.serials(), ha.NODES[1], "/etc/kubernetes/pki/sa.pub"
    other = "openssl genrsa 2048 2>/dev/null | openssl rsa -pubout 2>/dev/null"
    cluster.on_node("sh", "-ec", f"cp -p {public} /root/sa.pub; {other} >/root/other.pub; cat /root/other.pub >{public}", node=second)
    try:
        done = cluster.playbook("rotate", *ha.forced(), check=False)
    finally:
        cluster.on_node("sh", "-ec", f"cat /root/sa.pub >{public}; rm /root/sa.pub /root/other.pub", node=second)
    assert done.returncode == 2, done.stdout[-3000:]
    assert "The nodes have 2 different service-account keys" in done.stdout
    assert (ha.serials(), ha.lease()) == (before, None)
