# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs modules as Python does, each in a process of its own, in which the installed ansible-core's helpers are imported already.

A module brings a copy of them as source in a zip, the compiling of which is most of what a module that does next to nothing costs, and to
import them compiled is most of the rest. `interpreter.py` asks for it: by PROGRAM ARGUMENT..., or at the socket of `--listen SOCKET`, which
lasts until the standard input ends.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback
import typing as t

import ansible.module_utils.basic

assert ansible.module_utils.basic, "what is imported here is not looked for in the zip"


def listen(path: str) -> None:
    """Run what interpreters ask for, until whoever started this ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        print("listening", flush=True)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            asking, _address = listener.accept()
            with asking:
                if not os.fork():
                    listener.close()
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.setsid()
                    answer(asking)


def answer(asking: socket.socket) -> t.NoReturn:
    """Run a module with the files and in the place of who asks, and tell its exit status."""
    length, files, _flags, _address = socket.recv_fds(asking, 10, 3)
    with asking.makefile("rb") as said:
        where = json.loads(said.read(int(length)))
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(where["cwd"])
    os.umask(where["umask"])
    os.environ.clear()
    os.environ.update(where["environment"])
    sys.argv = [""]
    exit_status = 1
    try:
        exec(compile(sys.stdin.buffer.read(), "<stdin>", "exec", dont_inherit=True), {"__name__": "__main__"})
        exit_status = 0
    except SystemExit as exited:
        exit_status = exited.code if isinstance(exited.code, int) else int(exited.code is not None)
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
        asking.sendall(bytes([exit_status]))
    os._exit(exit_status)


if __name__ == "__main__":
    del sys.argv[0]
    if sys.argv[0] == "--listen":
        listen(sys.argv[1])
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
