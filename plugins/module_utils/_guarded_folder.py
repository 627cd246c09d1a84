# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""One file in a folder that may belong to somebody who is not root, such as a home folder, read and replaced by root.

Whoever owns a folder may exchange what is in it at any moment, also between a check and its use. So the way to the folder is walked once,
step by step from the root and along no symbolic link, and from then on everything happens in the very folder that was found: the kernel's
`/proc/self/fd/N` is it, wherever its name has gone. Nobody but the file's owner and root may have been able to lay that way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._files import Attributes, explain, put_in_place, read_open
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_A_LINK = (
    "%s is a symbolic link, and links are not followed where somebody else might have laid them. Remedy: give the path where it leads to."
)


@dataclass(frozen=True)
class GuardedFile:
    """A file by its open folder: `descriptor` is the folder's, `path` is what messages call the file."""

    path: str
    descriptor: int

    @property
    def _name(self) -> str:
        return os.path.basename(self.path)

    def read(self) -> tuple[bytes, Attributes] | None:
        """Content, and owner and mode (no labels); None when nothing is there. Raises CertopsError: a link, no regular file, too large."""
        try:
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._name, flags, dir_fd=self.descriptor)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CertopsError(_A_LINK % self.path) if error.errno == errno.ELOOP else explain(error, "read", self.path) from error
        try:
            found = os.fstat(descriptor)
            return read_open(descriptor, self.path), Attributes(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)
        finally:
            os.close(descriptor)

    def replace(self, data: bytes, wanted: Attributes) -> None:
        """Put new content in the file's place, atomically and durably, whether it was there or not. Raises CertopsError."""
        try:
            put_in_place("/proc/self/fd/%d/%s" % (self.descriptor, self._name), data, wanted)
        except OSError as error:
            raise explain(error, "write", self.path) from error


@contextlib.contextmanager
def guarded_file(path: str, owner: int) -> t.Iterator[GuardedFile]:
    """The file at an absolute path that is to belong to the user with this id; its folder must be there, the file need not.

    Raises CertopsError when a part of the path is a symbolic link, belongs to somebody who is neither this user nor root, or can be
    written by others. Only above the last folder may such a one be sticky, like `/tmp`.
    """
    if not path.startswith("/") or path.startswith("//") or os.path.normpath(path) != path or path == "/" or not _is_name(path):
        raise CertopsError("%r is no path to write to. Remedy: give an absolute one, without `.`, `..` and a slash at its end." % path)
    descriptor = _walk(path, owner)
    try:
        yield GuardedFile(path, descriptor)
    finally:
        os.close(descriptor)


def _is_name(path: str) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def _walk(path: str, owner: int) -> int:
    """An open descriptor of the folder of a path."""
    descriptor, walked = os.open("/", _FOLDER), "/"
    try:
        names = path.split("/")[1:-1]
        for name in names:
            _check(descriptor, walked, owner, sticky_is_enough=True)
            walked = os.path.join(walked, name)
            inner = _enter(descriptor, name, walked)
            os.close(descriptor)
            descriptor = inner
        _check(descriptor, walked, owner, sticky_is_enough=False)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _enter(descriptor: int, name: str, path: str) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=descriptor)
    except FileNotFoundError:
        raise CertopsError(
            "There is no folder %s. Remedy: make it (ansible.builtin.file), so that it belongs to whom the file is for." % path
        ) from None
    except OSError as error:
        with contextlib.suppress(OSError):
            if stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                raise CertopsError(_A_LINK % path) from None
        raise explain(error, "enter", path) from error


def _check(descriptor: int, path: str, owner: int, *, sticky_is_enough: bool) -> None:
    found = os.fstat(descriptor)
    if found.st_uid not in (0, owner):
        raise CertopsError(
            "%s belongs to the user with id %d, who could exchange what a file for the user with id %d is written to. "
            "Remedy: choose a folder of this user's or of root's, or set owner." % (path, found.st_uid, owner)
        )
    if found.st_mode & _OTHERS_WRITE and not (sticky_is_enough and found.st_mode & stat.S_ISVTX):
        raise CertopsError(
            "%s can be written by others than its owner (mode %04o), who could exchange what is written there. "
            "Remedy: chmod go-w %s, or choose another folder." % (path, stat.S_IMODE(found.st_mode), path)
        )


__all__ = ("GuardedFile", "guarded_file")
