# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fuzz the readers of foreign bytes, one after the other, for a bounded time.

As a gate: few inputs, always the same ones on the same code, as long as the time suffices. By hand: any time, and a corpus that is kept.
With --replay inputs are only run: a corpus that was found here on another Python, with other libraries (that needs no atheris).
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import importlib
import io
import sys
import tempfile
import typing as t
from pathlib import Path

from ansible_collections.certops.kubernetes.tests.fuzz.process import Limits, Outcome, fuzz, prepare, replay

COLLECTION = "ansible_collections.certops.kubernetes"
GATE_SECONDS = 150
SHOWN = 40  # lines of what a failed target said


def main(arguments: t.Sequence[str]) -> int:
    """The exit code: 1 when anything was found, or when the harness finds nothing where there is something."""
    options = parse(arguments)
    if options.replay:
        target = load_targets().by_name(*options.target)
        prepare(target)
        return int(sum(replay(target, Path(path)) for path in options.replay) > 0)
    import atheris

    with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=[COLLECTION + ".plugins", "yaml"]):
        targets = load_targets()
    chosen = [targets.by_name(name) for name in options.target] or list(targets.TARGETS)
    with tempfile.TemporaryDirectory(prefix="certops-fuzz-") as scratch:
        for planted in targets.PLANTED:
            outcome = fuzz(planted, Path(scratch), Limits(60, 1000, 1))
            if not outcome.inputs:
                show(outcome)
                print("The harness does not see what was planted.")
                return 1
        return fuzz_all(chosen, Path(options.corpus or scratch), options)


def parse(arguments: t.Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="*", help="all without a name; targets.py has them")
    parser.add_argument("--seconds", type=int, help="for all targets together; without it at most %d, and few inputs" % GATE_SECONDS)
    parser.add_argument("--seed", type=int, default=1, help="of libFuzzer's random numbers (%(default)s)")
    parser.add_argument("--corpus", help="a folder where inputs are kept from run to run")
    parser.add_argument("--replay", action="append", help="only run a file, or the files of a folder, as inputs of the one target")
    return parser.parse_args(arguments)


def load_targets() -> t.Any:
    """Imported late, so that what it imports is instrumented where that is wanted."""
    return importlib.import_module(COLLECTION + ".tests.fuzz.targets")


def fuzz_all(chosen: t.Sequence[t.Any], place: Path, options: argparse.Namespace) -> int:
    """The exit code."""
    shares = sum(target.share for target in chosen)
    outcomes = []
    for target in chosen:
        seconds = (options.seconds or GATE_SECONDS) * target.share / shares
        runs = -1 if options.seconds else target.runs
        outcomes.append(fuzz(target, place, Limits(seconds, runs, options.seed)))
        show(outcomes[-1])
    figures = (sum(outcome.runs for outcome in outcomes), len(outcomes), sum(outcome.processor for outcome in outcomes))
    print("%d inputs of %d targets in %.0f s of the processor" % figures)
    return int(any(outcome.ended == "defect" or outcome.runs == 0 for outcome in outcomes))


def show(outcome: Outcome) -> None:
    """One line for a target; for one that failed what it said, and the input as something that can be pasted into a test."""
    figures = (outcome.name, outcome.runs, outcome.edges, outcome.processor, outcome.ended)
    print("%-16s %8d inputs %5d edges %6.1f s of the processor, ended by %s" % figures, flush=True)
    if outcome.ended == "defect" or outcome.runs == 0:
        print("\n".join("    " + line for line in outcome.said.splitlines()[-SHOWN:]))
    for path in outcome.inputs:
        print("    %s: base64 %s" % (path.name, base64.b64encode(path.read_bytes()).decode()), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
