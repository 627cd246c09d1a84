# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Whether files can be replaced, found out without writing: what would otherwise fail half-way through a change is said before it."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import re
import struct
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._files import explain, final_target

# ioctl_iflags(2): _IOR('f', 1, long) of the architectures that nodes have, and what forbids a rename over the file.
_FS_IOC_GETFLAGS = 2 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 1
_IMMUTABLE, _APPEND_ONLY = 0x10, 0x20
_OCTAL = re.compile(rb"\\([0-7]{3})")


def replace_problems(paths: t.Iterable[str], mountinfo: str = "/proc/self/mountinfo") -> list[str]:
    """Why some of these files cannot be replaced, as sentences; a file that does not exist yet needs its directory only."""
    targets = list(dict.fromkeys(final_target(path) for path in paths))
    directories = list(dict.fromkeys(os.path.dirname(target) for target in targets))
    mounted = _mount_points(mountinfo)
    found = [_flag_problem(directory) or _access_problem(directory) for directory in directories]
    found += [_mount_problem(target) if target in mounted else _flag_problem(target) for target in targets]
    return [problem for problem in found if problem]


def link_warnings(paths: t.Iterable[str]) -> list[str]:
    """What to know of files that have several names: replaced, this name has a file of its own, and a watch stays with the others."""
    found = {path: os.stat(path).st_nlink for path in paths if os.path.isfile(path)}
    return [
        "%s had %d names for one file (a backup made with cp -al?). It was replaced by a file of its own; a process that watches it sees "
        "no further replacement until the other names are removed, or it is restarted." % (path, names)
        for path, names in found.items()
        if names > 1
    ]


def _mount_problem(path: str) -> str:
    return (
        "Cannot replace %s: it is a mount point, over which nothing can be renamed (EBUSY). Remedy: unmount it and put the file itself "
        "there, or renew it where it is mounted from." % path
    )


def _mount_points(mountinfo: str) -> set[str]:
    """Where something is mounted, as this process sees it; nothing where that cannot be read."""
    try:
        with open(mountinfo, "rb") as stream:
            fields = [line.split(b" ") for line in stream]
    except OSError:
        return set()
    return {os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match.group(1), 8)]), words[4])) for words in fields if len(words) > 4}


def _access_problem(directory: str) -> str | None:
    writable = os.access(directory, os.W_OK | os.X_OK, effective_ids=True)  # of whom root acts for, if he does
    if writable or not os.path.isdir(directory) or os.statvfs(directory).f_flag & os.ST_RDONLY:
        return None  # a file system that is mounted read-only is told with the room on it
    return str(explain(OSError(errno.EACCES, ""), "write to", directory))


def _flag_problem(path: str) -> str | None:
    flags = _inode_flags(path)
    for flag, word, letter in ((_IMMUTABLE, "immutable", "i"), (_APPEND_ONLY, "append-only", "a")):
        if flags & flag:
            return "Cannot replace %s: it is %s (lsattr shows it). Remedy: find out who wanted that, `chattr -%s %s`, then run again." % (
                path if not os.path.isdir(path) else "files in %s" % path,
                word,
                letter,
                path,
            )
    return None


def _inode_flags(path: str) -> int:
    """The inode's flags; 0 where there is no such file, or its file system has none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        flags = array.array("l", [0])
        fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, flags, True)
        return flags[0] & 0xFFFFFFFF
    except OSError:
        return 0
    finally:
        os.close(descriptor)


__all__ = ("link_warnings", "replace_problems")
