# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kubelet's serving certificate, from discovery to its successor: self-signed, from files, signed by the cluster."""

from __future__ import annotations

import re
import typing as t
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._files import final_target
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._plan import rotation_plan
from ansible_collections.certops.kubernetes.plugins.module_utils._policy import policy
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Policy, Renewal, Wanted, renewals
from ansible_collections.certops.kubernetes.plugins.module_utils._self_signed import foreign_signer, one_off_authority
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import (
    chain_problem,
    describe,
    is_ca,
    key_matches,
    load_private_key,
    not_after,
    parse_certificates,
)
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import KUBELET, LIMITS, FakeNode, run
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.inspected import codes, inspect
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import KubeadmTree, write
from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import record
from cryptography import x509

if t.TYPE_CHECKING:
    from pathlib import Path

NAME = "kubelet-serving"
NOW = datetime.now(timezone.utc)
DAY = 86400
TEN_DAYS = Policy(NOW, 10 * DAY)


@pytest.fixture(name="tree")
def fixture_tree(tmp_path: Path) -> KubeadmTree:
    tree = KubeadmTree(tmp_path)
    tree.run_kubelet()
    return tree


def own(tree: KubeadmTree, suffix: str) -> Path:
    """The kubelet's own pair."""
    return tree.kubelet_dir / "pki" / ("kubelet" + suffix)


def made_by_kubelet(tree: KubeadmTree, key: str = "RSA-2048", **values: t.Any) -> pki.Pair:
    """What a kubelet makes for itself: a CA for once, and what it signed."""
    authority = pki.make_ca("cp-1-ca@1700000000", key=key)
    pair = pki.make_leaf(authority, "cp-1@1700000000", usages=("server",), key=key, **{"sans": ["DNS:cp-1", "IP:192.0.2.7"], **values})
    write(own(tree, ".crt"), pair.cert_pem + authority.cert_pem, 0o644)
    write(own(tree, ".key"), pair.key_pem, 0o600)
    return pair


def given(tree: KubeadmTree, pair: pki.Pair, chain: bytes = b"") -> None:
    """A pair that an administrator has set as tlsCertFile."""
    cert, key = (str(own(tree, "-given" + suffix)) for suffix in (".crt", ".key"))
    write(own(tree, "-given.crt"), pair.cert_pem + chain, 0o644)
    write(own(tree, "-given.key"), pair.key_pem, 0o600)
    tree.run_kubelet("--tls-cert-file=" + cert, "--tls-private-key-file=" + key)


def renewed(tree: KubeadmTree, chosen: Policy = TEN_DAYS, predict: bool = False) -> Renewal:
    return renewals(tree.discover(), [Wanted(NAME, "renew")], chosen, predict)[0]


@pytest.mark.parametrize("key", ["RSA-2048", "EC-256"])
def test_a_self_signed_one_gets_a_successor_of_the_same_shape(tree: KubeadmTree, key: str) -> None:
    old = made_by_kubelet(tree, key)
    made = renewed(tree)
    assert [file.path for file in made.files] == [final_target(str(own(tree, suffix))) for suffix in (".key", ".crt")]
    leaf, authority = parse_certificates(made.files[1].data, "it")
    assert key_matches(leaf, load_private_key(made.files[0].data, "it"))
    assert not key_matches(leaf, old.key)
    assert chain_problem(leaf, [authority]) is None
    assert is_ca(authority)
    assert re.match(r"CN=cp-1-ca@[0-9]+$", describe(authority).subject)
    assert describe(authority).subject != describe(old.cert).issuer
    assert not key_matches(authority, load_private_key(made.files[0].data, "it")), "the CA's own key is nowhere"
    for what in ("subject", "sans", "extended_key_usages", "key_algorithm", "key_bits"):
        assert getattr(describe(leaf), what) == getattr(describe(old.cert), what)
    assert foreign_signer([leaf, authority]) is None, "the next renewal knows it again"
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature, usage.key_encipherment, usage.crl_sign) == (True, True, True, False)


def test_it_is_valid_for_a_year_whatever_the_cluster_says_of_its_own(tree: KubeadmTree) -> None:
    def seconds(policy: Policy) -> float:
        return (not_after(parse_certificates(renewed(tree, policy).files[1].data, "it")[0]) - NOW).total_seconds()

    assert abs(seconds(TEN_DAYS) - 365 * DAY) < 2
    assert abs(seconds(Policy(NOW, 10 * DAY, self_signed_seconds=20 * DAY)) - 20 * DAY) < 2
    foreseen = renewed(tree, predict=True)
    assert foreseen.item.after["not_after"] == renewed(tree).item.after["not_after"]
    assert {file.data.strip(b"\0") for file in foreseen.files} == {b""}


def test_its_key_may_be_kept(tree: KubeadmTree) -> None:
    old = made_by_kubelet(tree)
    made = renewed(tree, Policy(NOW, DAY, keep_private_key=True))
    assert [file.path for file in made.files] == [final_target(str(own(tree, ".crt")))]
    assert key_matches(parse_certificates(made.files[0].data, "it")[0], old.key)


def test_a_plain_self_signed_one_is_renewed_too(tree: KubeadmTree) -> None:
    authority = pki.make_ca("me")
    assert foreign_signer([authority.cert]) is None
    assert foreign_signer([pki.make_leaf(authority, "me").cert, authority.cert]) == "CN=me"


def test_a_fresh_node_has_nothing_to_say_about_it(tree: KubeadmTree) -> None:
    made_by_kubelet(tree)
    found = inspect(tree)[NAME]
    assert (found.status, found.renewable, found.findings) == ("ok", True, ())


def test_one_that_ends_is_due_and_told_as_no_more_than_info(tree: KubeadmTree) -> None:
    made_by_kubelet(tree, not_after=NOW + timedelta(days=9))
    found = inspect(tree)[NAME]
    assert codes(found) == [("expiring", "info")]
    assert "certops.kubernetes.rotate" in found.findings[0].remedy
    assert "kubeadm" not in found.findings[0].remedy


def test_the_plan_renews_it_for_a_year_where_the_cluster_says_ten_days() -> None:
    serving = record(NAME, 9, ca=None)
    for days, wanted in ((None, 365), (20, 20)):
        chosen = policy({"certs_rotate_renew_before_days": 10, "certs_rotate_validity_days": days})
        values = {**chosen, "select": None, "force": False, "restart": "auto"}
        (entry,) = rotation_plan([serving], values, {"unknown": {"certificate_validity_seconds": 10 * DAY}})
        assert (entry["action"], entry["ends_after"]) == ("renew", wanted)


def test_what_somebody_else_has_put_there_is_renewed_elsewhere(tree: KubeadmTree) -> None:
    company = pki.make_ca("company")
    pair = pki.make_leaf(company, "cp-1", usages=("server",))
    write(own(tree, ".crt"), pair.cert_pem + company.cert_pem, 0o644)
    write(own(tree, ".key"), pair.key_pem, 0o600)
    found = inspect(tree)[NAME]
    assert (found.renewable, found.externally_managed) == (False, True)
    assert found.not_renewable_because == "CN=company signed it, which is not on this node"
    with pytest.raises(CertopsError, match="was signed by CN=company, not by the kubelet"):
        renewed(tree)


def test_a_kubelet_that_does_not_reload_it_is_restarted(tmp_path: Path) -> None:
    """As one before 1.31, and one that missed the change."""
    node = FakeNode(tmp_path)
    node.run_kubelet(apiserver="hot")
    node.deaf.add(KUBELET)
    result = run(node, "apiserver")
    assert node.restarts == [KUBELET]
    assert [one["because"] for one in result["components"] if one["name"] == KUBELET] == [
        "was shown not to have apiserver %g s after the change" % LIMITS.reload
    ]


# --- files that an administrator gave it -----------------------------------------------------------------------------


def test_a_file_that_the_clusters_ca_signed_is_signed_again_by_it(tree: KubeadmTree) -> None:
    pair = pki.make_leaf(tree.cas["ca"], "system:node:cp-1", organization="system:nodes", usages=("server",), sans=["DNS:cp-1"])
    given(tree, pair)
    found = inspect(tree)[NAME]
    assert (found.renewable, found.ca, found.readers[0].reload, found.status) == (True, "ca", "hot", "ok")
    made = renewed(tree)
    (leaf,) = parse_certificates(made.files[1].data, "it")
    assert chain_problem(leaf, [tree.cas["ca"].cert]) is None
    assert describe(leaf).sans == describe(pair.cert).sans
    assert abs((not_after(leaf) - NOW).total_seconds() - 10 * DAY) < 2, "as all that this CA signs"


def test_without_the_cas_key_it_is_managed_elsewhere(tree: KubeadmTree) -> None:
    given(tree, pki.make_leaf(tree.cas["ca"], "cp-1", usages=("server",)))
    tree.key("ca").unlink()
    found = inspect(tree)[NAME]
    assert (found.renewable, found.externally_managed) == (False, True)
    assert "the key of its CA is not on this node" in (found.not_renewable_because or "")


def test_a_file_of_another_ca_belongs_to_whoever_set_it(tree: KubeadmTree) -> None:
    company = pki.make_ca("company")
    given(tree, pki.make_leaf(company, "cp-1", usages=("server",)), company.cert_pem)
    found = inspect(tree)[NAME]
    assert (found.renewable, found.externally_managed, found.findings) == (False, True, ())
    assert found.not_renewable_because == "it belongs to the administrator who set tlsCertFile"


# --- signed by the cluster -------------------------------------------------------------------------------------------


def test_a_kubelet_that_has_none_signed_yet_is_told_with_the_remedy(tree: KubeadmTree) -> None:
    tree.run_kubelet("--rotate-server-certificates")
    found = inspect(tree)[NAME]
    assert codes(found) == [("not_signed", "critical")]
    assert "kubectl get csr" in found.findings[0].remedy
    assert (found.renewable, found.externally_managed) == (False, False)


def test_one_that_the_cluster_signed_is_the_kubelets_to_renew(tree: KubeadmTree) -> None:
    tree.run_kubelet("--rotate-server-certificates")
    pair = pki.make_leaf(tree.cas["ca"], "system:node:cp-1", organization="system:nodes", usages=("server",), sans=["DNS:cp-1"])
    write(tree.kubelet_dir / "pki" / "kubelet-server-current.pem", pair.cert_pem + pair.key_pem, 0o600)
    found = inspect(tree)[NAME]
    assert (found.renewable, found.not_renewable_because, found.findings) == (False, "the kubelet renews it itself", ())


def test_a_validity_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(CertopsError, match="choose a shorter validity"):
        one_off_authority(pki.make_leaf(pki.make_ca(), "x").cert, NOW, 10**12)
