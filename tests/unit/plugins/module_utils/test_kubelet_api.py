# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of what a node asks its cluster with its kubelet's identity; the server is real TLS that wants a client certificate."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import ssl
import typing as t
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _kubelet_api
from ansible_collections.certops.kubernetes.plugins.module_utils._health import check_health
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_api import (
    ask_signer,
    check_node_itself,
    identity_problem,
    own_identity,
    trusted_authorities,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Component, Credential, Node, Process
from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import ClientProof, client_proof
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import FakeServer

if t.TYPE_CHECKING:
    from pathlib import Path

CA = pki.make_ca()
PAIR = pki.make_leaf(CA, "system:node:w1", organization="system:nodes")
FINGERPRINT = hashlib.sha256(ssl.PEM_cert_to_DER_cert(PAIR.cert_pem.decode())).hexdigest()
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/w1"
STARTED = datetime.now(timezone.utc) - timedelta(minutes=1)


class Cluster:
    """An API server whose table the tests change, and a worker that knows it."""

    def __init__(self, folder: Path) -> None:
        self.routes: dict[str, t.Any] = {}
        pair = pki.make_leaf(CA, "kube-apiserver", usages=("server",), sans=["IP:127.0.0.1"])
        self.server = FakeServer(folder, self.routes, pair, CA)
        pem = folder / "kubelet-client-current.pem"
        pem.write_bytes(PAIR.cert_pem + PAIR.key_pem)
        cluster = {"server": "https://%s" % self.server.address, "certificate-authority-data": base64.b64encode(CA.cert_pem).decode()}
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": cluster}],
            "users": [{"name": "u", "user": {"client-certificate": str(pem), "client-key": str(pem)}}],
        }
        (folder / "kubelet.conf").write_text(json.dumps(config))
        kubelet = Component("kubelet", {"kubeconfig": (str(folder / "kubelet.conf"),)}, process=Process(7, 7, ("kubelet",), STARTED))
        client = Credential("kubelet-client", "pair", str(pem), str(pem), "client", "kubelet", "ca", managed_by="kubelet")
        self.node = Node("w1", None, str(folder), {"kubelet": kubelet}, {"kubelet-client": client})

    def sees(self, user: str = "system:node:w1", fingerprint: str | None = FINGERPRINT) -> None:
        """Whom a SelfSubjectReview shows."""
        extra = {"authentication.kubernetes.io/credential-id": ["X509SHA256=%s" % fingerprint]} if fingerprint else {}
        info = {"username": user, "groups": [], "extra": extra}
        self.routes["POST /apis/authentication.k8s.io/v1/selfsubjectreviews"] = (201, {"status": {"userInfo": info}})

    def renewed(self, when: datetime) -> None:
        """When the kubelet has renewed its Lease."""
        time = when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self.routes["GET " + LEASE] = (200, {"spec": {"holderIdentity": "w1", "leaseDurationSeconds": 40, "renewTime": time}})

    def is_ready(self, status: str = "True") -> None:
        """Whether the node is Ready."""
        conditions = [{"type": "Ready", "status": status, "message": "PLEG is not healthy"}]
        self.routes["GET /api/v1/nodes/w1"] = (200, {"metadata": {"name": "w1"}, "status": {"conditions": conditions}})

    def has_request(self, **status: t.Any) -> None:
        """A request as it was made, and what became of it."""
        spec = {"signerName": "kubernetes.io/kube-apiserver-client-kubelet", "request": base64.b64encode(b"csr").decode()}
        document = {"metadata": {"name": "certops-1"}, "spec": spec, "status": status}
        self.routes["POST " + CSRS] = (201, document)
        self.routes["GET %s/certops-1" % CSRS] = (200, document)


@pytest.fixture(name="cluster")
def fixture_cluster(tmp_path: Path) -> t.Iterator[Cluster]:
    made = Cluster(tmp_path)
    with made.server:
        yield made


def test_the_signer_is_asked_as_the_node(cluster: Cluster) -> None:
    cluster.has_request(certificate=base64.b64encode(b"pem").decode())
    assert ask_signer(cluster.node, b"csr", ("digital signature", "client auth"), 7200) == b"pem"
    spec = json.loads(next(body for method, _path, body in cluster.server.requests if method == "POST"))["spec"]
    assert (spec["signerName"], spec["expirationSeconds"]) == ("kubernetes.io/kube-apiserver-client-kubelet", 7200)
    assert spec["usages"] == ["digital signature", "client auth"]
    assert cluster.server.requests[-1][:2] == ("DELETE", "%s/certops-1" % CSRS)


def test_who_approves_nothing_is_told_what_is_missing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kubelet_api, "_SIGNING_SECONDS", 0.0)
    cluster.has_request()
    with pytest.raises(CertopsError, match="is not approved within .*kubectl create clusterrolebinding kubeadm:node-autoapprove"):
        ask_signer(cluster.node, b"csr", ("client auth",), 7200)
    assert cluster.server.requests[-1][:2] == ("DELETE", "%s/certops-1" % CSRS)


def test_proven_by_whom_the_api_sees_and_by_a_kubelet_that_reaches_it(cluster: Cluster) -> None:
    cluster.sees()
    cluster.renewed(STARTED + timedelta(seconds=9))
    assert identity_problem(cluster.node, FINGERPRINT) == ("true", "identity", "")
    cluster.sees(fingerprint=None)  # before Kubernetes 1.32
    assert identity_problem(cluster.node, FINGERPRINT)[:2] == ("true", "path_works")


def test_a_kubelet_that_was_silent_since_it_started_is_not_proven(cluster: Cluster) -> None:
    """It could renew its Lease with what it had before."""
    cluster.sees()
    cluster.renewed(STARTED - timedelta(seconds=9))
    in_use, _proof, message = identity_problem(cluster.node, FINGERPRINT)
    assert in_use == "false"
    assert "has not renewed the Lease kube-node-lease/w1 since it started" in message


@pytest.mark.parametrize(
    ("seen", "said"),
    [({"fingerprint": "ab"}, "saw X509SHA256=ab"), ({"user": "system:anonymous"}, "sees system:anonymous, not system:node:w1")],
)
def test_another_one_is_not_proven(cluster: Cluster, seen: dict[str, str], said: str) -> None:
    cluster.sees(**seen)
    in_use, _proof, message = identity_problem(cluster.node, FINGERPRINT)
    assert in_use == "false"
    assert said in message


def test_a_worker_asks_for_itself_how_it_is(cluster: Cluster) -> None:
    now = datetime.now(timezone.utc)
    cluster.is_ready()
    cluster.renewed(now)
    assert check_node_itself(cluster.node, now, ()).ok
    cluster.renewed(now - timedelta(minutes=9))
    assert "does not renew the Lease" in check_node_itself(cluster.node, now, ()).message
    cluster.is_ready("False")
    assert "node w1 is not Ready: PLEG is not healthy" in check_node_itself(cluster.node, now, ()).message
    # Part of the gate of a node without an API server, and of no other one.
    assert "node" in [check.name for check in check_health(cluster.node, now).checks]
    stranger = dataclasses.replace(cluster.node, credentials={})
    assert "node" not in [check.name for check in check_health(stranger, now).checks]


def test_a_cluster_that_does_not_answer_fails_the_gate(cluster: Cluster) -> None:
    check = check_node_itself(cluster.node, datetime.now(timezone.utc), ["kubelet-client"])
    assert not check.ok
    assert check.caused_by_expired == ("kubelet-client",)


def embedded(cluster: Cluster, folder: Path, pair: pki.Pair, beside: bool = False) -> Node:
    """The worker with a kubelet.conf that embeds this pair, with or without the file."""
    path = folder / "kubelet.conf"
    document = json.loads(path.read_text())
    encoded = [base64.b64encode(data).decode() for data in (pair.cert_pem, pair.key_pem)]
    document["users"][0]["user"] = {"client-certificate-data": encoded[0], "client-key-data": encoded[1]}
    path.write_text(json.dumps(document))
    conf = Credential("kubelet.conf", "kubeconfig", str(path), str(path), "client", "kubelet", "ca", managed_by="kubelet")
    credentials = {"kubelet.conf": conf, **(cluster.node.credentials if beside else {})}
    return dataclasses.replace(cluster.node, credentials=credentials)


def test_a_kubelet_whose_certificate_is_embedded_asks_with_that(cluster: Cluster, tmp_path: Path) -> None:
    node = embedded(cluster, tmp_path, PAIR)
    cluster.sees()
    cluster.renewed(datetime.now(timezone.utc))
    assert client_proof(node, "kubelet.conf", FINGERPRINT) == ClientProof("true", "identity")


def test_beside_a_file_what_is_embedded_is_not_shown(cluster: Cluster, tmp_path: Path) -> None:
    """Then the kubelet, which works, says nothing against it."""
    node = embedded(cluster, tmp_path, pki.make_leaf(CA, "system:node:w1"), beside=True)
    cluster.sees()
    cluster.renewed(datetime.now(timezone.utc))
    assert client_proof(node, "kubelet.conf", "another") == ClientProof("true", "path_works")
    assert client_proof(node, "kubelet-client", FINGERPRINT) == ClientProof("true", "identity")


def test_of_a_setting_it_is_seen_that_the_kubelet_is_a_client_at_all(cluster: Cluster) -> None:
    cluster.sees()
    cluster.renewed(datetime.now(timezone.utc))
    assert client_proof(cluster.node, "kubelet:rotateCertificates", "").in_use == "true"
    cluster.renewed(datetime.now(timezone.utc) - timedelta(minutes=9))
    found = client_proof(cluster.node, "kubelet:rotateCertificates", "")
    assert (found.in_use, "has not renewed the Lease" in found.message) == ("false", True)
    assert client_proof(dataclasses.replace(cluster.node, credentials={}), "kubelet:rotateCertificates", "").in_use == "unknown"


def test_a_valid_identity_goes_before_an_expired_one(cluster: Cluster, tmp_path: Path) -> None:
    now = datetime.now(timezone.utc)
    expired = pki.make_leaf(CA, "system:node:w1", not_before=now - timedelta(days=9), not_after=now - timedelta(days=1))
    node = embedded(cluster, tmp_path, PAIR, beside=True)
    (tmp_path / "kubelet-client-current.pem").write_bytes(expired.cert_pem + expired.key_pem)
    assert own_identity(node, now).source == str(tmp_path / "kubelet.conf")
    (tmp_path / "kubelet.conf").write_text("{}")
    assert own_identity(node, now).source == str(tmp_path / "kubelet-client-current.pem")
    (tmp_path / "kubelet-client-current.pem").write_text("garbage")
    with pytest.raises(CertopsError, match="kubelet-client-current.pem"):
        own_identity(node, now)


def test_a_node_without_a_ca_file_trusts_its_kubeconfigs(cluster: Cluster, tmp_path: Path) -> None:
    assert [one.subject.rfc4514_string() for one in trusted_authorities(cluster.node)] == ["CN=kubernetes"]
    path = tmp_path / "kubelet.conf"
    path.write_text(path.read_text().replace("certificate-authority-data", "something-else"))
    with pytest.raises(CertopsError, match="no CA was found on this node"):
        trusted_authorities(cluster.node)
