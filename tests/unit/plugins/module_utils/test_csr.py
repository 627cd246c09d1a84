# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _csr
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, ApiError
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import FakeServer, server_pair

PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
ONE = PATH + "/csr-1"
LISTED = PATH + "?fieldSelector=spec.signerName%3Dkubernetes.io%2Fkubelet-serving"


def document(certificate: bytes | None = None, conditions: object = None, **spec: t.Any) -> dict[str, t.Any]:
    """A request as the API returns it."""
    status: dict[str, t.Any] = {} if certificate is None else {"certificate": base64.b64encode(certificate).decode()}
    if conditions is not None:
        status["conditions"] = conditions
    fixed = {"signerName": _csr.KUBELET_SERVING, "request": base64.b64encode(b"a request").decode(), "usages": ["server auth"]}
    fixed.update(username="system:node:n1", groups=["system:nodes", "system:authenticated"])
    metadata = {"name": "csr-1", "creationTimestamp": "2026-11-24T01:50:00Z", "resourceVersion": "7"}
    return {"kind": "CertificateSigningRequest", "metadata": metadata, "spec": {**fixed, **spec}, "status": status}


@pytest.fixture(name="api")
def fixture_api(tmp_path: Path) -> t.Iterator[tuple[FakeServer, ApiClient]]:
    ca = pki.make_ca()
    with FakeServer(tmp_path, {}, server_pair(ca)) as server:
        yield server, ApiClient(server.address, ca_pem=ca.cert_pem)


def test_a_request_is_made(api: tuple[FakeServer, ApiClient]) -> None:
    api[0].routes["POST " + PATH] = lambda body: (201, {**json.loads(body), "metadata": {"name": "csr-1"}})
    made = _csr.create_signing_request(api[1], "certops-", _csr.KUBELET_CLIENT, ["client auth"], b"a request", 60)
    assert (made.name, made.signer, made.request_pem, made.state) == ("csr-1", _csr.KUBELET_CLIENT, b"a request", _csr.PENDING)
    sent = json.loads(api[0].requests[-1][2])
    assert sent["metadata"] == {"generateName": "certops-"}
    assert (sent["spec"]["expirationSeconds"], sent["spec"]["usages"]) == (600, ["client auth"])
    _csr.create_signing_request(api[1], "certops-", _csr.KUBELET_CLIENT, ["client auth"], b"a request")
    assert "expirationSeconds" not in json.loads(api[0].requests[-1][2])["spec"]


def test_requests_to_a_signer_are_listed(api: tuple[FakeServer, ApiClient]) -> None:
    api[0].routes["GET " + LISTED] = (200, {"items": [document()]})
    (found,) = _csr.list_signing_requests(api[1], _csr.KUBELET_SERVING)
    assert (found.user, found.groups, found.usages) == ("system:node:n1", ("system:nodes", "system:authenticated"), ("server auth",))
    assert found.created is not None
    assert found.created.isoformat() == "2026-11-24T01:50:00+00:00"


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        (None, _csr.PENDING),
        ([], _csr.PENDING),
        ([{"type": "Approved"}], _csr.APPROVED),
        ([{"type": "Approved"}, {"type": "Failed"}], _csr.FAILED),
        ([{"type": "Denied"}, {"type": "Approved"}], _csr.DENIED),
        (["x", {"type": []}, 7], _csr.PENDING),
    ],
)
def test_what_came_of_it(api: tuple[FakeServer, ApiClient], conditions: object, state: str) -> None:
    api[0].routes["GET " + ONE] = (200, document(conditions=conditions))
    assert _csr.read_signing_request(api[1], "csr-1").state == state


def test_an_approval_is_written_to_the_request_that_was_read(api: tuple[FakeServer, ApiClient]) -> None:
    api[0].routes["GET " + ONE] = (200, document())
    api[0].routes["PUT " + ONE + "/approval"] = lambda body: (200, json.loads(body))
    _csr.approve_signing_request(api[1], _csr.read_signing_request(api[1], "csr-1"), "Certops", "it is the node's own")
    written = json.loads(api[0].requests[-1][2])
    assert written["metadata"]["resourceVersion"] == "7"
    (condition,) = written["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Approved", "True", "Certops")


def test_a_certificate_is_waited_for(api: tuple[FakeServer, ApiClient]) -> None:
    answers = [document(), document(conditions=[{"type": "Approved"}]), document(b"a certificate")]
    api[0].routes["GET " + ONE] = lambda _body: (200, answers.pop(0))
    assert _csr.wait_for_certificate(api[1], "csr-1", 30, sleep=lambda _seconds: None) == b"a certificate"


@pytest.mark.parametrize(
    ("conditions", "sentence"),
    [
        ([{"type": "Denied", "message": "who are you?"}], "was denied: who are you?"),
        ([{"type": "Failed"}], "was failed: no reason given"),
        ([{"type": "Approved"}], "csrsigning"),
        (None, "it is not approved"),
    ],
)
def test_why_there_is_none(api: tuple[FakeServer, ApiClient], conditions: object, sentence: str) -> None:
    api[0].routes["GET " + ONE] = (200, document(conditions=conditions))
    with pytest.raises(ApiError, match="csr-1.*" + sentence):
        _csr.wait_for_certificate(api[1], "csr-1", 0, sleep=lambda _seconds: None)


@pytest.mark.parametrize("answer", [{}, {"metadata": 7}, document(request="%%"), document(request=7), document(signerName=None)])
def test_garbage_is_explained(api: tuple[FakeServer, ApiClient], answer: object) -> None:
    api[0].routes["GET " + ONE] = (200, answer)
    with pytest.raises(ApiError, match="garbled CertificateSigningRequest"):
        _csr.read_signing_request(api[1], "csr-1")


def test_one_that_is_gone_is_as_good_as_deleted(api: tuple[FakeServer, ApiClient]) -> None:
    _csr.delete_signing_request(api[1], "csr-1")
    api[0].routes["DELETE " + ONE] = (403, {"message": "forbidden"})
    with pytest.raises(ApiError, match="forbidden"):
        _csr.delete_signing_request(api[1], "csr-1")
