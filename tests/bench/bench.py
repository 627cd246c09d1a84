# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure on a one-node lab cluster, side by side with what others do; print seconds and ratios.

1. One `certificate_info` call, one `ping`, and the same files read by a loop of `community.crypto.x509_certificate_info`.
2. A rotation by this collection, and by `kubeadm certs renew all` with a forced restart of the four static pods; a probe
   sends a request every 50 ms through both.

Run by `make bench`, which brings the controller's tools and the collections' tree.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import typing as t

LAB = pathlib.Path(__file__).parents[2] / "lab" / "lab"
PKI = "/etc/kubernetes/pki"
CERTIFICATES = [
    *(f"{PKI}/{name}.crt" for name in ("apiserver", "apiserver-kubelet-client", "apiserver-etcd-client", "front-proxy-client", "ca")),
    *(f"{PKI}/etcd/{name}.crt" for name in ("server", "peer", "healthcheck-client", "ca")),
    f"{PKI}/front-proxy-ca.crt",
]
TASKS: dict[str, list[dict[str, t.Any]]] = {
    "ansible.builtin.ping": [{"ansible.builtin.ping": {}}],
    "certificate_info": [{"certops.kubernetes.certificate_info": {}}],
    "loop of x509_certificate_info": [
        {"community.crypto.x509_certificate_info": {"path": "{{ item }}"}, "loop": CERTIFICATES},
    ],
}
# What is done by hand and by the tools that wrap kubeadm: renew everything, remove the pods, wait for the port.
PEER = """
set -e
kubeadm certs renew all
crictl rmp -f $(crictl pods --namespace kube-system --name 'kube-apiserver|kube-controller-manager|kube-scheduler|etcd' -q)
sleep 20
until kubectl --kubeconfig /etc/kubernetes/admin.conf get --raw /readyz >/dev/null 2>&1; do sleep 0.2; done
"""


class Bench:
    """One lab cluster and the commands that reach it."""

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster
        self.node = f"{cluster}-control-plane"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="certops-bench-"))
        self.inventory = self.folder / "inventory.json"
        host = {self.node: {"ansible_connection": "community.docker.docker"}}
        self.inventory.write_text(json.dumps({"kube_control_plane": {"hosts": host}, "etcd": {"hosts": host}}))

    def ansible_playbook(self, *argv: str) -> float:
        """Seconds that a run takes."""
        command = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-i", str(self.inventory), *argv]
        environment = {**os.environ, "ANSIBLE_PIPELINING": "true"}
        return timed(command, environment)

    def cost_of(self, tasks: list[dict[str, t.Any]], repeat: int) -> float:
        """Seconds of one task: a play with `repeat` + 1 of them, less a play with one."""
        return (self.play(tasks * (repeat + 1)) - self.play(tasks)) / repeat

    def play(self, tasks: list[dict[str, t.Any]]) -> float:
        """Seconds that a play of these tasks takes."""
        playbook = self.folder / "play.json"
        playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        return self.ansible_playbook(str(playbook))

    def probed(self, name: str, work: t.Callable[[], float]) -> dict[str, t.Any]:
        """Seconds of some work, and what a probe saw meanwhile and five seconds longer."""
        out = self.folder / f"{name}.json"
        config = subprocess.run([str(LAB), "kubeconfig", self.cluster], check=True, capture_output=True, text=True).stdout.strip()
        probe = subprocess.Popen([str(LAB), "probe", "--kubeconfig", config, "--every", "50ms", "--for", "1h", "--out", str(out)])
        time.sleep(2)
        seconds = work()
        time.sleep(5)
        probe.terminate()
        probe.wait(30)
        seen = json.loads(out.read_text())
        return {"seconds": seconds, **(seen[0] if isinstance(seen, list) else seen)}

    def peer(self) -> float:
        """Seconds of the procedure that the documentation and most wrappers follow."""
        return timed(["docker", "exec", self.node, "sh", "-c", PEER], dict(os.environ))


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Seconds that a command takes; its output is shown when it fails."""
    begin = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)[:200]}: exit {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return time.monotonic() - begin


def compare_inspections(bench: Bench, repeat: int) -> None:
    """Print what one call costs, and how many pings that is."""
    cost = {name: bench.cost_of(tasks, repeat) for name, tasks in TASKS.items()}
    ping = cost["ansible.builtin.ping"]
    print(f"\nInspecting one node ({repeat} calls each)\n{'task':<34}{'seconds':>9}{'pings':>8}")
    for name, seconds in cost.items():
        print(f"{name:<34}{seconds:>9.2f}{seconds / ping:>8.1f}")
    print(f"The loop reads {len(CERTIFICATES)} files' dates; certificate_info also looks at kubeconfigs, processes and six ports.")


def compare_rotations(bench: Bench) -> None:
    """Print how long either way takes, and what users of the API see of it."""
    bench.ansible_playbook("certops.kubernetes.rotate", "--check")
    ours = bench.probed("ours", lambda: bench.ansible_playbook("certops.kubernetes.rotate", "-e", "certs_rotate_force=true"))
    theirs = bench.probed("theirs", bench.peer)
    print(f"\nRotating one control plane\n{'way':<44}{'seconds':>9}{'requests':>10}{'failed':>8}{'longest gap':>14}")
    for name, seen in (("certops.kubernetes.rotate", ours), ("kubeadm certs renew all + crictl rmp -f", theirs)):
        gap = f"{seen['longest_gap_ms']} ms"
        print(f"{name:<44}{seen['seconds']:>9.1f}{seen['requests']:>10}{seen['failed']:>8}{gap:>14}")
    print(f"ratio of wall time, ours to theirs: {ours['seconds'] / theirs['seconds']:.2f}")


def main() -> None:
    """Both comparisons on one cluster."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", default="certops", help="name of a one-node lab cluster (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=10, help="calls of each task (default: %(default)s)")
    arguments = parser.parse_args()
    bench = Bench(arguments.cluster)
    compare_inspections(bench, arguments.repeat)
    compare_rotations(bench)


if __name__ == "__main__":
    main()
