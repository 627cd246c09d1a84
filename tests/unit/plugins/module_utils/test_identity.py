# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Users and groups of client certificates, on a kubeadm node that is well otherwise."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.inspected import codes, inspect, trouble
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import COMMANDS, KubeadmTree, write
from cryptography import x509

MASTERS = "system:masters"


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> KubeadmTree:
    tree = KubeadmTree(tmp_path)
    tree.run_kubelet()  # it says where its certificates are
    return tree


def write_client(tree: KubeadmTree, name: str, **values: t.Any) -> None:
    """A client certificate as kubeadm makes it, but for these values."""
    if name.endswith(".conf"):
        tree.write_kubeconfig(name, **values)
    elif name == "kubelet-client":
        pair = pki.make_leaf(tree.cas["ca"], **{"cn": "system:node:cp-1", "organization": "system:nodes", **values})
        write(tree.kubelet_dir / "pki" / "kubelet-client-current.pem", pair.cert_pem + pair.key_pem, 0o600)
    else:
        tree.write_pair(name, tree.leaf(name, **values))


@pytest.mark.parametrize(
    ("name", "values", "severity", "text"),
    [
        (
            "apiserver-kubelet-client",
            {"cn": "me"},
            "warning",
            "is for the user me, but kubeadm makes it for the user kube-apiserver-",
        ),
        ("front-proxy-client", {"cn": "me"}, "warning", "--requestheader-allowed-names of the API server names front-proxy-client alone"),
        ("controller-manager.conf", {"cn": "system:kube-scheduler"}, "warning", "for the user system:kube-controller-manager"),
        ("scheduler.conf", {"cn": None, "organization": "x:y"}, "warning", "is for nobody (it has no common name)"),
        ("admin.conf", {"cn": "jane"}, "info", "is for the user jane, but kubeadm makes it for the user kubernetes-admin"),
        ("super-admin.conf", {"cn": "jane"}, "info", "for the user kubernetes-super-admin"),
        ("kubelet-client", {"cn": "cp-1"}, "warning", "is for the user cp-1, but kubeadm makes it for the user system:node:cp-1"),
        ("kubelet-client", {"cn": "system:node:"}, "warning", "for the user system:node:cp-1"),
        ("admin.conf", {"cn": "evil\u2028\x1b[2J"}, "info", "is for the user evil\\e2\\80\\a8\\1b[2J,"),
    ],
)
def test_another_user(tree: KubeadmTree, name: str, values: dict[str, t.Any], severity: str, text: str) -> None:
    write_client(tree, name, **values)
    (finding,) = (finding for finding in inspect(tree)[name].findings if finding.code == "unexpected_subject")
    assert finding.severity == severity
    assert text in finding.message
    assert "keep" in finding.remedy


@pytest.mark.parametrize(
    ("name", "group", "severity", "text"),
    [
        ("controller-manager.conf", MASTERS, "warning", "is in the group system:masters, but kubeadm makes it for no group"),
        ("scheduler.conf", "people", "info", "is in the group people, but kubeadm makes it for no group"),
        ("kubelet-client", None, "warning", "is in no group, but kubeadm makes it for the group system:nodes"),
        ("kubelet-client", MASTERS, "warning", "is in the group system:masters, but kubeadm makes it for the group system:nodes"),
        ("admin.conf", MASTERS, "info", "is in the group system:masters, which may do everything"),
        ("admin.conf", None, "info", "is in no group, but kubeadm makes it for the group kubeadm:cluster-admins"),
        ("super-admin.conf", "kubeadm:cluster-admins", "info", "but kubeadm makes it for the group system:masters"),
        ("apiserver-kubelet-client", "people", "info", "but kubeadm makes it for no group"),
    ],
)
def test_another_group(tree: KubeadmTree, name: str, group: str | None, severity: str, text: str) -> None:
    write_client(tree, name, organization=group)
    record = inspect(tree)[name]
    assert codes(record) == [("unexpected_group", severity)]
    assert text in record.findings[0].message
    assert ("super-admin.conf alone" in record.findings[0].remedy) == (name == "admin.conf" and group == MASTERS)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("apiserver-kubelet-client", {"organization": MASTERS}),  # before Kubernetes 1.29
        ("apiserver-kubelet-client", {"organization": "kubeadm:cluster-admins"}),  # 1.29 to 1.32
        ("controller-manager.conf", {"organization": "system:kube-controller-manager"}),
        ("apiserver-etcd-client", {"organization": MASTERS}),
        ("apiserver-etcd-client", {"cn": "etcd-node-cp-1"}),
        ("etcd/healthcheck-client", {"cn": "me"}),
        ("kubelet-client", {"cn": "system:node:ip-192-0-2-7.cloud"}),
    ],
)
def test_what_is_as_good(tree: KubeadmTree, name: str, values: dict[str, t.Any]) -> None:
    write_client(tree, name, **values)
    assert trouble(inspect(tree)) == {}


def test_a_master_under_another_name_may_do_everything(tree: KubeadmTree) -> None:
    write_client(tree, "apiserver-kubelet-client", cn="kubernetes", organization=MASTERS)
    assert codes(inspect(tree)["apiserver-kubelet-client"]) == [("unexpected_subject", "info")]


@pytest.mark.parametrize(("override", "found"), [("cp-1", []), (" CP-1", []), ("cp-2", [("unexpected_subject", "warning")])])
def test_a_kubelet_that_is_told_its_name(tmp_path: Path, override: str, found: list[tuple[str, str]]) -> None:
    tree = KubeadmTree(tmp_path)
    tree.run_kubelet("--hostname-override=%s" % override)
    record = inspect(tree)["kubelet-client"]
    assert codes(record) == found
    assert all("is for the user system:node:cp-1, but" in finding.message for finding in record.findings)


def test_an_embedded_certificate_of_a_kubelet(tree: KubeadmTree) -> None:
    """As `kubeadm init` makes it; here with the administrator's certificate in it."""
    admin = (tree.kubernetes_dir / "admin.conf").read_bytes()
    write(tree.kubernetes_dir / "kubelet.conf", admin, 0o600)
    record = inspect(tree)["kubelet.conf"]
    expected = [("unexpected_subject", "warning"), ("unexpected_group", "warning"), ("cannot_renew_itself", "warning")]
    assert codes(record) == expected
    assert "kubeadm kubeconfig user --config /dev/stdin --org system:nodes --client-name system:node:cp-1)" in record.findings[0].remedy


@pytest.mark.parametrize("flag", [None, "--requestheader-allowed-names=", "--requestheader-allowed-names=a, me"])
def test_names_that_aggregated_api_servers_believe(tree: KubeadmTree, flag: str | None) -> None:
    command = [word for word in COMMANDS["kube-apiserver"] if not word.startswith("--requestheader-allowed-names")]
    tree.write_manifest("kube-apiserver", [*command, flag] if flag else command)
    write_client(tree, "front-proxy-client", cn="me")
    assert trouble(inspect(tree)) == {}


def test_several_groups_and_the_last_name(tree: KubeadmTree) -> None:
    """As Go reads a subject: every organization is a group, the last common name the user."""
    oid = x509.oid.NameOID
    parts = [(oid.ORGANIZATION_NAME, "kubeadm:cluster-admins"), (oid.ORGANIZATION_NAME, "people"), (oid.COMMON_NAME, "me")]
    subject = x509.Name([x509.NameAttribute(*part) for part in (*parts, (oid.COMMON_NAME, "kubernetes-admin"))])
    write_client(tree, "admin.conf", subject=subject)
    record = inspect(tree)["admin.conf"]
    assert codes(record) == [("unexpected_group", "info")]
    assert "is in the groups kubeadm:cluster-admins, people, but" in record.findings[0].message
