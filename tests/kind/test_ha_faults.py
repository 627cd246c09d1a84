# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong on the way through three control planes: the run ends there, says why, and the next one ends what was left."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import typing as t
from datetime import datetime, timedelta, timezone

import cluster

NODES = cluster.control_plane()
SELECT = {"certs_rotate_select": "[?name=='apiserver' || name=='admin.conf']", "certs_rotate_health_timeout_seconds": 90}
IMPATIENT = ("-e", json.dumps({"certs_rotate_health_timeout_seconds": 6}))
FORCED = json.dumps({**SELECT, "certs_rotate_force": True})
SERIAL = ("openssl", "x509", "-in", "/etc/kubernetes/pki/apiserver.crt", "-noout", "-serial")


def serials() -> dict[str, str]:
    """Serial number of each API server's certificate on disk."""
    return {node: cluster.on_node(*SERIAL, node=node) for node in NODES}


def states() -> dict[str, str]:
    """What the newest report says of each control-plane node."""
    nodes = cluster.newest_report("rotate")["run"]["nodes"]
    return {node: nodes[node]["state"] for node in NODES}


def order() -> list[str]:
    """The order in which the nodes have their turn, as check mode says it."""
    shown = cluster.playbook("rotate", "--check", "-e", FORCED).stdout
    line = next(line for line in shown.splitlines() if "Order: " in line)
    found = sorted((line.index(node + end), node) for node in NODES for end in (",", " ", '"') if node + end in line)
    return list(dict.fromkeys(node for _at, node in sorted(found)))


def journal(node: str) -> dict[str, t.Any]:
    """The newest journal of a node."""
    text = cluster.on_node("sh", "-c", "cat $(ls -t /var/lib/certops/runs/*/journal.json | head -1)", node=node)
    return t.cast("dict[str, t.Any]", json.loads(text))


def wait_for(condition: t.Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)


def test_the_leaders_have_their_turn_last() -> None:
    """As the plan says, read from the cluster."""
    led = {lease["holder"].rpartition("_")[0] for lease in cluster.leaders().values()}
    assert set(order()[-len(led) :]) == led


def test_another_api_server_that_is_down_stops_the_run_before_it_begins() -> None:
    """The gate waits, says for what, and refuses; nothing is changed anywhere."""
    before, (first, *_others, last) = serials(), order()
    manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml"
    cluster.on_node("mv", manifest, "/root/kube-apiserver.yaml", node=last)
    try:
        wait_for(lambda: not cluster.on_node("pgrep", "-x", "kube-apiserver", node=last, check=False), 90)
        done = cluster.playbook("rotate", "-e", FORCED, *IMPATIENT, check=False)
    finally:
        cluster.on_node("mv", "/root/kube-apiserver.yaml", manifest, node=last)
    assert done.returncode == 2
    assert f"Nothing was changed on {first}" in done.stdout
    assert f"the API server of node {last} is not ready" in done.stdout
    assert "Waiting, 0 of 6 s" in done.stdout
    assert serials() == before
    seen = states()
    assert seen.pop(first) == "refused"
    assert set(seen.values()) <= {"planned", "nothing_due"}, "what has no API server has no certificate of one that is due"
    ready = (
        "kubectl",
        "--kubeconfig",
        "/etc/kubernetes/admin.conf",
        "--server",
        f"https://{cluster.address(last)}:6443",
        "get",
        "--raw",
        "/readyz",
    )
    wait_for(lambda: cluster.on_node(*ready, check=False) == "ok", 120)


def test_a_stopped_kubelet_is_noticed() -> None:
    """Before anything is changed on its node."""
    before, (first, *_others) = serials(), order()
    cluster.on_node("systemctl", "stop", "kubelet", node=first)
    try:
        done = cluster.playbook("rotate", "-e", FORCED, *IMPATIENT, "--limit", first, check=False)
    finally:
        cluster.on_node("systemctl", "start", "kubelet", node=first)
    assert done.returncode == 2
    assert "kubelet" in done.stdout
    assert serials() == before


def test_a_renewal_timer_that_is_about_to_fire_is_respected() -> None:
    """kubespray's and KubeKey's, by real systemd; in check mode too."""
    before, (first, *_others) = serials(), order()
    soon = (datetime.now(timezone.utc) + timedelta(minutes=10)).strftime("%Y-%m-%d %H:%M:%S UTC")
    cluster.on_node("systemd-run", "--unit=k8s-certs-renew", f"--on-calendar={soon}", "true", node=first)
    try:
        for mode in ((), ("--check",)):
            done = cluster.playbook("rotate", "-e", FORCED, *mode, check=False)
            assert done.returncode == 2
            assert "k8s-certs-renew.timer" in done.stdout
            assert soon.replace(" UTC", "Z").replace(" ", "T") in done.stdout
    finally:
        cluster.on_node("systemctl", "stop", "k8s-certs-renew.timer", node=first)
    assert serials() == before


def test_a_controller_that_is_killed_in_the_middle_of_the_second_node() -> None:
    """That node ends by itself what it began; the third is untouched; the next run does the rest."""
    before, (first, second, third) = serials(), order()
    playbook = pathlib.Path(sys.executable).with_name("ansible-playbook")
    command = [str(playbook), "-i", cluster.INVENTORY, "certops.kubernetes.rotate", "-e", FORCED]
    runs = {node: cluster.on_node("ls", "/var/lib/certops/runs", node=node) for node in NODES}
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as controller:
        wait_for(lambda: cluster.on_node("ls", "/var/lib/certops/runs", node=second) != runs[second], 120)
        os.killpg(controller.pid, signal.SIGKILL)
    wait_for(lambda: journal(second)["state"] in ("committed", "rolled_back"), 120)
    after = serials()
    assert after[first] != before[first]
    assert after[third] == before[third]
    assert journal(second)["state"] == "committed"
    again = cluster.playbook("rotate", "-e", FORCED)
    assert "failed=0" in again.stdout
    assert states() == dict.fromkeys(NODES, "done")
    assert all(serials()[node] != before[node] for node in NODES)


def test_limit_narrows_what_is_changed() -> None:
    """And a second run changes nothing."""
    before = serials()
    cluster.playbook("rotate", "-e", FORCED, "--limit", NODES[0])
    assert [node for node in NODES if serials()[node] != before[node]] == [NODES[0]]
    assert "changed=0" in cluster.playbook("rotate").stdout
