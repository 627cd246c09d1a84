# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Back up, replace and put back what a run writes: files, and symbolic links whose content is where they lead."""

from __future__ import annotations

import contextlib
import errno
import os
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._files import (
    Attributes,
    MissingFile,
    attributes_of,
    backup_file,
    explain,
    make_private_directory,
    read_bounded,
    remove_leftover,
    replace_file,
    sha256,
    sync_directory,
    temporary_name,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import ReplacedFile
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import NewFile


CHANGED = "%s was changed by somebody else while this run prepared. Remedy: run again."


class LostBackup(CertopsError):
    """A backup is not what the journal says: no later run can put it back either."""


def content(path: str, link: bool) -> bytes:
    """What is in a file, or where a link leads (what is in the file that lies in a link's place). Raises MissingFile or CertopsError."""
    if not link:
        return read_bounded(path)
    try:
        return os.fsencode(os.readlink(path))
    except FileNotFoundError as error:
        raise MissingFile("There is no link %s." % path) from error
    except OSError as error:
        if error.errno == errno.EINVAL:
            return read_bounded(path)
        raise explain(error, "read the link", path) from error


def content_hash(path: str, link: bool) -> str | None:
    """The same as SHA-256; None when nothing is there. Raises CertopsError."""
    try:
        return sha256(content(path, link))
    except MissingFile:
        return None


def holds(file: ReplacedFile, wanted: str | None) -> bool:
    """Whether what lies there has this hash (None: nothing lies there); what cannot be read has not."""
    try:
        return content_hash(file.path, file.link) == wanted
    except CertopsError:
        return False


def back_up(file: NewFile, backup_root: str) -> ReplacedFile:
    """Copy what is about to be replaced, and say how to put it back. Raises CertopsError."""
    new = None if file.gone else sha256(file.data)
    if file.link:
        try:
            before = content(file.path, link=True)
        except MissingFile:
            return ReplacedFile(file.path, None, None, new, 0o777, os.geteuid(), os.getegid(), link=True)
        copy = os.path.join(backup_root, file.path.lstrip("/"))
        make_private_directory(os.path.dirname(copy))
        replace_file(copy, before, Attributes(0o600, os.geteuid(), os.getegid()))
        return ReplacedFile(file.path, copy, sha256(before), new, 0o777, os.geteuid(), os.getegid(), link=True)
    try:
        found = attributes_of(file.path)
    except MissingFile:
        return ReplacedFile(file.path, None, None, new, 0o600, os.geteuid(), os.getegid())
    copy = backup_file(file.path, backup_root)
    return ReplacedFile(file.path, copy, sha256(read_bounded(copy)), new, found.mode, found.uid, found.gid)


def put(file: ReplacedFile, data: bytes) -> None:
    """Put new content in its place, atomically and durably; or remove it, if that is what is to be. Raises CertopsError."""
    if file.sha256_after is None:
        _remove(file.path)
    else:
        _replace(file, data)


def _replace(file: ReplacedFile, data: bytes) -> None:
    if not file.link:
        replace_file(file.path, data, file.attributes)
        return
    temporary = temporary_name(file.path)
    try:
        _unlink(temporary)  # what a killed run left
        os.symlink(os.fsdecode(data), temporary)
        os.replace(temporary, file.path)
        sync_directory(os.path.dirname(file.path))
    except OSError as error:
        with contextlib.suppress(OSError):
            _unlink(temporary)
        raise explain(error, "replace the link", file.path) from error


def put_if_unchanged(file: ReplacedFile, data: bytes) -> None:
    """The same, unless something else lies there than what was backed up. Raises CertopsError."""
    if content_hash(file.path, file.link) != file.sha256_before:
        raise CertopsError(CHANGED % file.path)
    put(file, data)


def restore(file: ReplacedFile) -> str | None:
    """Put one back; returns a note when it was left alone because somebody else changed it. Raises CertopsError."""
    _remove_leftover(file)
    now = content_hash(file.path, file.link)
    if now == file.sha256_before:
        return None
    if now not in (file.sha256_after, None):
        return "%s was changed by somebody else meanwhile and was left as it is" % file.path
    if file.backup is None:
        _remove(file.path)
        return None
    try:
        data = read_bounded(file.backup)
    except MissingFile as error:
        raise LostBackup("the backup %s is gone" % file.backup) from error
    if sha256(data) != file.sha256_before:
        raise LostBackup("the backup %s is damaged (its hash is not the one in the journal)" % file.backup)
    _replace(file, data)
    return None


def way_back(files: t.Sequence[ReplacedFile]) -> list[ReplacedFile]:
    """The order in which files are put back. What names a link was written after it, and where a link leads may be a file that goes."""
    last = max((number for number, file in enumerate(files) if file.link), default=-1)
    before = files[: last + 1]
    return [*files[last + 1 :], *(file for file in before if file.link), *(file for file in before if not file.link)]


def _remove_leftover(file: ReplacedFile) -> None:
    if not file.link:
        remove_leftover(file.path)
    elif os.path.lexists(temporary_name(file.path)):
        _remove(temporary_name(file.path))


def _remove(path: str) -> None:
    try:
        _unlink(path)
        sync_directory(os.path.dirname(path))
    except OSError as error:
        raise explain(error, "remove", path) from error


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


__all__ = ("CHANGED", "LostBackup", "back_up", "content", "content_hash", "holds", "put", "put_if_unchanged", "restore", "way_back")
