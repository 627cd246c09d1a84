# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""How long the cluster makes certificates valid for, asked while the rest of an inspection goes on."""

from __future__ import annotations

import threading
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._access import api_client
from ansible_collections.certops.kubernetes.plugins.module_utils._api import cluster_certificate_validity_seconds
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import API_SERVER
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node


class ValidityPeriod:
    """kubeadm's `certificateValidityPeriod`, asked of this node's own API server in a thread of its own."""

    def __init__(self, node: Node, now: datetime, timeout: float) -> None:
        self._node, self._now, self._timeout = node, now, timeout
        self._seconds: int | None = None
        self._thread: threading.Thread | None = None
        if API_SERVER in node.components:
            self._thread = threading.Thread(target=self._ask, daemon=True)
            self._thread.start()

    def _ask(self) -> None:
        try:
            client = api_client(self._node, self._now, self._timeout, ignore_dates=True)
            self._seconds = cluster_certificate_validity_seconds(client)
        except CertopsError:
            # Not known: the API is away, or nobody on this node may ask. What is wrong then is in the records.
            self._seconds = None

    def seconds(self) -> int | None:
        """The period in seconds; None on a node without an API server, and where it is not set or could not be asked."""
        if self._thread is not None:
            self._thread.join()
        return self._seconds


__all__ = ("ValidityPeriod",)
