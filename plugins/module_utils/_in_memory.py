# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Certificates that a component makes in memory when it starts, for a year (the API server today for three): a restart renews them.

The API server's for its connections to itself (`apiserver/pkg/server/options/serving_with_loopback.go`: when it has ended, the API
server cannot start its own controllers' work any more), and the self-signed ones of kube-controller-manager and kube-scheduler
(`apiserver/pkg/server/options/serving.go`, MaybeDefaultWithSelfSignedCerts; with `--cert-dir` they are kept in files).
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import API_SERVER, CONTROLLER_MANAGER, SCHEDULER

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Endpoint, Node

LOOPBACK_NAME = "apiserver-loopback-client"  # which the API server asks itself for (SNI)
PREFIX = "served:"


def loopback_endpoints(node: Node) -> list[Endpoint]:
    """Where the node's API server shows the certificate for its connections to itself."""
    component = node.components.get(API_SERVER)
    return [dataclasses.replace(one, credential=None, server_name=LOOPBACK_NAME) for one in component.endpoints] if component else []


def is_made_at_start(node: Node, endpoint: Endpoint) -> bool:
    """Whether what an address serves is in its component's memory alone, so that a restart makes another one."""
    component = node.components.get(endpoint.component)
    if component is None or endpoint.credential is not None:
        return False
    if component.name == API_SERVER:
        return endpoint.server_name == LOOPBACK_NAME
    return component.name in (CONTROLLER_MANAGER, SCHEDULER) and not component.flag("cert-dir")


def maker_of(node: Node, name: str) -> str | None:
    """The component that makes the certificate of this record in memory; None for every other record."""
    endpoints = [endpoint for component in node.components.values() for endpoint in component.endpoints]
    for endpoint in (*endpoints, *loopback_endpoints(node)):
        if PREFIX + endpoint.address == name and is_made_at_start(node, endpoint):
            return endpoint.component
    return None


__all__ = ("LOOPBACK_NAME", "PREFIX", "is_made_at_start", "loopback_endpoints", "maker_of")
