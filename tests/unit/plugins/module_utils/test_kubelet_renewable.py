# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the plan knows of a kubelet's client certificate is what the run does: whether this node can renew it."""

from __future__ import annotations

import dataclasses
import typing as t
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._material import read_material
from ansible_collections.certops.kubernetes.plugins.module_utils._renewable import Renewability, renewability
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubelet_node import CLIENT, CONF, EmbeddedNode

if t.TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(timezone.utc)


def judged(node: EmbeddedNode, name: str, without: str | None = None) -> Renewability:
    found = node.discover()
    credentials = {other: one for other, one in found.credentials.items() if other != without}
    found = dataclasses.replace(found, credentials=credentials)
    materials = {other: read_material(one) for other, one in credentials.items()}
    return renewability(credentials[name], materials[name], found, materials, NOW)


@pytest.mark.parametrize("linked", [True, False])
def test_what_is_embedded_is_renewed(tmp_path: Path, linked: bool) -> None:
    assert judged(EmbeddedNode(tmp_path, linked=linked), CONF) == Renewability(True)


def test_an_expired_one_needs_the_cas_key_or_another_that_is_valid(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path, linked=True, left=timedelta(days=-2))
    node.path("pki/ca.key").unlink()
    assert "it has expired" in str(judged(node, CONF).because)
    valid = pki.make_leaf(node.authorities["ca"], "system:node:n1", organization="system:nodes")
    node.old.write_bytes(valid.cert_pem + valid.key_pem)
    assert judged(node, CONF) == Renewability(True)


def test_one_for_another_client_than_the_file_is_left_alone(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path, linked=True)
    other = pki.make_leaf(node.authorities["ca"], "system:node:n2", organization="system:nodes")
    node.old.write_bytes(other.cert_pem + other.key_pem)
    assert "is for another client than kubelet.conf" in str(judged(node, CONF).because)
    assert judged(node, CLIENT) == Renewability(True)


def test_without_a_ca_file_what_the_kubeconfig_trusts_decides(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path, linked=True)
    assert judged(node, CLIENT, without="ca") == Renewability(True)
    stranger = pki.make_leaf(pki.make_ca(), "system:node:n1", organization="system:nodes")
    node.old.write_bytes(stranger.cert_pem + stranger.key_pem)
    assert judged(node, CLIENT, without="ca").because == "the CA on this node did not sign it"
    node.conf.write_text(node.conf.read_text().replace("certificate-authority-data", "something-else"))
    assert "could not be verified: no CA was found on this node" in str(judged(node, CLIENT, without="ca").because)
