# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tell the main job to a person in the terminal: a cluster whose certificates are about to expire, rotated live.

Run by `make demo`, which brings the controller's tools and the collections' tree. On a machine without Docker, and without
the right to install it, the same story is told on the sandbox node, and the demo says so.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
import typing as t

ROOT = pathlib.Path(__file__).parents[1]
LAB = ROOT / "lab" / "lab"
SANDBOX = ROOT / "tests" / "sandbox" / "sandbox"
CLUSTER = "certops-demo"
BOLD, PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")


class Stage(t.Protocol):
    """Where the story is told."""

    inventory: dict[str, t.Any]

    def set_up(self) -> None: ...
    def show(self) -> None: ...
    def start_probe(self, out: pathlib.Path) -> subprocess.Popen[bytes] | None: ...
    def tear_down(self) -> None: ...


class KindCluster:
    """A one-node kind cluster, made for the demo and removed after it."""

    def __init__(self) -> None:
        host = {f"{CLUSTER}-control-plane": {"ansible_connection": "community.docker.docker"}}
        self.inventory = {"kube_control_plane": {"hosts": host}, "etcd": {"hosts": host}}

    def set_up(self) -> None:
        say("A real Kubernetes control plane on this machine, born with certificates that end in ten days")
        run(str(LAB), "up", "single", "--name", CLUSTER, "--validity", "240h0m0s")

    def show(self) -> None:
        say("What the cluster's own tools say")
        in_node = ("docker", "exec", f"{CLUSTER}-control-plane")
        run(*in_node, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "get", "nodes,pods", "-A")
        run(*in_node, "kubeadm", "certs", "check-expiration")

    def start_probe(self, out: pathlib.Path) -> subprocess.Popen[bytes] | None:
        config = subprocess.run([str(LAB), "kubeconfig", CLUSTER], check=True, capture_output=True, text=True).stdout.strip()
        return subprocess.Popen([str(LAB), "probe", "--kubeconfig", config, "--every", "50ms", "--for", "1h", "--out", str(out)])

    def tear_down(self) -> None:
        run(str(LAB), "down", CLUSTER)


class SandboxNode:
    """A node without a cluster, in namespaces of its own, with stand-ins for the components; needs no root."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder / "sandbox"
        self.inventory: dict[str, t.Any] = {}

    def set_up(self) -> None:
        say("A sandbox node on this machine: stand-ins for the components, certificates that end in ten days")
        run(str(SANDBOX), "up", "--days-left", "10", "--dir", str(self.folder))
        host = json.loads(subprocess.run([str(SANDBOX), "inventory", "--dir", str(self.folder)], check=True, capture_output=True).stdout)
        self.inventory = host

    def show(self) -> None:
        say("What lies on the node")
        run(str(SANDBOX), "exec", "--dir", str(self.folder), "find", "/etc/kubernetes", "-type", "f")

    def start_probe(self, out: pathlib.Path) -> subprocess.Popen[bytes] | None:
        return None

    def tear_down(self) -> None:
        run(str(SANDBOX), "down", "--dir", str(self.folder))


def say(text: str) -> None:
    """A heading of the story."""
    print(f"\n{BOLD}── {text}{PLAIN}\n", flush=True)


def run(*argv: str) -> None:
    """Run a command in the terminal; its failure ends the demo."""
    print(f"$ {' '.join(argv)}", flush=True)
    code = subprocess.run(argv, env=environment(), check=False).returncode
    if code:
        raise SystemExit(f"the demo ends here: `{' '.join(argv)}` ended with exit code {code}")


def environment() -> dict[str, str]:
    """What Ansible needs to be quick and readable."""
    return {**os.environ, "ANSIBLE_PIPELINING": "true", "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml", "ANSIBLE_LOCALHOST_WARNING": "false"}


def choose_stage(folder: pathlib.Path, sandbox: bool) -> Stage:
    """A real cluster where Docker is or can be had; else the sandbox node, with the reason."""
    if sandbox:
        return SandboxNode(folder)
    docker = subprocess.run([str(LAB), "docker-up"], capture_output=True, text=True, check=False)
    if docker.returncode == 0:
        return KindCluster()
    print(f"No real cluster on this machine: {(docker.stderr or docker.stdout).strip()}\nThe demo runs on the sandbox node instead.")
    return SandboxNode(folder)


def tell(stage: Stage, folder: pathlib.Path) -> None:
    """Inspect, plan, rotate, inspect again, with a probe beside it."""
    inventory, probe_out, reports = folder / "inventory.json", folder / "probe.json", folder / "reports"
    inventory.write_text(json.dumps(stage.inventory))

    def playbook(name: str, *argv: str) -> None:
        run("ansible-playbook", "-i", str(inventory), f"certops.kubernetes.{name}", "-e", f"certs_report_dir={reports}", *argv)

    stage.show()
    say("Inspect: every certificate, on disk and as it is really served")
    playbook("inspect")
    probe = stage.start_probe(probe_out)
    time.sleep(1)
    say("The plan: check mode changes nothing")
    playbook("rotate", "--check", "--diff")
    say("Rotate, on the live cluster")
    playbook("rotate")
    say("Inspect again")
    playbook("inspect")
    if probe:
        probe.terminate()
        probe.wait(30)
    say("What came of it")
    tell_result(reports, probe_out)


def tell_result(reports: pathlib.Path, probe_out: pathlib.Path) -> None:
    """How long each component was away, what users of the API noticed, where the reports are."""
    rotations = [json.loads(path.read_text()) for path in sorted(reports.rglob("*.json"), key=lambda path: path.stat().st_mtime)]
    done = [report for report in rotations if report["run"]["playbook"] == "rotate" and report["results"]]
    for host, result in done[-1]["results"].items() if done else ():
        for component in result.get("components", []):
            away = component.get("away_seconds")
            print(
                f"  {host}: {component['name']:<26}"
                + (f"restarted, away for {away:.1f} s" if away else "left running, it reloads by itself")
            )
    if probe_out.exists():
        seen = json.loads(probe_out.read_text())
        seen = seen[0] if isinstance(seen, list) else seen
        print(
            f"  API: {seen['requests']} requests over fresh connections, {seen['failed']} failed; longest gap {seen['longest_gap_ms']} ms"
        )
    for report in sorted(reports.rglob("*.html")):
        print(f"  report: {report} (and .json beside it)")


def main() -> None:
    """The demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sandbox", action="store_true", help="tell it on the sandbox node even where Docker is at hand")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    parser.add_argument("--dir", default=os.environ.get("DEMO_DIR", "certops-demo"), help="where the reports go (default: %(default)s)")
    arguments = parser.parse_args()
    folder = pathlib.Path(arguments.dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    stage = choose_stage(folder, arguments.sandbox)
    try:
        stage.set_up()
        tell(stage, folder)
    finally:
        if not arguments.keep:
            say("Tidying up")
            stage.tear_down()


if __name__ == "__main__":
    main()
