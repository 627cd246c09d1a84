# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which requests for a kubelet's serving certificate are approved, and which are left alone."""

from __future__ import annotations

import base64
import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _csr
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, ApiError
from ansible_collections.certops.kubernetes.plugins.module_utils._serving_approval import approve_pending
from ansible_collections.certops.kubernetes.plugins.module_utils._serving_requests import refusal, requesting_node
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import FakeServer, server_pair
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
LISTED = "GET " + PATH + "?fieldSelector=spec.signerName%3Dkubernetes.io%2Fkubelet-serving"
NODE = {
    "metadata": {"name": "n1"},
    "status": {
        "addresses": [
            {"type": "InternalIP", "address": "192.0.2.7"},
            {"type": "InternalIP", "address": "2001:db8::7"},
            {"type": "ExternalIP", "address": "198.51.100.7"},
            {"type": "Hostname", "address": "n1"},
            {"type": "InternalDNS", "address": "n1.internal"},
            {"type": "ExternalDNS", "address": "n1.example.org"},
            {"type": "InternalIP", "address": "none"},
            {"type": "Somewhere", "address": "elsewhere"},
            7,
        ]
    },
}
SANS = ("DNS:n1", "IP:192.0.2.7")
NODE_NAME = (("O", "system:nodes"), ("CN", "system:node:n1"))
OIDS = {"O": NameOID.ORGANIZATION_NAME, "CN": NameOID.COMMON_NAME}
KEY = pki.new_key("EC-256")


def pkcs10(sans: t.Sequence[str] = SANS, subject: t.Sequence[tuple[str, str]] = NODE_NAME, key: t.Any = KEY) -> bytes:
    """A request as a kubelet makes it."""
    name = x509.Name([x509.NameAttribute(OIDS[kind], value) for kind, value in subject])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName([pki.make_san(san) for san in sans]), critical=False)
    return bytes(builder.sign(key, pki.signature_hash(key)).public_bytes(serialization.Encoding.PEM))


def made(request_pem: bytes | None = None, **other: t.Any) -> _csr.SigningRequest:
    """A request that is as it should be, but for what is said."""
    values: dict[str, t.Any] = {
        "name": "csr-1",
        "signer": _csr.KUBELET_SERVING,
        "user": "system:node:n1",
        "groups": ("system:nodes", "system:authenticated"),
        "usages": ("digital signature", "server auth"),
        "request_pem": request_pem or pkcs10(),
        "state": _csr.PENDING,
        "message": "",
        "certificate_pem": None,
        "created": None,
    }
    return _csr.SigningRequest(**{**values, **other})


@pytest.mark.parametrize("key", ["EC-256", "EC-384", "RSA-2048", "Ed25519"])
def test_a_kubelets_own_request_matches(key: str) -> None:
    assert refusal(made(pkcs10(key=pki.new_key(key))), NODE) is None


@pytest.mark.parametrize(
    "sans", [["DNS:n1"], ["IP:192.0.2.7"], ["IP:2001:db8::7", "IP:198.51.100.7"], ["DNS:n1.internal", "DNS:n1.example.org"]]
)
def test_whatever_names_and_addresses_the_node_has_match(sans: list[str]) -> None:
    assert refusal(made(pkcs10(sans)), NODE) is None


def test_an_rsa_keys_usage_is_allowed() -> None:
    assert refusal(made(usages=("key encipherment", "digital signature", "server auth")), NODE) is None


@pytest.mark.parametrize(
    ("request_pem", "because"),
    [
        (pkcs10(["DNS:n1", "DNS:n2"]), "asks for DNS:n2, which Node n1 does not have (it has 192.0.2.7, 198.51.100.7, 2"),
        (pkcs10(["IP:192.0.2.8"]), "asks for IP:192.0.2.8, which Node n1 does not have"),
        (pkcs10(["DNS:elsewhere"]), "asks for DNS:elsewhere"),
        (pkcs10(["DNS:192.0.2.7"]), "asks for DNS:192.0.2.7"),
        (pkcs10([*SANS, "email:root@n1"]), "asks for email:root@n1, and a kubelet serves under names and addresses only"),
        (pkcs10([*SANS, "URI:https://n1"]), "asks for URI:https://n1"),
        (pkcs10([]), "names no name and no address"),
        (pkcs10(subject=[("O", "system:nodes"), ("CN", "system:node:n2")]), "asks for the subject O=system:nodes,CN=system:node:n2"),
        (pkcs10(subject=[("CN", "system:node:n1")]), "and not for O=system:nodes, CN=system:node:n1"),
        (pkcs10(subject=[*NODE_NAME, ("O", "system:masters")]), "system:masters"),
        (pkcs10(key=pki.new_key("RSA-1024")), "its key (RSA, 1024 bits) is none that is safe"),
        (b"nonsense", "cannot be read"),
    ],
)
def test_what_is_not_the_nodes_own_is_refused(request_pem: bytes, because: str) -> None:
    assert because in (refusal(made(request_pem), NODE) or "")


def der_of(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    long_form = b"\x81" if size < 256 else b"\x82\x01"
    return bytes([tag]) + (b"" if size < 128 else long_form) + bytes([size % 256]) + content


def with_attributes(*attributes: tuple[str, str]) -> bytes:
    """A request with an attribute for each OID (hexadecimal DER), which asks for this DNS name."""
    plain = x509.load_pem_x509_csr(pkcs10([]))
    key = plain.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    found = []
    for oid, name in attributes:
        names = der_of(0x04, der_of(0x30, der_of(0x82, name.encode())))
        extensions = der_of(0x30, der_of(0x30, bytes.fromhex("0603551d11"), names))
        found.append(der_of(0x30, bytes.fromhex(oid), der_of(0x31, extensions)))
    asked = der_of(0x30, b"\x02\x01\x00", plain.subject.public_bytes(), key, der_of(0xA0, *found))
    signature = der_of(0x03, b"\0", KEY.sign(asked, ec.ECDSA(hashes.SHA256())))
    request = der_of(0x30, asked, bytes.fromhex("300a06082a8648ce3d040302"), signature)
    return b"-----BEGIN CERTIFICATE REQUEST-----\n%s-----END CERTIFICATE REQUEST-----\n" % base64.encodebytes(request)


@pytest.mark.parametrize(
    "request_pem",
    [
        b"x" + pkcs10() + pkcs10(["DNS:n2"]),  # Go begins a block at the beginning of a line only, so it signs the second
        pkcs10() + pkcs10(["DNS:n2"]),
        pkcs10(["DNS:n2"]) + pkcs10(),
        pkcs10().replace(b"REQUEST-----\n", b"REQUEST-----\nA: b\n\n", 1),
        b"\n" + pkcs10(),
    ],
)
def test_what_the_signer_might_read_otherwise_is_refused(request_pem: bytes) -> None:
    assert "it is not a single PEM block as kubelets write it" in (refusal(made(request_pem), NODE) or "")


def test_extensions_that_the_signer_ignores_do_not_speak_for_those_that_it_signs() -> None:
    pkcs9, microsofts = "06092a864886f70d01090e", "060a2b06010401823702010e"
    assert refusal(made(with_attributes((pkcs9, "n1"))), NODE) is None
    for attributes in ([(microsofts, "n1"), (pkcs9, "n2.example.org")], [(pkcs9, "n1"), (pkcs9, "n2.example.org")], [(microsofts, "n1")]):
        assert refusal(made(with_attributes(*attributes)), NODE) == "it asks for extensions in more than one way"


def test_a_request_that_somebody_elses_key_signed_is_refused() -> None:
    der = bytearray(x509.load_pem_x509_csr(pkcs10()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = b"-----BEGIN CERTIFICATE REQUEST-----\n%s-----END CERTIFICATE REQUEST-----\n" % base64.encodebytes(bytes(der))
    assert refusal(made(forged), NODE) == "it was not signed with the key that it is about"


@pytest.mark.parametrize(
    ("other", "because"),
    [
        ({"signer": _csr.KUBELET_CLIENT}, "it is a request to kubernetes.io/kube-apiserver-client-kubelet"),
        ({"user": "jane"}, "jane asks for it, who is no kubelet"),
        ({"user": "system:node:"}, "who is no kubelet"),
        ({"user": "system:node:n2"}, "the cluster has no Node n2"),
        ({"groups": ("system:authenticated",)}, "without being in the group system:nodes"),
        ({"groups": ("system:nodes",)}, "without being in the group system:authenticated"),
        ({"usages": ("server auth",)}, "asks for the usages server auth"),
        ({"usages": ("digital signature", "server auth", "client auth")}, "client auth, which are not a server's"),
        ({"usages": ()}, "(none)"),
    ],
)
def test_who_asks_and_for_which_use(other: dict[str, t.Any], because: str) -> None:
    assert because in (refusal(made(**other), NODE) or "")


def test_a_node_that_the_cluster_does_not_know() -> None:
    assert refusal(made(), None) == "the cluster has no Node n1"
    assert "it has none" in (refusal(made(), {"metadata": {"name": "n1"}, "status": {"addresses": "x"}}) or "")


def test_whose_request_it_is() -> None:
    assert (requesting_node(made()), requesting_node(made(user="jane"))) == ("n1", None)


# --- asked of the API ------------------------------------------------------------------------------------------------


def document(name: str, request_pem: bytes, user: str = "system:node:n1", **status: t.Any) -> dict[str, t.Any]:
    """A request as the API returns it."""
    spec = {
        "signerName": _csr.KUBELET_SERVING,
        "request": base64.b64encode(request_pem).decode(),
        "usages": ["digital signature", "server auth"],
        "username": user,
        "groups": ["system:nodes", "system:authenticated"],
    }
    return {"metadata": {"name": name, "resourceVersion": "7"}, "spec": spec, "status": status}


class Cluster:
    """An API server with requests; it signs what is approved."""

    def __init__(self, tmp_path: Path, requests: t.Sequence[dict[str, t.Any]]) -> None:
        self.requests = {entry["metadata"]["name"]: entry for entry in requests}
        self.ca = pki.make_ca()
        self.server = FakeServer(tmp_path, {}, server_pair(self.ca))
        self.client = ApiClient(self.server.address, ca_pem=self.ca.cert_pem)
        routes = self.server.routes
        routes[LISTED] = lambda _body: (200, {"items": list(self.requests.values())})
        routes["GET /api/v1/nodes/n1"] = (200, NODE)
        for name in self.requests:
            routes["PUT %s/%s/approval" % (PATH, name)] = self._approve
            routes["GET %s/%s" % (PATH, name)] = lambda _body, name=name: (200, self.requests[name])

    def _approve(self, body: bytes) -> tuple[int, object]:
        written = json.loads(body)
        leaf = pki.make_leaf(self.ca, "system:node:n1", sans=SANS, usages=("server",))
        written["status"]["certificate"] = base64.b64encode(leaf.cert_pem).decode()
        self.requests[written["metadata"]["name"]] = written
        return 200, written

    @property
    def written(self) -> list[str]:
        return [path for method, path, _body in self.server.requests if method != "GET"]


def test_only_what_matches_is_approved(tmp_path: Path) -> None:
    cluster = Cluster(
        tmp_path,
        [
            document("own", pkcs10()),
            document("forged", pkcs10(["DNS:n1", "IP:192.0.2.1"])),
            document("strangers", pkcs10(), user="system:node:n9"),
            document("janes", pkcs10(), user="jane"),
            document("denied", pkcs10(), conditions=[{"type": "Denied"}]),
        ],
    )
    with cluster.server:
        foreseen = approve_pending(cluster.client, ["n1", "n2"], predict=True, wait_seconds=5)
        assert cluster.written == []
        judged = approve_pending(cluster.client, ["n1", "n2"], wait_seconds=5)
    assert [(one.request, one.node, one.not_after) for one in foreseen.approved] == [("own", "n1", None)]
    assert [(one.request, one.node, bool(one.not_after)) for one in judged.approved] == [("own", "n1", True)]
    assert cluster.written == [PATH + "/own/approval"]
    assert foreseen.left_alone == judged.left_alone
    reasons = {one.request: one.reason for one in judged.left_alone}
    assert sorted(reasons) == ["forged", "janes", "strangers"]
    assert "IP:192.0.2.1" in reasons["forged"]
    assert reasons["strangers"] == "it is of no node of this play"
    assert reasons["janes"] == "jane asks for it, who is no kubelet"


def test_a_second_time_there_is_nothing_to_approve(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, [document("own", pkcs10())])
    with cluster.server:
        approve_pending(cluster.client, ["n1"])
        assert approve_pending(cluster.client, ["n1"]).approved == ()


@pytest.mark.parametrize(
    ("status", "reason"), [(409, "somebody changed it meanwhile: run again"), (404, "it was removed meanwhile")], ids=["changed", "removed"]
)
def test_a_request_that_is_touched_meanwhile_is_left_alone(tmp_path: Path, status: int, reason: str) -> None:
    cluster = Cluster(tmp_path, [document("own", pkcs10())])
    cluster.server.routes["PUT %s/own/approval" % PATH] = (status, {"message": "no"})
    with cluster.server:
        judged = approve_pending(cluster.client, ["n1"], wait_seconds=5)
    assert (judged.approved, [one.reason for one in judged.left_alone]) == ((), [reason])


def test_a_node_that_is_gone_has_nothing_approved(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, [document("own", pkcs10())])
    del cluster.server.routes["GET /api/v1/nodes/n1"]
    with cluster.server:
        assert [one.reason for one in approve_pending(cluster.client, ["n1"]).left_alone] == ["the cluster has no Node n1"]


def test_what_the_api_refuses_is_an_error(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, [document("own", pkcs10())])
    cluster.server.routes["PUT %s/own/approval" % PATH] = (403, {"message": "user may not"})
    with cluster.server, pytest.raises(ApiError, match="403"):
        approve_pending(cluster.client, ["n1"])


def test_a_certificate_that_does_not_come_is_an_error(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, [document("own", pkcs10())])
    cluster.server.routes["PUT %s/own/approval" % PATH] = lambda body: (200, json.loads(body))
    with cluster.server, pytest.raises(ApiError, match="no certificate came of the request own"):
        approve_pending(cluster.client, ["n1"], wait_seconds=0.3, sleep=lambda _seconds: None)
