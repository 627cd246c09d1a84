# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One identity in two places of a node."""

from __future__ import annotations

import shutil
import typing as t

import pytest
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.inspected import inspect, trouble
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import KubeadmTree

if t.TYPE_CHECKING:
    from pathlib import Path

ADMIN: dict[str, t.Any] = {"cn": "kubernetes-admin", "organization": "kubeadm:cluster-admins"}


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> KubeadmTree:
    tree = KubeadmTree(tmp_path)
    tree.run_kubelet()
    return tree


def test_two_keys_for_one_identity(tree: KubeadmTree) -> None:
    tree.write_kubeconfig("super-admin.conf", **ADMIN)
    found = inspect(tree)
    assert "identity_twice" in trouble(found)["super-admin.conf"]
    (finding,) = found["admin.conf"].findings
    assert (finding.code, finding.severity, found["admin.conf"].status) == ("identity_twice", "info", "ok")
    assert "CN=kubernetes-admin" in finding.message
    assert "another key in super-admin.conf (%s)" % (tree.kubernetes_dir / "super-admin.conf") in finding.message


def test_a_copy_with_the_same_key_is_no_other_one(tree: KubeadmTree) -> None:
    shutil.copy(str(tree.kubernetes_dir / "admin.conf"), str(tree.kubernetes_dir / "super-admin.conf"))
    assert "identity_twice" not in sum(trouble(inspect(tree)).values(), [])


def test_the_same_name_from_another_ca_is_another_identity(tree: KubeadmTree) -> None:
    tree.write_pair("apiserver-etcd-client", tree.leaf("apiserver-etcd-client", cn="kube-apiserver-kubelet-client"))
    assert "identity_twice" not in sum(trouble(inspect(tree)).values(), [])


def test_a_node_as_kubeadm_makes_it_has_none(tree: KubeadmTree) -> None:
    """etcd's two servers have one name, each a key of its own."""
    assert trouble(inspect(tree)) == {}


def test_two_pairs_of_clients(tree: KubeadmTree) -> None:
    tree.write_pair("etcd/healthcheck-client", tree.leaf("etcd/healthcheck-client", cn="kube-apiserver-etcd-client"))
    found = trouble(inspect(tree))
    twice = {name for name, codes in found.items() if "identity_twice" in codes}
    assert twice == {"apiserver-etcd-client", "etcd/healthcheck-client"}
