# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Ask the kubelets of other nodes, through this node's API server, when the client certificates in their memory end."""

from __future__ import annotations

import re
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_use import told_end
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso, shown_sentence

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient

_AT_ONCE = 8  # each answer has some 200 kB, which the API server passes on
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")


@dataclass(frozen=True)
class Told:
    """Between which two times (ISO 8601, by the clock of who asked) a kubelet's certificate ends.

    Without times it has none; with `reason` it did not tell.
    """

    node: str
    earliest_end: str | None = None
    latest_end: str | None = None
    reason: str | None = None


def ask_kubelets(
    client: ApiClient, names: t.Sequence[str], limit_seconds: float, clock: t.Callable[[], float] = time.monotonic
) -> list[Told]:
    """What the kubelets of the Nodes of these names tell, in this order. Never raises for what one of them answers, or does not.

    `limit_seconds`: after so long nobody else is asked; who was asked just before has the client's own timeout.
    """
    deadline = clock() + limit_seconds

    def ask(name: str) -> Told:
        if not _NAME.match(name):
            return Told(name, reason="that is no name of a Node")
        if clock() > deadline:
            return Told(name, reason="the others took %g s, so it was not asked" % limit_seconds)
        return _told(client, name)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(ask, names))


def _told(client: ApiClient, name: str) -> Told:
    try:
        end = told_end(client, name)
        if end is None:
            return Told(name)
        return Told(name, iso(end[0]), iso(end[1] + timedelta(seconds=1)))
    except CertopsError as error:
        return Told(name, reason=shown_sentence(str(error)))
    except OverflowError:
        return Told(name, reason="the kubelet's metrics tell an end that is no time")


__all__ = ("Told", "ask_kubelets")
