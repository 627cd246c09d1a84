# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Keeps the cluster's lock alive while a module changes its node, which may take longer than the lock lasts without a word."""

from __future__ import annotations

import contextlib
import threading
import typing as t
from datetime import datetime, timezone

from ansible_collections.certops.kubernetes.plugins.module_utils._access import api_client
from ansible_collections.certops.kubernetes.plugins.module_utils._cluster_lock import Holder, renew
from ansible_collections.certops.kubernetes.plugins.module_utils._discovery import discover
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import STATE_DIRECTORY
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient

RENEW_SECONDS = 30.0
_TIMEOUT_SECONDS = 5.0

# The suboptions of each module that holds or renews the lock
HOLDER_SPEC: dict[str, dict[str, t.Any]] = {
    "run_id": {"type": "str", "required": True},
    "since": {"type": "str", "required": True},
    "playbook": {"type": "str", "default": ""},
    "user": {"type": "str", "default": ""},
    "controller": {"type": "str", "default": ""},
    "job_id": {"type": "str", "default": ""},
    "process": {"type": "str", "default": ""},
}


def lock_client(kubernetes_dir: str) -> ApiClient | CertopsError:
    """Who can read and write the Lease on this node: an administrator; or why nobody can."""
    now = datetime.now(timezone.utc)
    try:
        return api_client(discover(now, kubernetes_dir), now, _TIMEOUT_SECONDS)
    except CertopsError as error:
        return error


@contextlib.contextmanager
def kept_alive(holder: dict[str, str] | None, kubernetes_dir: str) -> Iterator[None]:
    """Renew the lock at once and then every half minute, until the end; None: there is no lock. Raises Held when another run has it."""
    if holder is None:
        yield
        return
    ended = threading.Event()
    run = Holder(**holder)

    def say_so() -> None:
        renew(lock_client(kubernetes_dir), STATE_DIRECTORY, run, datetime.now(timezone.utc))

    def keep() -> None:
        while not ended.wait(RENEW_SECONDS):
            # Lost meanwhile, or not to be written now: what was begun on this node is ended all the same.
            with contextlib.suppress(CertopsError):
                say_so()

    say_so()
    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()


__all__ = ("HOLDER_SPEC", "RENEW_SECONDS", "kept_alive", "lock_client")
