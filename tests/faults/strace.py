# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What strace sees of a run: every call that has to do with files or descriptors, to be held against what the filter handed over.

It does not strike: with its own filter (--seccomp-bpf) it injects errors but no signals, and without it it stops the run at every call
there is, which costs half as much as the run itself.
"""

from __future__ import annotations

import collections
import re
import typing as t

from kernel import AT, CALLS, DESCRIPTOR, SIGNALS, Call

ARGUMENTS = ("-f", "-y", "-s", "0", "-e", "trace=%file,%desc,%process,/sync,/^kill$,pidfd_send_signal")
# They change no file. (Which of the calls that may do both do so here is seen in their arguments.)
_HARMLESS = """
    access faccessat faccessat2 stat fstat lstat newfstatat statx statfs fstatfs readlink readlinkat getdents64 getcwd chdir fchdir
    getxattr lgetxattr fgetxattr listxattr execve execveat read pread64 readv preadv preadv2 lseek close close_range dup dup2 dup3
    fcntl flock poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2
    signalfd4 timerfd_create inotify_init1 inotify_add_watch memfd_create mmap fadvise64 readahead pidfd_open pidfd_getfd pipe pipe2
    socket socketpair clone clone3 fork vfork wait4 waitid exit exit_group prctl tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo
"""
_LINE = re.compile(r"\d+ +(\w+)\((.*)")
_DESCRIPTOR = re.compile(r"(?:AT_FDCWD|\d+)<(.*?)>(?: ?\(deleted\))?(?=[,) ]|$)")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


def calls_in(log: str) -> tuple[collections.Counter[str], set[str]]:
    """The calls that change files, as the filter names them, with their numbers; and the names of calls that nobody here knows."""
    found: collections.Counter[str] = collections.Counter()
    unknown = set()
    for name, rest in _LINE.findall(log):
        if name == "mmap" and "MAP_SHARED" in rest and "PROT_WRITE" in rest and Call(name, tuple(_DESCRIPTOR.findall(rest)), ()).on_disk:
            unknown.add("mmap of a file, shared and writable")
        if name not in CALLS:
            unknown |= {name}.difference(_HARMLESS.split())
            continue
        if name in ("open", "openat") and not re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC)", rest):
            continue
        call = Call(name, _paths(name, rest), ())
        if (call.on_disk or name in SIGNALS) and not (name == "ioctl" and "FICLONE" not in rest):
            found[str(call)] += 1
    return found, unknown


def _paths(name: str, rest: str) -> tuple[str, ...]:
    descriptors, strings = _DESCRIPTOR.findall(rest), _STRING.findall(rest)
    if name in ("symlink", "symlinkat"):
        strings = strings[1:]
    paths = []
    for kind, place in CALLS[name][1]:
        if kind == DESCRIPTOR:
            paths.append(descriptors[1 if place else 0] if descriptors else "")
            continue
        folder = descriptors.pop(0) if kind == AT and descriptors else ""
        text = strings.pop(0) if strings else ""
        paths.append(text if text.startswith("/") else "%s/%s" % (folder.rstrip("/"), text))
    return tuple(paths)


def differences(log: str, handed_over: t.Sequence[str]) -> list[str]:
    """What one of both has seen and the other has not."""
    found, unknown = calls_in(log)
    ours = collections.Counter(call.rpartition("#")[0] for call in handed_over)
    problems = ["strace saw %s, of which it is not known whether it changes files" % name for name in sorted(unknown)]
    problems += ["strace saw %d times more: %s" % (number, call) for call, number in (found - ours).items()]
    problems += ["strace saw %d times fewer: %s" % (number, call) for call, number in (ours - found).items()]
    return problems
