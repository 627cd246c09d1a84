# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Do something with the rights of a user who is not root, in a process of its own.

Whatever that user exchanges meanwhile, nothing is read or written that he could not read or write himself. A process of its own, because
rights are those of a whole process, and other threads need root's; and because one that hangs (in a file system of the user's own) can
be left. Its real user stays root, so that the user can neither stop it nor look into its memory.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import signal
import time
import typing as t
import warnings

from ansible_collections.certops.kubernetes.plugins.module_utils._files import MissingFile
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

if t.TYPE_CHECKING:
    from collections.abc import Callable

_DONE, _MISSING, _FAILED = b"+", b"?", b"-"
_GONE_WITHIN_SECONDS = 1.0

# Users who have let us wait in vain, for the life of this process: each of them can do that once, not once for each file.
_HUNG: set[int] = set()


def as_user(uid: int, gid: int | None, what: str, work: Callable[[], bytes], seconds: float = 10.0) -> bytes:
    """What `work` returns, done with the rights of the user `uid` and, if `gid` is given, that group beside his own ones.

    `what` names it in messages. Who is not root himself does it with his own rights. Raises MissingFile or CertopsError as `work` does,
    and CertopsError when it takes longer than `seconds`, or something did before with that user's rights.
    """
    if uid in _HUNG:
        raise CertopsError(
            "Cannot %s: what was done before with the rights of the user with id %d did not end. Remedy: look at that user's folders."
            % (what, uid)
        )
    groups, own = _groups(uid, gid)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        child = _fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise CertopsError("Cannot %s: no process can be made (%s). Remedy: run again." % (what, error.strerror)) from error
    if child == 0:
        # Should we be killed meanwhile: it must not go on, and keep what we have locked, for as long as that user likes.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds + _GONE_WITHIN_SECONDS)
        _answer(writing, uid, groups, own if gid is None else gid, work)
    os.close(writing)
    try:
        answer = _heard(reading, time.monotonic() + seconds)
    finally:
        os.close(reading)
        _end(child)
    kind, content = answer[:1], answer[1:]
    if kind == _DONE:
        return content
    if not kind:
        if uid != os.geteuid():
            _HUNG.add(uid)
        raise CertopsError(
            "Cannot %s: it took the user with id %d longer than %g s, or was stopped. Remedy: look at that folder." % (what, uid, seconds)
        )
    raise (MissingFile if kind == _MISSING else CertopsError)(content.decode("utf-8", "replace"))


def _groups(uid: int, gid: int | None) -> tuple[list[int], int]:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        other = 65534 if gid is None else gid  # nobody's
        return [other], other
    return os.getgrouplist(entry.pw_name, entry.pw_gid), entry.pw_gid


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, where there are threads: the child waits for none of them
        return os.fork()


def _answer(writing: int, uid: int, groups: list[int], gid: int, work: Callable[[], bytes]) -> t.NoReturn:
    """The child: it never returns, whatever happens."""
    try:
        if os.geteuid() == 0:
            os.setgroups(groups)
            os.setegid(gid)
            os.seteuid(uid)
        answer = _DONE + work()
    except MissingFile as error:
        answer = _MISSING + str(error).encode("utf-8", "replace")
    except CertopsError as error:
        answer = _FAILED + str(error).encode("utf-8", "replace")
    except BaseException as error:  # a second copy of the whole program must not go on
        answer = _FAILED + ("%s with the rights of the user with id %d." % (type(error).__name__, uid)).encode()
    with contextlib.suppress(BaseException):
        rest = memoryview(answer)
        while rest:
            rest = rest[os.write(writing, rest) :]
    os._exit(0)


def _heard(reading: int, deadline: float) -> bytes:
    """All that the child says; nothing when it does not come to an end in time."""
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    chunks: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return b""
        chunk = os.read(reading, 65536)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


def _end(child: int) -> None:
    """It is over, or is ended; one that even then hangs in the kernel is not waited for."""
    deadline = time.monotonic() + _GONE_WITHIN_SECONDS
    while os.waitpid(child, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
        os.kill(child, signal.SIGKILL)
        time.sleep(0.001)


__all__ = ("as_user",)
