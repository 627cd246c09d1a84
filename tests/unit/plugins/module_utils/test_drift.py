# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with certificates besides their dates, each on a kubeadm node that is well otherwise."""

from __future__ import annotations

import dataclasses
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._drift import key_findings
from ansible_collections.certops.kubernetes.plugins.module_utils._findings import About, Thresholds
from ansible_collections.certops.kubernetes.plugins.module_utils._inspection import inspect_node
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Endpoint, Record
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import der, fake_api, pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.etcd_host import EtcdHost
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.inspected import LIMITS, NOW, by_name, codes, inspect, trouble
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import COMMANDS, KubeadmTree, write
from cryptography.hazmat.primitives import serialization

DAY = timedelta(days=1)
ABOUT = About("apiserver", "/pki/apiserver.crt", "cp-1", "Renew it.")


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> KubeadmTree:
    tree = KubeadmTree(tmp_path)
    tree.run_kubelet()  # it says where its certificates are
    return tree


def message(record: Record, code: str) -> str:
    """What the only finding of that code says."""
    (found,) = (finding.message for finding in record.findings if finding.code == code)
    return found


def remedy(record: Record, code: str) -> str:
    """What the only finding of that code advises."""
    (found,) = (finding.remedy for finding in record.findings if finding.code == code)
    return found


# --- signatures and keys -------------------------------------------------------------------------------------------------


def with_sha1(cert: t.Any, ca_key: t.Any) -> bytes:
    """The same certificate, signed with SHA-1, as PEM."""
    return der.pem(der.signed(der.fields_of(cert.public_bytes(serialization.Encoding.DER)), ca_key, sha1=True))


def test_a_weak_signature(tree: KubeadmTree) -> None:
    ca = pki.make_ca("front-proxy-ca", key="RSA-2048")
    leaf = tree.leaf("front-proxy-client", ca)
    tree.write_pair("front-proxy-ca", ca)
    tree.write_pair("front-proxy-client", leaf)
    write(tree.cert("front-proxy-client"), with_sha1(leaf.cert, ca.key), 0o644)
    record = inspect(tree)["front-proxy-client"]
    assert ("weak_signature", "warning") in codes(record)
    assert "is signed with sha1WithRSAEncryption (" in message(record, "weak_signature")


def test_the_signature_of_a_root_says_nothing(tree: KubeadmTree) -> None:
    ca = pki.make_ca("front-proxy-ca", key="RSA-2048")
    tree.write_pair("front-proxy-ca", ca)
    tree.write_pair("front-proxy-client", tree.leaf("front-proxy-client", ca))
    write(tree.cert("front-proxy-ca"), with_sha1(ca.cert, ca.key), 0o644)
    assert trouble(inspect(tree)) == {}


def test_a_weak_signature_further_down_in_a_file(tree: KubeadmTree) -> None:
    root = pki.make_ca("front-proxy-ca", key="RSA-2048")
    between = intermediate(root)
    tree.write_pair("front-proxy-ca", root)
    leaf = tree.leaf("front-proxy-client", between)
    tree.write_pair("front-proxy-client", leaf)
    write(tree.cert("front-proxy-client"), leaf.cert_pem + with_sha1(between.cert, root.key), 0o644)
    record = inspect(tree)["front-proxy-client"]
    assert "holds CN=between, which is signed with sha1WithRSAEncryption" in message(record, "weak_signature")


@pytest.mark.parametrize("name", ["apiserver", "etcd/peer"])
def test_a_weak_key(tree: KubeadmTree, name: str) -> None:
    tree.write_pair(name, tree.leaf(name, key="RSA-1024"))
    found = inspect(tree)
    assert trouble(found) == {name: ["weak_key"]}
    assert "has a key (RSA) of 1024 bits, fewer than 2048" in message(found[name], "weak_key")
    assert remedy(found[name], "weak_key").startswith("Renew it:")


def test_a_weak_key_of_an_authority_and_for_tokens(tree: KubeadmTree) -> None:
    ca = pki.make_ca("front-proxy-ca", key="RSA-1024")
    tree.write_pair("front-proxy-ca", ca)
    tree.write_pair("front-proxy-client", tree.leaf("front-proxy-client", ca))
    key = pki.new_key("RSA-1024")
    write(tree.pki_dir / "sa.key", pki.key_to_pem(key), 0o600)
    write(tree.pki_dir / "sa.pub", pki.public_key_to_pem(key), 0o600)
    found = inspect(tree)
    assert trouble(found) == {"front-proxy-ca": ["weak_key"], "sa": ["weak_key"]}
    assert remedy(found["sa"], "weak_key") == "Have it made anew with a key of 2048 bits or more."


@pytest.mark.parametrize(
    ("algorithm", "bits", "weak"),
    [
        *(("RSA", 2047, True), ("RSA", 2048, False), ("EC", 192, True), ("EC", 224, False), ("EC", 256, False)),
        *(("Ed25519", 256, False), ("DSA", 1024, False), (None, None, False), ("RSA", None, False)),
    ],
)
def test_sizes_of_keys(tree: KubeadmTree, algorithm: str | None, bits: int | None, weak: bool) -> None:
    credential = tree.discover().credentials["apiserver"]
    assert [finding.code for finding in key_findings(ABOUT, credential, algorithm, bits)] == (["weak_key"] if weak else [])


# --- validity ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "long"), [(824, False), (826, True)])
def test_a_validity_that_nobody_will_remember(tree: KubeadmTree, days: int, long: bool) -> None:
    tree.write_pair("apiserver", tree.leaf("apiserver", not_after=NOW + days * DAY))
    record = inspect(tree)["apiserver"]
    assert (codes(record), record.status) == ([("long_validity", "info")] if long else [], "ok")


def test_a_beginning_that_is_the_ca_s_makes_no_long_validity(tree: KubeadmTree) -> None:
    """kubeadm before 1.31 dates what it makes back to the beginning of its CA."""
    start = NOW - 3000 * DAY
    ca = pki.make_ca("front-proxy-ca", not_before=start)
    tree.write_pair("front-proxy-ca", ca)
    tree.write_pair("front-proxy-client", tree.leaf("front-proxy-client", ca, not_before=start, not_after=NOW + 300 * DAY))
    assert trouble(inspect(tree)) == {}


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        *((366, []), (364, [("ca_ends_soon", "info")]), (181, [("ca_ends_soon", "info")]), (179, [("ca_ends_soon", "warning")])),
        *((31, [("ca_ends_soon", "warning")]), (29, [("expiring", "warning")]), (-1, [("expired", "critical")])),
    ],
)
def test_a_ca_that_ends_soon(tree: KubeadmTree, days: int, expected: list[tuple[str, str]]) -> None:
    start, end = NOW - 3000 * DAY, NOW + days * DAY + timedelta(hours=1)
    ca = pki.make_ca("front-proxy-ca", not_before=start, not_after=end)
    tree.write_pair("front-proxy-ca", ca)
    tree.write_pair("front-proxy-client", tree.leaf("front-proxy-client", ca, not_before=start, not_after=min(end, NOW + 300 * DAY)))
    record = inspect(tree)["front-proxy-ca"]
    assert codes(record) == expected
    if ("ca_ends_soon", "warning") in expected:
        assert "front-proxy-ca ends in %d days" % days in message(record, "ca_ends_soon")


def test_a_ca_that_has_its_successor_beside_it(tree: KubeadmTree) -> None:
    old = pki.make_ca("front-proxy-ca", not_after=NOW + 100 * DAY)
    tree.write_pair("front-proxy-ca", old)
    tree.write_pair("front-proxy-client", tree.leaf("front-proxy-client", old, not_after=NOW + 90 * DAY))
    write(tree.cert("front-proxy-ca"), old.cert_pem + pki.make_ca("front-proxy-ca").cert_pem, 0o644)
    assert trouble(inspect(tree)) == {}


def test_limits_beyond_the_calendar(tree: KubeadmTree) -> None:
    ca = pki.make_ca("front-proxy-ca", not_after=NOW + 300 * DAY)
    tree.write_pair("front-proxy-ca", ca)
    node = dataclasses.replace(tree.discover(), components={})
    records = by_name(inspect_node(node, "h", None, NOW, Thresholds(999_999 * 86400, 0)))
    assert codes(records["front-proxy-ca"]) == [("expiring", "warning")]


# --- usages --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "usages", "severity"),
    [
        ("apiserver", ("client",), "critical"),
        ("apiserver-kubelet-client", ("server",), "critical"),
        ("front-proxy-client", ("server",), "critical"),
        ("etcd/server", ("client",), "critical"),
        ("etcd/server", ("server",), "warning"),
        ("etcd/peer", ("server",), "critical"),
        ("etcd/peer", ("client",), "critical"),
        ("etcd/healthcheck-client", ("server",), "critical"),
    ],
)
def test_a_usage_that_its_role_needs(tree: KubeadmTree, name: str, usages: tuple[str, ...], severity: str) -> None:
    tree.write_pair(name, tree.leaf(name, usages=usages))
    record = inspect(tree)[name]
    assert codes(record) == [("usage_missing", severity)]
    assert "kubeadm init phase certs %s " % name.replace("/", "-") in remedy(record, "usage_missing")
    assert ("serverAuth" in message(record, "usage_missing")) == ("server" not in usages)


def test_a_usage_that_a_kubeconfig_needs(tree: KubeadmTree) -> None:
    tree.write_kubeconfig("scheduler.conf", usages=("server",))
    record = inspect(tree)["scheduler.conf"]
    assert codes(record) == [("usage_missing", "critical")]
    assert "kubeadm init phase kubeconfig scheduler " in remedy(record, "usage_missing")
    assert remedy(record, "usage_missing").endswith("restart kube-scheduler.")


def test_no_usage_at_all_allows_every_one(tree: KubeadmTree) -> None:
    extensions = pki.leaf_extensions(tree.cas["ca"], ("client",), ())
    tree.write_pair("apiserver", tree.leaf("apiserver", extensions=[extensions[0], *extensions[2:]]))
    assert trouble(inspect(tree)) == {}


def test_etcd_with_a_client_pair_of_its_own(tree: KubeadmTree) -> None:
    flags = ["--client-cert-file=/etc/kubernetes/pki/etcd/healthcheck-client.crt"]
    flags += ["--client-key-file=/etc/kubernetes/pki/etcd/healthcheck-client.key"]
    tree.write_manifest("etcd", [*COMMANDS["etcd"], *flags])
    tree.write_pair("etcd/server", tree.leaf("etcd/server", usages=("server",)))
    assert trouble(inspect(tree)) == {}


def test_a_pair_that_kubeadm_knows_nothing_of(tree: KubeadmTree) -> None:
    name = "scheduler-serving"
    flags = ["--tls-cert-file=%s" % tree.cert(name), "--tls-private-key-file=%s" % tree.key(name)]
    tree.write_manifest("kube-scheduler", [*COMMANDS["kube-scheduler"], *flags])
    tree.write_pair(name, pki.make_leaf(tree.cas["ca"], "x", usages=("client",)))
    assert remedy(inspect(tree)[name], "usage_missing") == (
        "Renewing keeps what it says: have its CA sign another one, by whatever made this one."
    )


def test_where_kubespray_puts_kubeadm_s_files(tree: KubeadmTree) -> None:
    (tree.kubernetes_dir / "ssl").mkdir()
    pair = tree.leaf("apiserver", usages=("client",))
    path = tree.kubernetes_dir / "ssl" / "apiserver.crt"
    write(path, pair.cert_pem, 0o644)
    write(tree.kubernetes_dir / "ssl" / "apiserver.key", pair.key_pem, 0o600)
    flags = ["--tls-cert-file=%s" % path, "--tls-private-key-file=%s" % path.with_suffix(".key")]
    tree.write_manifest("kube-apiserver", [*COMMANDS["kube-apiserver"], *flags])
    assert "kubeadm init phase certs apiserver " in remedy(inspect(tree)["apiserver"], "usage_missing")


def test_a_file_that_kubeadm_did_not_make_has_another_remedy(tmp_path: Path) -> None:
    host = EtcdHost(tmp_path)
    host.write_pair("member-e1", pki.make_leaf(host.ca, "etcd-member-e1", usages=("server",)))
    host.run()
    node = host.discover()
    etcd = dataclasses.replace(node.components["etcd"], endpoints=())
    record = by_name(inspect_node(dataclasses.replace(node, components={"etcd": etcd}), "h", None, NOW, LIMITS))["etcd/server"]
    assert "kubeadm" not in remedy(record, "usage_missing")


# --- chains --------------------------------------------------------------------------------------------------------------


def intermediate(root: pki.Pair, **values: t.Any) -> pki.Pair:
    """A CA that another one signed."""
    key = pki.new_key()
    extensions = [(extension.value, extension.critical) for extension in pki.make_ca("between", key=key).cert.extensions]
    return pki.make_leaf(root, "between", key=key, extensions=extensions, **values)


def test_an_expired_certificate_in_a_bundle(tree: KubeadmTree) -> None:
    ended = pki.make_ca("kubernetes", not_before=NOW - 300 * DAY, not_after=NOW - DAY)
    write(tree.cert("ca"), tree.cas["ca"].cert_pem + ended.cert_pem, 0o644)
    record = inspect(tree)["ca"]
    assert (codes(record), record.status) == ([("expired_in_bundle", "info")], "ok")
    assert "still holds CN=kubernetes, which ended at" in message(record, "expired_in_bundle")


def test_an_expired_link_of_a_chain(tree: KubeadmTree) -> None:
    start = NOW - 300 * DAY
    root = pki.make_ca("front-proxy-ca", not_before=start)
    between = intermediate(root, not_before=start, not_after=NOW - DAY)
    tree.write_pair("front-proxy-ca", root)
    leaf = tree.leaf("front-proxy-client", between)
    tree.write_pair("front-proxy-client", leaf)
    write(tree.cert("front-proxy-client"), leaf.cert_pem + between.cert_pem, 0o644)
    assert ("expired_in_bundle", "warning") in codes(inspect(tree)["front-proxy-client"])


def test_a_chain_in_a_wrong_order(tree: KubeadmTree) -> None:
    root = tree.cas["ca"]
    between = intermediate(root)
    leaf = tree.leaf("apiserver", between, not_after=NOW + 90 * DAY)
    tree.write_pair("apiserver", leaf)
    write(tree.cert("apiserver"), leaf.cert_pem + root.cert_pem + between.cert_pem, 0o644)
    record = inspect(tree)["apiserver"]
    assert codes(record) == [("chain_unordered", "warning")]
    assert "number 2 (CN=kubernetes) did not sign number 1 (CN=kube-apiserver)" in message(record, "chain_unordered")


@pytest.mark.parametrize("with_root", [False, True])
def test_a_chain_in_order(tree: KubeadmTree, with_root: bool) -> None:
    between = intermediate(tree.cas["ca"])
    leaf = tree.leaf("apiserver", between, not_after=NOW + 90 * DAY)
    tree.write_pair("apiserver", leaf)
    write(tree.cert("apiserver"), leaf.cert_pem + between.cert_pem + (tree.cas["ca"].cert_pem if with_root else b""), 0o644)
    assert trouble(inspect(tree)) == {}


def test_a_chain_with_something_that_cannot_be_read(tree: KubeadmTree) -> None:
    """Then nothing is said about its order, since one of its links is not known."""
    between, last = intermediate(tree.cas["ca"]), tree.cas["ca"]
    leaf = tree.leaf("apiserver", between, not_after=NOW + 90 * DAY)
    odd = der.leaf_of(tree.cas["ca"], pki.new_key(), extensions=(der.extension("2.5.29.37", b"\xff"),))
    tree.write_pair("apiserver", leaf)
    write(tree.cert("apiserver"), leaf.cert_pem + der.pem(odd) + between.cert_pem + last.cert_pem, 0o644)
    assert "chain_unordered" not in [code for code, _severity in codes(inspect(tree)["apiserver"])]


# --- what is served ------------------------------------------------------------------------------------------------------


def test_what_is_served_is_looked_at_if_it_is_another_one(tree: KubeadmTree, tmp_path: Path) -> None:
    served = tree.leaf("apiserver", usages=("client",))
    with fake_api.FakeServer(tmp_path, {}, served) as server:
        node = tree.discover()
        endpoints = (Endpoint("kube-apiserver", "127.0.0.1", server.port, "apiserver"),)
        components = {"kube-apiserver": dataclasses.replace(node.components["kube-apiserver"], endpoints=endpoints)}
        records = inspect_node(dataclasses.replace(node, components=components), "h", None, NOW, LIMITS)
    assert trouble(by_name(records)) == {"served:127.0.0.1:%d" % server.port: ["served_differs", "usage_missing"]}


# --- all of it -----------------------------------------------------------------------------------------------------------


def test_a_node_as_kubeadm_makes_it_has_none_of_this(tree: KubeadmTree) -> None:
    tree.run_everything()
    assert trouble(inspect(tree, configuration=tree.configuration())) == {}


def test_a_node_that_has_drifted_in_every_way(tree: KubeadmTree) -> None:
    """Each certificate tells its own trouble, and no other one is blamed for it."""
    root = pki.make_ca("front-proxy-ca", key="RSA-1024", not_after=NOW + 100 * DAY)
    proxy = tree.leaf("front-proxy-client", root, cn="proxy", not_after=NOW + 90 * DAY)
    tree.write_pair("front-proxy-ca", root)
    tree.write_pair("front-proxy-client", proxy)
    write(tree.cert("front-proxy-client"), with_sha1(proxy.cert, root.key), 0o644)
    ended = pki.make_ca("etcd-ca", not_before=NOW - 300 * DAY, not_after=NOW - DAY)
    write(tree.cert("etcd/ca"), tree.cas["etcd/ca"].cert_pem + ended.cert_pem, 0o644)
    tree.write_pair("etcd/peer", tree.leaf("etcd/peer", usages=("server",), not_after=NOW + 3000 * DAY))
    tree.write_kubeconfig("admin.conf", organization="system:masters")
    tree.write_kubeconfig("scheduler.conf", cn="me")
    between = intermediate(tree.cas["ca"])
    server = tree.leaf("apiserver", between, key="RSA-1024", sans=("DNS:cp-1",), not_after=NOW + 90 * DAY)
    tree.write_pair("apiserver", server)
    write(tree.cert("apiserver"), server.cert_pem + tree.cas["ca"].cert_pem + between.cert_pem, 0o644)
    tree.run_everything()
    found = inspect(tree, configuration=tree.configuration())
    assert trouble(found) == {
        "front-proxy-ca": ["weak_key", "ca_ends_soon"],
        "front-proxy-client": ["weak_signature", "unexpected_subject"],
        "etcd/ca": ["expired_in_bundle"],
        "etcd/peer": ["long_validity", "usage_missing"],
        "admin.conf": ["unexpected_group"],
        "scheduler.conf": ["unexpected_subject"],
        "apiserver": ["weak_key", "chain_unordered", "sans_differ"],
    }
    assert {name: record.status for name, record in found.items() if record.status != "ok"} == {
        **dict.fromkeys(("front-proxy-ca", "front-proxy-client", "scheduler.conf", "apiserver"), "warning"),
        "etcd/peer": "critical",
        "etcd/ca[2]": "expired",
    }
