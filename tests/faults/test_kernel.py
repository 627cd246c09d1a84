# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No call that changes a file escapes, and a call that is struck is not carried out."""

from __future__ import annotations

import array
import errno
import os
import select
import shutil
import signal
import socket
import typing as t
from pathlib import Path

import pytest
from kernel import Call, Listener, hand_over_calls

Verdict = t.Callable[[Call], t.Optional[int]]


def supervised(deed: t.Callable[[], None], verdict: Verdict = lambda _call: 0) -> tuple[list[Call], int]:
    """The calls that a forked process makes on disk, and how it ended."""
    ours, its = socket.socketpair()
    output, its_output = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(output)
            descriptor = hand_over_calls()
            its.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))])
            os.close(descriptor)
            deed()
            code = 0
        finally:
            os._exit(code)
    os.close(its_output)
    listener = Listener(array.array("i", ours.recvmsg(1, socket.CMSG_LEN(4))[1][0][2][:4])[0])
    calls = []
    poll = select.poll()
    poll.register(listener.descriptor, select.POLLIN)
    poll.register(output, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if ready.get(listener.descriptor, 0) & select.POLLIN:
            received = listener.receive()
            if received is not None:
                identifier, call = received
                answer: int | None = 0
                if call.on_disk:
                    calls.append(call)
                    answer = verdict(call)
                if answer is None:
                    os.kill(pid, signal.SIGKILL)
                elif answer:
                    listener.refuse(identifier, answer)
                else:
                    listener.let_go_on(identifier)
        elif ready.get(listener.descriptor):
            poll.unregister(listener.descriptor)
        if output in ready:
            break
    os.close(output)
    os.close(listener.descriptor)
    return calls, os.waitpid(pid, 0)[1]


def test_every_way_of_changing_a_file_is_seen(tmp_path: Path) -> None:
    """What Python's `os` can do to a file, one after the other, by path, by descriptor and by a directory's descriptor."""
    (tmp_path / "there").mkdir()
    names = []

    def everything() -> None:
        os.chdir(tmp_path)
        folder = os.open("there", os.O_RDONLY | os.O_DIRECTORY)
        a = os.open("a", os.O_RDWR | os.O_CREAT, 0o600)
        b = os.open("b", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640, dir_fd=folder)
        os.write(a, b"1")
        os.writev(a, [b"2", b"3"])
        os.pwrite(a, b"4", 0)
        os.ftruncate(a, 3)
        os.truncate("a", 3)
        os.posix_fallocate(a, 0, 3)
        os.lseek(a, 0, os.SEEK_SET)
        os.sendfile(b, a, 0, 3)
        os.copy_file_range(a, b, 3)
        os.fchmod(a, 0o600)
        os.chmod("a", 0o600)
        os.chmod("b", 0o600, dir_fd=folder)
        os.fchown(a, -1, -1)
        os.chown("a", -1, -1)
        os.lchown("a", -1, -1)
        os.utime("a")
        os.fsync(a)
        os.fdatasync(a)
        os.link("a", "c")
        os.symlink("a", "d")
        os.rename("c", "e")
        os.replace("e", "f", dst_dir_fd=folder)
        os.mkdir("g", 0o700)
        os.mkdir("h", 0o700, dir_fd=folder)
        os.mkfifo("i")
        os.rmdir("g")
        os.unlink("d")
        os.unlink("f", dir_fd=folder)
        shutil.rmtree("there")

    calls, status = supervised(everything)
    assert status == 0
    names = [str(call).replace(str(tmp_path) + "/", "") for call in calls]
    wanted = """openat a; openat there/b; write a; writev a; pwrite64 a; ftruncate a; truncate a; fallocate a; sendfile there/b;
        copy_file_range there/b; fchmod a; chmod a; fchmodat there/b; fchown a; chown a; lchown a; utimensat a; fsync a; fdatasync a;
        link a c; symlink d; rename c e; renameat e there/f; mkdir g; mkdirat there/h; mknod i; rmdir g; unlink d; unlinkat there/f"""
    alike = {"mknod": "mknodat", "mkdir": "mkdirat", "unlink": "unlinkat", "rmdir": "unlinkat", "rename": "renameat", "chmod": "fchmodat"}
    alike |= {"link": "linkat", "symlink": "symlinkat", "chown": "fchownat", "lchown": "fchownat"}  # where there is no call without "at"
    for want in " ".join(wanted.split()).split("; "):
        name, _space, paths = want.partition(" ")
        assert want in names or f"{alike.get(name, name)} {paths}" in names, (want, names)
    assert {"unlinkat there/b", "unlinkat there/h"} <= set(names)
    assert [call.creation_mode for call in calls if call.name == "openat"] == [0o600, 0o640]


def test_what_changes_nothing_on_disk_is_not_seen(tmp_path: Path) -> None:
    """Reading, pipes, sockets, devices and memory."""
    (tmp_path / "a").write_text("text")

    def nothing() -> None:
        (tmp_path / "a").read_text()
        a, b = os.pipe()
        os.write(b, os.read(os.open("/dev/urandom", os.O_RDONLY), 3))
        os.write(os.memfd_create("memory"), b"1")
        os.write(os.open("/dev/null", os.O_WRONLY), b"1")
        one, other = socket.socketpair()
        one.sendall(b"1")
        other.recv(1)

    assert supervised(nothing) == ([], 0)


def test_children_and_threads_are_seen(tmp_path: Path) -> None:
    """A change that a helper makes is one too."""
    calls, status = supervised(lambda: os._exit(os.spawnlp(os.P_WAIT, "touch", "touch", str(tmp_path / "a"))))
    assert status == 0
    assert any(call.paths == (str(tmp_path / "a"),) for call in calls)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_refused_call_is_not_carried_out(tmp_path: Path, number: int) -> None:
    """The process gets the error, the file is not there."""

    def make() -> None:
        try:
            os.mkdir(tmp_path / "a")
        except OSError as error:
            os._exit(error.errno or 0)

    assert os.waitstatus_to_exitcode(supervised(make, lambda _call: number)[1]) == number
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_killed_at_a_call_has_not_made_it(tmp_path: Path) -> None:
    """It ends there and then."""

    def make() -> None:
        os.mkdir(tmp_path / "a")
        os.mkdir(tmp_path / "b")

    calls, status = supervised(make, lambda call: None if call.paths[0].endswith("b") else 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert len(calls) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
