# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One sandbox node, with a worker on it that runs modules; and what brings it to the same beginning for each case."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import typing as t
from dataclasses import dataclass
from pathlib import Path

import judge
from judge import STATE, File, Files

HERE = Path(__file__).resolve().parent
SANDBOX = HERE.parent / "sandbox" / "sandbox.py"
OLDER, OLD = "older", "old"  # the runs that are there when a case begins


@dataclass(frozen=True)
class Strike:
    """What happens at the nth call of this kind: an error by its number, once or from then on; or, without, SIGKILL."""

    call: str
    nth: int
    error: int | None = None
    lasting: bool = False

    def __str__(self) -> str:
        what = "SIGKILL" if self.error is None else os.strerror(self.error) + (" from then on" if self.lasting else "")
        return "%s at %s#%d" % (what, self.call, self.nth)


@dataclass(frozen=True)
class Run:
    """What came of a run of a module."""

    output: str
    result: dict[str, t.Any] | None
    killed: bool
    calls: list[str]
    struck: list[str]
    exposed: list[str]
    cpu_seconds: float
    log: str  # strace's

    @property
    def failed(self) -> bool:
        """Whether it ended as a failed task would."""
        return self.result is None or bool(self.result.get("failed"))

    @property
    def message(self) -> str:
        """What it says of its failure."""
        return str(self.result.get("msg", "")) if self.result else self.output


@dataclass(frozen=True)
class Observation:
    """The node's processes: by component, which of them see an old kubeconfig, which certificates are served."""

    processes: dict[str, int]
    stale: list[str]
    served: dict[str, str]


class Lane:
    """A node; its cases come one after the other."""

    def __init__(self, directory: Path, tree: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        self._tree = tree
        self._worker: subprocess.Popen[str] | None = None
        self.processes: dict[str, int] = {}  # as they were when the last run began
        self._known: dict[str, tuple[tuple[int, ...], File]] = {}

    def up(self) -> None:
        """Make the node and start the worker."""
        self._known.clear()
        self._sandbox("down")
        visible = ["--visible", str(self._tree), "--visible", str(HERE)]
        self._sandbox("up", "--keys", "ec", "--python", sys.executable, *visible)
        environment = ["env", "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH=%s" % self._tree]
        command = [sys.executable, str(SANDBOX), "exec", "--dir", str(self.directory), "--", *environment]
        self._worker = subprocess.Popen(
            [*command, sys.executable, str(HERE / "worker.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()
        self.processes = self.observe().processes

    def down(self) -> None:
        """Delete the node."""
        if self._worker is not None and self._worker.stdin is not None:
            self._worker.stdin.close()
            self._worker.wait(30)
        self._sandbox("down")

    def _sandbox(self, command: str, *argv: str) -> None:
        done = subprocess.run(
            [sys.executable, str(SANDBOX), command, "--dir", str(self.directory), *argv],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError("sandbox %s: exit %d\n%s%s" % (command, done.returncode, done.stdout, done.stderr))

    def _ask(self, deed: str, **values: t.Any) -> dict[str, t.Any]:
        assert self._worker is not None
        assert self._worker.stdin is not None
        self._worker.stdin.write(json.dumps({"do": deed, **values}) + "\n")
        self._worker.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, t.Any]:
        assert self._worker is not None
        assert self._worker.stdout is not None
        line = self._worker.stdout.readline()
        if not line:
            raise RuntimeError("the worker in %s has ended (exit %s)" % (self.directory, self._worker.wait()))
        return dict(json.loads(line))

    def run(
        self,
        module: str,
        args: t.Mapping[str, t.Any],
        strikes: t.Sequence[Strike] = (),
        supervised: bool = False,
        traced: bool = False,
    ) -> Run:
        """Run a module on the node; supervised: its calls are told, and struck at; traced: strace tells of it."""
        self._forget_back_off()
        told = [dataclasses.asdict(strike) for strike in strikes]
        return Run(**self._ask("run", module=module, args=dict(args), strikes=told, supervised=supervised or bool(strikes), traced=traced))

    def observe(self) -> Observation:
        """Look at the node's processes."""
        return Observation(**self._ask("observe"))

    def _forget_back_off(self) -> None:
        """A component that was stopped twice within ten minutes is started later each time: not what is tried here."""
        processes = self.observe().processes
        if processes != self.processes:
            self._ask("forget_back_off")
            self.processes = processes

    def files(self) -> Files:
        """Everything on the node that a run might have written."""
        return judge.read_node(self.root, self._known)

    def _at(self, path: str) -> Path:
        return self.root / path[1:]

    def tidy(self) -> None:
        """Two finished runs lie in the folder of runs, always by the same names: the last good one, and the first one as an older one."""
        runs = self._at(STATE + "runs")
        if {path.name for path in runs.iterdir()} == {OLDER, OLD}:
            return
        good = [run["run_id"] for run in judge.journals(self.files()) if run["state"] == "committed" and run["files"]]
        kept = self.directory / "kept"
        if not kept.exists():
            shutil.copytree(runs / good[0], kept / OLDER)
            _rename(kept / OLDER, good[0], OLDER, "2001-01-01T00:00:00Z")
        (runs / good[0]).rename(kept / OLD)
        shutil.rmtree(runs)
        runs.mkdir(0o700)
        shutil.copytree(kept / OLDER, runs / OLDER)
        (kept / OLD).rename(runs / OLD)
        _rename(runs / OLD, good[0], OLD, "2002-01-01T00:00:00Z")


def _rename(folder: Path, old: str, new: str, started_at: str) -> None:
    """Let a run's journal say that it is another one."""
    journal = folder / "journal.json"
    text = journal.read_text().replace("/runs/%s/" % old, "/runs/%s/" % new)
    journal.write_text(json.dumps({**json.loads(text), "run_id": new, "started_at": started_at}))
