# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Signals during a transaction: a lost controller does not end it, a request to end is heard where ending is safe."""

from __future__ import annotations

import contextlib
import signal
import threading
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Iterator

_HEARD = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def deferred_signals() -> Iterator[t.Callable[[], str | None]]:
    """Ignore SIGHUP, note SIGTERM and SIGINT; gives a function that names the signal that came, or None."""
    came: list[str] = []

    def note(number: int, _frame: t.Any) -> None:
        came.append(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # only the main thread may set handlers
        return
    before = {number: signal.getsignal(number) for number in (*_HEARD, signal.SIGHUP)}
    try:
        for number in _HEARD:
            signal.signal(number, note)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        yield lambda: came[0] if came else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__ = ("deferred_signals",)
