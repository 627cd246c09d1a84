# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection with modules that stand in for the real ones, so that its playbooks run anywhere in seconds."""

from __future__ import annotations

import atexit
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._summary import RECORD_KEYS

HERE = pathlib.Path(__file__).resolve().parent
COLLECTION = HERE.parents[2]
MODULES = (
    *("certificate_info", "cluster_health_info", "certificate_request", "certificate_signing", "certificate_rotation"),
    *("certificate_rollback", "cluster_lock", "kubelet_info", "kubelet_serving_approval", "kubeconfig_renewal"),
)
DAY = 86400
QUESTION = b" (N)o/(y)es/(c)ontinue: "  # after a task's name, with --step


def record(name: str, days: int | None = 300, **values: t.Any) -> dict[str, t.Any]:
    """A certificate record with every key; `days` is what is left."""
    made: dict[str, t.Any] = dict.fromkeys(RECORD_KEYS)
    made.update(
        cluster="kubernetes",
        host="unknown",
        node="node1",
        name=name,
        component="kube-apiserver",
        usage="server",
        source="file",
        subject="CN=%s" % name,
        serial="1",
        fingerprint_sha256="a" * 64,
        not_before="2026-01-01T00:00:00Z",
        not_after=None if days is None else "2026-12-0%d" % (1 + days % 9),
        seconds_left=None if days is None else days * DAY,
        days_left=days,
        lifetime_days=365,
        status="ok",
        ca="ca",
        renewable=True,
        externally_managed=False,
        readers=[],
        findings=[],
        schema_version=1,
    )
    made.update(values)
    return made


def authority(days: int = 3000, **values: t.Any) -> dict[str, t.Any]:
    """The cluster CA's record, or that of another one by its name."""
    fixed = {"usage": "ca", "ca": None, "renewable": False, "not_renewable_because": "a CA", "fingerprint_sha256": "c" * 64}
    return record(values.pop("name", "ca"), days, **{**fixed, **values})


def reader(component: str, reload: str = "hot", in_use: str = "true") -> dict[str, str]:
    """Who reads a certificate, and whether it has it."""
    return {"component": component, "reload": reload, "in_use": in_use, "proof": "inode"}


class Controller:
    """A controller with the collection installed, and nodes made of JSON files."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Install the collection in a folder, with stand-ins for its modules."""
        self.folder = folder
        self.reports = folder / "reports"
        self.inventory: dict[str, t.Any] = {}
        self.lock = folder / "lease.json"  # the cluster's lock, while a run has it
        installed = folder / "ansible_collections" / "certops" / "kubernetes"
        plugins = [f"plugins/{kind}" for kind in ("action", "filter", "plugin_utils", "module_utils")]
        for part in ("galaxy.yml", "meta", "playbooks", "roles", "awx", *plugins):
            copy_of(COLLECTION / part, installed / part)
        source = (HERE / "module.py").read_text()
        (installed / "plugins" / "modules").mkdir()
        for name in MODULES:
            (installed / "plugins" / "modules" / f"{name}.py").write_text(source.replace('STAND_IN_NAME = ""', f'STAND_IN_NAME = "{name}"'))
        self.installed = installed
        self.interpreter = folder / "python"
        self.interpreter.write_text(f"#!{sys.executable}\n{(HERE / 'interpreter.py').read_text()}")
        self.interpreter.chmod(0o755)

    def node(self, name: str, certificates: t.Any, groups: t.Sequence[str] = ("kube_control_plane",), **state: t.Any) -> None:
        """Make a node of records; `health` are the gate's verdicts in turn, `rotation` and `broken` messages of modules that fail."""
        variables = {
            "ansible_connection": "certops_stand_in",
            "ansible_gone_file": str(self.folder / f"{name}.gone"),
            "ansible_remote_tmp": str(self.folder / name),
        }
        if "goes_away" in state:
            variables["ansible_goes_away"] = "true"
        if state.pop("lost", False):
            variables.update(ansible_connection="ssh", ansible_host="127.0.0.1", ansible_port="1", ansible_ssh_retries="0")
        for group in groups:
            self.inventory.setdefault(group, {"hosts": {}})["hosts"][name] = variables
        content = {"certificates": certificates, "health": ["healthy"], "calls": [], "validity": None, **state}
        (self.folder / f"{name}.json").write_text(json.dumps(content))

    def change(self, name: str, **state: t.Any) -> None:
        """Let a node be otherwise from now on."""
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **state}))

    def state(self, name: str) -> dict[str, t.Any]:
        """What a node is like now."""
        return t.cast("dict[str, t.Any]", json.loads((self.folder / f"{name}.json").read_text()))

    def calls(self, name: str) -> list[str]:
        """The modules that were called on a node, in turn."""
        return [call["module"] for call in self.state(name)["calls"]]

    def play(self, playbook: str, *arguments: str, report_dir: bool = True, **extra: t.Any) -> subprocess.CompletedProcess[str]:
        """Run a playbook with extra variables; unless told, its reports go to `self.reports`."""
        variables = {**({"certs_report_dir": str(self.reports)} if report_dir else {}), **extra}
        command = self._command("-e", json.dumps(variables), playbook, *arguments)
        environment = self._environment()
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def step(self, playbook: str, left_out: t.Collection[str]) -> str:
        """Run a playbook step by step and leave out the tasks whose names end so; its output."""
        command = self._command("--step", "-e", json.dumps({"certs_report_dir": str(self.reports)}), playbook)
        said = b""
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=self._environment(),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as running:
            to, of = t.cast("tuple[t.IO[bytes], t.IO[bytes]]", (running.stdin, running.stdout))
            answered = False  # after each answer ansible-playbook shows the question once more, as a headline
            while True:
                letter = of.read(1)
                said += letter
                if not letter:
                    return said.decode()
                if not said.endswith(QUESTION):
                    continue
                if not answered:
                    task = said[: -len(QUESTION)].decode()
                    to.write(b"n\n" if task.endswith(tuple(left_out)) else b"y\n")
                answered = not answered

    def _command(self, *arguments: str) -> list[str]:
        inventory = self.folder / "inventory.json"
        inventory.write_text(json.dumps({"all": {"children": self.inventory}}))
        interpreter = f"ansible_python_interpreter={self.interpreter}"  # the controller's own one, too
        return [sys.executable, str(HERE / "playbook.py"), "-i", str(inventory), "-e", interpreter, *arguments]

    def _environment(self) -> dict[str, str]:
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PYTEST_"))},
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder),
            "ANSIBLE_CONNECTION_PLUGINS": str(HERE / "connection"),
            "ANSIBLE_ASYNC_DIR": str(self.folder / "async"),  # its default is not the same twice where HOME is not the user's own
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_SHOW_CUSTOM_STATS": "1",
            "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
            "ANSIBLE_PIPELINING": "1",
            **what_runs_share(),
        }

    def report(self) -> dict[str, t.Any]:
        """The newest JSON report."""
        newest = max(self.reports.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        return t.cast("dict[str, t.Any]", json.loads(newest.read_text()))


def copy_of(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy a file or a folder, if it is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    elif source.exists():
        shutil.copy(source, target)


@functools.lru_cache(maxsize=None)
def what_runs_share() -> dict[str, str]:
    """What there is once for all runs of this process, as variables for them: a folder, and a process that modules are run by."""
    kept = tempfile.mkdtemp(prefix="certops-stand-in-")
    atexit.register(shutil.rmtree, kept)
    shared = {
        "CERTOPS_KEPT": kept,
        "CERTOPS_INTERPRETERS": str(HERE / "interpreters.py"),
        "CERTOPS_INTERPRETERS_SOCKET": f"{kept}/interpreters",
    }
    command = [sys.executable, shared["CERTOPS_INTERPRETERS"], "--listen", shared["CERTOPS_INTERPRETERS_SOCKET"]]
    # It ends with this process, whose end of the pipe nobody else has.
    interpreters = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(interpreters.communicate)
    assert interpreters.stdout is not None
    assert interpreters.stdout.readline(), "the interpreters do not start"
    return shared
