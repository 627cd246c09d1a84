# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""System calls that change the file system, handed over by the kernel before it carries them out.

It is seccomp's user notification (Linux 5.5): the filter that a process sets itself stops its threads and children at these calls, and
whoever holds the listener lets each go on, lets it fail, or ends the process there. No tracer, no privilege, no other call is slowed down.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import platform
import struct
import sys
import typing as t
from dataclasses import dataclass

# What an argument of a call is: a path by itself, a directory's descriptor and the path below it, a descriptor.
PATH, AT, DESCRIPTOR = "path", "at", "descriptor"
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # AUDIT_ARCH, column of the table below
_SECCOMP = (317, 277)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CLONING = 0x40049409  # FICLONE

# Name: numbers on each machine (None: it has no such call), what its arguments are and at which place.
CALLS: dict[str, tuple[tuple[int | None, int | None], tuple[tuple[str, int], ...]]] = {
    "open": ((2, None), ((PATH, 0),)),
    "creat": ((85, None), ((PATH, 0),)),
    "openat": ((257, 56), ((AT, 0),)),
    "openat2": ((437, 437), ((AT, 0),)),
    "mknod": ((133, None), ((PATH, 0),)),
    "mknodat": ((259, 33), ((AT, 0),)),
    "mkdir": ((83, None), ((PATH, 0),)),
    "mkdirat": ((258, 34), ((AT, 0),)),
    "rmdir": ((84, None), ((PATH, 0),)),
    "unlink": ((87, None), ((PATH, 0),)),
    "unlinkat": ((263, 35), ((AT, 0),)),
    "rename": ((82, None), ((PATH, 0), (PATH, 1))),
    "renameat": ((264, 38), ((AT, 0), (AT, 2))),
    "renameat2": ((316, 276), ((AT, 0), (AT, 2))),
    "link": ((86, None), ((PATH, 0), (PATH, 1))),
    "linkat": ((265, 37), ((AT, 0), (AT, 2))),
    "symlink": ((88, None), ((PATH, 1),)),
    "symlinkat": ((266, 36), ((AT, 1),)),
    "write": ((1, 64), ((DESCRIPTOR, 0),)),
    "writev": ((20, 66), ((DESCRIPTOR, 0),)),
    "pwrite64": ((18, 68), ((DESCRIPTOR, 0),)),
    "pwritev": ((296, 70), ((DESCRIPTOR, 0),)),
    "pwritev2": ((328, 287), ((DESCRIPTOR, 0),)),
    "sendfile": ((40, 71), ((DESCRIPTOR, 0),)),
    "copy_file_range": ((326, 285), ((DESCRIPTOR, 2),)),
    "splice": ((275, 76), ((DESCRIPTOR, 2),)),
    "ioctl": ((16, 29), ((DESCRIPTOR, 0),)),
    "truncate": ((76, 45), ((PATH, 0),)),
    "ftruncate": ((77, 46), ((DESCRIPTOR, 0),)),
    "fallocate": ((285, 47), ((DESCRIPTOR, 0),)),
    "chmod": ((90, None), ((PATH, 0),)),
    "fchmod": ((91, 52), ((DESCRIPTOR, 0),)),
    "fchmodat": ((268, 53), ((AT, 0),)),
    "fchmodat2": ((452, 452), ((AT, 0),)),
    "chown": ((92, None), ((PATH, 0),)),
    "lchown": ((94, None), ((PATH, 0),)),
    "fchown": ((93, 55), ((DESCRIPTOR, 0),)),
    "fchownat": ((260, 54), ((AT, 0),)),
    "setxattr": ((188, 5), ((PATH, 0),)),
    "lsetxattr": ((189, 6), ((PATH, 0),)),
    "fsetxattr": ((190, 7), ((DESCRIPTOR, 0),)),
    "removexattr": ((197, 14), ((PATH, 0),)),
    "lremovexattr": ((198, 15), ((PATH, 0),)),
    "fremovexattr": ((199, 16), ((DESCRIPTOR, 0),)),
    "utime": ((132, None), ((PATH, 0),)),
    "utimes": ((235, None), ((PATH, 0),)),
    "futimesat": ((261, None), ((AT, 0),)),
    "utimensat": ((280, 88), ((AT, 0),)),
    "fsync": ((74, 82), ((DESCRIPTOR, 0),)),
    "fdatasync": ((75, 83), ((DESCRIPTOR, 0),)),
    "sync_file_range": ((277, 84), ((DESCRIPTOR, 0),)),
    "syncfs": ((306, 267), ((DESCRIPTOR, 0),)),
    # Not the file system, but a step all the same: a component is told to end.
    "kill": ((62, 129), ()),
    "pidfd_send_signal": ((424, 424), ()),
}
# Of these calls only some change anything: the place of the argument, and which bits of it say so.
_ONLY_WITH = {"open": (1, _WRITING), "openat": (2, _WRITING), "ioctl": (1, _CLONING)}
SIGNALS = ("kill", "pidfd_send_signal")


class NotHere(Exception):
    """This machine cannot do it; the text says why."""


@dataclass(frozen=True)
class Call:
    """A call that a process is about to make. `paths` are absolute, with descriptors as the files that they stand for."""

    name: str
    paths: tuple[str, ...]
    arguments: tuple[int, ...]

    @property
    def on_disk(self) -> bool:
        """Whether it concerns a file, and no socket, pipe, device or memory."""
        return any(path.startswith("/") and not path.startswith(("/proc/", "/dev/", "/sys/", "/memfd:")) for path in self.paths)

    def __str__(self) -> str:
        return " ".join([self.name, *self.paths])

    @property
    def creation_mode(self) -> int | None:
        """The mode that it asks for when it makes a file or a directory."""
        places = {"creat": 1, "mkdir": 1, "mkdirat": 2, "mknod": 1, "mknodat": 2}
        if self.name in places:
            return self.arguments[places[self.name]] & 0o7777
        flags = {"open": 1, "openat": 2}.get(self.name)
        return self.arguments[flags + 1] & 0o7777 if flags is not None and self.arguments[flags] & os.O_CREAT else None


class Listener:
    """The end at which a process' calls arrive."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._names = {numbers[_column()]: name for name, (numbers, _arguments) in CALLS.items() if numbers[_column()] is not None}

    def receive(self) -> tuple[int, Call] | None:
        """The next call, with the number by which it is answered; None when its process has ended meanwhile."""
        buffer = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self.descriptor, _RECEIVE, buffer)
        except FileNotFoundError:
            return None
        identifier, pid, _flags, number, _machine, _pointer, *arguments = _NOTIFICATION.unpack(buffer)
        name = self._names[number]
        try:
            paths = tuple(_path(pid, kind, arguments, place) for kind, place in CALLS[name][1])
        except OSError:  # no such descriptor, no such memory: the call will fail by itself; or nobody is there any more
            paths = ()
        return identifier, Call(name, paths, tuple(arguments))

    def let_go_on(self, identifier: int) -> None:
        """The kernel carries the call out."""
        self._answer(identifier, 0, 1)

    def refuse(self, identifier: int, number: int) -> None:
        """The call fails with this error, without having done anything."""
        self._answer(identifier, -number, 0)

    def _answer(self, identifier: int, error: int, flags: int) -> None:
        with contextlib.suppress(FileNotFoundError):  # the process has ended meanwhile
            fcntl.ioctl(self.descriptor, _SEND, bytearray(_RESPONSE.pack(identifier, 0, error, flags)))


_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_RECEIVE = 0xC0002100 | _NOTIFICATION.size << 16
_SEND = 0xC0002101 | _RESPONSE.size << 16


def _path(pid: int, kind: str, arguments: t.Sequence[int], place: int) -> str:
    if kind == DESCRIPTOR:
        return _of_descriptor(pid, arguments[place])
    text = _text(pid, arguments[place + 1 if kind == AT else place])
    if text.startswith("/"):
        return text
    if kind == PATH or arguments[place] & 0xFFFFFFFF == 0xFFFFFF9C:  # AT_FDCWD
        return os.path.join(os.readlink("/proc/%d/cwd" % pid), text)
    return os.path.join(_of_descriptor(pid, arguments[place]), text)


def _of_descriptor(pid: int, descriptor: int) -> str:
    return os.readlink("/proc/%d/fd/%d" % (pid, descriptor & 0xFFFFFFFF))


def _text(pid: int, address: int) -> str:
    memory = os.open("/proc/%d/mem" % pid, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.fsdecode(os.pread(memory, 4096, address).split(b"\0")[0])
    finally:
        os.close(memory)


def _column() -> int:
    try:
        return _MACHINES[platform.machine()][1]
    except KeyError:
        raise NotHere("the numbers of system calls are not known here for %s" % platform.machine()) from None


def hand_over_calls() -> int:
    """From now on this process (its threads and children too) stops at those calls; returns the listener. Raises NotHere."""
    program = _program()
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    filter_ = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(instructions)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS: without it only root may set a filter
        raise NotHere("prctl: %s" % os.strerror(ctypes.get_errno()))
    descriptor = libc.syscall(_SECCOMP[_column()], 1, 8, filter_)  # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER
    if descriptor < 0:
        raise NotHere("seccomp: %s; Linux 5.5 or newer is needed" % os.strerror(ctypes.get_errno()))
    return int(descriptor)


def _program() -> list[tuple[int, int, int, int]]:
    """The filter, in the instructions of classic BPF: code, steps to go on when true, when false, operand."""
    load, equal, any_bit, answer = 0x20, 0x15, 0x45, 0x06
    hand_over, allow = (answer, 0, 0, 0x7FC00000), (answer, 0, 0, 0x7FFF0000)
    machine, column = _MACHINES[platform.machine()][0], _column()
    program = [(load, 0, 0, 4), (equal, 1, 0, machine), allow, (load, 0, 0, 0)]
    for name, (numbers, _arguments) in CALLS.items():
        number = numbers[column]
        if number is None:
            continue
        if name not in _ONLY_WITH:
            program += [(equal, 0, 1, number), hand_over]
            continue
        place, bits = _ONLY_WITH[name]
        test = equal if name == "ioctl" else any_bit
        program += [(equal, 0, 4, number), (load, 0, 0, 16 + 8 * place), (test, 0, 1, bits), hand_over, allow]
    return [*program, allow]


__all__ = ("CALLS", "SIGNALS", "Call", "Listener", "NotHere", "hand_over_calls")

if __name__ == "__main__":
    try:
        hand_over_calls()
    except NotHere as problem:
        sys.exit("calls cannot be handed over here: %s" % problem)
    os._exit(0)  # nobody listens: another call would wait for ever
