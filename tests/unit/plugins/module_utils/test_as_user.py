# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done with a user's rights: in a process of its own, which that user can neither look into nor hold up."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._as_user import as_user
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as somebody else")

JANE, JANES_GROUP = 2001, 2002


def test_she_can_neither_stop_nor_look_into_what_acts_for_her() -> None:
    """Its real user stays root: a signal from her, or a look into its memory, which held root's keys, is refused."""

    def work() -> bytes:
        acting = os.getpid()
        child = os.fork()
        if child == 0:
            os.seteuid(0)
            os.setgroups([])
            os.setgid(JANES_GROUP)
            os.setuid(JANE)
            answer = b""
            try:
                os.kill(acting, signal.SIGTERM)
            except PermissionError:
                answer += b"refused "
            try:
                os.close(os.open("/proc/%d/mem" % acting, os.O_RDONLY))
            except PermissionError:
                answer += b"refused "
            os.write(writing, answer)
            os._exit(0)
        os.waitpid(child, 0)
        return b"done"

    reading, writing = os.pipe()
    assert as_user(JANE, None, "try", work) == b"done"
    os.close(writing)
    tried = os.read(reading, 100).split()
    os.close(reading)
    assert tried == [b"refused", b"refused"]


def test_what_hangs_is_left() -> None:
    began = time.monotonic()
    with pytest.raises(CertopsError, match="Cannot read x: it took the user with id 2001 longer than 0.2 s"):
        as_user(JANE, None, "read x", lambda: time.sleep(60) or b"", seconds=0.2)  # type: ignore[func-returns-value]
    assert time.monotonic() - began < 5


def test_who_let_us_wait_does_so_once() -> None:
    """Not once for each of her files, or each of the users in one; others are not left for that."""
    began = time.monotonic()
    for _attempt in range(100):
        with pytest.raises(CertopsError, match="did not end|longer than"):
            as_user(JANE, None, "read x", lambda: time.sleep(60) or b"", seconds=0.3)  # type: ignore[func-returns-value]
    assert time.monotonic() - began < 10
    assert as_user(JANE + 1, None, "read x", lambda: b"x") == b"x"


def test_what_hangs_ends_by_itself_when_nobody_waits_for_it_any_more() -> None:
    """As after a SIGKILL: it has what its parent had locked."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        with contextlib.suppress(BaseException):
            as_user(JANE, None, "read x", lambda: time.sleep(60) or b"", seconds=0.5)  # type: ignore[func-returns-value]
        os._exit(0)
    time.sleep(0.2)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    os.close(writing)
    began = time.monotonic()
    assert os.read(reading, 1) == b"", "the last one that had it open has ended"
    assert time.monotonic() - began < 10
    os.close(reading)


def test_a_defect_does_not_go_on_twice() -> None:
    def work() -> bytes:
        raise KeyError("x")

    with pytest.raises(CertopsError, match="KeyError"):
        as_user(JANE, None, "read x", work)
