# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One target in a process of its own, with limits of time and memory; or inputs that are given, in this one."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import re
import resource
import signal
import sys
import time
import typing as t
from pathlib import Path

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.tests.fuzz.targets import Target

MOST_MEMORY = 1024**3  # bytes of addresses: what takes more gets a MemoryError
MOST_RESIDENT = 512  # megabytes
HUNG = 120  # seconds for one input that even Python's signal handlers cannot end


class TookTooLong(BaseException):
    """An input kept the processor busy for too long. Nothing that lets exceptions pass lets this one pass."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """How long a target is fuzzed, and with which random numbers. `runs` is the most of them; -1: as many as there is time for."""

    seconds: float
    runs: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one target. `inputs` are those that failed."""

    name: str
    runs: int
    edges: int
    processor: float  # seconds
    said: str
    inputs: tuple[Path, ...]
    ended: str  # runs | time | defect


def fuzz(target: Target, place: Path, limits: Limits) -> Outcome:
    """Fuzz in a fork of this process, in which everything is imported and instrumented already, until a limit or a defect is met."""
    corpus, found = place / target.name, place / (target.name + ".found")
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds()):
        (corpus / ("seed-%03d" % number)).write_bytes(data)
    log = place / (target.name + ".log")
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _be_the_child(target, corpus, log, _options(target, found, place, limits))
    status, processor = _wait(child, limits.seconds + 2 * HUNG)
    said = log.read_text(errors="replace")
    inputs = tuple(sorted(path for path in found.iterdir() if not path.name.startswith("slow-unit")))
    counted = re.search(r"number_of_executed_units: (\d+)", said)
    runs = int(counted.group(1)) if counted else 0
    edges = re.findall(r" cov: (\d+) ", said)
    ended = "defect" if status or inputs else "runs" if runs >= limits.runs > 0 else "time"
    return Outcome(target.name, runs, int(edges[-1]) if edges else 0, processor, said, inputs, ended)


def _options(target: Target, found: Path, place: Path, limits: Limits) -> list[str]:
    options: dict[str, object] = {
        "seed": limits.seed,
        "runs": limits.runs,
        "max_total_time": max(1, round(limits.seconds)),
        "max_len": target.longest,
        "len_control": 0,
        "timeout": HUNG,
        "rss_limit_mb": MOST_RESIDENT,
        "artifact_prefix": "%s/" % found,
        "print_final_stats": 1,
    }
    if target.words:
        options["dict"] = place / (target.name + ".dict")
        lines = ('"%s"\n' % "".join("\\x%02x" % byte for byte in word.encode()) for word in target.words)
        (place / (target.name + ".dict")).write_text("".join(lines))
    return ["-%s=%s" % option for option in options.items()]


def _be_the_child(target: Target, corpus: Path, log: Path, options: t.Sequence[str]) -> t.NoReturn:
    """Does not return: libFuzzer ends the process."""
    import atheris

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        prepare(target)
        atheris.Setup([sys.argv[0], str(corpus), *options], lambda data: run(target, data))
        atheris.Fuzz()
    finally:
        # C's exit() calls what libFuzzer has registered, which writes the input; Python's would clean up what belongs to the parent too.
        sys.stdout.flush()
        sys.stderr.flush()
        ctypes.CDLL(None).exit(3)
    raise AssertionError("exit() returned")


def _wait(child: int, seconds: float) -> tuple[int, float]:
    """The exit status of a process, and the seconds of the processor that it used; one that does not end is ended."""
    deadline = time.monotonic() + seconds
    ended = 0
    while not ended:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        ended, status, used = os.wait4(child, 0 if time.monotonic() > deadline else os.WNOHANG)
        time.sleep(0.05)
    return status, used.ru_utime + used.ru_stime


def prepare(target: Target) -> None:
    """Once, before anything is run."""
    target.prepare()
    signal.signal(signal.SIGPROF, _stop)


def _stop(*_args: object) -> None:
    raise TookTooLong


def run(target: Target, data: bytes) -> None:
    """One input. Its time is counted in seconds of the processor, so that a busy machine does not matter."""
    signal.setitimer(signal.ITIMER_PROF, target.seconds)
    try:
        target.check(data)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def replay(target: Target, path: Path) -> int:
    """Run the inputs of a folder (or one file), and say which fail and how; returns how many."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    failed = 0
    for file in files:
        try:
            run(target, file.read_bytes())
        except (Exception, TookTooLong) as error:
            failed += 1
            print("%s failed: %s: %.300s" % (file, type(error).__name__, error))
    print("%d inputs of %s were run, %d failed" % (len(files), target.name, failed))
    return failed
