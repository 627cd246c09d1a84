# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster with an etcd outside of it: its hosts, and the watching through a rotation, which `observe.py stop` ends."""

from __future__ import annotations

import json
import time

import cluster
import observe

SSL = "/etc/ssl/etcd/ssl"
ETCD = tuple(f"{cluster.CLUSTER}-etcd{number}" for number in (1, 2, 3))
HOSTS = (cluster.NODE, *ETCD)
TREES = (*cluster.TREES, "/etc/ssl/etcd", "/etc/etcd", "/etc/etcd.env")
CONFIG_MAP = "/api/v1/namespaces/default/configmaps/probe"
# What kubespray, a hand-made configuration and kubeadm call the pairs; (certificate, key, authority)
PAIRS = {
    cluster.NODE: [(f"{SSL}/node-{cluster.NODE}.pem", f"{SSL}/node-{cluster.NODE}-key.pem", f"{SSL}/ca.pem")],
    ETCD[0]: [(f"{SSL}/{kind}-{ETCD[0]}.pem", f"{SSL}/{kind}-{ETCD[0]}-key.pem", f"{SSL}/ca.pem") for kind in ("member", "admin")],
    ETCD[1]: [(f"/etc/etcd/pki/{kind}.crt", f"/etc/etcd/pki/{kind}.key", "/etc/etcd/pki/ca.crt") for kind in ("server", "peer")],
    ETCD[2]: [
        (f"/etc/kubernetes/pki/etcd/{kind}.crt", f"/etc/kubernetes/pki/etcd/{kind}.key", "/etc/kubernetes/pki/etcd/ca.crt")
        for kind in ("server", "peer", "healthcheck-client")
    ],
}


def snapshots() -> dict[str, dict[str, list[object]]]:
    """The files of each host that a rotation may touch."""
    return {host: json.loads(cluster.on_node("python3", "-", *TREES, stdin=cluster.SNAPSHOT, node=host)) for host in HOSTS}


def processes() -> dict[str, str]:
    """PID and start time of each member's process, and of the API server's."""
    names = {**dict.fromkeys(ETCD, "etcd"), cluster.NODE: "kube-apiserver"}
    script = 'for pid in $(pgrep -x "$0"); do echo "$pid@$(cut -d" " -f22 "/proc/$pid/stat")"; done'
    return {host: cluster.on_node("sh", "-c", script, name[:15], node=host).strip() for host, name in names.items()}


def keys() -> dict[str, dict[str, str]]:
    """The private keys of each host, by path."""
    script = "import json, sys; print(json.dumps({path: open(path).read() for path in sys.argv[1:]}))"
    return {
        host: json.loads(cluster.on_node("python3", "-c", script, *(key for _cert, key, _ca in pairs), node=host))
        for host, pairs in PAIRS.items()
    }


def probe(out: str) -> list[str]:
    """The command that reads every 50 ms and writes each second at the API server's own address."""
    server = f"https://{cluster.node_address()}:6443"
    watched = ["--watch", "/api/v1/namespaces/default/configmaps", "--write", CONFIG_MAP]
    command = [str(cluster.LAB), "probe", "--kubeconfig", cluster.kubeconfig(), "--every", "50ms", "--for", "1h"]
    return [*command, "--url", f"{server}/api/v1/namespaces/default", *watched, "--out", str(cluster.STATE / out)]


def start() -> None:
    """Remember how the hosts are, and begin to watch."""
    observe.remember("snapshots.json", json.dumps(snapshots()))
    observe.remember("processes.json", json.dumps(processes()))
    observe.remember("keys.json", json.dumps(keys()))
    cluster.kubectl("create", "configmap", "probe")
    observe.remember("watchers.json", json.dumps({"probe": observe.detached("probe", probe("probe.json"))}))
    time.sleep(1)


if __name__ == "__main__":
    start()
