# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An etcd that is no pod of the control plane: a unit of systemd, or a static pod of a kubelet that has no API server."""

from __future__ import annotations

import json
import shutil
import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.etcd_host import IN_UNIT, EtcdHost
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import (
    COMMANDS,
    ORDINARY_UID,
    STATIC_UID,
    KubeadmTree,
    write,
)

IN_KIND = "1:name=systemd:/docker/0123/system.slice/etcd.service\n"


@pytest.fixture(name="host")
def _host(tmp_path: Path) -> EtcdHost:
    return EtcdHost(tmp_path)


def paths(node: Node) -> dict[str, str]:
    """Where each credential lies, by its name, without the folder."""
    return {Path(name).name if name[0] == "/" else name: Path(found.cert_path).name for name, found in node.credentials.items()}


def test_a_unit_that_is_configured_by_its_environment(host: EtcdHost) -> None:
    host.run()
    node = host.discover()
    etcd = node.components["etcd"]
    assert node.problems == ()
    assert (node.name, node.cluster, list(node.components)) == (None, None, ["etcd"])
    assert etcd.process is not None
    assert (etcd.unit, etcd.manifest, etcd.process.pid) == ("etcd.service", None, 99999200)
    assert [(endpoint.address, endpoint.credential) for endpoint in etcd.endpoints] == [
        ("192.0.2.9:2379", "etcd/server"),
        ("127.0.0.1:2379", "etcd/server"),
        ("192.0.2.9:2380", "etcd/peer"),
    ]
    files = {"etcd/server": "member-e1.pem", "admin-e1.pem": "admin-e1.pem", "etcd/peer": "member-e1.pem", "etcd/ca": "ca.pem"}
    assert paths(node) == files
    assert node.credentials["etcd/ca"].key_path == str(host.ssl / "ca-key.pem")
    admin = node.credentials[str(host.ssl / "admin-e1.pem")]
    assert (admin.key_path, admin.ca, admin.usage) == (str(host.ssl / "admin-e1-key.pem"), "etcd/ca", "client")
    assert (admin.component, admin.presented_by, admin.presented_to) == ("etcd", "user", "etcd")


def test_a_flag_wins_over_the_variable(host: EtcdHost) -> None:
    host.run(["etcd", "--cert-file=/other.pem", "-key-file", "/other-key.pem"])
    server = host.discover().credentials["etcd/server"]
    assert (server.cert_path, server.key_path) == ("/other.pem", "/other-key.pem")


def test_an_empty_variable_is_none(host: EtcdHost) -> None:
    host.environment["ETCD_CERT_FILE"] = ""
    host.run()
    assert "etcd/server" not in host.discover().credentials


CONFIG = """\
name: e1
listen-client-urls: https://0.0.0.0:2379
advertise-client-urls: https://etcd-1.example.org:2379
listen-peer-urls: https://192.0.2.9:2380
client-transport-security:
  cert-file: /c/server.pem
  key-file: /c/server-key.pem
  client-cert-file: /c/client.pem
  client-key-file: /c/client-key.pem
  client-cert-auth: true
  trusted-ca-file: /c/ca.pem
peer-transport-security: {cert-file: /c/peer.pem, key-file: /c/peer-key.pem, trusted-ca-file: /c/peer-ca.pem}
"""


@pytest.mark.parametrize("way", ["flag", "variable"])
def test_a_configuration_file_makes_it_ignore_everything_else(host: EtcdHost, way: str) -> None:
    file = host.root / "etcd.conf.yml"
    file.write_text(CONFIG)
    if way == "flag":
        host.run(["etcd", "--config-file=%s" % file, "--cert-file=/ignored.pem"])
    else:
        host.environment["ETCD_CONFIG_FILE"] = str(file)
        host.run(["etcd", "--cert-file=/ignored.pem"])
    node = host.discover()
    assert node.problems == ()
    assert {name: (found.cert_path, found.ca) for name, found in node.credentials.items()} == {
        "etcd/server": ("/c/server.pem", "etcd/ca"),
        "/c/client.pem": ("/c/client.pem", "etcd/ca"),
        "etcd/peer": ("/c/peer.pem", "peer-ca"),
        "etcd/ca": ("/c/ca.pem", None),
        "peer-ca": ("/c/peer-ca.pem", None),
    }
    assert node.components["etcd"].flag("peer-trusted-ca-file") == "/c/peer-ca.pem"
    addresses = [endpoint.address for endpoint in node.components["etcd"].endpoints]
    assert addresses == ["etcd-1.example.org:2379", "192.0.2.9:2380"], "the name that its certificate has to have"


@pytest.mark.parametrize("content", [None, b"[1]", b"{a: ", b"\xff", b"a: [" * 5000, b"client-transport-security: [cert-file]"])
def test_garbage_in_the_configuration_file_is_a_problem(host: EtcdHost, content: bytes | None) -> None:
    file = host.root / "etcd.conf.yml"
    if content is not None:
        file.write_bytes(content)
    host.run(["etcd", "--config-file=%s" % file])
    node = host.discover()
    assert list(node.components) == ["etcd"]
    assert node.credentials == {}
    assert [problem.code for problem in node.problems] == ([] if content and content.startswith(b"client") else ["unreadable"])


@pytest.mark.parametrize(
    ("cgroup", "nesting"),
    [
        ("0::/user.slice/user-0.slice/session-1.scope\n", 1),
        ("0::/system.slice/docker-0123.scope\n", 2),
        (IN_KIND, 2),
        ("0::/kubepods/pod%s/0a\n" % ORDINARY_UID, 2),
        ("0::/kubepods/pod%s/0a\n" % STATIC_UID, 2),
        ("0::/system.slice/etcd.service/libpod-payload-0123\n", 1),
        ("12:cpu:/system.slice/etcd.service\n1:name=systemd:/user.slice\n", 1),
    ],
)
def test_a_foreign_etcd_is_ignored(host: EtcdHost, cgroup: str, nesting: int) -> None:
    host.run(cgroup=cgroup, nesting=nesting)
    node = host.discover()
    assert (node.components, node.credentials) == ({}, {})
    assert [problem.code for problem in node.problems] == ["missing"]
    assert "no unit that runs etcd" in node.problems[0].message


def test_an_etcd_that_is_known_to_be_somebody_elses(host: EtcdHost) -> None:
    host.run()
    host.enable()
    assert host.discover(etcd_unit=False).components == {}


def test_on_cgroup_v1_and_inside_a_container_with_its_own_systemd(host: EtcdHost) -> None:
    host.run(cgroup="12:cpu:/docker/0123\n" + IN_KIND, nesting=1)
    assert host.discover().components["etcd"].unit == "etcd.service"


def test_the_youngest_process_of_the_unit_counts(host: EtcdHost) -> None:
    host.run(pid=99999201, start_ticks=1)
    host.run(pid=99999200, start_ticks=2)
    process = host.discover().components["etcd"].process
    assert process is not None
    assert process.pid == 99999200


def test_a_second_etcd_is_named_and_left_alone(host: EtcdHost) -> None:
    host.run(cgroup=IN_UNIT.replace("etcd", "etcd-events"), pid=99999201)
    host.run()
    node = host.discover()
    assert node.components["etcd"].unit == "etcd.service"
    assert [(problem.code, problem.severity) for problem in node.problems] == [("other_etcd", "info")]
    assert node.problems[0].message.startswith("etcd-events.service on this host also runs etcd")


def test_a_unit_that_does_not_run_is_still_known(host: EtcdHost) -> None:
    host.run()
    running = host.discover()
    shutil.rmtree(str(host.proc / "99999200"))
    host.enable()
    stopped = host.discover()
    assert stopped.credentials == running.credentials
    assert (stopped.components["etcd"].unit, stopped.components["etcd"].process) == ("etcd.service", None)
    assert stopped.components["etcd"].endpoints == running.components["etcd"].endpoints
    host.run()
    assert host.discover().components["etcd"].process is not None
    assert host.discover().problems == ()


def test_a_unit_that_is_not_enabled_is_no_component(host: EtcdHost) -> None:
    host.enable()
    (host.unit_folder / "multi-user.target.wants" / "etcd.service").unlink()
    assert host.discover().components == {}


# --- control-plane nodes ---------------------------------------------------------------------------------------------


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> KubeadmTree:
    """A control-plane node that runs no etcd as a pod."""
    tree = KubeadmTree(tmp_path / "cp")
    (tree.kubernetes_dir / "manifests" / "etcd.yaml").unlink()
    shutil.rmtree(str(tree.pki_dir / "etcd"))
    return tree


def as_kubespray(tree: KubeadmTree, ssl: Path) -> None:
    """The API server's flags for etcd as kubespray sets them."""
    flags = {"etcd-cafile": "ca.pem", "etcd-certfile": "node-cp-1.pem", "etcd-keyfile": "node-cp-1-key.pem"}
    others = [word for word in COMMANDS["kube-apiserver"] if not word.startswith("--etcd-")]
    servers = "--etcd-servers=https://192.0.2.10:2379,https://192.0.2.9:2379"
    command = [*others, *("--%s=%s" % (flag, ssl / file) for flag, file in flags.items()), servers]
    tree.write_manifest("kube-apiserver", command)
    tree.run(99999001, command)
    tree.run_kubelet()


def test_a_control_plane_whose_etcd_is_elsewhere(tree: KubeadmTree, tmp_path: Path) -> None:
    ssl = tmp_path / "ssl"
    ssl.mkdir()
    ca = pki.make_ca("etcd-ca")
    client = pki.make_leaf(ca, "etcd-node-cp-1")
    for name, pair in (("ca", ca), ("node-cp-1", client)):
        write(ssl / (name + ".pem"), pair.cert_pem, 0o644)
        write(ssl / (name + "-key.pem"), pair.key_pem, 0o600)
    (ssl / "ca-key.pem").unlink()
    as_kubespray(tree, ssl)
    node = tree.discover()
    assert node.problems == ()
    assert "etcd" not in node.components
    found = node.credentials["apiserver-etcd-client"]
    assert (Path(found.cert_path).name, Path(str(found.key_path)).name, found.ca) == ("node-cp-1.pem", "node-cp-1-key.pem", "etcd/ca")
    assert node.credentials["etcd/ca"].cert_path == str(ssl / "ca.pem")


def test_etcd_as_a_unit_on_a_control_plane_node(tree: KubeadmTree, tmp_path: Path) -> None:
    host = EtcdHost(tmp_path / "e", "cp-1")
    host.write_pair("node-cp-1", host.leaf("etcd-node-cp-1"))
    as_kubespray(tree, host.ssl)
    tree_run_etcd(tree, host)
    node = tree.discover()
    assert node.name == "cp-1"
    assert node.components["etcd"].unit == "etcd.service"
    by_file = {Path(found.cert_path).name: name for name, found in node.credentials.items() if found.ca == "etcd/ca"}
    assert by_file == {
        "node-cp-1.pem": "apiserver-etcd-client",  # once, although it lies beside etcd's own
        "admin-cp-1.pem": str(host.ssl / "admin-cp-1.pem"),
        "member-cp-1.pem": "etcd/peer",  # and etcd/server
    }
    assert {reader.component for reader in node.credentials["etcd/ca"].readers} == {"etcd", "kube-apiserver"}


def tree_run_etcd(tree: KubeadmTree, host: EtcdHost) -> None:
    """The host's etcd among the node's processes."""
    host.proc = tree.proc
    host.run()


def test_an_etcd_that_the_api_server_does_not_use_is_somebody_elses(tree: KubeadmTree, tmp_path: Path) -> None:
    host = EtcdHost(tmp_path / "e", "cp-1")
    as_kubespray(tree, host.ssl)
    host.environment.update(ETCD_LISTEN_CLIENT_URLS="https://192.0.2.77:2379", ETCD_ADVERTISE_CLIENT_URLS="https://192.0.2.77:2379")
    tree_run_etcd(tree, host)
    node = tree.discover()
    assert "etcd" not in node.components
    assert [problem.code for problem in node.problems] == ["other_etcd"]


@pytest.mark.parametrize(
    ("listens", "used", "ours"),
    [
        ("https://0.0.0.0:2379", "https://127.0.0.1:2379", True),
        ("https://0.0.0.0:2379", "https://127.0.0.1:12379", False),
        ("https://0.0.0.0:2379", "https://192.0.2.200:2379", False),
        ("", "http://localhost:2379", True),
        ("https://[::1:2379", "https://[::1", False),
    ],
)
def test_addresses_that_agree(tree: KubeadmTree, tmp_path: Path, listens: str, used: str, ours: bool) -> None:
    host = EtcdHost(tmp_path / "e", "cp-1")
    host.environment.update(ETCD_LISTEN_CLIENT_URLS=listens, ETCD_ADVERTISE_CLIENT_URLS="")
    tree_run_etcd(tree, host)
    tree.run(99999001, [*COMMANDS["kube-apiserver"], "--etcd-servers=%s" % used])
    assert ("etcd" in tree.discover().components) == ours


def test_a_static_pod_wins_over_a_unit(tmp_path: Path) -> None:
    tree = KubeadmTree(tmp_path / "cp")
    tree.run_everything()
    tree_run_etcd(tree, EtcdHost(tmp_path / "e"))
    assert tree.discover().components["etcd"].unit is None


# --- a kubelet that runs etcd and nothing else -----------------------------------------------------------------------


@pytest.fixture(name="alone")
def _alone(tmp_path: Path) -> KubeadmTree:
    """As kubeadm's guide for external etcd leaves it: a kubelet without a kubeconfig, one static pod."""
    tree = KubeadmTree(tmp_path / "alone")
    for path in (tree.kubernetes_dir / "manifests").iterdir():
        if path.name != "etcd.yaml":
            path.unlink()
    for name in ("kubelet.conf", "admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf"):
        (tree.kubernetes_dir / name).unlink()
    config = json.loads(tree.kubelet_config.read_text())
    tree.kubelet_config.write_text(json.dumps({key: value for key, value in config.items() if key != "authentication"}))
    tree.run(99999004, COMMANDS["etcd"])
    argv = ["/usr/bin/kubelet", "--config=%s" % tree.kubelet_config, "--cert-dir=%s" % (tree.kubelet_dir / "pki")]
    tree.run(99999100, argv, "0::/system.slice/kubelet.service\n", nesting=1)
    return tree


def test_a_kubelet_without_a_cluster(alone: KubeadmTree) -> None:
    node = alone.discover()
    assert node.problems == ()
    assert list(node.components) == ["etcd", "kubelet"]
    assert node.components["etcd"].manifest is not None
    assert list(node.credentials) == ["etcd/server", "etcd/healthcheck-client", "etcd/peer", "kubelet-serving", "etcd/ca"]
    assert (node.name, node.cluster) == (None, None)


def test_a_static_pod_that_is_configured_by_a_file(alone: KubeadmTree) -> None:
    """Its path is the container's."""
    file: t.Any = alone.pki_dir / "etcd" / "conf.yml"
    file.write_text("client-transport-security: {cert-file: /etc/kubernetes/pki/etcd/server.crt}\n")
    command = ["etcd", "--config-file=/etc/kubernetes/pki/etcd/conf.yml"]
    alone.write_manifest("etcd", command)
    alone.run(99999004, command)
    assert alone.discover().credentials["etcd/server"].cert_path == str(alone.pki_dir / "etcd" / "server.crt")
