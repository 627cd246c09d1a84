# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Files of users, and copies of root's, in a node's transaction: backed up, replaced and put back, those of users with their rights.

Their owners may change or exchange them at any moment. So what cannot be done to one of them is a note, and never keeps the node from
going forward, or back.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._files import (
    Attributes,
    explain,
    make_private_directory,
    read_bounded,
    sync_directory,
    write_new,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import ReplacedFile, sha256
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._places import Place, read_place, replace_in_place
from ansible_collections.certops.kubernetes.plugins.module_utils._replacement import CHANGED, back_up, put_if_unchanged, restore
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import shown_sentence

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import NewFile


def back_up_users(file: NewFile, backup_root: str) -> ReplacedFile:
    """Copy a user's file under `backup_root`, for root alone. Raises CertopsError."""
    seen = read_place(Place(file.path, file.by))
    copy = os.path.join(backup_root, file.path.lstrip("/"))
    make_private_directory(os.path.dirname(copy))
    try:
        write_new(copy, seen.data, Attributes(0o600, os.geteuid(), os.getegid()))
        sync_directory(os.path.dirname(copy))
    except OSError as error:
        raise explain(error, "back up %s to" % file.path, copy) from error
    known = seen.attributes
    return ReplacedFile(file.path, copy, sha256(seen.data), sha256(file.data), known.mode, known.uid, known.gid, by=file.by)


def back_up_copy(file: NewFile, backup_root: str) -> ReplacedFile:
    """Copy a copy of a kubeconfig, a user's or root's own, under `backup_root`. Raises CertopsError, also when it is not as it was read."""
    replaced = back_up(file, backup_root) if file.by is None else back_up_users(file, backup_root)
    if file.made_from not in (None, replaced.sha256_before):
        raise CertopsError(CHANGED % file.path)
    return replaced


def replace_copy(replaced: ReplacedFile, data: bytes) -> str | None:
    """Put new content in a user's file, or in a copy of root's; returns a note when it was left as it is."""
    if replaced.by is not None:
        return replace_users(replaced, data)
    try:
        put_if_unchanged(replaced, data)
    except CertopsError as error:
        return left_as_it_is(replaced.path, str(error))
    return None


def restore_copy(replaced: ReplacedFile) -> str | None:
    """Put a user's file, or a copy of root's, back; returns a note when it was left as it is."""
    if replaced.by is not None:
        return restore_users(replaced)
    try:
        return restore(replaced)
    except CertopsError as error:
        return left_as_it_is(replaced.path, str(error))


def with_mates(path: str, together: t.Iterable[frozenset[str]]) -> frozenset[str]:
    """The files that are of use only all together, as a certificate and its key, among them this one."""
    found = frozenset((path,))
    while True:
        more = found.union(*(files for files in together if files & found))
        if more == found:
            return found
        found = more


def put_back_with(replaced: ReplacedFile, path: str) -> str:
    """Put a file back that was written, since its mate at `path` could not be; returns a note."""
    problem = restore_copy(replaced)
    if problem is None:
        return shown_sentence("The copy %s was put back as it was: it is of no use without %s." % (replaced.path, path))
    return shown_sentence("%s Then it may not belong to %s any more. Remedy: its owner copies the original again." % (problem, path))


def without_half_written(files: t.Sequence[ReplacedFile]) -> tuple[tuple[ReplacedFile, ...], dict[str, str]]:
    """Of a run that was killed while it wrote: unless all users' files are new, none stays so, since some belong together.

    Returns the files that are new, and notes by path.
    """
    users = [file for file in files if file.by is not None]
    if all(map(holds_users, users)):
        return tuple(files), {}
    notes = {file.path: restore_users(file) for file in users}
    return tuple(file for file in files if file.by is None), {path: note for path, note in notes.items() if note is not None}


def replace_users(replaced: ReplacedFile, data: bytes) -> str | None:
    """Put new content in a user's file; returns a note when it was left as it is."""
    try:
        replace_in_place(Place(replaced.path, replaced.by), data, str(replaced.sha256_before))
    except CertopsError as error:
        return left_as_it_is(replaced.path, str(error))
    return None


def restore_users(replaced: ReplacedFile) -> str | None:
    """Put a user's file back, if it still is as the run left it; returns a note when it was left as it is."""
    place = Place(replaced.path, replaced.by)
    try:
        if sha256(read_place(place).data) == replaced.sha256_before:
            return None
        data = read_bounded(str(replaced.backup))
        if sha256(data) != replaced.sha256_before:
            raise CertopsError("Its backup %s is damaged. Remedy: its owner copies the original again." % replaced.backup)
        replace_in_place(place, data, str(replaced.sha256_after))
    except CertopsError as error:
        return left_as_it_is(replaced.path, str(error))
    return None


def holds_users(replaced: ReplacedFile) -> bool:
    """Whether a user's file still is as the run left it."""
    try:
        return sha256(read_place(Place(replaced.path, replaced.by)).data) == replaced.sha256_after
    except CertopsError:
        return False


def left_as_it_is(path: str, why: str) -> str:
    """The note, on one line: names in a user's files are as that user wants them."""
    return shown_sentence("The copy %s was left as it is. %s" % (path, why))


__all__ = (
    "back_up_copy",
    "back_up_users",
    "holds_users",
    "left_as_it_is",
    "put_back_with",
    "replace_copy",
    "restore_users",
    "with_mates",
    "without_half_written",
)
