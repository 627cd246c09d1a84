# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What an inspection asks this node's own API server meanwhile: kubeadm's configuration of the cluster, and whether this node leads."""

from __future__ import annotations

import os
import threading
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._access import OWN_KUBECONFIG, api_client, leader_client
from ansible_collections.certops.kubernetes.plugins.module_utils._api import certificate_validity_seconds, cluster_configuration
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
        self._configuration: dict[str, t.Any] | None = None
        self._configuration_asked = threading.Event()
        self._leads: tuple[str, ...] = ()
        self._thread: threading.Thread | None = None
        if API_SERVER in node.components:
            self._thread = threading.Thread(target=self._ask, daemon=True)
            self._thread.start()
        else:
            self._configuration_asked.set()

    def configuration(self) -> dict[str, t.Any] | None:
        """kubeadm's ClusterConfiguration; None on a node without an API server, and where there is none or it could not be asked for."""
        self._configuration_asked.wait()
        return self._configuration

    def certificate_validity_seconds(self) -> int | None:
        """kubeadm's `certificateValidityPeriod`; None on a node without an API server, and where it is not set or could not be asked."""
        try:
            return certificate_validity_seconds(self.configuration())
        except CertopsError:
            return None

    def leads(self) -> tuple[str, ...]:
        """Which of this node's kube-controller-manager and kube-scheduler lead the cluster; those that cannot be asked about do not."""
        if self._thread is not None:
            self._thread.join()
        return self._leads

    def _ask(self) -> None:
        try:
            client = api_client(self._node, self._now, self._timeout, ignore_dates=True)
            self._configuration = cluster_configuration(client)
        except CertopsError:
            # Not known: the API is away, or nobody on this node may ask. What is wrong then is in the records.
            self._configuration = None
        finally:
            self._configuration_asked.set()
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
