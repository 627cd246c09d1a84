# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The transaction on one node: back up, replace, activate, prove, and commit or put everything back.

Each step is in the journal before it begins, so that a run that is stopped anywhere can be ended by the next one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils import _journal as journaling
from ansible_collections.certops.kubernetes.plugins.module_utils import _restarts as restarting
from ansible_collections.certops.kubernetes.plugins.module_utils._in_memory_restarts import prove_restarts
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Item, Journal, ReplacedFile, StateFolder, Touched
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_switches import is_setting, prove_settings
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import API_SERVER, ETCD
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._proof import Proof, disk_problem, prove_item
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import ACTIVATE, RENEW, RESTART, NewFile
from ansible_collections.certops.kubernetes.plugins.module_utils._replacement import (
    LostBackup,
    back_up,
    put_if_unchanged,
    restore,
    way_back,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._users_files import (
    back_up_copy,
    left_as_it_is,
    put_back_with,
    replace_copy,
    restore_users,
    with_mates,
    without_half_written,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node, Record
    from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import NodeAccess

_POLL_SECONDS = 0.25


class NodeNotRestored(CertopsError):
    """The way back could not be proven; `files_restored` says whether at least every file is as before."""

    def __init__(self, message: str, journal: Journal, files_restored: bool) -> None:
        """Keep what is known about the run and its files beside the message."""
        super().__init__(message)
        self.journal = journal
        self.files_restored = files_restored


@dataclasses.dataclass(frozen=True)
class Limits:
    """How long is waited, in seconds."""

    reload: float = 10.0  # for a component that reloads by itself
    proof: float = 120.0  # until everything is proven and the node is healthy
    stability: float = 2.0  # that a restarted process must last


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a transaction ended. `cause` is None when it was committed."""

    journal: Journal
    proofs: tuple[Proof, ...] = ()
    cause: str | None = None


class Transaction:
    """Carries one journal from state to state."""

    def __init__(self, access: NodeAccess, state: StateFolder, limits: Limits, stop_requested: t.Callable[[], str | None]) -> None:
        """`stop_requested` names the signal that asked us to end, or is None."""
        self._access = access
        self._state = state
        self._limits = limits
        self._stop_requested = stop_requested
        self._worked_before: set[str] = set()  # certificates whose way was seen to work before the change
        self.left: dict[str, str] = {}  # path of a user's file, or of a copy, that was left as it is -> why
        self.together: t.Sequence[frozenset[str]] = ()  # paths of copies' files that are of use only all together
        self.unwell_before: t.Mapping[str, str] = {}  # checks of the node that may fail after the change, because they did before

    def prepare(self, journal: Journal, files: t.Sequence[NewFile]) -> Journal:
        """Copy what will be replaced, then write the journal. Nothing is changed yet. Raises CertopsError."""
        replaced = [self._back_up(file, self._backup_root(journal)) for file in files]
        kept = tuple(file for file in replaced if file is not None and file.path not in self.left)
        return self._state.save(dataclasses.replace(journal, state=journaling.PREPARED, files=kept))

    def _back_up(self, file: NewFile, backup_root: str) -> ReplacedFile | None:
        if not file.may_be_left:
            return back_up(file, backup_root)
        try:
            return back_up_copy(file, backup_root)
        except CertopsError as error:
            self._leave(file.path, left_as_it_is(file.path, str(error)), ())
            return None

    def run(self, journal: Journal, files: t.Sequence[NewFile]) -> Outcome:
        """From `prepared` to the end: committed, or put back. Raises NodeNotRestored when even that could not be proven."""

        node = self._access.discover()
        for item in journal.items:
            way = self._access.client_proof(node, item.name, str(item.before["fingerprint_sha256"]))
            if way.in_use == "true":
                self._worked_before.add(item.name)

        def forward() -> Outcome:
            return self._forward(self._apply(journal, files))

        return self._or_back(journal, forward)

    def renewed_on_disk(self, journal: Journal) -> tuple[str, ...]:
        """The certificates of a run that lie on disk as the run wanted them, whole."""
        with contextlib.suppress(CertopsError):
            node = self._access.discover()
            renewed = (item for item in journal.items if item.action == RENEW)
            return tuple(item.name for item in renewed if disk_problem(node, item, str(item.after["fingerprint_sha256"])) is None)
        return ()

    def carry_forward(self, journal: Journal) -> Outcome:
        """End a run whose files are all in place."""
        files = journal.files
        if journal.state == journaling.APPLYING:
            files, notes = without_half_written(files)
            self.left.update(notes)
        return self._or_back(journal, lambda: self._forward(dataclasses.replace(journal, files=files)))

    def _or_back(self, journal: Journal, forward: t.Callable[[], Outcome]) -> Outcome:
        try:
            return forward()
        except CertopsError as error:
            return self.put_back(self._latest(journal), str(error))
        except Exception as error:
            # A defect of ours: the node is put back all the same, then the defect is shown as it is.
            self.put_back(self._latest(journal), "%s in the rotation itself" % type(error).__name__)
            raise

    def _latest(self, journal: Journal) -> Journal:
        """How far the journal on disk is; when it cannot be read, what is known of it has all that the way back needs."""
        with contextlib.suppress(CertopsError):
            return self._state.load(journal.run_id)
        return journal

    def _apply(self, journal: Journal, files: t.Sequence[NewFile]) -> Journal:
        journal = self._go_to(journal, journaling.APPLYING)
        contents = {file.path: file.data for file in files}
        copies = {file.path for file in files if file.may_be_left}
        for index, replaced in enumerate(journal.files):
            signal_name = self._stop_requested()
            if signal_name is not None:
                raise CertopsError("The run was asked to end (%s) before everything was written." % signal_name)
            if replaced.path in copies:
                note = None if replaced.path in self.left else replace_copy(replaced, contents[replaced.path])
                if note is not None:
                    self._leave(replaced.path, note, journal.files[:index])
            else:
                put_if_unchanged(replaced, contents[replaced.path])
        # What was left is nothing that this run could put back.
        written = tuple(file for file in journal.files if file.path not in self.left)
        return self._go_to(dataclasses.replace(journal, files=written), journaling.APPLIED)

    def _leave(self, path: str, note: str, written: t.Sequence[ReplacedFile]) -> None:
        """Leave a file as it is, and what is of no use without it: of a certificate and its key both are the old ones, or both new."""
        mates = with_mates(path, self.together)
        self.left[path] = note
        for mate in sorted(mates - self.left.keys()):
            self.left[mate] = left_as_it_is(mate, "It is of no use without %s." % path)
        self.left.update({file.path: put_back_with(file, path) for file in written if file.path in mates})

    def _note(self, replaced: ReplacedFile, note: str | None) -> None:
        if note is not None:
            self.left[replaced.path] = note

    def _forward(self, journal: Journal) -> Outcome:
        expected = {item.name: str(item.after["fingerprint_sha256"]) for item in journal.items}
        journal = self._activate(self._go_to(journal, journaling.ACTIVATING), journal.items, journal.restart)
        journal = self._go_to(journal, journaling.PROVING)
        in_files = tuple(item for item in journal.items if _is_of_a_file(item))
        proofs = self._prove(journal, in_files, expected, journal.restart)
        settings = tuple(item for item in journal.items if is_setting(item.name))
        if settings:
            proofs = (*proofs, *prove_settings(self._access, journal, settings, self._worked_before, self._limits.proof))
        in_memory = tuple(item for item in journal.items if item.action == RESTART)
        restarted, shown = prove_restarts(self._access, in_memory, self._limits.proof)
        journal = dataclasses.replace(journal, items=(*in_files, *settings, *restarted))
        return Outcome(self._finish(journal, journaling.COMMITTED), (*proofs, *shown))

    def _activate(self, journal: Journal, items: t.Sequence[Item], restart: str) -> Journal:
        """Restart what must be for these items, and what should have reloaded by itself and is shown not to have."""
        node, records = self._look()
        decided = restarting.decide(journal.components, items, node, records, restart)
        journal = self._state.save(dataclasses.replace(journal, components=decided))
        if restart == restarting.NEVER:
            return journal
        journal = self._restart_pending(journal)
        stale = self._wait_for_reload(items)
        if not stale:
            return journal
        because = "was shown not to have %%s %g s after the change" % self._limits.reload
        journal = self._state.save(dataclasses.replace(journal, components=restarting.force(journal.components, stale, because)))
        return self._restart_pending(journal)

    def _restart_pending(self, journal: Journal) -> Journal:
        """One after the other; but where an API server and its etcd both have to go, etcd goes while the API server takes no requests."""

        def pending(name: str) -> bool:
            return any(touched.name == name and touched.action == restarting.PENDING for touched in journal.components)

        def restart(name: str, meanwhile: t.Callable[[], object] | None = None) -> None:
            nonlocal journal
            result = self._access.restart(self._access.discover(), name, meanwhile)
            components = tuple(
                dataclasses.replace(
                    touched,
                    action=restarting.RESTARTED,
                    away_seconds=result.away_seconds,
                    leaderless_seconds=result.leaderless_seconds,
                )
                if touched.name == name
                else touched
                for touched in journal.components
            )
            journal = self._state.save(dataclasses.replace(journal, components=components))

        if pending(ETCD) and pending(API_SERVER):
            restart(API_SERVER, lambda: restart(ETCD))
        for name in restarting.ORDER:
            if pending(name):
                restart(name)
        return journal

    def _wait_for_reload(self, items: t.Sequence[Item]) -> dict[str, list[str]]:
        """What is still shown not to have the new certificates when the time is over."""
        deadline = self._access.monotonic() + self._limits.reload
        while True:
            stale = restarting.still_stale(items, self._look()[1])
            if not stale or self._access.monotonic() > deadline:
                return stale
            self._access.sleep(_POLL_SECONDS)

    def _prove(
        self, journal: Journal, items: t.Sequence[Item], expected: dict[str, str], restart: str, tolerated: t.Sequence[str] = ()
    ) -> tuple[Proof, ...]:
        """Wait until everything is proven. Raises CertopsError with what could not be proven in time."""
        deadline = self._access.monotonic() + self._limits.proof
        before = self._restarted_processes(journal)
        while True:
            node, records = self._look()
            for item in items:
                problem = disk_problem(node, item, expected[item.name])
                if problem:
                    raise CertopsError("The change of %s is not proven: %s." % (item.name, problem))
            proofs = tuple(prove_item(self._access, node, records, item, expected[item.name]) for item in items)
            problems = self._problems(journal, node, proofs, restart, tolerated)
            if not problems:
                break
            if self._access.monotonic() > deadline:
                raise CertopsError("Not proven within %g s: %s." % (self._limits.proof, "; ".join(problems)))
            self._access.sleep(_POLL_SECONDS)
        if before:
            self._check_stability(before)
        return proofs

    def _problems(self, journal: Journal, node: Node, proofs: t.Sequence[Proof], restart: str, tolerated: t.Sequence[str]) -> list[str]:
        waiting = {touched.name for touched in journal.components if touched.action == restarting.PENDING} if restart == "never" else set()
        problems = []
        for proof in proofs:
            stale = [component for component, _reload, in_use, _proof in proof.readers if in_use == "false" and component not in waiting]
            if stale and restart != restarting.NEVER:
                problems.append("%s does not use the certificate %s that is on disk" % (" and ".join(stale), proof.name))
            elif not proof.readers and proof.in_use == "false":
                problems.append(proof.message or "%s is not accepted" % proof.name)
            elif proof.in_use == "unknown" and proof.name in self._worked_before:
                problems.append(
                    "what uses %s worked before the change and does not now (%s)" % (proof.name, proof.message or "no reason given")
                )
        # What expired and is none of this run's business (the kubelet's own, for example) is the same before and after.
        planned = [*self._access.expired(node, sorted(node.credentials)), *tolerated, *(journal.names if waiting else ())]
        health = self._access.health(node, planned)
        worse = [check.message for check in health.checks if not check.ok and check.name not in self.unwell_before]
        if health.verdict == "unhealthy" and worse:
            problems.append("the node is not healthy: %s" % "; ".join(worse))
        return problems

    def _restarted_processes(self, journal: Journal) -> dict[str, tuple[int, int] | None]:
        node = self._access.discover()
        names = [touched.name for touched in journal.components if touched.action == restarting.RESTARTED]
        return {name: restarting.process_of(node, name) for name in names}

    def _check_stability(self, before: dict[str, tuple[int, int] | None]) -> None:
        self._access.sleep(self._limits.stability)
        node = self._access.discover()
        for name, process in before.items():
            if process is not None and restarting.process_of(node, name) != process:
                raise CertopsError("%s was restarted and ended again by itself (process %d). Remedy: look at its log." % (name, process[0]))

    def put_back(self, journal: Journal, cause: str) -> Outcome:
        """Restore every file, restart what must be, and prove it. Raises NodeNotRestored."""
        if journal.state != journaling.ROLLING_BACK:
            journal = self._begin_way_back(journal, cause)
        try:
            files = way_back([file for file in journal.files if file.by is None])
            notes = [note for note in map(restore, files) if note]
        except LostBackup as error:
            raise self._not_restored(journal, "not every file could be put back (%s)" % error, files_restored=False) from error
        except CertopsError as error:
            # By the journal this run has not ended: the next one ends it.
            raise NodeNotRestored(
                "%s Then not every file could be put back (%s). Backups are in %s. Remedy: cure the cause, then run again: the new run ends"
                " this one first." % (journal.cause, error, self._backup_root(journal)),
                journal,
                files_restored=False,
            ) from error
        for file in journal.files:
            if file.by is not None:
                self._note(file, restore_users(file))
        try:
            journal, proofs = self._prove_way_back(self._state.save(journal))
            journal = self._finish(journal, journaling.ROLLED_BACK)
        except CertopsError as error:
            on_disk = "; ".join(notes) or "each is verified to be as before"
            raise self._not_restored(
                journal,
                "the node's files were rolled back (%s), but the node is not proven to be as before (%s)" % (on_disk, error),
                files_restored=not notes,
            ) from error
        return Outcome(journal, proofs, "; ".join([str(journal.cause), *notes]))

    def _begin_way_back(self, journal: Journal, cause: str) -> Journal:
        """Note the way back, with the processes that run now. Neither a journal nor a node that cannot be read keeps us from it."""
        node = None
        with contextlib.suppress(CertopsError):
            node = self._access.discover()
        components = tuple(
            Touched(touched.name, restarting.NONE, "", process=restarting.process_of(node, touched.name) if node else None)
            for touched in journal.components
        )
        journal = dataclasses.replace(journal, state=journaling.ROLLING_BACK, cause=cause, components=components)
        with contextlib.suppress(CertopsError):
            self._state.save(journal)
        return journal

    def _prove_way_back(self, journal: Journal) -> tuple[Journal, tuple[Proof, ...]]:
        """The files are proven by their hashes. What was broken on disk before is so again: no process is asked to read it."""
        node = self._access.discover()
        in_files = [item for item in journal.items if _is_of_a_file(item)]
        items = tuple(item for item in in_files if disk_problem(node, item, str(item.before["fingerprint_sha256"])) is None)
        # A component that went for the sake of what it has in memory is only to be there again.
        back = tuple(dataclasses.replace(item, action=ACTIVATE) for item in journal.items if item.action == RESTART)
        settings = tuple(item for item in journal.items if is_setting(item.name))
        expected = {item.name: str(item.before["fingerprint_sha256"]) for item in items}
        journal = self._activate(journal, (*items, *settings, *back), restarting.AUTO)
        # As before, not better than before: what had expired when the run began has expired again.
        return journal, self._prove(journal, items, expected, restarting.AUTO, tolerated=journal.names)

    def _not_restored(self, journal: Journal, why: str, files_restored: bool) -> NodeNotRestored:
        with contextlib.suppress(CertopsError):
            journal = self._finish(journal, journaling.FAILED)
        return NodeNotRestored(
            "%s Then %s. Backups are in %s. Remedy: cure the cause, then run again; or copy the backups back by hand."
            % (journal.cause or "The run failed.", why, self._backup_root(journal)),
            journal,
            files_restored,
        )

    def _backup_root(self, journal: Journal) -> str:
        return os.path.join(self._state.folder(journal.run_id), "backup")

    def _look(self) -> tuple[Node, t.Sequence[Record]]:
        node = self._access.discover()
        return node, self._access.inspect(node)

    def _go_to(self, journal: Journal, state: str) -> Journal:
        return self._state.save(dataclasses.replace(journal, state=state))

    def _finish(self, journal: Journal, state: str) -> Journal:
        return self._state.save(dataclasses.replace(journal, state=state, finished_at=iso(self._access.now())))


def _is_of_a_file(item: Item) -> bool:
    """Whether it is a certificate that lies on disk."""
    return item.action != RESTART and not is_setting(item.name)


__all__ = ("Limits", "NodeNotRestored", "Outcome", "Transaction")
