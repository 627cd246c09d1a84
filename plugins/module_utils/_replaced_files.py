# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Files that root alone decides about, in a node's transaction: backed up, and put back."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._files import (
    MissingFile,
    attributes_of,
    backup_file,
    explain,
    read_bounded,
    remove_leftover,
    replace_file,
    sync_directory,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import ReplacedFile, sha256
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import NewFile


class LostBackup(CertopsError):
    """A backup is not what the journal says: no later run can put it back either."""


def back_up(file: NewFile, backup_root: str) -> ReplacedFile:
    """Copy what will be replaced under `backup_root`. Raises CertopsError."""
    try:
        found = attributes_of(file.path)
    except MissingFile:
        return ReplacedFile(file.path, None, None, sha256(file.data), 0o600, os.geteuid(), os.getegid())
    copy = backup_file(file.path, backup_root)
    return ReplacedFile(file.path, copy, sha256(read_bounded(copy)), sha256(file.data), found.mode, found.uid, found.gid)


def sha_of(path: str) -> str | None:
    """The hash of a file's content; None when nothing is there. Raises CertopsError."""
    try:
        return sha256(read_bounded(path))
    except MissingFile:
        return None


def restore(file: ReplacedFile) -> str | None:
    """Put one file back; returns a note when it was left alone because somebody else changed it. Raises CertopsError."""
    remove_leftover(file.path)
    now = sha_of(file.path)
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
    replace_file(file.path, data, file.attributes)
    return None


def _remove(path: str) -> None:
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sync_directory(os.path.dirname(path))
    except OSError as error:
        raise explain(error, "remove", path) from error


__all__ = ("LostBackup", "back_up", "restore", "sha_of")
