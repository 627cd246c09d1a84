# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`certs_rotate_restart: always` on three control planes, behind a load balancer that asks whether they are ready and tries another one."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import cluster
import ha
import observe
import observe_ha

ALWAYS = {"certs_rotate_force": True, "certs_rotate_restart": "always", "certs_rotate_worker_serial": "100%"}
OUT = "probe-always.json"


def test_nothing_is_noticed_behind_a_load_balancer_that_asks_who_is_ready() -> None:
    """No request fails; how long each API server's own address was away is printed (docs/restarts.md).

    The workers have their turn at the same time, after the control plane, and their pods run on.
    """
    balancer = f"{cluster.CLUSTER}-external-load-balancer"
    # An API server that is told to end is not ready from then on, but healthy, and serves for its --shutdown-delay-duration.
    cluster.on_node("sh", "-c", "echo 3 >/home/envoy/retries; echo /readyz >/home/envoy/check", node=balancer)
    holders = ha.holders()
    time.sleep(5)  # its settings are looked at five times a second; who is connected meanwhile may be cut off
    with subprocess.Popen(observe_ha.probe(OUT), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as probe:
        time.sleep(1)
        started = time.monotonic()
        done = cluster.playbook("rotate", "-e", json.dumps(ALWAYS), check=False)
        seconds = time.monotonic() - started
        time.sleep(1)
        probe.send_signal(signal.SIGTERM)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    through, *own, writes = observe.measured(OUT)["targets"]
    print(f"{seconds:.0f} s for {len(own)} nodes")
    for host, result in cluster.newest_report("rotate")["results"].items():
        print(host, {one["name"]: (one["away_seconds"], one["leaderless_seconds"]) for one in result["components"]})
        restarted = {one["name"] for one in result["components"] if one["action"] == "restarted"}
        assert restarted >= ({"kube-apiserver", "etcd", "kubelet"} if host in cluster.control_plane() else {"kubelet"})
    report, turns = cluster.newest_report("rotate"), ha.turns(ha.WORKERS)
    print(turns)
    (begun, ended, _first), (begun_too, _ended, _second) = turns
    assert max(end for _begun, end, _node in ha.turns(ha.NODES)) <= begun <= begun_too <= ended, "one batch"
    assert ha.holders() == holders
    for node in ha.WORKERS:
        (renewed,) = (one for one in report["results"][node]["certificates"] if one["name"] == "kubelet-client")
        assert (renewed["in_use"], renewed["proof"]) == ("true", "identity")
    embedded = [record["host"] for record in report["records"] if record["name"] == "kubelet.conf"]
    assert embedded == [], "what was the way out for an expired kubelet (test_ha_workers.py) names the kubelet's own file now"
    assert (through["failed"], writes["failed"]) == (0, 0), (through, writes, observe.elections(ha.NODES))
    assert all(target["failed"] > 0 for target in own), "each API server was restarted"
