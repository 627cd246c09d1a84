# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's command line where nothing of a lab is: what is missing is said, why it is needed, and what to do about it.

No Docker and no network: the script runs with a PATH of its own, which holds the usual small programs and fakes of the others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest

LAB = Path(__file__).resolve().parents[3] / "lab" / "lab"

pytestmark = pytest.mark.skipif(
    not LAB.exists() or shutil.which("flock") is None, reason="lab/lab is not in this tree, or this is not Linux"
)

# fmt: off
SMALL_PROGRAMS = [
    "awk", "bash", "cat", "cp", "cut", "dirname", "env", "find", "flock", "grep", "head", "id", "install", "ln", "ls", "mkdir", "mktemp",
    "mv", "readlink", "rm", "sed", "seq", "sha256sum", "sleep", "sort", "tail", "tr", "uname", "xargs",
]
# fmt: on


class Lab:
    """A place to run lab/lab in: its PATH, its cache."""

    def __init__(self, root: Path) -> None:
        self.bin = root / "bin"
        self.cache = root / "cache"
        self.bin.mkdir()
        for name in SMALL_PROGRAMS:
            found = shutil.which(name)
            assert found is not None, name
            (self.bin / name).symlink_to(found)
        self.fake("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
        self.user(1000)

    def fake(self, name: str, script: str) -> None:
        path = self.bin / name
        if path.exists() or path.is_symlink():
            path.unlink()
        path.write_text("#!/bin/bash\n" + script + "\n")
        path.chmod(0o755)

    def user(self, uid: int) -> None:
        self.fake("id", f'if [ "$1" = -u ]; then echo {uid}; else echo somebody; fi')

    def running_docker(self) -> None:
        """A daemon without images and containers; whatever else it is asked goes to the file `calls`, and fails."""
        calls = self.cache.parent / "calls"
        otherwise = f'echo "docker $*" >>"{calls}"; exit 1'
        self.fake("docker", f'case "$1" in\nversion) echo 28.0.0 ;;\nimage) exit 1 ;;\nps) ;;\n*) {otherwise} ;;\nesac')

    def run(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": str(self.bin), "HOME": str(self.cache.parent), "LAB_CACHE": str(self.cache)}
        environ.update(env)
        command = [str(LAB), *args]
        return subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def refused(result: subprocess.CompletedProcess[str], *texts: str) -> None:
    """It failed with a message of the lab's own that contains the texts."""
    assert result.returncode == 1, result
    assert "lab: error: " in result.stderr
    for text in texts:
        assert text in result.stderr, result.stderr
    for trace in ("line ", "command not found", "unbound variable"):
        assert trace not in result.stderr


def test_no_command_shows_the_usage(lab: Lab) -> None:
    result = lab.run()
    assert result.returncode == 2
    assert "Usage: lab/lab COMMAND" in result.stderr


def test_help(lab: Lab) -> None:
    result = lab.run("--help")
    assert result.returncode == 0
    for command in (
        "docker-up",
        "docker-down",
        "build",
        "up single|ha|external-etcd",
        "down",
        "kubeconfig",
        "aggregation",
        "status",
        "probe",
    ):
        assert command in result.stdout


@pytest.mark.parametrize("command", [("docker-up",), ("build",), ("up", "single"), ("up", "ha"), ("up", "external-etcd")])
def test_no_docker_and_no_root(lab: Lab, command: t.Sequence[str]) -> None:
    result = lab.run(*command)
    refused(result, "no Docker daemon is reachable", "Cannot connect to the Docker daemon", "needs root", "user somebody")
    assert "remedy: run the command as root" in result.stderr


def test_no_docker_command_at_all(lab: Lab) -> None:
    (lab.bin / "docker").unlink()
    refused(lab.run("docker-up"), "no Docker daemon is reachable", "there is no docker command")


def test_root_but_not_debian(lab: Lab) -> None:
    lab.user(0)
    refused(lab.run("docker-up"), "missing: docker.io", "apt-get, on Debian only", "remedy: install them by your system's own means")


def test_no_go(lab: Lab) -> None:
    lab.running_docker()
    refused(lab.run("build"), "go is missing", "built from their Go modules", "remedy: install Go")


def test_go_too_old(lab: Lab) -> None:
    lab.running_docker()
    lab.fake("go", "echo go1.19.8")
    refused(lab.run("build"), "Go 1.19 is too old", "remedy: install a newer Go")


def test_a_failed_build_shows_its_log(lab: Lab) -> None:
    lab.running_docker()
    lab.fake("go", 'if [ "$1" = env ]; then echo go1.26.8; else echo "dial tcp: lookup failed" >&2; exit 1; fi')
    result = lab.run("build")
    refused(result, "binaries: kind: failed after", "| dial tcp: lookup failed", str(lab.cache / "log"), "check network and proxy")
    assert not list((lab.cache / "tools").glob("kind-????????????????"))


def test_node_image_without_root(lab: Lab) -> None:
    """A reachable daemon is enough for everything but debootstrap; the remedy names the way around it."""
    lab.running_docker()
    lab.fake("go", GO_THAT_BUILDS)
    refused(lab.run("build"), "the node image cannot be made here", "debootstrap needs root", "LAB_NODE_IMAGE=kindest/node:v1.x")


GO_THAT_BUILDS = """
if [ "$1" = env ]; then echo go1.26.8; exit; fi
while [ $# -gt 0 ]; do [ "$1" != -o ] || out=$2; shift; done
for name in kind probe kubectl kubeadm; do echo built >$out/$name; done
echo built >>"$LAB_CACHE/../builds"
"""


def test_what_is_built_is_not_built_again(lab: Lab) -> None:
    lab.running_docker()
    lab.fake("go", GO_THAT_BUILDS)
    lab.run("build")
    builds = (lab.cache.parent / "builds").read_text().count("built")
    again = lab.run("build")
    assert (lab.cache.parent / "builds").read_text().count("built") == builds
    assert "binaries: k8s: up to date" in again.stdout


@pytest.mark.parametrize("shape", ["", "triple"])
def test_unknown_shape(lab: Lab, shape: str) -> None:
    refused(lab.run("up", *([shape] if shape else [])), "is no kind of cluster", "remedy: lab/lab up single")


@pytest.mark.parametrize("name", ["Upper", "with space", "-dash", "dot.ted", "../../etc", "x" * 33, ""])
def test_bad_names(lab: Lab, name: str) -> None:
    refused(lab.run("up", "single", "--name", name), "is no name for a cluster")
    refused(lab.run("down", name), "is no name for a cluster")
    refused(lab.run("kubeconfig", name), "is no name for a cluster")


@pytest.mark.parametrize("validity", ["10d", "4", "ten days", "-4m", "4m; true", "h"])
def test_bad_validity(lab: Lab, validity: str) -> None:
    refused(lab.run("up", "single", "--validity", validity), "is no duration", "4m0s")
    refused(lab.run("up", "single", LAB_VALIDITY=validity), "is no duration")


@pytest.mark.parametrize("validity", ["1s1h", "1h1h"])
def test_a_validity_that_openssl_is_not_told(lab: Lab, validity: str) -> None:
    refused(lab.run("up", "external-etcd", "--validity", validity), f'"{validity}" is not understood', "each once and in this order")


def test_unknown_option_and_missing_value(lab: Lab) -> None:
    refused(lab.run("up", "single", "--colour"), "unknown option --colour")
    refused(lab.run("up", "single", "--name"), "--name needs a value")


@pytest.mark.parametrize("args", [(), ("all",)])
def test_down_without_clusters_or_docker_is_harmless(lab: Lab, args: t.Sequence[str]) -> None:
    result = lab.run("down", *args)
    assert result.returncode == 0
    assert "no cluster of the lab is there" in result.stdout


def test_down_of_an_absent_cluster_is_harmless(lab: Lab) -> None:
    lab.running_docker()
    result = lab.run("down", "absent")
    assert result.returncode == 0
    assert "cluster absent: not there" in result.stdout
    assert not (lab.cache.parent / "calls").exists()


def test_kubeconfig(lab: Lab) -> None:
    refused(lab.run("kubeconfig", "one"), "there is no kubeconfig of a cluster one", "remedy: lab/lab up single --name one")
    lab.cache.mkdir(exist_ok=True)
    (lab.cache / "one.kubeconfig").write_text("")
    assert lab.run("kubeconfig", "one").stdout == f"{lab.cache / 'one.kubeconfig'}\n"


def test_aggregation_wants_a_cluster(lab: Lab) -> None:
    """One that is there, by its name; nothing is built before that is known."""
    refused(lab.run("aggregation"), "aggregation: in which cluster?", "remedy: lab/lab aggregation certops")
    refused(lab.run("aggregation", "../etc"), "is no name for a cluster")
    lab.running_docker()
    refused(lab.run("aggregation", "absent"), "there is no cluster absent", "remedy: lab/lab up single --name absent")
    assert not (lab.cache / "tools").exists()


def test_status_without_docker(lab: Lab) -> None:
    result = lab.run("status")
    assert result.returncode == 0
    assert "docker: not reachable (Cannot connect to the Docker daemon)" in result.stdout


def test_scripts_are_executable_and_complete() -> None:
    for name in ("lab", "image/node/entrypoint", "image/lb/envoy", "image/podnet/podnet"):
        path = LAB.parent / name
        assert path.read_text().startswith("#!/"), name
        assert os.access(path, os.X_OK), name
