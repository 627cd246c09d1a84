# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an inspection asks the node's own API server meanwhile."""

from __future__ import annotations

import json
import os
import typing as t
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._asked import Asked
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Component, Node, Process
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import (
    FakeNode,
    FakeServer,
    lease_document,
    lease_path,
)

KCM = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
NOW = datetime.now(timezone.utc)
HERE = os.uname().nodename + "_uuid"


def asked(directory: Path, leases: dict[str, t.Any], further: dict[str, t.Any] | None = None) -> Asked:
    """The answers on a node with both components, whose API server has these Leases, and these `further` answers."""
    node = FakeNode(directory)
    routes: dict[str, t.Any] = {"GET " + lease_path(name): (200, lease) for name, lease in leases.items()}
    routes.update(further or {})
    with FakeServer(directory, routes, node.add_pair("apiserver")) as api:
        node.add_kubeconfigs(api.address, "admin.conf", "controller-manager.conf", "scheduler.conf")
        node.add_component("kube-apiserver", advertise_address="127.0.0.1", secure_port=str(api.port))
        for name in (KCM, SCHEDULER):
            process = Process(pid=1, start_ticks=1, argv=(name,), started_at=NOW - timedelta(hours=1))
            node.components[name] = Component(name, {"leader-elect": ("true",)}, process=process)
        answers = Asked(node.node(), NOW, 5.0)
        answers.leads()
    return answers


@pytest.mark.parametrize(
    ("controller_manager", "scheduler", "leads"),
    [
        ((HERE, 0), (HERE, 0), (KCM, SCHEDULER)),
        (("node-2_uuid", 0), (HERE, 0), (SCHEDULER,)),
        ((HERE, 3600), ("", 0), ()),
    ],
)
def test_who_leads(tmp_path: Path, controller_manager: tuple[str, int], scheduler: tuple[str, int], leads: tuple[str, ...]) -> None:
    """A Lease of this very process that is renewed; one that another node holds, nobody holds, or nobody renews, is not ours."""
    leases = {
        name: lease_document(name, holder, NOW - timedelta(seconds=age))
        for name, (holder, age) in ((KCM, controller_manager), (SCHEDULER, scheduler))
    }
    assert asked(tmp_path, leases).leads() == leads


def test_an_api_server_that_knows_nothing(tmp_path: Path) -> None:
    """Then nobody leads here, and the validity is not known."""
    answers = asked(tmp_path, {})
    assert (answers.leads(), answers.certificate_validity_seconds(), answers.configuration()) == ((), None, None)


@pytest.mark.parametrize(("period", "seconds"), [("8760h", 31536000), ("a year", None), (None, None)])
def test_the_configuration_of_the_cluster(tmp_path: Path, period: str | None, seconds: int | None) -> None:
    """It is there even if one of its values makes no sense."""
    configuration = {"clusterName": "blue", **({"certificateValidityPeriod": period} if period else {})}
    answer = (200, {"data": {"ClusterConfiguration": json.dumps(configuration)}})
    answers = asked(tmp_path, {}, {"GET /api/v1/namespaces/kube-system/configmaps/kubeadm-config": answer})
    assert (answers.configuration(), answers.certificate_validity_seconds()) == (configuration, seconds)


def test_a_node_without_an_api_server_asks_nothing() -> None:
    answers = Asked(Node("n", None, "/etc/kubernetes"), NOW, 5.0)
    assert (answers.configuration(), answers.certificate_validity_seconds(), answers.leads()) == (None, None, ())
