# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A kubeconfig is issued: by a stand-in of the cluster's API, and by a CA's key."""

from __future__ import annotations

import os
import re
import stat
import typing as t
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml
from ansible_collections.certops.kubernetes.plugins.module_utils import _issue
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import chain_problem, describe, load_private_key, parse_certificates
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import (
    write_kubeconfig,
)
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_signer import PATH, WHOAMI
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.issued import Cluster, both, fake_cluster, signers


@pytest.fixture(name="cluster")
def fixture_cluster(tmp_path: Path) -> t.Iterator[Cluster]:
    with fake_cluster(tmp_path) as cluster:
        yield cluster


@both
def test_one_is_issued_and_the_second_call_changes_nothing(cluster: Cluster, signer: str) -> None:
    signers(cluster, signer)
    result = cluster.issue(signer=signer)
    assert (result["changed"], result["action"], result["proof"], result["warnings"]) == (True, "issued", "identity", [])
    config = cluster.config()
    user, entry = config.current_user(), config.current_cluster()
    assert (config.current_context, user.name, entry.name) == ("jane@kubernetes", "jane", "kubernetes")
    assert (entry.server, entry.ca_data) == ("https://" + cluster.server.address, cluster.ca.cert_pem)
    (certificate,) = parse_certificates(user.client_certificate_data or b"", "it")
    assert chain_problem(certificate, [cluster.ca.cert]) is None
    facts = describe(certificate)
    assert facts.subject in ("O=developers+O=on-call,CN=jane", "O=on-call+O=developers,CN=jane")
    assert (facts.extended_key_usages, facts.is_ca, facts.sans) == (("clientAuth",), False, ())
    assert timedelta(hours=719) < facts.not_after - datetime.now(timezone.utc) <= timedelta(hours=720)
    assert result["certificate"]["fingerprint_sha256"] == facts.fingerprint_sha256
    key = load_private_key(user.client_key_data or b"", "it")
    assert key.public_key().public_numbers() == certificate.public_key().public_numbers()
    assert stat.S_IMODE(cluster.path.stat().st_mode) == 0o600
    assert os.listdir(cluster.path.parent) == ["config"]
    assert cluster.signer.objects == {}

    before, asked = cluster.path.stat(), cluster.asked()
    again = cluster.issue(signer=signer)
    assert (again["changed"], again["action"], again["because"], again["diff"]) == (False, "none", None, [])
    assert again["certificate"] == result["certificate"]
    assert cluster.path.stat() == before
    assert cluster.asked() == asked


def test_it_looks_like_kubeadms(cluster: Cluster) -> None:
    cluster.issue()
    words = [line.split(": ")[0] for line in cluster.path.read_text().splitlines()]
    assert words == [
        "apiVersion",
        "clusters:",
        "- cluster:",
        "    certificate-authority-data",
        "    server",
        "  name",
        "contexts:",
        "- context:",
        "    cluster",
        "    user",
        "  name",
        "current-context",
        "kind",
        "users:",
        "- name",
        "  user:",
        "    client-certificate-data",
        "    client-key-data",
    ]


def test_what_is_asked_of_the_cluster(cluster: Cluster) -> None:
    cluster.issue(validity_hours=2)
    name = "certops-kubeconfig-00000"
    one = "%s/%s" % (PATH, name)
    assert cluster.asked() == ["POST " + PATH, "PUT %s/approval" % one, "GET " + one, "GET " + one, "DELETE " + one, "POST " + WHOAMI]
    (made,) = cluster.signer.made
    assert made["spec"]["expirationSeconds"] == 7200


@pytest.mark.parametrize("algorithm", ["RSA-2048", "RSA-3072", "ECDSA-P384"])
def test_the_kind_of_key(cluster: Cluster, algorithm: str) -> None:
    cluster.issue(algorithm=algorithm)
    certificate = parse_certificates(cluster.config().current_user().client_certificate_data or b"", "it")[0]
    facts = describe(certificate)
    assert (facts.key_algorithm, facts.key_bits) == _issue.ALGORITHMS[algorithm]
    assert not cluster.issue(algorithm=algorithm)["changed"]
    assert cluster.issue(algorithm="ECDSA-P256")["because"] == "its key is no ECDSA-P256"


@both
def test_check_mode_writes_and_asks_nothing(cluster: Cluster, signer: str) -> None:
    result = cluster.issue(check_mode=True, signer=signer)
    assert (result["changed"], result["action"], result["because"]) == (True, "issued", "there is no such file")
    assert (result["certificate"]["subject"], result["certificate"]["serial"]) == ("O=developers+O=on-call,CN=jane", None)
    assert result["diff"][0]["before"] == ""
    assert "a new certificate valid until" in result["diff"][0]["after"]
    assert os.listdir(cluster.path.parent) == []
    assert cluster.asked() == []


def test_a_renewal_keeps_what_else_is_in_the_file(cluster: Cluster) -> None:
    cluster.issue()
    text = "# Jane's\n" + cluster.path.read_text().replace("    user: jane\n", "    user: jane\n    namespace: shop\n")
    cluster.path.write_text(text + "preferences: {}\n")
    old = cluster.config().current_user()
    assert not cluster.issue()["changed"]
    assert not cluster.issue(later=timedelta(hours=470))["changed"]
    result = cluster.issue(later=timedelta(hours=490), check_mode=True)
    assert result["because"] == "its certificate has 229 hours left, not more than 240"
    cluster.issue(force=True)
    new = cluster.config().current_user()
    assert new.client_key_data != old.client_key_data
    kept = [line for line in text.splitlines() if "-data:" not in line]
    assert [line for line in cluster.path.read_text().splitlines() if "-data:" not in line] == [*kept, "preferences: {}"]


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"user": "joan"}, "its context is jane@kubernetes"),
        ({"groups": ("developers",)}, "its certificate is for O="),
        ({"server": "https://other.example:6443"}, "its server is https://127"),
        ({"cluster": "blue"}, "its context is"),
        ({"cluster": "blue", "context": "jane@kubernetes"}, "its cluster is kubernetes"),
        ({"renew_before_hours": 700, "later": timedelta(hours=20)}, "its certificate has 699 hours left, not more than 700"),
        ({"force": True}, "force"),
    ],
)
def test_what_makes_it_due(cluster: Cluster, changes: dict[str, t.Any], because: str) -> None:
    cluster.issue()
    result = cluster.issue(check_mode=True, **changes)
    assert result["changed"]
    assert re.match(because, result["because"])


def test_a_certificate_of_another_ca_a_foreign_key_and_a_copy_of_admin_conf(cluster: Cluster) -> None:
    other = pki.make_ca()
    subject = _issue.subject_of("jane", ("developers", "on-call"))
    strangers = pki.make_leaf(other, "jane", subject=subject)
    own = pki.make_leaf(cluster.ca, "jane", subject=subject)
    for pair, because in (
        (strangers, "does not verify under the cluster's CA"),
        (pki.Pair(own.cert, strangers.key), "do not belong together"),
    ):
        write_kubeconfig(cluster.path, cluster.ca, pair, cluster.server.address)
        document = cluster.path.read_text().replace("a@kubernetes", "jane@kubernetes")
        cluster.path.write_text(document.replace("name: a\n", "name: jane\n").replace("user: a\n", "user: jane\n"))
        assert because in cluster.issue(check_mode=True)["because"]
    cluster.path.write_bytes(cluster.admin.read_bytes())
    result = cluster.issue()
    assert (result["because"], result["diff"][0]["before"].splitlines()[0]) == (
        "its context is a@kubernetes",
        "subject: CN=kubernetes-admin",
    )
    assert cluster.config().current_user().name == "jane"


def test_what_of_others_would_be_lost(cluster: Cluster) -> None:
    cluster.path.write_bytes(b"- a shopping list\n")
    cluster.refused("is not overwritten: it cannot be read as a kubeconfig")
    cluster.path.write_bytes(b"")
    cluster.refused("is not overwritten: .*is empty", check_mode=True)
    document = yaml.safe_load(cluster.admin.read_text())
    document["users"].append({"name": "other", "user": {"token": "x"}})
    cluster.path.write_text(yaml.safe_dump(document))
    cluster.refused("is not overwritten: its context is .*, and it has other clusters, users or contexts than its own.*force: true")
    assert cluster.issue(force=True)["changed"]
    assert list(cluster.config().users) == ["jane"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_owner_group_and_mode(cluster: Cluster) -> None:
    os.chown(cluster.path.parent, 2001, 2001)
    cluster.issue(owner="2001", group="2002", mode="0640")
    found = cluster.path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (2001, 2002, 0o640)
    content = cluster.path.read_bytes()
    assert cluster.issue(owner="2001", group="2002", mode=0o600, check_mode=True)["changed"]
    result = cluster.issue(owner="2001", group="2002", mode=0o600)
    assert (result["changed"], result["action"], result["diff"]) == (True, "attributes", [])
    assert cluster.path.read_bytes() == content
    assert stat.S_IMODE(cluster.path.stat().st_mode) == 0o600
    assert not cluster.issue(owner="2001", group="2002", mode="600")["changed"]
    cluster.refused("belongs to the user with id 2001", owner="root")


def test_the_ca_signs_while_the_api_is_down(cluster: Cluster) -> None:
    result = cluster.issue(signer="ca", server="https://127.0.0.1:1")
    assert (result["changed"], result["proof"]) == (True, "none")
    assert "connection refused" in result["warnings"][0]
