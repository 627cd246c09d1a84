# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kill a rotation at every system call that changes the file system, let each of them fail, and see that nothing is ever lost."""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import errno
import queue
import shutil
import sys
import time
import typing as t
from pathlib import Path

import case
import judge
from case import Verdict
from lane import Lane, Strike
from scenarios import KUBELETS, Recovery, Rollback, Rotation, Scenario

Case = t.Tuple[Scenario, Strike, bool]
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
SIGNALS = ("kill#", "pidfd_send_signal#")
KILL, FAIL, DIE = "kill", "fail", "die"
STATES = ("applying", "applied", "rolling_back")


def parts(part: str, rotation: tuple[str, ...]) -> list[tuple[Scenario, tuple[str, ...]]]:
    """What is struck, and with what. `rotation`: the calls of an undisturbed one."""
    recoveries = [Recovery(found, rotation) for found in STATES]
    kubelet = Rotation(KUBELETS)
    known: dict[str, list[tuple[Scenario, tuple[str, ...]]]] = {
        "test": [
            *((Rotation(), (KILL, FAIL)), (Rollback(), (KILL,))),
            *((recovery, (KILL,)) for recovery in recoveries),
            (kubelet, (KILL,)),
        ],
        "errors": [(Rotation(), (DIE,)), (Rollback(), (FAIL, DIE)), *((recovery, (FAIL, DIE)) for recovery in recoveries)],
        "always": [(Rotation(restart="always"), (KILL, FAIL))],
        "everything": [(Rotation(judge.NAMES), (KILL,))],
    }
    return known[part]


def plan(lane: Lane, part: str) -> tuple[list[Case], list[Verdict]]:
    """All cases, from what an undisturbed run of each scenario does."""
    calls, verdict = case.undisturbed(lane, Rotation())
    verdicts = [verdict]
    if shutil.which("strace"):
        verdicts.append(case.compared_with_strace(lane, calls))
    else:
        print("faults: not compared with what strace sees: there is no strace here", flush=True)
    cases: list[Case] = []
    for scenario, strikes in parts(part, tuple(calls)):
        if scenario != Rotation():
            calls, verdict = case.undisturbed(lane, scenario)
            verdicts.append(verdict)
        # Of the kubelet's, what happens to all others is tried with these.
        own = [call for call in calls if judge.KUBELET in call] if scenario.names == KUBELETS else calls
        cases += cases_of(scenario, own, strikes)
    return cases, verdicts


def cases_of(scenario: Scenario, calls: t.Sequence[str], strikes: t.Sequence[str]) -> t.Iterator[Case]:
    """One case for each call and what may happen there; after every other call the next run is planned as if nobody had looked since."""
    for number, call in enumerate(calls):
        text, _hash, nth = call.rpartition("#")
        if KILL in strikes:
            yield scenario, Strike(text, int(nth)), number % 2 == 1
        if call.startswith(SIGNALS):
            continue
        if FAIL in strikes:
            for error in ERRORS:
                yield scenario, Strike(text, int(nth), error, lasting=error == errno.ENOSPC), number % 2 == 1
        if DIE in strikes:
            yield scenario, Strike(text, int(nth), errno.EIO, lasting=True), number % 2 == 1


def work(lane: Lane, cases: queue.SimpleQueue[Case | None], verdicts: queue.SimpleQueue[Verdict]) -> None:
    """Try cases until there are no more. A node that a case has spoilt is replaced."""
    while True:
        one = cases.get()
        if one is None:
            return
        try:
            verdict = case.struck(lane, *one)
        except Exception as error:
            verdict = Verdict("%s: %s" % (one[0].name, one[1]), ["%s: %s" % (type(error).__name__, error)])
        verdicts.put(verdict)
        if verdict.problems:
            lane.down()
            lane.up()
            prime(lane)


def prime(lane: Lane) -> None:
    """A first rotation, so that there is a run to go back to."""
    first = Rotation().run(lane, [])
    if first.failed:
        raise RuntimeError("the first rotation failed: %s" % first.message)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path, help="where ansible_collections lies")
    parser.add_argument("directory", type=Path, help="where the nodes are made; they are deleted at the end")
    parser.add_argument("--lanes", type=int, default=8, help="nodes at the same time; they mostly wait (%(default)s)")
    parser.add_argument("--part", choices=["test", "errors", "always", "everything"], default="test", help="README.md tells (%(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases that have this in their name")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    begin = time.monotonic()
    lanes = [Lane(args.directory / ("lane-%d" % number), args.tree) for number in range(args.lanes)]
    with concurrent.futures.ThreadPoolExecutor(len(lanes)) as pool:
        try:
            list(pool.map(Lane.up, lanes))
            list(pool.map(prime, lanes))
            print("faults: %d nodes after %.0f s" % (len(lanes), time.monotonic() - begin), flush=True)
            cases, verdicts = plan(lanes[0], args.part)
            cases = [one for one in cases if args.only in "%s: %s" % (one[0].name, one[1])]
            for verdict in verdicts:
                show(verdict)
            verdicts += try_all(pool, lanes, cases)
        finally:
            list(pool.map(Lane.down, lanes))
    report(verdicts, time.monotonic() - begin)
    return int(any(verdict.problems for verdict in verdicts))


def show(verdict: Verdict) -> None:
    """What was wrong with a case."""
    for problem in verdict.problems:
        print("faults: %s: %s" % (verdict.case, problem), flush=True)


def try_all(pool: concurrent.futures.Executor, lanes: t.Sequence[Lane], cases: t.Sequence[Case]) -> list[Verdict]:
    """Try the cases, each on the next node that is free; say now and then how far it is."""
    waiting: queue.SimpleQueue[Case | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[Verdict] = queue.SimpleQueue()
    for one in (*cases, *[None] * len(lanes)):
        waiting.put(one)
    workers = [pool.submit(work, lane, waiting, done) for lane in lanes]
    verdicts: list[Verdict] = []
    begin = said = time.monotonic()
    while len(verdicts) < len(cases):
        for ended in [worker for worker in workers if worker.done()]:
            ended.result()  # raises what ended it too early
        with contextlib.suppress(queue.Empty):
            verdicts.append(done.get(timeout=5))
            show(verdicts[-1])
        if time.monotonic() - said > 15:
            said = time.monotonic()
            wrong = sum(bool(one.problems) for one in verdicts)
            print("faults: %d of %d cases, %d wrong, %.0f s" % (len(verdicts), len(cases), wrong, said - begin), flush=True)
    return verdicts


def report(verdicts: t.Sequence[Verdict], seconds: float) -> None:
    """How each scenario's runs ended, and the sum in one line."""
    kinds = collections.Counter((verdict.case.partition(":")[0], verdict.ended) for verdict in verdicts)
    for (scenario, ended), number in sorted(kinds.items()):
        print("faults: %-50s %-12s %5d" % (scenario, ended, number))
    kills = sum("SIGKILL" in verdict.case for verdict in verdicts)
    undisturbed = sum("undisturbed" in verdict.case for verdict in verdicts)
    torn = sum(verdict.torn for verdict in verdicts)
    wrong = sum(bool(verdict.problems) for verdict in verdicts)
    cpu = sum(verdict.cpu_seconds for verdict in verdicts)
    print(
        "faults: %d kill points, %d errors tried; %d of these left what did not fit together until the next run; lost or inconsistent: %d"
        " (%.0f s, of which the runs had %.0f s of CPU)" % (kills, len(verdicts) - kills - undisturbed, torn, wrong, seconds, cpu)
    )


if __name__ == "__main__":
    sys.exit(main())
