# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What an inspection asks this node's own API server meanwhile: how long certificates are made for, and whether this node leads."""

from __future__ import annotations

import os
import threading
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._access import OWN_KUBECONFIG, api_client, leader_client
from ansible_collections.certops.kubernetes.plugins.module_utils._api import cluster_certificate_validity_seconds
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import API_SERVER
from ansible_collections.certops.kubernetes.plugins.module_utils._lease import get_lease
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Component, Node


class Asked:
    """Asks in a thread of its own, so that the answers cost an inspection no time."""

    def __init__(self, node: Node, now: datetime, timeout: float) -> None:
        self._node, self._now, self._timeout = node, now, timeout
        self._seconds: int | None = None
        self._leads: tuple[str, ...] = ()
        self._thread: threading.Thread | None = None
        if API_SERVER in node.components:
            self._thread = threading.Thread(target=self._ask, daemon=True)
            self._thread.start()

    def certificate_validity_seconds(self) -> int | None:
        """kubeadm's `certificateValidityPeriod`; None on a node without an API server, and where it is not set or could not be asked."""
        self._wait()
        return self._seconds

    def leads(self) -> tuple[str, ...]:
        """Which of this node's kube-controller-manager and kube-scheduler lead the cluster; those that cannot be asked about do not."""
        self._wait()
        return self._leads

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _ask(self) -> None:
        try:
            client = api_client(self._node, self._now, self._timeout, ignore_dates=True)
            self._seconds = cluster_certificate_validity_seconds(client)
        except CertopsError:
            # Not known: the API is away, or nobody on this node may ask. What is wrong then is in the records.
            self._seconds = None
        components = [component for component in self._node.components.values() if component.name in OWN_KUBECONFIG]
        self._leads = tuple(component.name for component in components if self._is_leader(component))

    def _is_leader(self, component: Component) -> bool:
        if component.process is None or component.flag("leader-elect") == "false":
            return False
        name = component.flag("leader-elect-resource-name") or component.name
        namespace = component.flag("leader-elect-resource-namespace") or "kube-system"
        try:
            lease = get_lease(leader_client(self._node, component.name, self._now, self._timeout), name, namespace)
        except CertopsError:
            return False  # then the order of the nodes is the inventory's; the gate says what is wrong
        return lease.fresh(self._now) and lease.held_by(component.process, os.uname().nodename)


__all__ = ("Asked",)
