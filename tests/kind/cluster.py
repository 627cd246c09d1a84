# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kind cluster under test, reached without the collection."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import subprocess
import sys
import typing as t

CLUSTER = os.environ["CERTOPS_CLUSTER"]
STATE = pathlib.Path(os.environ["CERTOPS_STATE"])
REPORTS = pathlib.Path(os.environ["CERTOPS_REPORTS"])
INVENTORY = os.environ["CERTOPS_INVENTORY"]
NODE = f"{CLUSTER}-control-plane"
LAB = pathlib.Path(__file__).parents[2] / "lab" / "lab"
TREES = ("/etc/kubernetes", "/var/lib/kubelet/pki", "/var/lib/certops", "/root")

# Runs on the node; everything that a change could show in: content, time of modification, inode, mode, owner.
SNAPSHOT = """
import hashlib, json, os, stat, sys
seen = {}
for tree in sys.argv[1:]:
    for folder, folders, files in os.walk(tree):
        for path in [folder] + [os.path.join(folder, name) for name in files]:
            info = os.lstat(path)
            content = hashlib.sha256(open(path, "rb").read()).hexdigest() if stat.S_ISREG(info.st_mode) else None
            link = os.readlink(path) if stat.S_ISLNK(info.st_mode) else None
            seen[path] = [info.st_ino, info.st_mtime_ns, info.st_mode, info.st_uid, info.st_gid, content, link]
print(json.dumps(seen))
"""
# Whatever molecule sets: a sentence stays on its line, as YAML's do not, and what failed is said where the rest is.
PLAINLY = {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "ANSIBLE_DISPLAY_FAILED_STDERR": "false"}


def run(*argv: str, stdin: str | None = None, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command; its output is in the exception of a failed one."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, env={**os.environ, **variables})
    if check and done.returncode:
        raise AssertionError(f"{' '.join(argv[:6])} …: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def on_node(*argv: str, stdin: str | None = None, check: bool = True, node: str = NODE) -> str:
    """Standard output of a command on a node, the first control plane unless told."""
    return run("docker", "exec", "-i", node, *argv, stdin=stdin, check=check).stdout


def snapshot(node: str = NODE) -> dict[str, list[t.Any]]:
    """The files of a node that a rotation may touch."""
    return t.cast("dict[str, list[t.Any]]", json.loads(on_node("python3", "-", *TREES, stdin=SNAPSHOT, node=node)))


@functools.cache
def kubeconfig() -> str:
    """The controller's copy of admin.conf, from before the rotation."""
    return run(str(LAB), "kubeconfig", CLUSTER).stdout.strip()


@functools.cache
def address(node: str) -> str:
    """A node's IPv4 address, where its ports listen."""
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    return run("docker", "inspect", "-f", template, node).stdout.strip()


def node_address() -> str:
    """The first control plane's address."""
    return address(NODE)


@functools.cache
def control_plane() -> tuple[str, ...]:
    """The control-plane nodes' names."""
    labels = ["--filter", f"label=io.x-k8s.kind.cluster={CLUSTER}", "--filter", "label=io.x-k8s.kind.role=control-plane"]
    return tuple(sorted(run("docker", "ps", *labels, "--format", "{{.Names}}").stdout.split()))


def leaders() -> dict[str, dict[str, t.Any]]:
    """The Leases of kube-controller-manager and kube-scheduler: holder and number of transitions."""
    names = ("kube-controller-manager", "kube-scheduler")
    specs = {name: json.loads(kubectl("get", "lease", "-n", "kube-system", name, "-o", "json"))["spec"] for name in names}
    return {name: {"holder": spec["holderIdentity"], "transitions": spec["leaseTransitions"]} for name, spec in specs.items()}


def containers(selector: str) -> dict[str, tuple[str, int]]:
    """Container id and number of restarts by pod."""
    pods = json.loads(kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
    states = {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0] for pod in pods}
    return {name: (state["containerID"], state["restartCount"]) for name, state in states.items()}


def kubectl(*argv: str, config: str = "/etc/kubernetes/admin.conf", check: bool = True) -> str:
    """Standard output of the node's own kubectl with one of the node's kubeconfigs."""
    return on_node("kubectl", "--kubeconfig", config, *argv, check=check)


def apply(*documents: dict[str, t.Any]) -> None:
    """Let the node's own kubectl make objects, or change them."""
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    on_node("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "apply", "-f", "-", stdin=listed)


def newest_report(playbook: str) -> dict[str, t.Any]:
    """The newest JSON report of a playbook."""
    found = [json.loads(path.read_text()) for path in sorted(REPORTS.rglob("*.json"), key=lambda path: path.stat().st_mtime)]
    of_playbook = [report for report in found if report["run"]["playbook"] == playbook]
    assert of_playbook, f"no report of {playbook} in {REPORTS}"
    return t.cast("dict[str, t.Any]", of_playbook[-1])


def playbook(name: str, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one of the collection's playbooks on the node, as a user does."""
    ansible_playbook = str(pathlib.Path(sys.executable).with_name("ansible-playbook"))
    command = [ansible_playbook, "-i", INVENTORY, f"certops.kubernetes.{name}", *argv]
    return run(*command, check=check, **PLAINLY)


def module(name: str, arguments: dict[str, t.Any], *argv: str) -> dict[str, t.Any]:
    """The result of one of the collection's modules on the first control plane; `failed` is always there."""
    ansible = str(pathlib.Path(sys.executable).with_name("ansible"))
    command = [ansible, "-i", INVENTORY, NODE, "-m", f"certops.kubernetes.{name}", "-a", json.dumps(arguments), *argv]
    said = run(*command, check=False, **PLAINLY)
    header, arrow, answer = said.stdout.partition(" => ")
    assert arrow, said.stdout + said.stderr
    return {"failed": "FAILED" in header, **json.JSONDecoder().raw_decode(answer)[0]}
