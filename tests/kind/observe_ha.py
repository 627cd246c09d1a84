# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Give a cluster of several control planes work, and watch it through its rotation; `observe.py stop` ends the watching."""

from __future__ import annotations

import json
import time

import cluster
import observe

WORK = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: holder, namespace: default}
spec:
  selector: {matchLabels: {app: holder}}
  template:
    metadata: {labels: {app: holder}}
    spec:
      terminationGracePeriodSeconds: 0
      tolerations: [{operator: Exists}]
      containers:
      - {name: holder, image: "lab/busybox:1", imagePullPolicy: Never, command: [sleep, infinity]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: steps, namespace: default}
spec:
  completions: 1000
  parallelism: 1
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      tolerations: [{operator: Exists}]
      containers:
      - {name: step, image: "lab/busybox:1", imagePullPolicy: Never, command: [sleep, "2"]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: probe, namespace: default}
"""
READ, WRITE = "/api/v1/namespaces/default", "/api/v1/namespaces/default/configmaps/probe"


def start() -> None:
    """Begin the work, and watch it."""
    cluster.on_node("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "apply", "-f", "-", stdin=WORK)
    cluster.kubectl("rollout", "status", "daemonset/holder", "--timeout=120s")
    observe.remember("holders.json", json.dumps(cluster.containers("app=holder")))
    observe.remember("leases.json", json.dumps(cluster.leaders()))
    observe.remember("watchers.json", json.dumps({"probe": observe.detached("probe", probe("probe.json"))}))
    time.sleep(1)


def probe(out: str) -> list[str]:
    """The command that reads every 50 ms and writes each second through the load balancer, and reads at each API server's own address."""
    own = [word for node in cluster.control_plane() for word in ("--url", f"https://{cluster.address(node)}:6443{READ}")]
    watched = ["--watch", "/api/v1/namespaces/default/configmaps"]
    command = [str(cluster.LAB), "probe", "--kubeconfig", cluster.kubeconfig(), "--every", "50ms", "--for", "1h", "--url", READ, *own]
    return [*command, "--write", WRITE, *watched, "--out", str(cluster.STATE / out)]


if __name__ == "__main__":
    start()
