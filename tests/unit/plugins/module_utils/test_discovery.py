# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is found on a node: from flags, manifests and the kubelet's configuration, garbage in them included."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._discovery import component_endpoints
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import parse_flags
from ansible_collections.certops.kubernetes.plugins.module_utils._manifests import host_path
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Component
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import (
    COMMANDS,
    ORDINARY_UID,
    KubeadmTree,
    embedded,
    kubeconfig_of,
    write,
)

NAMES = [
    "apiserver",
    "apiserver-kubelet-client",
    "apiserver-etcd-client",
    "front-proxy-client",
    "etcd/server",
    "etcd/healthcheck-client",
    "etcd/peer",
    "controller-manager.conf",
    "scheduler.conf",
    "admin.conf",
    "super-admin.conf",
    "kubelet-client",
    "kubelet-serving",
    "ca",
    "front-proxy-ca",
    "etcd/ca",
    "sa",
]


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> KubeadmTree:
    return KubeadmTree(tmp_path)


def test_a_running_kubeadm_node(tree: KubeadmTree) -> None:
    tree.run_everything()
    node = tree.discover()
    assert node.problems == ()
    assert list(node.credentials) == NAMES
    assert (node.name, node.cluster) == ("cp-1", "blue")
    assert all(component.process is not None for component in node.components.values())
    assert node.credentials["apiserver"].cert_path == str(tree.cert("apiserver"))
    assert node.credentials["etcd/ca"].key_path == str(tree.key("etcd/ca"))
    assert node.credentials["sa"].cert_path == str(tree.pki_dir / "sa.pub")
    assert all(os.path.exists(credential.cert_path) for credential in node.credentials.values())


def test_addresses_come_from_flags(tree: KubeadmTree) -> None:
    tree.run_everything()
    found = {endpoint.address: endpoint.credential for component in tree.discover().components.values() for endpoint in component.endpoints}
    assert found == {
        "192.0.2.7:6443": "apiserver",
        "127.0.0.1:2379": "etcd/server",
        "192.0.2.7:2379": "etcd/server",
        "192.0.2.7:2380": "etcd/peer",
        "127.0.0.1:10257": None,
        "127.0.0.1:10259": None,
        "127.0.0.1:10250": "kubelet-serving",
    }


def test_readers(tree: KubeadmTree) -> None:
    tree.run_everything()
    credentials = tree.discover().credentials
    reloads = {name: {reader.component: reader.reload for reader in credential.readers} for name, credential in credentials.items()}
    assert reloads["apiserver"] == {"kube-apiserver": "hot"}
    assert reloads["controller-manager.conf"] == {"kube-controller-manager": "restart"}
    assert reloads["etcd/ca"] == {"etcd": "restart", "kube-apiserver": "restart"}
    assert reloads["ca"] == {"kube-apiserver": "hot", "kube-controller-manager": "restart", "kubelet": "hot"}
    assert reloads["sa"] == {"kube-apiserver": "restart", "kube-controller-manager": "restart"}
    assert reloads["admin.conf"] == {}
    assert credentials["controller-manager.conf"].readers[0].container_path == "/etc/kubernetes/controller-manager.conf"


def test_a_node_that_is_down_is_still_known(tree: KubeadmTree) -> None:
    node = tree.discover()
    # Without a kubelet nobody says where its certificates are but kubeadm's convention.
    assert list(node.credentials) == NAMES
    assert all(component.process is None for component in node.components.values())
    assert node.problems == ()


def test_a_foreign_api_server_in_an_ordinary_pod_is_ignored(tree: KubeadmTree) -> None:
    decoy = [*COMMANDS["kube-apiserver"][:-2], "--tls-cert-file=/decoy.crt", "--tls-private-key-file=/decoy.key"]
    tree.run(99999050, decoy, "0::/kubepods/pod%s/0a\n" % ORDINARY_UID)
    tree.run(99999051, COMMANDS["kube-apiserver"], "0::/kubepods/pod%s/0b\n" % ORDINARY_UID)
    tree.run_everything()
    found = tree.discover().components["kube-apiserver"]
    assert found.process is not None
    assert found.process.pid == 99999001


def test_the_running_process_wins_over_a_changed_manifest(tree: KubeadmTree) -> None:
    tree.write_manifest("kube-scheduler", [*COMMANDS["kube-scheduler"], "--secure-port=12345"])
    tree.run_everything()
    scheduler = tree.discover().components["kube-scheduler"]
    assert scheduler.process is not None
    assert scheduler.flag("secure-port") is None


def test_a_wrapped_command(tree: KubeadmTree) -> None:
    wrapped = ["/go-runner", "--log-file=/x", "--", "/usr/local/bin/kube-scheduler", *COMMANDS["kube-scheduler"][1:]]
    tree.write_manifest("kube-scheduler", wrapped)
    tree.run_everything()
    assert tree.discover().components["kube-scheduler"].process is not None


GARBAGE = {
    "empty": b"",
    "noise": os.urandom(4096),
    "ten megabytes": b"\0" * (10 << 20),
    "invalid UTF-8": b"kind: \xff\xfe",
    "no pod": b"kind: ConfigMap",
    "a list": b"[1, 2]",
    "a word": b"hello",
    "brackets": b"[" * 500_000,
    "braces": b"{a: " * 200_000,
    "recursive": b"kind: Pod\nspec: &a\n  containers: [*a]\n  x: *a\n",
    "unhashable": b"{[1]: 2}",
    "undefined alias": b"kind: *x",
    "tab": b"kind:\n\t- Pod",
    "control characters": b"kind: \x07Pod",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_garbage_manifest_is_a_problem(tree: KubeadmTree, garbage: bytes) -> None:
    path = tree.kubernetes_dir / "manifests" / "kube-scheduler.yaml"
    path.write_bytes(garbage)
    node = tree.discover()
    assert "kube-scheduler" not in node.components
    assert [(problem.code, problem.severity) for problem in node.problems] == [("unreadable", "warning")]
    assert str(path) in node.problems[0].message
    assert len(node.problems[0].message) < 400


ODD_PODS = {
    "spec a list": {"kind": "Pod", "spec": []},
    "containers a mapping": {"kind": "Pod", "spec": {"containers": {"command": ["etcd"]}}},
    "container a word": {"kind": "Pod", "spec": {"containers": ["etcd"]}},
    "command a word": {"kind": "Pod", "spec": {"containers": [{"command": "etcd"}]}},
    "command of mappings": {"kind": "Pod", "spec": {"containers": [{"command": [{"etcd": 1}, None, ["etcd"]]}]}},
    "volumes odd": {
        "kind": "Pod",
        "spec": {"volumes": [1, {"name": []}, {"name": "x", "hostPath": "y"}], "containers": [{"volumeMounts": [3]}]},
    },
}


@pytest.mark.parametrize("document", ODD_PODS.values(), ids=ODD_PODS.keys())
def test_wrong_types_in_a_manifest_are_no_component(tree: KubeadmTree, document: object) -> None:
    (tree.kubernetes_dir / "manifests" / "etcd.yaml").write_text(json.dumps(document))
    node = tree.discover()
    assert "etcd" not in node.components
    assert node.problems == ()


def test_what_the_kubelet_does_not_read_is_not_read(tree: KubeadmTree) -> None:
    manifests = tree.kubernetes_dir / "manifests"
    (manifests / ".kube-scheduler.yaml.certops-new").write_bytes(b"garbage")
    (manifests / "folder").mkdir()
    assert tree.discover().problems == ()


def test_a_copy_in_the_manifests_directory_is_a_problem(tree: KubeadmTree) -> None:
    tree.write_manifest("etcd", name="etcd.yaml.1234~")
    assert [problem.code for problem in tree.discover().problems] == ["duplicate_manifest"]


def test_drop_ins_are_merged_in_order(tree: KubeadmTree) -> None:
    folder = tree.root / "kubelet.conf.d"
    (folder / "20").mkdir(parents=True)
    (folder / "10-a.conf").write_text("port: 1\naddress: 192.0.2.9\nauthentication: {x509: {clientCAFile: /other.crt}}")
    (folder / "20" / "b.conf").write_text("port: 12250")
    (folder / "ignored.yaml").write_text("port: 3")
    tree.run_kubelet("--config-dir=%s" % folder)
    node = tree.discover()
    assert [endpoint.address for endpoint in node.components["kubelet"].endpoints] == ["192.0.2.9:12250"]
    assert node.components["kubelet"].process is not None


@pytest.mark.parametrize("garbage", [b"[]", b"{a: ", b"\xff", b"x" * (2 << 20)])
def test_a_garbage_kubelet_configuration_is_a_problem(tree: KubeadmTree, garbage: bytes) -> None:
    tree.kubelet_config.write_bytes(garbage)
    tree.run_everything()
    node = tree.discover()
    assert [problem.code for problem in node.problems] == ["unreadable"]
    assert "kube-apiserver" in node.components


def test_wrong_types_in_the_kubelet_configuration(tree: KubeadmTree) -> None:
    config = {"authentication": [1], "staticPodPath": {"a": 1}, "port": "many", "tlsCertFile": [], "rotateCertificates": {}}
    tree.kubelet_config.write_text(json.dumps(config))
    tree.run_everything()
    node = tree.discover()
    assert [endpoint.address for endpoint in node.components["kubelet"].endpoints] == ["127.0.0.1:10250"]
    assert "kube-apiserver" in node.components


def test_a_kubelet_configuration_that_is_named_but_missing(tree: KubeadmTree) -> None:
    tree.kubelet_config.unlink()
    tree.run_kubelet("--config-dir=/nowhere")
    assert [problem.code for problem in tree.discover().problems] == ["missing", "missing"]


def test_a_worker_has_only_the_kubelets_credentials(tree: KubeadmTree) -> None:
    for path in (tree.kubernetes_dir / "manifests").iterdir():
        path.unlink()
    tree.run_kubelet()
    node = tree.discover()
    assert list(node.credentials) == ["kubelet-client", "kubelet-serving", "ca"]
    assert list(node.components) == ["kubelet"]
    assert (node.name, node.cluster) == ("cp-1", "green")


def test_a_host_without_kubernetes_says_so(tmp_path: Path) -> None:
    empty = KubeadmTree(tmp_path / "a")
    empty.kubelet_config.unlink()
    (empty.kubernetes_dir / "kubelet.conf").unlink()
    for path in (empty.kubernetes_dir / "manifests").iterdir():
        path.unlink()
    node = empty.discover()
    assert (node.components, node.credentials) == ({}, {})
    assert [(problem.code, problem.severity) for problem in node.problems] == [("missing", "critical")]


def test_an_embedded_kubelet_certificate(tree: KubeadmTree) -> None:
    pair = pki.make_leaf(tree.cas["ca"], "system:node:cp-1")
    write(tree.kubernetes_dir / "kubelet.conf", kubeconfig_of({"system:node:cp-1": embedded(pair)}, "system:node:cp-1"), 0o600)
    tree.run_kubelet()
    credentials = tree.discover().credentials
    assert credentials["kubelet.conf"].kind == "kubeconfig"
    assert credentials["kubelet-client"].kind == "pair"


def test_a_joined_nodes_name_is_in_its_kubelets_certificate(tree: KubeadmTree) -> None:
    certificate = tree.kubelet_dir / "pki" / "kubelet-client-current.pem"
    pair = pki.make_leaf(tree.cas["ca"], "system:node:ip-192-0-2-7.cloud", organization="system:nodes")
    write(certificate, pair.cert_pem + pair.key_pem, 0o600)
    user = {"client-certificate": str(certificate), "client-key": str(certificate)}
    write(tree.kubernetes_dir / "kubelet.conf", kubeconfig_of({"default-auth": user}, "default-auth"), 0o600)
    tree.run_kubelet()
    assert tree.discover().name == "ip-192-0-2-7.cloud"
    certificate.write_bytes(b"garbage")
    assert tree.discover().name == os.uname().nodename.lower()


def test_the_kubelets_serving_certificate(tree: KubeadmTree) -> None:
    tree.run_kubelet("--tls-cert-file=/a.crt", "--tls-private-key-file=/a.key")
    serving = tree.discover().credentials["kubelet-serving"]
    assert (serving.cert_path, serving.ca, serving.self_signed_is_normal) == ("/a.crt", None, False)


def test_the_kubelets_serving_certificate_from_the_cluster(tree: KubeadmTree) -> None:
    tree.run_kubelet("--rotate-server-certificates")
    serving = tree.discover().credentials["kubelet-serving"]
    assert (os.path.basename(serving.cert_path), serving.ca, serving.readers[0].reload) == ("kubelet-server-current.pem", "ca", "self")


def test_a_kubeconfig_that_names_files_is_a_pair(tree: KubeadmTree) -> None:
    user = {"client-certificate": "/etc/kubernetes/pki/kcm.crt", "client-key": "pki/kcm.key"}
    write(tree.kubernetes_dir / "controller-manager.conf", kubeconfig_of({"me": user}, "me"), 0o600)
    found = tree.discover().credentials["controller-manager.conf"]
    assert (found.kind, found.cert_path, found.readers[0].reload) == ("pair", str(tree.pki_dir / "kcm.crt"), "hot")
    assert found.key_path == str(tree.pki_dir / "kcm.key")


def test_absence_of_peoples_kubeconfigs_is_no_problem(tree: KubeadmTree) -> None:
    for name in ("admin.conf", "super-admin.conf"):
        (tree.kubernetes_dir / name).unlink()
    node = tree.discover()
    assert not {"admin.conf", "super-admin.conf"} & set(node.credentials)
    assert node.problems == ()


def test_another_authority_under_the_same_use_has_a_name_of_its_own(tree: KubeadmTree) -> None:
    command = [
        word.replace("signing-cert-file=/etc/kubernetes/pki/ca", "signing-cert-file=/etc/kubernetes/pki/sign/ca")
        for word in COMMANDS["kube-controller-manager"]
    ]
    tree.write_manifest("kube-controller-manager", command)
    credentials = tree.discover().credentials
    assert credentials["sign/ca"].cert_path == str(tree.pki_dir / "sign" / "ca.crt")


@pytest.mark.parametrize(
    ("argv", "addresses"),
    [
        (["kube-apiserver"], ["127.0.0.1:6443"]),
        (["kube-apiserver", "--bind-address=::", "--advertise-address=2001:db8::1"], ["[2001:db8::1]:6443"]),
        (["kube-apiserver", "--bind-address=192.0.2.1", "--advertise-address=192.0.2.2", "--secure-port=443"], ["192.0.2.1:443"]),
        (["kube-scheduler", "--secure-port=0"], []),
        (["kube-scheduler", "--secure-port=many"], ["127.0.0.1:10259"]),
        (["kube-controller-manager", "--bind-address=0.0.0.0"], ["127.0.0.1:10257"]),
        (["etcd"], []),
        (["etcd", "--listen-client-urls=https://[::1]:2379,http://127.0.0.1:2381,https://0.0.0.0:99"], ["[::1]:2379", "127.0.0.1:99"]),
        (["etcd", "--listen-peer-urls=https://h:port,https://:2380,nonsense,https://[::1:2,https://a.b:70000"], []),
    ],
)
def test_endpoints(argv: list[str], addresses: list[str]) -> None:
    component = Component(argv[0], parse_flags(argv))
    assert [endpoint.address for endpoint in component_endpoints(component)] == addresses


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b/c.crt", "/host/b/c.crt"),
        ("/a/x/c.crt", "/elsewhere/c.crt"),
        ("/a", "/host"),
        ("/ab/c", "/ab/c"),
        ("/file", "/host-file"),
        ("/a/x/../b", "/host/b"),
    ],
)
def test_paths_go_through_the_innermost_mount(path: str, expected: str) -> None:
    assert host_path(path, [("/a", "/host"), ("/a/x", "/elsewhere"), ("/file", "/host-file")]) == expected


def test_a_root_mount() -> None:
    assert host_path("/etc/x", [("/", "/rootfs")]) == "/rootfs/etc/x"
