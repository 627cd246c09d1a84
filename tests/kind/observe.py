# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Watch a cluster through its rotation: `observe.py start`, later `observe.py stop`.

Started: the probe (an authenticated request over a fresh connection every 50 ms), another one through the aggregation layer (every
200 ms), a watch, and an `exec` stream.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import typing as t

import cluster

WATCHERS = cluster.STATE / "watchers.json"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: holder, namespace: default}
spec:
  terminationGracePeriodSeconds: 0
  tolerations: [{operator: Exists}]
  containers:
  - {name: holder, image: "lab/busybox:1", imagePullPolicy: Never, command: [sleep, infinity]}
"""
CALLERS = "/apis/aggregated.certops.example/v1/callers"
FIGURES = ("url", "requests", "failed", "first_fail_ms", "longest_gap_ms", "longest_pause_ms", "p50_ms", "max_ms", "errors")
# A member is a unit of its host, or a static pod: what only the other kind has is not there.
ELECTIONS = """
{ journalctl -u etcd -o cat; cat /var/log/pods/kube-system_etcd-*/etcd/*.log; } 2>/dev/null |
grep -E 'elected leader|lost leader|failed to send out heartbeat'
"""
COMPONENTS = ("kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler", "kubelet")


def start() -> None:
    """Remember how the node is, and begin to watch it."""
    remember("snapshot.json", json.dumps(cluster.snapshot()))
    remember("admin.conf", cluster.on_node("cat", "/etc/kubernetes/admin.conf"))
    remember("processes.json", json.dumps(processes()))
    remember("front_proxy.json", json.dumps(front_proxy()))
    cluster.on_node("install", "-D", "-m", "0640", "/etc/kubernetes/admin.conf", "/root/.kube/config")  # as kubeadm tells people to
    cluster.on_node("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "apply", "-f", "-", stdin=POD)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/holder", "--timeout=90s")
    in_node = ["docker", "exec", cluster.NODE, "kubectl", "--kubeconfig", "/etc/kubernetes/super-admin.conf"]
    server = f"https://{cluster.node_address()}:6443"
    probe = [str(cluster.LAB), "probe", "--kubeconfig", cluster.kubeconfig(), "--for", "1h"]
    watchers = {
        "probe": [*probe, "--every", "50ms", "--url", f"{server}/api/v1/namespaces/default", "--out", str(cluster.STATE / "probe.json")],
        "aggregated": [*probe, "--every", "200ms", "--url", f"{server}{CALLERS}", "--out", str(cluster.STATE / "aggregated.json")],
        "watch": [*in_node, "get", "leases", "-n", "kube-system", "--watch", "--output-watch-events", "-o", "name"],
        "exec": [*in_node, "exec", "holder", "--", "sh", "-c", "while date +%s; do sleep 0.5; done"],
    }
    remember("watchers.json", json.dumps({name: detached(name, argv) for name, argv in watchers.items()}))
    time.sleep(1)


def front_proxy() -> dict[str, str]:
    """SHA-256 fingerprints of front-proxy client certificates: of the one that an aggregated API is shown, and of the one on disk."""
    (caller,) = json.loads(cluster.kubectl("get", "--raw", CALLERS))["items"]
    assert (caller["user"], caller["frontProxy"]["commonName"]) == ("kubernetes-admin", "front-proxy-client")
    der = "openssl x509 -in /etc/kubernetes/pki/front-proxy-client.crt -outform DER | sha256sum | cut -d' ' -f1"
    return {"shown": caller["frontProxy"]["fingerprintSHA256"], "on_disk": cluster.on_node("sh", "-c", der).strip()}


def detached(name: str, argv: list[str]) -> dict[str, t.Any]:
    """Start a command that outlives this process."""
    with (cluster.STATE / f"{name}.log").open("wb") as log:
        started = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    return {"pid": started.pid, "argv": argv}


def stop() -> None:
    """End what `start` began; harmless when nothing runs."""
    if not WATCHERS.exists():
        return
    watchers = json.loads(WATCHERS.read_text())
    ended_early = sorted(name for name, watcher in watchers.items() if not is_running(watcher))
    for watcher in watchers.values():
        if is_running(watcher):
            os.killpg(watcher["pid"], signal.SIGTERM)
    give_up = time.monotonic() + 10
    while any(map(is_running, watchers.values())) and time.monotonic() < give_up:
        time.sleep(0.05)
    remember("ended_early.json", json.dumps(ended_early))
    WATCHERS.unlink()


def measured(name: str) -> dict[str, t.Any]:
    """What a probe that has ended measured; printed by target."""
    probe: dict[str, t.Any] = json.loads((cluster.STATE / name).read_text())
    for target in probe["targets"]:
        print({key: target[key] for key in FIGURES})
    return probe


def elections(nodes: t.Iterable[str]) -> str:
    """Which leader each member of etcd says it had, and when: while there is none, a write waits, or is lost."""
    return "\n".join(cluster.on_node("sh", "-c", ELECTIONS, node=node, check=False) for node in nodes)


def is_running(watcher: dict[str, t.Any]) -> bool:
    """Whether the process is still the one that was started."""
    try:
        with open(f"/proc/{watcher['pid']}/cmdline", "rb") as cmdline:
            return watcher["argv"][-1].encode() in cmdline.read().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False


def processes() -> dict[str, list[str]]:
    """PID and start time of each component's processes on the node."""
    found = {name: cluster.on_node("pgrep", "-x", name[:15], check=False).split() for name in COMPONENTS}
    return {name: [f"{pid}@{start_time(pid)}" for pid in pids] for name, pids in found.items()}


def start_time(pid: str) -> str:
    """Field 22 of the process' stat: clock ticks since boot."""
    return cluster.on_node("cut", "-d", " ", "-f", "22", f"/proc/{pid}/stat").strip()


def remember(name: str, text: str) -> None:
    """Keep a text where only this user reads it."""
    path = cluster.STATE / name
    path.touch(mode=0o600)
    path.write_text(text)


if __name__ == "__main__":
    {"start": start, "stop": stop}[sys.argv[1]]()
