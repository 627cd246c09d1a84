# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of a cluster of three control planes share: a forced rotation of little, begun, watched and judged from outside."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import typing as t

import cluster

NODES = cluster.control_plane()
WORKERS = (f"{cluster.CLUSTER}-worker", f"{cluster.CLUSTER}-worker2")
SELECT = "[?name=='apiserver' || name=='admin.conf' || name=='scheduler.conf']"
SERIAL = ("openssl", "x509", "-in", "/etc/kubernetes/pki/apiserver.crt", "-noout", "-serial")
ORDER = re.compile(r'"Order: (.+?)"')
STATE = "import json, sys; print(json.load(open(sys.argv[1]))['state'])"


def forced(**variables: t.Any) -> tuple[str, str]:
    """Arguments that renew a few certificates whatever their age."""
    return "-e", json.dumps(
        {"certs_rotate_select": SELECT, "certs_rotate_force": True, "certs_rotate_health_timeout_seconds": 90, **variables}
    )


def lease() -> dict[str, t.Any] | None:
    """The lock of the cluster, while a run has it."""
    shown = cluster.kubectl("get", "lease", "certops-rotation", "-n", "kube-system", "-o", "json", "--ignore-not-found")
    return json.loads(shown) if shown else None


def serials() -> dict[str, str]:
    """Serial number of each API server's certificate on disk."""
    return {node: cluster.on_node(*SERIAL, node=node).strip() for node in NODES}


def served(node: str) -> str:
    """Serial number of the certificate that an API server shows at its node's own address."""
    script = "openssl s_client -connect $0:6443 </dev/null 2>/dev/null | openssl x509 -noout -serial"
    return cluster.on_node("sh", "-c", script, cluster.address(node), node=node).strip()


def states() -> dict[str, str]:
    """What the newest report of a rotation says of each control-plane node."""
    nodes = cluster.newest_report("rotate")["run"]["nodes"]
    return {node: nodes[node]["state"] for node in NODES}


def runs(node: str) -> list[str]:
    """The runs that a node has kept, the newest last."""
    return cluster.on_node("ls", "-tr", "/var/lib/certops/runs", node=node, check=False).split()


def state_of_newest_run(node: str) -> str:
    """How far it came."""
    found = runs(node)
    path = f"/var/lib/certops/runs/{found[-1]}/journal.json" if found else "/nowhere"
    return cluster.on_node("python3", "-c", STATE, path, node=node, check=False).strip()


def wait_for(condition: t.Callable[[], object], seconds: float) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)


class Run:
    """A playbook that runs beside the test."""

    def __init__(self, *arguments: str, playbook: str = "rotate") -> None:
        """Begin it, in a session of its own so that all of it can be killed."""
        program = str(pathlib.Path(sys.executable).with_name("ansible-playbook"))
        command = [program, "-i", cluster.INVENTORY, f"certops.kubernetes.{playbook}", *arguments]
        environment = {**os.environ, **cluster.PLAINLY}
        self.log = cluster.STATE / "run.log"
        self.known = {node: runs(node) for node in NODES}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )

    def order(self) -> list[str]:
        """The order in which the control-plane nodes have their turn, as soon as the run has said it."""
        wait_for(lambda: self.process.poll() is not None or ORDER.search(self.output()), 240)
        said = ORDER.search(self.output())
        assert said, self.output()[-3000:]
        return [node for node in re.findall(r"[\w-]+", said[1]) if node in NODES]

    def output(self) -> str:
        """What it has said by now."""
        return self.log.read_text(errors="replace")

    def has_begun_on(self, node: str) -> bool:
        """Whether the node has a run that it did not have before, or everything is over."""
        return runs(node) != self.known[node] or self.process.poll() is not None

    def end(self, seconds: float = 400) -> tuple[int, str]:
        """Exit code and output."""
        return self.process.wait(seconds), self.output()

    def kill(self) -> None:
        """SIGKILL to Ansible and all its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def begun(*arguments: str, playbook: str = "rotate") -> t.Iterator[Run]:
    """A run that does not outlive the test."""
    run = Run(*arguments, playbook=playbook)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.kill()


def holders() -> dict[str, str]:
    """By worker, what its own runtime calls the container of the pod that runs on every node."""
    found = {node: cluster.on_node("crictl", "ps", "-q", "--name", "^holder$", node=node).strip() for node in WORKERS}
    assert all(found.values()), found
    return found


def turns(nodes: t.Sequence[str]) -> list[tuple[str, str, str]]:
    """When the newest rotation's change of each node began and was proven, in the order of the beginnings: begin, end, node.

    By the node's own journal; the nodes share a clock, and say it in whole seconds.
    """
    results = cluster.newest_report("rotate")["results"]
    paths = {node: f"/var/lib/certops/runs/{results[node]['run_id']}/journal.json" for node in nodes}
    journals = {node: json.loads(cluster.on_node("cat", path, node=node)) for node, path in paths.items()}
    assert {journal["state"] for journal in journals.values()} == {"committed"}
    return sorted((journal["started_at"], journal["finished_at"], node) for node, journal in journals.items())


def is_ready(node: str) -> bool:
    """Whether a node's own API server says so."""
    server = f"https://{cluster.address(node)}:6443"
    asked = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "--server", server, "get", "--raw", "/readyz")
    return cluster.on_node(*asked, node=node, check=False) == "ok"


def assert_well() -> None:
    """Every API server is ready and shows what lies on its node, and a run that has nothing to do finds nothing left."""
    wait_for(lambda: all(map(is_ready, NODES)), 120)
    assert {node: served(node) for node in NODES} == serials()
    assert all(state_of_newest_run(node) in ("committed", "rolled_back") for node in NODES)
