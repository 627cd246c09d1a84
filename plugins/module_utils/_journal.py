# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What a run leaves on the node: the lock, and a folder per run with its journal and its backups.

The journal is replaced atomically before and after each step, so that whoever comes next knows how far a killed run came.
It holds paths, hashes and names, never key material.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import shutil
import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._documents import parse_json
from ansible_collections.certops.kubernetes.plugins.module_utils._files import (
    Attributes,
    MissingFile,
    explain,
    make_private_directory,
    read_bounded,
    replace_file,
    sha256,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

if t.TYPE_CHECKING:
    from collections.abc import Iterator

STATE_DIRECTORY = "/var/lib/certops"
JOURNAL_SCHEMA_VERSION = 1

PREPARED = "prepared"
APPLYING = "applying"
APPLIED = "applied"
ACTIVATING = "activating"
PROVING = "proving"
COMMITTED = "committed"
ROLLING_BACK = "rolling_back"
ROLLED_BACK = "rolled_back"
FAILED = "failed"

ROTATION = "rotation"
SETTINGS = "settings"  # a rotation, too, beside which what was renewed is kept
COPIES = "copies"  # a run that renews nothing, and makes copies of kubeconfigs valid
ROLLBACK = "rollback"

FINISHED_STATES = (COMMITTED, ROLLED_BACK, FAILED)
_STATES = (PREPARED, APPLYING, APPLIED, ACTIVATING, PROVING, ROLLING_BACK, *FINISHED_STATES)

_FACTS = ("subject", "serial", "not_before", "not_after", "fingerprint_sha256")
# By the annotations of the fields below, what JSON may have in them.
_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "bool": (bool,),
    "int | None": (int, type(None)),
    "float | None": (int, float, type(None)),
    "dict[str, t.Any]": (dict,),
}
_LARGEST_ID = 2**32 - 2
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}\Z")


@dataclass(frozen=True)
class ReplacedFile:
    """A file that a run replaces, and where its old content is. Paths are absolute, with symbolic links followed. `by`: as of a NewFile.

    Of a symbolic link that is replaced itself (`link`) the content is where it leads.
    """

    path: str
    backup: str | None  # None: there was no such file
    sha256_before: str | None
    sha256_after: str | None  # None: it is removed
    mode: int
    uid: int
    gid: int
    link: bool = False
    by: int | None = None

    @property
    def attributes(self) -> Attributes:
        """Owner and mode that it had."""
        return Attributes(self.mode, self.uid, self.gid)


@dataclass(frozen=True)
class Item:
    """A certificate that a run handles: `before` and `after` are subject, serial, dates and fingerprint, as JSON has them."""

    name: str
    action: str  # renew | activate | restart | restore | configure
    before: dict[str, t.Any]
    after: dict[str, t.Any]


@dataclass(frozen=True)
class Touched:
    """A component whose process may have to go: what the run found (`process`: PID and start ticks) and did."""

    name: str
    action: str  # none | restarted | pending
    because: str
    away_seconds: float | None = None
    leaderless_seconds: float | None = None
    process: tuple[int, int] | None = None


@dataclass(frozen=True)
class Journal:
    """How far a run came. Times are ISO 8601 in UTC."""

    run_id: str
    host: str
    started_at: str
    state: str
    restart: str  # auto | always | never
    kind: str = ROTATION
    finished_at: str | None = None
    cause: str | None = None  # why it was rolled back or failed
    files: tuple[ReplacedFile, ...] = ()
    items: tuple[Item, ...] = ()
    components: tuple[Touched, ...] = ()
    schema_version: int = JOURNAL_SCHEMA_VERSION

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its certificates."""
        return tuple(item.name for item in self.items)


class StateFolder:
    """The folder of locks, journals and backups on a node."""

    def __init__(self, path: str = STATE_DIRECTORY) -> None:
        """Remember where it is; nothing is made before it is needed."""
        self.path = path
        self.runs_path = os.path.join(path, "runs")

    def exists(self) -> bool:
        """Whether an earlier run left something here."""
        return os.path.isdir(self.path)

    @contextlib.contextmanager
    def lock(self, run_id: str, pid: int, now: str) -> Iterator[None]:
        """Hold the node for one run. Raises CertopsError, with who holds it, when another one does."""
        make_private_directory(self.path)
        path = os.path.join(self.path, "lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise explain(error, "open the lock", path) from error
        try:
            _take(descriptor, path)
            _sign(descriptor, path, "pid %d, run %s, since %s" % (pid, run_id, now))
            yield
            with contextlib.suppress(CertopsError):  # the run has ended; an old signature on a free lock misleads nobody
                _sign(descriptor, path, "")
        finally:
            os.close(descriptor)  # this is what lets the lock go, also when the process is killed

    def holder(self) -> str | None:
        """Who holds the lock now, as text; None when nobody does. Changes nothing."""
        try:
            descriptor = os.open(os.path.join(self.path, "lock"), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return _signature(descriptor)
        else:
            return None
        finally:
            os.close(descriptor)

    def folder(self, run_id: str) -> str:
        """The folder of a run."""
        return os.path.join(self.runs_path, run_id)

    def new_run_id(self, wanted: str) -> str:
        """A run id whose folder does not exist: the wanted one, or it with a number. Raises CertopsError when it is no name."""
        if not _RUN_ID.match(wanted):
            raise CertopsError("The run id %r cannot be a folder's name. Remedy: use letters, digits, '.', '_' and '-'." % wanted)
        candidate, number = wanted, 1
        while os.path.lexists(self.folder(candidate)):
            number += 1
            candidate = "%s-%d" % (wanted, number)
        return candidate

    def save(self, journal: Journal) -> Journal:
        """Write a journal, durably; returns it. Raises CertopsError."""
        folder = self.folder(journal.run_id)
        make_private_directory(folder)
        text = json.dumps(dataclasses.asdict(journal), indent=2, sort_keys=True) + "\n"
        replace_file(os.path.join(folder, "journal.json"), text.encode("utf-8"), Attributes(0o600, os.geteuid(), os.getegid()))
        return journal

    def load(self, run_id: str) -> Journal:
        """The journal of a run. Raises MissingFile or CertopsError."""
        path = os.path.join(self.folder(run_id), "journal.json")
        data = read_bounded(path)
        try:
            return _journal_from(parse_json(data, "it", paths=True), run_id)
        except (CertopsError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CertopsError(
                "The journal %s is damaged (%.300s): how far that run came is unknown. Remedy: compare the files in its backup folder"
                " with those on the node, put right what must be, then move the run's folder away." % (path, error),
            ) from error

    def journals(self) -> list[Journal]:
        """The journals of all runs, the newest first. Raises CertopsError when one is damaged."""
        found = []
        for name in self._folder_names():
            with contextlib.suppress(MissingFile):
                found.append(self.load(name))
        return sorted(found, key=lambda journal: (journal.started_at, journal.run_id), reverse=True)

    def unfinished(self) -> list[Journal]:
        """The runs that were stopped half-way, the oldest first (there is more than one only after a hand's work)."""
        return [journal for journal in reversed(self.journals()) if journal.state not in FINISHED_STATES]

    def unfinished_run_id(self) -> str | None:
        """The oldest run that was stopped half-way, or one whose journal is damaged; only reads, never raises. For inspections."""
        try:
            found = self.unfinished()
        except CertopsError:
            with contextlib.suppress(CertopsError):
                return next((name for name in self._folder_names() if self._is_damaged(name)), None)
            return None
        return found[0].run_id if found else None

    def _is_damaged(self, run_id: str) -> bool:
        try:
            self.load(run_id)
        except CertopsError as error:
            return not isinstance(error, MissingFile)
        return False

    def newest_rotation(self) -> Journal | None:
        """The last rotation that ended well and replaced files."""
        return next((one for one in self.journals() if one.state == COMMITTED and one.kind in (ROTATION, SETTINGS) and one.files), None)

    def discard_unborn(self) -> list[str]:
        """Remove folders without a journal: such a run was stopped before it changed anything, or half removed. Returns names."""
        names = [name for name in self._folder_names() if not os.path.lexists(os.path.join(self.folder(name), "journal.json"))]
        for name in names:
            self.discard(name)
        return names

    def retain(self, keep: int) -> list[str]:
        """Remove all but the `keep` newest runs; returns what was removed.

        Never removed: the last good rotation and rollback that have backups, and what failed since (its backup may be all there is).
        """
        removed = []
        good: set[str] = set()
        for index, journal in enumerate(self.journals()):
            is_last_good = journal.state == COMMITTED and bool(journal.files) and journal.kind not in good
            if is_last_good:
                good.add(journal.kind)
            if index < keep or is_last_good or (journal.state == FAILED and not good) or journal.state not in FINISHED_STATES:
                continue
            self.discard(journal.run_id)
            removed.append(journal.run_id)
        return removed

    def _folder_names(self) -> list[str]:
        try:
            names = os.listdir(self.runs_path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise explain(error, "list the runs in", self.runs_path) from error
        return sorted(name for name in names if _RUN_ID.match(name) and os.path.isdir(self.folder(name)))

    def discard(self, run_id: str) -> None:
        """Remove a run's folder, however much of it there is. Raises CertopsError."""
        folder = self.folder(run_id)
        try:
            # The journal first: a folder without one is removed by the next run, should this one be stopped here.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, "journal.json"))
            shutil.rmtree(folder)
        except OSError as error:
            raise explain(error, "remove the old run", folder) from error


def _take(descriptor: int, path: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CertopsError(
            "Another run of certops changes this node right now (%s; lock %s). Remedy: wait until it has ended, then run again."
            % (_signature(descriptor), path),
        ) from error
    except OSError as error:
        raise explain(error, "lock", path) from error


def _signature(descriptor: int) -> str:
    return os.pread(descriptor, 1000, 0).decode("utf-8", "replace").strip() or "its holder did not say who it is"


def _sign(descriptor: int, path: str, text: str) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode("utf-8"), 0)
    except OSError as error:
        raise explain(error, "write", path) from error


def _journal_from(document: dict[str, t.Any], run_id: str) -> Journal:
    if document["run_id"] != run_id:
        raise ValueError("it says that it is of run %r" % document["run_id"])
    if document["schema_version"] != JOURNAL_SCHEMA_VERSION:
        raise ValueError("schema_version %r is not known to this version" % document["schema_version"])
    if document["state"] not in _STATES:
        raise ValueError("state %r is not known" % document["state"])
    values = dict(document)
    values["files"] = tuple(_replaced_from(entry) for entry in document["files"])
    values["items"] = tuple(_item_from(entry) for entry in document["items"])
    values["components"] = tuple(_touched_from(entry) for entry in document["components"])
    return _checked(Journal(**values))


def _replaced_from(entry: dict[str, t.Any]) -> ReplacedFile:
    file = _checked(ReplacedFile(**entry))
    for path in (file.path, file.backup):
        if path is not None and (not os.path.isabs(path) or b"\0" in os.fsencode(path)):
            raise ValueError("%r is no absolute path" % path)
    if not (0 <= file.mode <= 0o7777 and all(0 <= number <= _LARGEST_ID for number in (file.uid, file.gid, file.by or 0))):
        raise ValueError("mode or owner of %s is out of range" % file.path)
    return file


def _item_from(entry: dict[str, t.Any]) -> Item:
    item = _checked(Item(**entry))
    for facts in (item.before, item.after):
        if not all(isinstance(facts[name], (str, type(None))) for name in _FACTS):
            raise TypeError("what it says of certificate %s is no text" % item.name)
    return item


def _touched_from(entry: dict[str, t.Any]) -> Touched:
    process = entry["process"]
    if process is not None:
        pid, ticks = process
        if {type(pid), type(ticks)} != {int}:
            raise TypeError("process %r is no pair of numbers" % process)
        process = (pid, ticks)
    return _checked(Touched(**dict(entry, process=process)))


_Entry = t.TypeVar("_Entry", Journal, ReplacedFile, Item, Touched)


def _checked(entry: _Entry) -> _Entry:
    for field in dataclasses.fields(entry):
        value = getattr(entry, field.name)
        allowed = _JSON_TYPES.get(str(field.type))
        if allowed is not None and type(value) not in allowed:
            raise TypeError("%s is %r" % (field.name, value))
    return entry


__all__ = (
    "ACTIVATING",
    "APPLIED",
    "APPLYING",
    "COMMITTED",
    "FAILED",
    "FINISHED_STATES",
    "JOURNAL_SCHEMA_VERSION",
    "PREPARED",
    "PROVING",
    "ROLLBACK",
    "ROLLED_BACK",
    "ROLLING_BACK",
    "ROTATION",
    "STATE_DIRECTORY",
    "Item",
    "Journal",
    "ReplacedFile",
    "StateFolder",
    "Touched",
    "sha256",
)
