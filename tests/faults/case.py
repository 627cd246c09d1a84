# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One case: a run that is struck at one call, the run after it, and one more; and everything that must be true of each."""

from __future__ import annotations

import errno
import re
import typing as t
from dataclasses import dataclass, field

import judge
import strace
from durability import undurable
from judge import Files, Identity
from lane import Lane, Run, Strike
from scenarios import LAST, NEXT, Rotation, Scenario

NOTHING_CHANGED = ("Nothing was changed", "Refused, nothing was changed")
REMEDY = re.compile(r"Remedy: |look at that path")


@dataclass
class Verdict:
    """What came of a case."""

    case: str
    problems: list[str] = field(default_factory=list)
    ended: str = ""  # how the struck run ended
    torn: bool = False  # between the strike and the next run something did not fit together
    cpu_seconds: float = 0.0
    found: t.Collection[str] = ()  # the paths that were there before the struck run


def undisturbed(lane: Lane, scenario: Scenario) -> tuple[list[str], Verdict]:
    """The calls of a run that nothing happens to; it is judged like all others."""
    verdict = Verdict("%s, undisturbed" % scenario.name)
    calls = _try(lane, scenario, None, verdict)
    verdict.problems += undurable(calls, verdict.found)
    return calls, verdict


def compared_with_strace(lane: Lane, calls: t.Sequence[str]) -> Verdict:
    """Whether the filter hands over every call that changes a file, and nothing else."""
    lane.tidy()
    run = Rotation().traced(lane)
    problems = [run.message] if run.failed else strace.differences(run.log, calls)
    return Verdict("rotation, undisturbed, under strace", problems, _ending(run), cpu_seconds=run.cpu_seconds)


def struck(lane: Lane, scenario: Scenario, strike: Strike, stale_plan: bool) -> Verdict:
    """The same with a strike. `stale_plan`: what comes next was planned before it."""
    verdict = Verdict("%s: %s" % (scenario.name, strike))
    _try(lane, scenario, strike, verdict, stale_plan)
    return verdict


def _try(lane: Lane, scenario: Scenario, strike: Strike | None, verdict: Verdict, stale_plan: bool = False) -> list[str]:
    def hold(where: str, problems: t.Iterable[str]) -> None:
        verdict.problems += ["%s: %s" % (where, problem) for problem in problems]

    lane.tidy()
    origin = lane.files()
    server = judge.identity_of(origin, "apiserver")
    scenario.prepare(lane)
    found = lane.files()

    run = scenario.run(lane, [strike] if strike else [])
    left = lane.files()
    verdict.ended, verdict.found = _ending(run), found.keys()
    verdict.torn = bool(judge.inconsistent(left, server))
    hold("the struck run" if strike else "the run", [*run.exposed, *_problems_of_run(run, strike, found, left)])
    hold("after it", [*judge.exposed(left), *_lost(scenario, left, found)])

    verdict.cpu_seconds = run.cpu_seconds
    if strike and judge.same(left, origin) and lane.observe().processes == lane.processes:
        verdict.ended += ", as before"
        return run.calls  # any run after this one is the undisturbed one

    following = scenario.again(lane, NEXT, origin, stale_plan)
    repaired = lane.files()
    hold("the next run", [following.message] if following.failed else [])
    hold("after the next run", _faults(scenario, lane, repaired, origin, server))

    last = scenario.again(lane, LAST, origin, stale_plan=False)
    changed = last.failed or last.result is None or last.result["changed"]
    hold("the last run", ["it did something: %s" % (last.message or last.result)] if changed else [])
    hold("after the last run", judge.differences(lane.files(), repaired))
    verdict.cpu_seconds += following.cpu_seconds + last.cpu_seconds
    return run.calls


def _ending(run: Run) -> str:
    if run.killed:
        return "killed"
    if not run.failed:
        return "succeeded"
    if run.message.startswith(NOTHING_CHANGED):
        return "refused"
    return "rolled back" if run.result and run.result.get("rolled_back") else "failed"


def _problems_of_run(run: Run, strike: Strike | None, before: Files, after: Files) -> list[str]:
    """What the struck run says of itself, and whether that is true."""
    if strike is None:
        return [run.message] if run.failed else []
    problems = [] if run.struck else ["the call was not reached; it made %d calls" % len(run.calls)]
    if run.killed != (strike.error is None):
        problems.append("it was%s killed" % ("" if run.killed else " not"))
    if not run.killed and (run.result is None or "Traceback" in run.output):
        problems.append("it did not end with a sentence: %s" % run.output[-1500:])
    if run.failed and run.result is not None:
        if strike.error is not None and errno.errorcode[strike.error] not in run.message:
            problems.append("its message does not say what happened: %s" % run.message)
        if not REMEDY.search(run.message):
            problems.append("its message does not say what to do: %s" % run.message)
    if _ending(run) in ("refused", "rolled back"):
        problems += ["it says that it was %s, but %s is not as before" % (_ending(run), path) for path in judge.differences(after, before)]
    return problems


def _lost(scenario: Scenario, files: Files, before: Files) -> list[str]:
    """What no later run could repair: half a file, a file that is none of the run's, a backup that is gone."""
    ours = {path for name in scenario.names for path in judge.files_of(name)}
    temporary = re.compile(r"/\.[^/]+\.certops-new\Z")  # removed by the run that ends this one
    problems = ["%s was touched" % path for path in judge.differences(files, before, but=ours) if not temporary.search(path)]
    problems += ["%s is gone" % path for path in ours if path not in files]
    problems += ["%s ends in the middle" % path for path in ours if path in files and not _whole(files[path].data or b"")]
    problems += ["the backup %s is not what the journal says" % path for path in judge.lost_backups(files)]
    problems += ["%s has another mode or owner" % path for path in judge.other_modes(files, before) if not temporary.search(path)]
    return problems


def _whole(data: bytes) -> bool:
    return data.startswith((b"-----BEGIN ", b"apiVersion:")) and data.endswith(b"\n")


def _faults(scenario: Scenario, lane: Lane, files: Files, origin: Files, server: Identity) -> list[str]:
    """Everything that must be true of a node that is well."""
    ours = {path for name in scenario.names for path in judge.files_of(name)}
    seen = lane.observe()
    problems = [*judge.inconsistent(files, server), *judge.exposed(files), *scenario.unmet(files, origin)]
    problems += ["%s was left" % path for path in judge.leftovers(files, origin)]
    problems += ["%s was touched" % path for path in judge.differences(files, origin, but=ours)]
    problems += ["%s has another mode or owner" % path for path in judge.other_modes(files, origin)]
    problems += ["the run %s is unfinished" % run for run in judge.unfinished(files)]
    problems += ["the backup %s is not what the journal says" % path for path in judge.lost_backups(files)]
    problems += ["%s is not what the component sees" % name for name in seen.stale]
    problems += [
        "%s is not what is served" % name
        for name in ("apiserver", "etcd/server")
        if seen.served.get(name) != judge.identity_of(files, name).certificate.decode().strip()
    ]
    return problems


__all__ = ("Verdict", "compared_with_strace", "struck", "undisturbed")
