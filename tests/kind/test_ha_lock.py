# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time on a cluster, whatever its limit; others that change certificates are respected."""

from __future__ import annotations

import json
import time
import typing as t
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


# The API server reloads two of the CAs' files: a stranger's CA goes before the true one, so that both are trusted meanwhile.
KEPT, SHARED = "/root/certops-shared", "ca.crt front-proxy-ca.crt etcd/ca.crt sa.pub"
KEEP = f"umask 077; mkdir {KEPT}; cd /etc/kubernetes/pki; cp -p --parents {SHARED} {KEPT}"
REPLACE = f"""
cd {KEPT}
openssl req -x509 -newkey rsa:2048 -nodes -keyout stranger.key -subj /CN=stranger -days 1 -out stranger.crt 2>/dev/null
openssl rsa -in stranger.key -pubout -out stranger.pub 2>/dev/null
cat stranger.pub >/etc/kubernetes/pki/sa.pub
for name in ca front-proxy-ca etcd/ca; do cat stranger.crt $name.crt >/etc/kubernetes/pki/$name.crt; done
"""
# With their time: a file newer than its process looks as if that had an older one.
MEND = f"""
cd {KEPT}
for name in {SHARED}; do cat $name >/etc/kubernetes/pki/$name; touch -r $name /etc/kubernetes/pki/$name; done
cd / && rm -r {KEPT}
"""
TRUSTED = ("configmap", "extension-apiserver-authentication", "-n", "kube-system")


def trusted() -> dict[str, str]:
    """The CAs of clients that the API servers publish: what each of them reads is added, and nobody takes it out again."""
    return t.cast("dict[str, str]", json.loads(cluster.kubectl("get", *TRUSTED, "-o", "json"))["data"])


def trust(data: dict[str, str]) -> bool:
    """Whether that is all that they publish: who has not yet read its file again adds what was in it."""
    cluster.kubectl("patch", *TRUSTED, "--type", "merge", "-p", json.dumps({"data": data}))
    time.sleep(2)
    return trusted() == data


def kubernetes_files(node: str) -> dict[str, list[t.Any]]:
    """What lies in /etc/kubernetes of a node."""
    return {path: seen for path, seen in cluster.snapshot(node).items() if path.startswith("/etc/kubernetes")}


def test_nodes_that_differ_are_refused() -> None:
    """CAs and a service-account key that somebody began to replace: what runs goes on with what it has, and nothing is rotated."""
    second, clients = ha.NODES[1], trusted()
    before = ha.serials(), ha.lease(), kubernetes_files(second)
    cluster.on_node("sh", "-ec", KEEP, node=second)
    try:
        cluster.on_node("sh", "-ec", REPLACE, node=second)
        done = cluster.playbook("rotate", *ha.forced(), check=False)
    finally:
        cluster.on_node("sh", "-ec", MEND, node=second)
        ha.wait_for(lambda: trust(clients), 60)
    assert done.returncode == 2, done.stdout[-3000:]
    report = cluster.newest_report("rotate")
    found = [problem["message"] for problem in report["problems"] if problem["code"] == "nodes_differ"]
    whats = {"cluster CAs": "ca.crt", "front-proxy CAs": "front-proxy-ca.crt", "etcd CAs": "etcd/ca.crt", "service-account keys": "sa.pub"}
    for (what, path), message, obstacle in zip(whats.items(), found, report["run"]["obstacles"], strict=True):
        said = f"The nodes have 2 different {what} in /etc/kubernetes/pki/{path}: "
        assert message.startswith(said)
        assert f" ({second})" in message
        assert ha.NODES[0] in message
        assert obstacle.startswith(message)
        assert said in done.stdout
    assert (ha.serials(), ha.lease(), kubernetes_files(second)) == before
