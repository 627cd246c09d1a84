# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which node is asked: `--target sandbox:DIR` (a sandbox node) or `--target docker:CONTAINER` (a kind node)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """The two options of the comparison."""
    parser.addoption("--target", required=True, help="sandbox:DIR or docker:CONTAINER")
    parser.addoption("--slow", action="store_true", help="also what takes more than ten seconds (the kubelet's back-off)")


class Target:
    """A node on which functions of on_node.py can be called."""

    def __init__(self, name: str) -> None:
        self.kind, _colon, place = name.partition(":")
        if self.kind == "sandbox":
            python = json.loads((Path(place) / "sandbox.json").read_text())["python"]
            self.prefix = [sys.executable, str(HERE.parent / "sandbox.py"), "exec", "--dir", place, "--"]
            self.python = python
        elif self.kind == "docker":
            self.prefix = ["docker", "exec", "-i", place]
            self.python = "python3"
        else:
            raise pytest.UsageError("--target must be sandbox:DIR or docker:CONTAINER, not %s" % name)

    def run(self, *argv: str) -> str:
        """Standard output of a command on the node."""
        return subprocess.run([*self.prefix, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True).stdout

    def call(self, function: str, *arguments: str) -> t.Any:
        """The result of a function of on_node.py, called on the node."""
        script = (HERE / "on_node.py").read_text()
        command = [*self.prefix, self.python, "-", function, *arguments]
        done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> t.Iterator[Target]:
    """The node under comparison; its kubelet is restarted before and after, so that no back-off is met or left behind."""
    found = Target(request.config.getoption("--target"))
    found.run("systemctl", "restart", "kubelet")
    time.sleep(3)  # it begins to look after its pods again
    yield found
    found.run("systemctl", "restart", "kubelet")


@pytest.fixture(scope="session")
def api(target: Target) -> str:
    """The API server's own URL."""
    return "https://%s:6443" % target.call("address")
