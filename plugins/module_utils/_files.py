# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Files on the node: bounded reads, copies that nobody else can read, atomic replacement.

Every change goes through `os`, one system call each, so that a test can stop the process at any of them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

MAX_FILE_BYTES = 1024 * 1024

# What a new file takes over from the old one besides owner and mode: the SELinux label, and who else was let in.
_ACCESS_LIST = "system.posix_acl_access"
_KEPT_ATTRIBUTES = ("security.selinux", _ACCESS_LIST)

_REMEDIES = {
    errno.EACCES: "run as root (become: true), or look at the permissions of its directories",
    errno.EPERM: "run as root (become: true); if it already was root, the file may be immutable (lsattr) or kept by a security module",
    errno.ENOSPC: "make room on that file system, then run again",
    errno.EDQUOT: "raise the quota or make room, then run again",
    errno.EROFS: "the file system is mounted read-only: look at the kernel log for the cause, mount it writable, then run again",
    errno.EIO: "the disk reports an error: look at the kernel log before anything else",
    errno.ELOOP: "a symbolic link in its path points to itself: repair the link",
    errno.EISDIR: "a directory lies where a file is expected: move it away",
    errno.ENOTDIR: "a file lies where a directory is expected: move it away",
}


class MissingFile(CertopsError):
    """There is no such file."""


@dataclass(frozen=True)
class Attributes:
    """Who owns a file, who may read it, and the labels that go with it."""

    mode: int
    uid: int
    gid: int
    labels: tuple[tuple[str, bytes], ...] = ()


def sha256(data: bytes) -> str:
    """Lower-case hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def explain(error: OSError, attempt: str, path: str) -> CertopsError:
    """An operating system's error as a sentence: what was attempted, on which file, why it failed, what to do."""
    number = error.errno or 0
    remedy = _REMEDIES.get(number, "look at that path and run again")
    return CertopsError(
        "Cannot %s %s: %s (%s). Remedy: %s." % (attempt, path, os.strerror(number), errno.errorcode.get(number, "?"), remedy)
    )


def read_bounded(path: str, limit: int = MAX_FILE_BYTES) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises MissingFile when nothing is there, CertopsError for everything else that keeps it from being read.
    """
    try:
        # O_NONBLOCK: a named pipe in the file's place must not hold us.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise MissingFile("There is no file %s." % path) from error
        raise explain(error, "read", path) from error
    except ValueError as error:  # a NUL byte, or half of a surrogate pair
        raise CertopsError("Cannot read %r: it cannot be a path. Remedy: correct the file that names it." % path) from error
    try:
        return read_open(descriptor, path, limit)
    finally:
        os.close(descriptor)


def read_open(descriptor: int, path: str, limit: int = MAX_FILE_BYTES) -> bytes:
    """The same of a file that is open; `path` is what messages call it. Raises CertopsError."""
    try:
        return _read_all(descriptor, path, limit)
    except OSError as error:
        raise explain(error, "read", path) from error


def _read_all(descriptor: int, path: str, limit: int) -> bytes:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        what = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise CertopsError("Cannot read %s: it is %s. Remedy: put the file in its place." % (path, what))
    chunks: list[bytes] = []
    size = 0
    while size <= limit:
        chunk = os.read(descriptor, min(65536, limit + 1 - size))
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
        size += len(chunk)
    raise CertopsError(
        "Cannot read %s: it has more than %d bytes, so it is not what is expected there. Remedy: look at it." % (path, limit)
    )


def final_target(path: str) -> str:
    """The path with every symbolic link followed: the file to replace, so that the links stay.

    Never raises: a link that goes while it is followed (Python 3.9 and older stumble over it) leaves the path as it is.
    """
    try:
        return os.path.realpath(path)
    except OSError:
        return os.path.abspath(path)


def attributes_of(path: str) -> Attributes:
    """Owner, mode and labels of a file. Raises MissingFile or CertopsError."""
    try:
        found = os.stat(path)
    except FileNotFoundError as error:
        raise MissingFile("There is no file %s." % path) from error
    except OSError as error:
        raise explain(error, "look at", path) from error
    return Attributes(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, _labels_of(path))


def _labels_of(path: str) -> tuple[tuple[str, bytes], ...]:
    labels = []
    for name in _KEPT_ATTRIBUTES:
        # Absent, or a file system without such attributes: nothing to keep.
        with contextlib.suppress(OSError):
            labels.append((name, os.getxattr(path, name)))
    return tuple(labels)


def replace_file(path: str, data: bytes, fallback: Attributes | None = None) -> None:
    """Put new content in a file's place, atomically and durably: a reader sees the old or the new file, never a mixture.

    The new file keeps owner, mode and labels of the old one; `fallback` is for a file that has vanished (None: 0600, root's).
    A symbolic link stays, its target is replaced. Raises CertopsError: the old file is then there as it was (unless the very last
    step failed, making the rename durable), and no temporary file.
    """
    target = final_target(path)
    try:
        wanted = attributes_of(target)
    except MissingFile:
        wanted = fallback or Attributes(0o600, os.geteuid(), os.getegid())
    try:
        put_in_place(target, data, wanted)
    except OSError as error:
        raise explain(error, "write", path) from error


def put_in_place(target: str, data: bytes, wanted: Attributes) -> None:
    """Write a file beside `target` and rename it over that name, which may be taken or not. Raises OSError; see `replace_file`."""
    temporary = temporary_name(target)
    _remove_if_there(temporary)  # what a killed run left
    try:
        write_new(temporary, data, wanted)
        os.replace(temporary, target)
    except BaseException:
        _remove_if_there(temporary)
        raise
    sync_directory(os.path.dirname(target))


def temporary_name(target: str) -> str:
    """Where a file's successor is prepared: same directory (rename needs it), a leading dot (the kubelet skips such names)."""
    return os.path.join(os.path.dirname(target), ".%s.certops-new" % os.path.basename(target))


def write_new(path: str, data: bytes, wanted: Attributes) -> None:
    """Write a file that did not exist; it is 0600 from birth and gets its owner before its mode. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if (wanted.uid, wanted.gid) != _owner_of(descriptor):
            os.fchown(descriptor, wanted.uid, wanted.gid)
        _forget_inherited_list(descriptor)
        os.fchmod(descriptor, wanted.mode)
        for name, value in wanted.labels:
            _set_label(descriptor, name, value)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _owner_of(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_uid, found.st_gid


def _forget_inherited_list(descriptor: int) -> None:
    """A directory's default list names whom files that are born in it let in, as soon as their mode is more than 0600."""
    try:
        os.removexattr(descriptor, _ACCESS_LIST)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise


def _set_label(descriptor: int, name: str, value: bytes) -> None:
    with contextlib.suppress(OSError):
        if os.getxattr(descriptor, name) == value:  # born with the right one, as SELinux' policy mostly has it
            return
    os.setxattr(descriptor, name, value)


def remove_leftover(path: str) -> None:
    """Remove the unfinished successor of a file that a killed run left. Raises CertopsError."""
    temporary = temporary_name(final_target(path))
    try:
        _remove_if_there(temporary)
    except OSError as error:
        raise explain(error, "remove", temporary) from error


def _remove_if_there(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def sync_directory(path: str) -> None:
    """Make a rename or a new name in a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private_directory(path: str) -> None:
    """Make a directory, its parents too, that only its owner enters (0700); one that is there already is narrowed to it.

    Raises CertopsError.
    """
    try:
        _make_private_directory(path)
    except OSError as error:
        raise explain(error, "make the directory", path) from error


def _make_private_directory(path: str) -> None:
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        _make_private_directory(parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
            os.chmod(path, 0o700)
        return
    os.chmod(path, 0o700)  # whatever the umask left of it
    sync_directory(parent)


def backup_file(path: str, backup_root: str) -> str:
    """Copy a file (never a hard link: that breaks the next reload of it) under `backup_root`, by its own path, 0600.

    Returns the copy's path. Raises MissingFile or CertopsError.
    """
    data = read_bounded(path)
    copy = os.path.join(backup_root, path.lstrip("/"))
    make_private_directory(os.path.dirname(copy))
    try:
        _remove_if_there(copy)
        write_new(copy, data, Attributes(0o600, os.geteuid(), os.getegid()))
        sync_directory(os.path.dirname(copy))
    except OSError as error:
        raise explain(error, "back up %s to" % path, copy) from error
    return copy


def room_problem(directory: str, needed_bytes: int, needed_files: int) -> str | None:
    """Why so much cannot be written there (read-only, full), as a sentence; None when it can. `directory` need not exist yet."""
    while not os.path.isdir(directory) and directory != os.path.dirname(directory):
        directory = os.path.dirname(directory)
    try:
        found = os.statvfs(directory)
    except OSError as error:
        return str(explain(error, "look at the file system of", directory))
    if found.f_flag & os.ST_RDONLY:
        return str(explain(OSError(errno.EROFS, ""), "write to", directory))
    root = os.geteuid() == 0
    free_bytes = found.f_frsize * (found.f_bfree if root else found.f_bavail)
    if free_bytes < needed_bytes:
        return "Cannot write to %s: %d bytes are free, %d are needed. Remedy: %s." % (
            directory,
            free_bytes,
            needed_bytes,
            _REMEDIES[errno.ENOSPC],
        )
    # A file system that makes its inodes as it needs them says 0 of 0.
    if found.f_files and (found.f_ffree if root else found.f_favail) < needed_files:
        return "Cannot write to %s: no inodes are free. Remedy: remove files there, then run again." % directory
    return None


__all__ = (
    "MAX_FILE_BYTES",
    "Attributes",
    "MissingFile",
    "attributes_of",
    "backup_file",
    "explain",
    "final_target",
    "make_private_directory",
    "put_in_place",
    "read_bounded",
    "read_open",
    "remove_leftover",
    "replace_file",
    "room_problem",
    "sha256",
    "sync_directory",
    "temporary_name",
    "write_new",
)
