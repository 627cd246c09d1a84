# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Files of users in a node's transaction: backed up, replaced and put back with their owner's rights.

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
    """The note."""
    return "The copy %s was left as it is. %s" % (path, why)


__all__ = ("back_up_users", "holds_users", "left_as_it_is", "replace_users", "restore_users")
