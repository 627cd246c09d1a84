# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Garbage in the files of a node: a finding of the record in question, never an error."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._inspection import record_to_dict
from ansible_collections.certops.kubernetes.plugins.module_utils._material import read_material
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.inspected import codes, inspect, trouble
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import (
    COMMANDS,
    KubeadmTree,
    embedded,
    kubeconfig_of,
    write,
)


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> KubeadmTree:
    tree = KubeadmTree(tmp_path)
    tree.run_kubelet()  # it says where its certificates are
    return tree


GARBAGE: dict[str, bytes] = {
    "empty": b"",
    "space": b"\n \n",
    "noise": bytes(range(256)) * 64,
    "ten megabytes of noise": os.urandom(1 << 20) * 10,
    "invalid UTF-8": b"\xff\xfe\x00-----BEGIN",
    "no base64": b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
    "no certificate": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "brackets": b"[" * 500_000,
}
CREDENTIALS = ("apiserver", "etcd/server", "ca", "admin.conf", "controller-manager.conf", "kubelet-client", "sa")


def path_of(tree: KubeadmTree, name: str) -> Path:
    """The file that holds a credential's certificate (or public key)."""
    if name == "kubelet-client":
        return tree.kubelet_dir / "pki" / "kubelet-client-current.pem"
    if name == "sa":
        return tree.pki_dir / "sa.pub"
    return tree.kubernetes_dir / name if name.endswith(".conf") else tree.cert(name)


@pytest.mark.parametrize("name", CREDENTIALS)
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_a_finding_of_its_record(tree: KubeadmTree, name: str, garbage: bytes) -> None:
    path_of(tree, name).write_bytes(garbage)
    tree.run_everything()
    records = inspect(tree)
    assert trouble(records) == {name: ["unreadable"]}
    assert records[name].status == "unreadable"
    assert len(records[name].findings[0].message) < 600


ODD_FLAGS = [
    *(
        "--tls-private-key-file=/a\0b",
        "--etcd-cafile=/\0",
        "--root-ca-file=/\ud800",
        "--kubeconfig=/a\0",
        "--service-account-signing-key-file=\0",
    ),
    *("--secure-port=²", "--secure-port=" + "9" * 5000, "--listen-client-urls=https://[::1\0]:1", "--bind-address=\0", "--config=\0"),
    *("--tls-private-key-file=", "--client-ca-file=.", "--tls-cert-file=..", "--root-ca-file=//", "--kubeconfig=" + "/x" * 5000),
]


@pytest.mark.parametrize("flag", ODD_FLAGS, ids=lambda flag: ascii(flag)[:40])
@pytest.mark.parametrize("component", sorted(COMMANDS))
def test_odd_flags_never_end_an_inspection(tree: KubeadmTree, component: str, flag: str) -> None:
    tree.write_manifest(component, [*COMMANDS[component], flag])
    json.dumps([record_to_dict(record) for record in inspect(tree).values()])


@pytest.mark.parametrize("key", ["client-certificate", "client-key"])
@pytest.mark.parametrize("path", ["a\0b", "\ud800", "", ".", "/"])
def test_odd_paths_in_a_kubeconfig_never_end_an_inspection(tree: KubeadmTree, key: str, path: str) -> None:
    current = str(path_of(tree, "kubelet-client"))
    user = {"client-certificate": current, "client-key": current, key: path}
    for name in ("kubelet.conf", "controller-manager.conf"):
        write(tree.kubernetes_dir / name, kubeconfig_of({"me": user}, "me"), 0o600)
    tree.run_everything()
    assert inspect(tree)


@pytest.mark.parametrize(
    "settings", [{"port": "²"}, {"port": "9" * 5000}, {"address": "\0"}, {"tlsCertFile": "/\0", "tlsPrivateKeyFile": "/\0"}]
)
def test_odd_settings_of_the_kubelet_never_end_an_inspection(tree: KubeadmTree, settings: dict[str, str]) -> None:
    write(tree.kubelet_config, json.dumps({**json.loads(tree.kubelet_config.read_text()), **settings}).encode(), 0o644)
    assert inspect(tree)


@pytest.mark.parametrize("name", CREDENTIALS)
def test_truncated_files(tree: KubeadmTree, name: str) -> None:
    path = path_of(tree, name)
    data = path.read_bytes()
    credential = tree.discover().credentials[name]
    for length in range(1, len(data) - 2, 41):
        path.write_bytes(data[:length])
        material = read_material(credential)
        # A file with both may be cut behind its certificate: then it is the key that cannot be read.
        assert "unreadable" in (material.problem_code, material.key_state), length


def test_der_is_said_to_be_der(tree: KubeadmTree) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    tree.cert("apiserver").write_bytes(tree.cas["ca"].cert.public_bytes(Encoding.DER))
    record = inspect(tree)["apiserver"]
    assert codes(record) == [("unreadable", "critical")]
    assert "DER" in record.findings[0].message


@pytest.mark.parametrize("name", CREDENTIALS)
def test_a_directory_in_its_place(tree: KubeadmTree, name: str) -> None:
    path = path_of(tree, name)
    path.unlink()
    path.mkdir()
    tree.run_everything()
    assert trouble(inspect(tree)) == {name: ["unreadable"]}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tree: KubeadmTree) -> None:
    tree.cert("apiserver").chmod(0)
    assert trouble(inspect(tree)) == {"apiserver": ["unreadable"]}


def test_no_permission_as_anybody(tree: KubeadmTree, monkeypatch: pytest.MonkeyPatch) -> None:
    real, refused = os.open, str(tree.cert("apiserver"))

    def refusing(path: t.Any, *args: t.Any, **kwargs: t.Any) -> int:
        if path == refused:
            raise PermissionError(13, "Permission denied", path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refusing)
    assert trouble(inspect(tree)) == {"apiserver": ["unreadable"]}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_garbage_key(tree: KubeadmTree, garbage: bytes) -> None:
    write(tree.key("apiserver"), garbage, 0o600)
    record = inspect(tree)["apiserver"]
    assert (codes(record), record.status) == ([("unreadable", "critical")], "critical")


def test_a_kubeconfig_with_ten_users(tree: KubeadmTree) -> None:
    pairs = {"user%d" % number: pki.make_leaf(tree.cas["ca"], "user%d" % number) for number in range(10)}
    users = {name: embedded(pair) for name, pair in pairs.items()}
    write(tree.kubernetes_dir / "admin.conf", kubeconfig_of(users, "user7"), 0o600)
    record = inspect(tree)["admin.conf"]
    foreign = [("unexpected_subject", "info"), ("unexpected_group", "info")]
    assert (record.subject, codes(record), record.status) == ("CN=user7", [*foreign, ("other_users", "info")], "ok")


def test_a_kubeconfig_in_yaml_with_anchors(tree: KubeadmTree) -> None:
    user = embedded(pki.make_leaf(tree.cas["ca"], "anchored"))
    text = "users:\n- name: a\n  user: &it\n    client-certificate-data: %s\n    client-key-data: %s\n- {name: b, user: *it}\n" % tuple(
        user.values()
    )
    text += "contexts: [{name: c, context: {cluster: x, user: b}}]\ncurrent-context: c\n"
    write(tree.kubernetes_dir / "admin.conf", text.encode(), 0o600)
    assert inspect(tree)["admin.conf"].subject == "CN=anchored"


@pytest.mark.parametrize(
    ("users", "current"),
    [({"me": {"token": "t"}}, "me"), ({"me": {}}, "you"), ({}, ""), ({"me": {"client-certificate-data": "AAAA"}}, "me")],
)
def test_a_kubeconfig_without_a_certificate(tree: KubeadmTree, users: dict[str, dict[str, str]], current: str) -> None:
    write(tree.kubernetes_dir / "admin.conf", kubeconfig_of(users, current), 0o600)
    record = inspect(tree)["admin.conf"]
    assert (codes(record), record.renewable) == ([("unreadable", "critical")], False)


@pytest.mark.parametrize(
    "document", [[], {"users": {}}, {"users": [1]}, {"users": [{"name": [], "user": 3}], "contexts": "x", "current-context": {}}]
)
def test_wrong_types_in_a_kubeconfig(tree: KubeadmTree, document: object) -> None:
    for name in ("admin.conf", "controller-manager.conf", "kubelet.conf"):
        write(tree.kubernetes_dir / name, json.dumps(document).encode(), 0o600)
    tree.run_everything()
    found = trouble(inspect(tree))
    assert found["admin.conf"] == found["controller-manager.conf"] == ["unreadable"]
