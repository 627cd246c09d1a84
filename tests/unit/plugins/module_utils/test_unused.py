# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates that nothing names: none on a node as kubeadm makes it, those that were left behind on another one."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._unused import unused_files
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import COMMANDS, KubeadmTree, write

CERTIFICATE = pki.make_ca().cert_pem


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> KubeadmTree:
    tree = KubeadmTree(tmp_path)
    tree.run_everything()
    return tree


def messages(tree: KubeadmTree) -> list[str]:
    """What the findings say."""
    found = unused_files(tree.discover())
    assert {(finding.code, finding.severity) for finding in found} <= {("unused_file", "info")}
    return [finding.message for finding in found]


def with_external_etcd(tree: KubeadmTree) -> None:
    """The node's API server uses an etcd that is elsewhere, by files that kubeadm's guide puts here."""
    (tree.kubernetes_dir / "manifests" / "etcd.yaml").unlink()
    for folder in tree.proc.iterdir():
        if b"etcd\0" in (folder / "cmdline").read_bytes()[:5]:
            (folder / "cmdline").write_bytes(b"sleep\0")


def test_a_node_as_kubeadm_makes_it(tree: KubeadmTree) -> None:
    assert messages(tree) == []


def test_a_node_with_an_etcd_elsewhere(tree: KubeadmTree) -> None:
    with_external_etcd(tree)
    for name in ("server", "peer", "healthcheck-client"):
        tree.cert("etcd/" + name).unlink()
        tree.key("etcd/" + name).unlink()
    assert messages(tree) == []


def test_what_an_etcd_that_moved_away_left_behind(tree: KubeadmTree) -> None:
    with_external_etcd(tree)
    left = ", ".join(str(tree.cert("etcd/" + name)) for name in ("healthcheck-client", "peer", "server"))
    assert messages(tree) == ["No process, manifest or configuration file of this node names %s (cp-1)." % left]


def test_a_certificate_of_somebody(tree: KubeadmTree) -> None:
    write(tree.pki_dir / "jane.crt", CERTIFICATE, 0o644)
    (message,) = messages(tree)
    assert "names %s (cp-1)" % (tree.pki_dir / "jane.crt") in message


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("manifests/proxy.yaml", "kind: Pod\nspec: {args: [/certs/jane.crt]}\n"),
        ("webhook.yaml", "client-certificate: pki/jane.crt\n"),
        ("extra/egress.json", '{"cert": "/etc/kubernetes/pki/jane.crt"}'),
    ],
)
def test_what_a_file_names_is_in_use(tree: KubeadmTree, file: str, text: str) -> None:
    write(tree.pki_dir / "jane.crt", CERTIFICATE, 0o644)
    (tree.kubernetes_dir / file).parent.mkdir(exist_ok=True)
    write(tree.kubernetes_dir / file, text.encode(), 0o600)
    assert messages(tree) == []


def test_what_a_flag_names_is_in_use(tree: KubeadmTree) -> None:
    write(tree.pki_dir / "jane.crt", CERTIFICATE, 0o644)
    tree.run(99999001, [*COMMANDS["kube-apiserver"], "--x=a,/etc/kubernetes/pki/jane.crt"])
    assert messages(tree) == []


def test_another_name_of_a_file_in_use(tree: KubeadmTree) -> None:
    (tree.pki_dir / "jane.crt").symlink_to(tree.cert("ca"))
    assert messages(tree) == []


@pytest.mark.parametrize("file", ["tmp/kubeadm-backup-manifests-1/etcd.yaml", "pki/jane.key"])
def test_what_is_named_by_something_put_aside_is_not_in_use(tree: KubeadmTree, file: str) -> None:
    write(tree.pki_dir / "jane.crt", CERTIFICATE, 0o644)
    (tree.kubernetes_dir / file).parent.mkdir(parents=True, exist_ok=True)
    write(tree.kubernetes_dir / file, b"/etc/kubernetes/pki/jane.crt", 0o600)
    assert len(messages(tree)) == 1


def test_the_end_of_a_longer_name_names_nothing(tree: KubeadmTree) -> None:
    """`/apiserver.crt` is in every manifest; `server.crt` is another file."""
    write(tree.pki_dir / "server.crt", CERTIFICATE, 0o644)
    with_external_etcd(tree)
    (message,) = messages(tree)
    assert str(tree.pki_dir / "server.crt") in message


def test_what_holds_no_certificate(tree: KubeadmTree) -> None:
    write(tree.pki_dir / "key.pem", pki.key_to_pem(pki.new_key()), 0o600)
    write(tree.pki_dir / "noise.crt", os.urandom(5000), 0o600)
    write(tree.pki_dir / "apiserver.crt.old", CERTIFICATE, 0o644)
    (tree.pki_dir / "folder.crt").mkdir()
    (tree.pki_dir / "nowhere.crt").symlink_to("/nonexistent")
    os.mkfifo(str(tree.pki_dir / "pipe.pem"))
    os.mkfifo(str(tree.kubernetes_dir / "pipe"))
    assert messages(tree) == []


def test_many_files_and_odd_names(tree: KubeadmTree) -> None:
    for number in range(7):
        write(tree.pki_dir / ("user-%d.crt" % number), CERTIFICATE, 0o644)
    with open(os.fsencode(str(tree.pki_dir)) + b"/\xff\n.crt", "wb") as stream:
        stream.write(CERTIFICATE)
    (message,) = messages(tree)
    assert "user-4.crt and 3 more (cp-1)." in message
    json.dumps(message).encode()
    assert message.isprintable()


def test_a_host_without_an_api_server(tree: KubeadmTree) -> None:
    """kubeadm's guide for an etcd elsewhere leaves the API servers' client certificates on it."""
    write(tree.pki_dir / "jane.crt", CERTIFICATE, 0o644)
    node = tree.discover()
    components = {name: component for name, component in node.components.items() if name != "kube-apiserver"}
    assert unused_files(dataclasses.replace(node, components=components)) == []


def test_a_folder_that_is_not_there(tree: KubeadmTree) -> None:
    assert unused_files(dataclasses.replace(tree.discover(), kubernetes_dir="/nonexistent")) == []


def test_odd_flags_never_end_it(tree: KubeadmTree) -> None:
    write(tree.pki_dir / "jane.crt", CERTIFICATE, 0o644)
    node = tree.discover()
    odd = dataclasses.replace(node.credentials["apiserver"], cert_path="/a\0b", key_path="/\ud800")
    scheduler = dataclasses.replace(node.components["kube-scheduler"], flags={"x": ("\ud800", "\0", "\udcff")})
    node = dataclasses.replace(
        node, credentials={**node.credentials, "odd": odd}, components={**node.components, "kube-scheduler": scheduler}
    )
    assert len(unused_files(node)) == 1
