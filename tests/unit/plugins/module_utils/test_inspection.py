# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node's records: none has a finding on a fresh cluster, and each kind of trouble has one on its own record."""

from __future__ import annotations

import dataclasses
import json
import os
import typing as t
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _readers
from ansible_collections.certops.kubernetes.plugins.module_utils._inspection import inspect_node, node_to_dict, record_to_dict
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Component, Endpoint, Node, Record
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import fake_api, pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.inspected import LIMITS, NOW, by_name, codes, inspect, trouble
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import (
    LEAVES,
    KubeadmTree,
    write,
)


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> KubeadmTree:
    tree = KubeadmTree(tmp_path)
    tree.run_kubelet()  # it says where its certificates are
    return tree


def test_a_fresh_node_has_no_finding(tree: KubeadmTree) -> None:
    tree.run_everything()
    records = inspect(tree)
    assert trouble(records) == {}
    assert {record.status for record in records.values()} == {"ok"}
    renewable = {name for name, record in records.items() if record.renewable}
    own = {"kubelet-client", "kubelet-serving", "admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf"}
    assert renewable == {*LEAVES, *own}
    assert all((record.not_renewable_because is None) == record.renewable for record in records.values())
    assert not any(record.externally_managed for record in records.values())


def test_a_file_with_several_names(tree: KubeadmTree) -> None:
    """A backup made with `cp -al`: who watches the file sees its next replacement only; etcd reads it each time, and watches nothing."""
    backup = tree.root / "backup"
    backup.mkdir()
    for path in (tree.cert("apiserver"), tree.key("apiserver"), tree.cert("etcd/server"), tree.kubernetes_dir / "scheduler.conf"):
        os.link(str(path), str(backup / path.name))
    found = inspect(tree)
    assert trouble(found) == {"apiserver": ["hard_linked", "hard_linked"]}
    certificate, key = found["apiserver"].findings
    assert certificate.message.startswith("apiserver has 2 names for one file, %s among them: kube-apiserver," % tree.cert("apiserver"))
    assert str(tree.key("apiserver")) in key.remedy
    assert found["apiserver"].status == "warning"
    (backup / "apiserver.crt").unlink()
    assert trouble(inspect(tree)) == {"apiserver": ["hard_linked"]}


def test_a_record_says_what_the_certificate_says(tree: KubeadmTree) -> None:
    ca = tree.cas["etcd/ca"]
    pair = pki.make_leaf(ca, "cp-1", usages=("server", "client"), sans=("DNS:cp-1", "IP:192.0.2.7"), key="RSA-2048", serial=0x0ABC)
    tree.write_pair("etcd/server", pair)
    record = inspect(tree)["etcd/server"]
    assert (record.host, record.node, record.cluster, record.source) == ("inventory-name", "cp-1", "blue", "file")
    assert (record.subject, record.issuer, record.sans) == ("CN=cp-1", "CN=etcd-ca", ("DNS:cp-1", "IP:192.0.2.7"))
    assert (record.serial, record.key_algorithm, record.key_bits) == ("abc", "RSA", 2048)
    assert (record.days_left, record.lifetime_days, record.ca) == (364, 365, "etcd/ca")
    assert record.path == str(tree.cert("etcd/server"))


def test_every_key_is_there_and_json(tree: KubeadmTree) -> None:
    tree.cert("apiserver").unlink()
    keys = {entry.name for entry in dataclasses.fields(Record)}
    for record in inspect(tree).values():
        as_dict = record_to_dict(record)
        assert set(as_dict) == keys
        assert json.loads(json.dumps(as_dict)) == as_dict


def test_the_service_account_key_has_an_identity_and_no_dates(tree: KubeadmTree) -> None:
    record = inspect(tree)["sa"]
    assert (record.usage, record.key_algorithm, record.key_bits, record.status) == ("signing-key", "EC", 256, "ok")
    assert record.fingerprint_sha256 is not None
    assert (record.not_after, record.seconds_left, record.subject) == (None, None, None)


def test_the_signing_key_may_be_the_second_of_several(tree: KubeadmTree) -> None:
    public = tree.pki_dir / "sa.pub"
    before = inspect(tree)["sa"].fingerprint_sha256
    write(public, pki.public_key_to_pem(pki.new_key()) + public.read_bytes(), 0o600)
    record = inspect(tree)["sa"]
    assert (record.fingerprint_sha256, codes(record)) == (before, [])


def test_a_foreign_signing_key(tree: KubeadmTree) -> None:
    write(tree.pki_dir / "sa.key", pki.key_to_pem(pki.new_key()), 0o600)
    assert trouble(inspect(tree)) == {"sa": ["key_mismatch"]}


@pytest.mark.parametrize(
    ("days", "expected", "status"),
    [(20, ("expiring", "warning"), "warning"), (3, ("expiring", "critical"), "critical"), (-2, ("expired", "critical"), "expired")],
)
def test_dates(tree: KubeadmTree, days: int, expected: tuple[str, str], status: str) -> None:
    start = NOW - timedelta(days=100)
    ca = pki.make_ca("etcd-ca", not_before=start)
    for name in ("etcd/server", "etcd/peer", "etcd/healthcheck-client", "apiserver-etcd-client"):
        tree.write_pair(name, tree.leaf(name, ca, not_before=start, not_after=NOW + timedelta(days=days, hours=1)))
    tree.write_pair("etcd/ca", ca)
    record = inspect(tree)["etcd/peer"]
    assert (codes(record), record.status, record.days_left) == ([expected], status, days)
    assert record.renewable


def test_not_yet_valid(tree: KubeadmTree) -> None:
    pair = tree.leaf("apiserver", not_before=NOW + timedelta(days=1), not_after=NOW + timedelta(days=99))
    tree.write_pair("apiserver", pair)
    record = inspect(tree)["apiserver"]
    assert (codes(record), record.status) == ([("not_yet_valid", "critical")], "not_yet_valid")


def test_it_outlives_its_ca(tree: KubeadmTree) -> None:
    tree.write_pair("apiserver", tree.leaf("apiserver", not_after=NOW + timedelta(days=4000)))
    assert codes(inspect(tree)["apiserver"]) == [("outlives_ca", "warning"), ("long_validity", "info")]


def test_another_ca_of_the_same_name_signed_it(tree: KubeadmTree) -> None:
    tree.write_pair("apiserver", tree.leaf("apiserver", pki.make_ca("kubernetes")))
    record = inspect(tree)["apiserver"]
    assert codes(record) == [("chain_invalid", "critical")]
    assert (record.renewable, record.externally_managed) == (False, True)


def test_a_chain_through_an_intermediate(tree: KubeadmTree) -> None:
    root = tree.cas["ca"]
    intermediate_key = pki.new_key()
    template = pki.make_ca("between", key=intermediate_key)
    extensions = [(extension.value, extension.critical) for extension in template.cert.extensions]
    intermediate = pki.make_leaf(root, "between", key=intermediate_key, extensions=extensions)
    leaf = tree.leaf("apiserver", intermediate, not_after=datetime.now(timezone.utc) + timedelta(days=90))
    write(tree.cert("apiserver"), leaf.cert_pem + intermediate.cert_pem, 0o644)
    write(tree.key("apiserver"), leaf.key_pem, 0o600)
    records = inspect(tree)
    record = records["apiserver"]
    assert codes(record) == []
    assert (record.renewable, record.externally_managed) == (False, True)
    assert (records["apiserver[2]"].subject, records["apiserver[2]"].usage) == ("CN=between", "ca")


def test_a_ca_file_may_be_a_bundle_in_any_order(tree: KubeadmTree) -> None:
    fingerprint = inspect(tree)["ca"].fingerprint_sha256
    other = pki.make_ca("kubernetes")
    write(tree.cert("ca"), other.cert_pem + tree.cas["ca"].cert_pem, 0o644)
    records = inspect(tree)
    assert trouble(records) == {}
    assert records["apiserver"].renewable
    assert records["ca[2]"].fingerprint_sha256 == fingerprint
    assert (records["ca[2]"].usage, records["ca[2]"].source, records["ca[2]"].renewable) == ("ca", "file", False)


@pytest.mark.parametrize(("days", "status", "expected"), [(-1, "expired", []), (3, "critical", [("expiring", "critical")])])
def test_what_stands_behind_the_first_ends_too(tree: KubeadmTree, days: int, status: str, expected: list[tuple[str, str]]) -> None:
    """Of one that has expired, the first one's record tells."""
    now = datetime.now(timezone.utc)
    other = pki.make_ca("old", not_before=now - timedelta(days=30), not_after=now + timedelta(days=days, hours=1))
    write(tree.cert("ca"), tree.cas["ca"].cert_pem + other.cert_pem, 0o644)
    records = inspect(tree)
    assert (records["ca[2]"].status, codes(records["ca[2]"])) == (status, expected)
    assert codes(records["ca"]) == ([("expired_in_bundle", "info")] if days < 0 else [])


def test_a_key_of_another_pair(tree: KubeadmTree) -> None:
    write(tree.key("apiserver"), tree.key("apiserver-kubelet-client").read_bytes(), 0o600)
    assert trouble(inspect(tree)) == {"apiserver": ["key_mismatch"]}


def test_the_key_of_a_ca_that_is_not_its_own(tree: KubeadmTree) -> None:
    write(tree.key("ca"), tree.key("etcd/ca").read_bytes(), 0o600)
    records = inspect(tree)
    assert trouble(records) == {"ca": ["key_mismatch"]}
    assert not records["apiserver"].renewable
    assert "does not belong to the CA certificate" in (records["apiserver"].not_renewable_because or "")


def test_an_external_ca_is_no_trouble(tree: KubeadmTree) -> None:
    tree.key("ca").unlink()
    records = inspect(tree)
    assert trouble(records) == {}
    external = {name for name, record in records.items() if record.externally_managed}
    kubeconfigs = {"admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf"}
    assert external == {"ca", "apiserver", "apiserver-kubelet-client", *kubeconfigs}
    assert not any(records[name].renewable for name in external)


def test_a_worker_has_no_external_ca(tree: KubeadmTree) -> None:
    for path in (tree.kubernetes_dir / "manifests").iterdir():
        path.unlink()
    tree.key("ca").unlink()
    tree.run_kubelet()
    records = inspect(tree)
    assert trouble(records) == {}
    assert not records["ca"].externally_managed


def test_an_ended_ca_renews_nothing(tree: KubeadmTree) -> None:
    record = inspect(tree, NOW + timedelta(days=4000))["apiserver"]
    assert "ended at" in (record.not_renewable_because or "")


@pytest.mark.parametrize(("mode", "expected"), [(0o644, True), (0o604, True), (0o640, False), (0o600, False)])
def test_keys_that_others_can_read(tree: KubeadmTree, mode: int, expected: bool) -> None:
    paths = [tree.key("apiserver"), tree.key("ca"), tree.pki_dir / "sa.key", tree.kubernetes_dir / "admin.conf"]
    paths.append(tree.kubelet_dir / "pki" / "kubelet-client-current.pem")
    for path in paths:
        os.chmod(path, mode)
    tree.run_everything()
    found = trouble(inspect(tree))
    assert found == (
        {name: ["key_readable_by_others"] for name in ("apiserver", "ca", "sa", "admin.conf", "kubelet-client")} if expected else {}
    )


@pytest.mark.parametrize("name", ["apiserver", "etcd/peer", "ca", "front-proxy-ca"])
def test_a_missing_certificate(tree: KubeadmTree, name: str) -> None:
    tree.cert(name).unlink()
    record = inspect(tree)[name]
    assert (codes(record), record.status, record.renewable) == ([("missing", "critical")], "missing", False)


def test_a_missing_key(tree: KubeadmTree) -> None:
    tree.key("apiserver").unlink()
    record = inspect(tree)["apiserver"]
    assert (codes(record), record.status) == ([("missing", "critical")], "critical")
    assert record.not_after is not None


def test_a_mount_that_shows_a_replaced_file(tree: KubeadmTree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.run_everything()
    monkeypatch.setattr(_readers, "seen_inode", lambda pid, path, proc: (1, 2))
    record = inspect(tree)["scheduler.conf"]
    assert codes(record) == [("process_has_older_file", "warning")]
    assert [(reader.in_use, reader.proof) for reader in record.readers] == [("false", "inode")]


# --- addresses -----------------------------------------------------------------------------------------------------------


def serve(tree: KubeadmTree, tmp_path: Path, pair: pki.Pair, credential: str | None) -> t.Iterator[dict[str, Record]]:
    """The records of the node while a pair is served where its API server should be."""
    with fake_api.FakeServer(tmp_path, {}, pair) as server:
        node = tree.discover()
        components: dict[str, Component] = {}
        for name, component in node.components.items():
            mine = (Endpoint(name, "127.0.0.1", server.port, credential),) if name == "kube-apiserver" else ()
            components[name] = dataclasses.replace(component, endpoints=mine)
        yield by_name(inspect_node(dataclasses.replace(node, components=components), "h", "c", NOW, LIMITS))


def served_record(records: t.Mapping[str, Record]) -> Record:
    """The only one of what is served."""
    return next(record for name, record in records.items() if name.startswith("served:"))


def test_an_address_that_serves_the_file(tree: KubeadmTree, tmp_path: Path) -> None:
    pair = pki.make_leaf(tree.cas["ca"], "kube-apiserver", usages=("server",))
    tree.write_pair("apiserver", pair)
    for records in serve(tree, tmp_path, pair, "apiserver"):
        served = served_record(records)
        assert trouble(records) == {}
        assert served.fingerprint_sha256 == records["apiserver"].fingerprint_sha256
        assert (served.source, served.ca, served.path, served.address) == ("served", "ca", None, served.name[7:])
        assert [(reader.in_use, reader.proof) for reader in records["apiserver"].readers] == [("true", "handshake")]


def test_an_address_that_serves_another_one(tree: KubeadmTree, tmp_path: Path) -> None:
    old = pki.make_leaf(tree.cas["ca"], "kube-apiserver", usages=("server",), not_after=NOW + timedelta(days=3))
    for records in serve(tree, tmp_path, old, "apiserver"):
        served = served_record(records)
        assert codes(served) == [("expiring", "critical"), ("served_differs", "warning")]
        assert [(reader.in_use, reader.proof) for reader in records["apiserver"].readers] == [("false", "handshake")]
        assert codes(records["apiserver"]) == []


def test_a_self_signed_one_is_normal_where_no_file_is_named(tree: KubeadmTree, tmp_path: Path) -> None:
    own = pki.make_ca("localhost-ca@1", not_after=NOW + timedelta(days=3))
    for records in serve(tree, tmp_path, pki.make_leaf(own, "localhost@1", not_after=NOW + timedelta(days=3)), None):
        served = served_record(records)
        assert (codes(served), served.status, served.ca) == ([("expiring", "info")], "ok", None)


def test_a_dead_address(tree: KubeadmTree) -> None:
    node = tree.discover()
    components = {"etcd": dataclasses.replace(node.components["etcd"], endpoints=(Endpoint("etcd", "127.0.0.1", 9, "etcd/server"),))}
    records = by_name(inspect_node(dataclasses.replace(node, components=components), "h", None, NOW, LIMITS, 0.5))
    served = records["served:127.0.0.1:9"]
    assert (codes(served), served.status, served.fingerprint_sha256) == ([("unreachable", "critical")], "unreachable", None)
    assert [(reader.in_use, reader.proof) for reader in records["etcd/server"].readers] == [("unknown", "none")]
    assert set(record_to_dict(served)) == {entry.name for entry in dataclasses.fields(Record)}


def test_the_node_as_json(tree: KubeadmTree) -> None:
    tree.run_everything()
    described = node_to_dict(tree.discover(), None, NOW)
    assert json.loads(json.dumps(described)) == described
    assert described["components"]["etcd"]["pid"] is not None
    assert node_to_dict(Node(None, None, "/x"), "mine", NOW)["cluster"] == "mine"


def test_no_private_key_in_any_record(tree: KubeadmTree) -> None:
    tree.run_everything()
    text = json.dumps([record_to_dict(record) for record in inspect(tree).values()])
    for path in (*tree.pki_dir.rglob("*.key"), tree.kubelet_dir / "pki" / "kubelet.key"):
        for line in path.read_text().splitlines()[1:-1]:
            assert line not in text
