# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is struck at: a rotation, a rollback, and a run that ends what an earlier one was killed in."""

from __future__ import annotations

import errno
import typing as t
from dataclasses import dataclass

import judge
from judge import Files
from lane import OLD, Lane, Run, Strike

# One of each kind: a pair whose reader reloads it, a kubeconfig whose reader must be restarted. More of them make no new kind of call.
FEW = ("apiserver", "scheduler.conf")
# Its link is another kind of call. The cluster signs it, and its kubelet is restarted.
KUBELETS = (judge.KUBELET,)
RUN, KILLED, NEXT, LAST = "run", "killed", "next", "last"
_KEEP = {"keep_backups": 2}


class Scenario(t.Protocol):
    """Something that a run does. `origin` is the node before the scenario began."""

    @property
    def name(self) -> str: ...

    @property
    def names(self) -> tuple[str, ...]:
        """The credentials that it changes."""

    def prepare(self, lane: Lane) -> None:
        """Bring the node to where the struck run begins."""

    def run(self, lane: Lane, strikes: t.Sequence[Strike]) -> Run:
        """The run that is struck."""

    def again(self, lane: Lane, run_id: str, origin: Files, stale_plan: bool) -> Run:
        """What a user does next."""

    def unmet(self, files: Files, origin: Files) -> list[str]:
        """What is not as it should be when all is over."""


@dataclass(frozen=True)
class Rotation:
    """These certificates are renewed."""

    names: tuple[str, ...] = FEW
    restart: str = "auto"

    @property
    def name(self) -> str:
        """What it is called in the report."""
        if self.names == KUBELETS:
            return "rotation of the kubelet's certificate"
        what = "rotation" if self.names == FEW else "rotation of %d certificates" % len(self.names)
        return what if self.restart == "auto" else "%s with restart: %s" % (what, self.restart)

    def prepare(self, lane: Lane) -> None:
        """Nothing: the node is well."""

    def run(self, lane: Lane, strikes: t.Sequence[Strike]) -> Run:
        """The rotation, of a plan that was made just before."""
        return self._rotate(lane, RUN, _plan(lane.files(), self.names), strikes)

    def again(self, lane: Lane, run_id: str, origin: Files, stale_plan: bool) -> Run:
        """A rotation of what has not been renewed yet, or, with the plan from before the strike, of everything."""
        files = lane.files()
        due = [name for name in self.names if judge.fingerprint(files, name) == judge.fingerprint(origin, name)]
        plan = _plan(origin, self.names) if stale_plan and judge.unfinished(files) else _plan(files, due)
        return self._rotate(lane, run_id, plan, ())

    def traced(self, lane: Lane) -> Run:
        """The rotation under strace, with nothing else that looks at it."""
        return lane.run("certificate_rotation", self._args(RUN, _plan(lane.files(), self.names)), traced=True)

    def _rotate(self, lane: Lane, run_id: str, plan: list[dict[str, str]], strikes: t.Sequence[Strike]) -> Run:
        return lane.run("certificate_rotation", self._args(run_id, plan), strikes, supervised=run_id == RUN)

    def _args(self, run_id: str, plan: list[dict[str, str]]) -> dict[str, t.Any]:
        return {"run_id": run_id, "items": plan, "restart": self.restart, **_KEEP}

    def unmet(self, files: Files, origin: Files) -> list[str]:
        """Each certificate is another one, with another key."""
        old = [judge.identity_of(origin, name) for name in self.names]
        new = [judge.identity_of(files, name) for name in self.names]
        return [
            "%s was not renewed" % name
            for name, before, after in zip(self.names, old, new)
            if before.certificate == after.certificate or before.key == after.key
        ]


@dataclass(frozen=True)
class Rollback:
    """The backup of the run `old` is put back."""

    names: tuple[str, ...] = FEW
    name: str = "rollback"

    def prepare(self, lane: Lane) -> None:
        """Nothing: there always is a run to go back to."""

    def run(self, lane: Lane, strikes: t.Sequence[Strike]) -> Run:
        """The rollback."""
        return self._roll_back(lane, RUN, strikes)

    def again(self, lane: Lane, run_id: str, origin: Files, stale_plan: bool) -> Run:
        """The same rollback once more."""
        return self._roll_back(lane, run_id, ())

    def _roll_back(self, lane: Lane, run_id: str, strikes: t.Sequence[Strike]) -> Run:
        # One more is kept: a killed rollback and the next one must not push out what they go back to.
        args = {"run_id": OLD, "new_run_id": run_id, "keep_backups": 3}
        return lane.run("certificate_rollback", args, strikes, supervised=run_id == RUN)

    def unmet(self, files: Files, origin: Files) -> list[str]:
        """Each file is what the backup holds."""
        backup = judge.STATE + "runs/" + OLD + "/backup"
        paths = [path for name in self.names for path in judge.files_of(name)]
        return ["%s is not what the backup holds" % path for path in paths if files[path].data != origin[backup + path].data]


@dataclass(frozen=True)
class Recovery:
    """A run was killed in this state; another one ends it."""

    found: str  # applying | applied | rolling_back
    calls: tuple[str, ...]  # of an undisturbed rotation
    names: tuple[str, ...] = FEW

    @property
    def name(self) -> str:
        """What it is called in the report."""
        return "recovery of a run killed while %s" % self.found

    def prepare(self, lane: Lane) -> None:
        """Kill a rotation, each time anew: what it leaves is nothing that a test could make up."""
        args = {"run_id": KILLED, "items": _plan(lane.files(), self.names), **_KEEP}
        killed = lane.run("certificate_rotation", args, self._strikes())
        states = {journal["run_id"]: journal["state"] for journal in judge.journals(lane.files())}
        if not killed.killed or states.get(KILLED) != self.found:
            raise RuntimeError("the rotation could not be killed while %s: %s %s" % (self.found, states, killed.message))

    def _strikes(self) -> list[Strike]:
        replaced = [call for call in self.calls if call.startswith("rename " + judge.KUBERNETES)]
        after = self.calls[self.calls.index(replaced[-1]) :]
        # After the last file is in place, the journal is written twice: that it is so, and that components come next.
        _applied, activating = [call for call in after if call.startswith("openat ") and "journal.json" in call][:2]
        if self.found == "applying":
            return [_at(replaced[1])]  # the key is new, its certificate is not
        if self.found == "applied":
            return [_at(activating)]
        return [_at(activating, errno.EIO), _at(replaced[1], nth=2)]  # the key is old again, its certificate is not

    def run(self, lane: Lane, strikes: t.Sequence[Strike]) -> Run:
        """A run that has nothing of its own to do."""
        return self._recover(lane, RUN, strikes)

    def again(self, lane: Lane, run_id: str, origin: Files, stale_plan: bool) -> Run:
        """The same once more."""
        return self._recover(lane, run_id, ())

    def _recover(self, lane: Lane, run_id: str, strikes: t.Sequence[Strike]) -> Run:
        args = {"run_id": run_id, "items": [], **_KEEP}
        return lane.run("certificate_rotation", args, strikes, supervised=run_id == RUN)

    def unmet(self, files: Files, origin: Files) -> list[str]:
        """All is as before the killed run, or all is as that run wanted it."""
        if self.found == "applied":
            return Rotation(self.names).unmet(files, origin)
        return ["%s is not as it was" % path for path in judge.differences(files, origin)]


def _at(call: str, error: int | None = None, nth: int = 0) -> Strike:
    text, _hash, number = call.replace("/runs/%s" % RUN, "/runs/%s" % KILLED).rpartition("#")
    return Strike(text, nth or int(number), error)


def _plan(files: Files, names: t.Sequence[str]) -> list[dict[str, str]]:
    return [{"name": name, "fingerprint_sha256": judge.fingerprint(files, name)} for name in names]
