# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the gates, or a command in their environment.

run.py full             everything that must pass, real clusters included
run.py fast             the inner loop: no cluster
run.py long             what takes too long to be part of "full"
run.py NAME...          single gates, by name
run.py --exec CMD...    a command with the controller's tools and the collections' tree
run.py --fuzz ARGS...   fuzz by hand, see tests/fuzz/README.md
run.py --tree           make the tree, and say how to use it
run.py --clean          remove what runs from this checkout left in the cache, but for environments that others share
"""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import subprocess
import sys
import threading
import time
import typing as t

from environment import COLLECTION, TREE, WORK, Missing, controller_environment, materialise_tree
from gates import (
    ALONE,
    BESIDE,
    FAST,
    FIRST,
    IN_CI,
    LAB,
    LAB_GATE,
    LOGS,
    LONG,
    REAL_CLUSTER,
    Failed,
    Gate,
    Shell,
    Skipped,
    fuzz_python,
)

SHOWN_OF_A_LOG = 60  # lines


class Outcome(t.NamedTuple):
    """What came of a gate."""

    gate: Gate
    result: str  # passed | FAILED | skipped
    reason: str
    seconds: float


def run_gate(gate: Gate, environment: dict[str, str]) -> Outcome:
    """Run one gate; what it says goes to its log, the end of it to the terminal when it fails."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{gate.name.replace(',', '').replace(' ', '-')}.log"
    log.write_text("")
    print(f"  {gate.name} …", flush=True)
    begin = time.monotonic()
    result, reason = "passed", ""
    try:
        gate.check(Shell(log, environment))
    except Skipped as skipped:
        result, reason = ("FAILED" if IN_CI else "skipped"), str(skipped)
    except (Failed, RuntimeError, OSError) as failure:
        result, reason = "FAILED", str(failure)
    seconds = time.monotonic() - begin
    print(f"{'✔' if result == 'passed' else '✘'} {gate.name}: {result} after {seconds:.0f} s {reason}", flush=True)
    if result == "FAILED":
        lines = log.read_text(errors="replace").splitlines()
        print("\n".join(f"    {line}" for line in [f"(the end of {log})", *lines[-SHOWN_OF_A_LOG:]]), flush=True)
    return Outcome(gate, result, reason, seconds)


def run_in_lanes(gates: t.Iterable[Gate], environment: dict[str, str]) -> list[Outcome]:
    """Two at a time, for two cores; in their order."""
    with concurrent.futures.ThreadPoolExecutor(2) as lanes:
        return list(lanes.map(lambda gate: run_gate(gate, environment), gates))


def run_full(environment: dict[str, str]) -> list[Outcome]:
    """The lab is built beside what needs no cluster; then one cluster after the other beside the rest; then the largest ones alone."""
    with concurrent.futures.ThreadPoolExecutor(2) as lanes:
        lab = lanes.submit(run_gate, LAB_GATE, environment)
        first = [lanes.submit(run_gate, gate, environment) for gate in FIRST]
        clusters = lanes.submit(lambda: [run_on_lab(lab, gate, environment) for gate in REAL_CLUSTER])
        beside = [lanes.submit(run_gate, gate, environment) for gate in BESIDE]
    alone = [run_on_lab(lab, gate, environment) for gate in ALONE]
    subprocess.run([LAB, "docker-down"], check=False)
    return [lab.result(), *(run.result() for run in first), *clusters.result(), *(run.result() for run in beside), *alone]


def run_on_lab(lab: concurrent.futures.Future[Outcome], gate: Gate, environment: dict[str, str]) -> Outcome:
    """A gate that needs a real cluster, if there can be one."""
    if lab.result().result == "passed":
        return run_gate(gate, environment)
    return Outcome(gate, lab.result().result, f"no lab: {lab.result().reason}", 0)


def show_table(outcomes: list[Outcome]) -> None:
    """One line for each gate, and the line that sums up."""
    width = max(len(outcome.gate.name) for outcome in outcomes)
    print(f"\n{'gate':<{width}}  {'result':<8}{'seconds':>8}")
    for outcome in outcomes:
        print(f"{outcome.gate.name:<{width}}  {outcome.result:<8}{outcome.seconds:>8.0f}  {outcome.reason[:150]}")
    counts = {result: sum(outcome.result == result for outcome in outcomes) for result in ("passed", "FAILED", "skipped")}
    print(f"\n{counts['passed']} passed, {counts['FAILED']} failed, {counts['skipped']} skipped", flush=True)


def heartbeat(stop: threading.Event) -> None:
    """A line a minute, so that a long gate does not look like a hang."""
    begin = time.monotonic()
    while not stop.wait(60):
        print(f"  … {(time.monotonic() - begin) / 60:.0f} min", flush=True)


def run_gates(names: list[str]) -> int:
    """The exit code of a run of all, the fast, or some gates."""
    stop = threading.Event()
    threading.Thread(target=heartbeat, args=(stop,), daemon=True).start()
    materialise_tree()
    environment = controller_environment()
    if names == ["full"]:
        outcomes = run_full(environment)
    elif names == ["fast"]:
        outcomes = run_in_lanes(FAST, environment)
    elif names == ["long"]:
        outcomes = run_in_lanes(LONG, environment)
    else:
        known = {gate.name: gate for gate in (*FIRST, *BESIDE, LAB_GATE, *REAL_CLUSTER, *ALONE, *FAST, *LONG)}
        unknown = [name for name in names if name not in known]
        if unknown:
            sys.exit(f"no such gate: {', '.join(unknown)}; there are: {', '.join(known)}")
        outcomes = run_in_lanes([known[name] for name in names], environment)
    stop.set()
    show_table(outcomes)
    return int(any(outcome.result == "FAILED" for outcome in outcomes))


def show_tree() -> int:
    """How to use the collection from the clone; the text is also what a shell evaluates."""
    materialise_tree()
    print(f"# a copy of the checkout as it is now: run this again after a change\nexport ANSIBLE_COLLECTIONS_PATH={TREE}")
    if not shutil.which("ansible-playbook"):
        print(f"export PATH={controller_environment()['PATH'].split(os.pathsep)[0]}:$PATH")
    print("# then, for example: ansible-playbook -i inventory playbooks/rotate.yml --check --diff")
    return 0


def main(arguments: list[str]) -> int:
    """The exit code of what was asked for."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    if arguments == ["--tree"]:
        return show_tree()
    if arguments == ["--clean"]:
        shutil.rmtree(WORK, ignore_errors=True)
        return 0
    if arguments[0] == "--exec":
        materialise_tree()
        return subprocess.run(arguments[1:], cwd=COLLECTION, env=controller_environment(), check=False).returncode
    if arguments[0] == "--fuzz":
        materialise_tree()
        environment = {**os.environ, "PYTHONPATH": str(TREE), "PYTHONHASHSEED": "0"}
        return subprocess.run([fuzz_python(), "tests/fuzz/run.py", *arguments[1:]], cwd=COLLECTION, env=environment, check=False).returncode
    return run_gates(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Missing, RuntimeError) as problem:
        sys.exit(f"{problem}")
    except KeyboardInterrupt:
        sys.exit(130)
