# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for the API of CertificateSigningRequests, with its admission, its signer and SelfSubjectReview."""

from __future__ import annotations

import base64
import json
import typing as t

from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import Answer, FakeServer
from cryptography import x509

PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
ALLOWED_USAGES = {"digital signature", "key encipherment", "client auth"}


def forbidden(what: str) -> Answer:
    return 403, {"kind": "Status", "message": what + " is forbidden", "code": 403}


class FakeSigner:
    """Puts its routes into a server's table. What came of the requests is up to the test: see the attributes."""

    def __init__(self, server: FakeServer, ca: pki.Pair) -> None:
        self.server, self.ca = server, ca
        self.objects: dict[str, dict[str, t.Any]] = {}
        self.made: list[dict[str, t.Any]] = []  # each object as it was created
        self.outcome = "issued"  # issued | denied | failed | never
        self.reads_until_signed = 2
        self.conflicts = 0  # approvals that are refused because somebody else wrote
        self.forbidden: set[str] = set()  # of create, approve, get, delete
        self.limit = 365 * 86400  # --cluster-signing-duration
        self.seen: Answer | None = None  # what SelfSubjectReview answers; None: the truth
        self._reads = 0
        server.routes["POST " + PATH] = self._create
        server.routes["POST " + WHOAMI] = self._whoami

    def _create(self, body: bytes) -> Answer:
        if "create" in self.forbidden:
            return forbidden("create")
        document = json.loads(body)
        spec = document["spec"]
        assert spec["signerName"] == "kubernetes.io/kube-apiserver-client"
        assert "client auth" in spec["usages"]
        assert set(spec["usages"]) <= ALLOWED_USAGES
        assert spec["expirationSeconds"] >= 600
        request = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
        if "system:masters" in {name.value for name in request.subject if name.oid == x509.oid.NameOID.ORGANIZATION_NAME}:
            return forbidden("use of kubernetes.io/kube-apiserver-client signer with system:masters group")
        name = "%s%05d" % (document["metadata"]["generateName"], len(self.made))
        document["metadata"] = {"name": name, "resourceVersion": "1", "creationTimestamp": "2026-11-24T01:50:00Z"}
        document["status"] = {}
        self.objects[name] = document
        self.made.append(json.loads(json.dumps(document)))
        one = PATH + "/" + name
        self.server.routes["GET " + one] = lambda _body: self._get(name)
        self.server.routes["PUT %s/approval" % one] = lambda body: self._approve(name, json.loads(body))
        self.server.routes["DELETE " + one] = lambda _body: self._delete(name)
        return 201, document

    def _get(self, name: str) -> Answer:
        if "get" in self.forbidden:
            return forbidden("get")
        if name not in self.objects:
            return 404, {"message": "not found"}
        self._reads += 1
        document = self.objects[name]
        approved = any(entry["type"] == "Approved" for entry in document["status"].get("conditions", []))
        if approved and self._reads >= self.reads_until_signed:
            self._sign(document)
        return 200, document

    def _sign(self, document: dict[str, t.Any]) -> None:
        status, spec = document["status"], document["spec"]
        if self.outcome == "failed":
            status["conditions"].append({"type": "Failed", "status": "True", "message": "the signer does not like it"})
        if self.outcome == "issued":
            certificate = pki.sign_request(self.ca, base64.b64decode(spec["request"]), spec["expirationSeconds"], self.limit)
            status["certificate"] = base64.b64encode(certificate).decode()

    def _approve(self, name: str, document: dict[str, t.Any]) -> Answer:
        if "approve" in self.forbidden:
            return forbidden('user not permitted to approve requests with signerName "kubernetes.io/kube-apiserver-client": it')
        known = self.objects[name]
        if self.conflicts:
            self.conflicts -= 1
            known["metadata"]["resourceVersion"] = str(int(known["metadata"]["resourceVersion"]) + 1)
            return 409, {"message": "the object has been modified"}
        assert document["metadata"]["resourceVersion"] == known["metadata"]["resourceVersion"]
        (condition,) = document["status"]["conditions"]
        assert (condition["type"], condition["status"]) == ("Approved", "True")
        known["status"] = document["status"]
        if self.outcome == "denied":
            known["status"]["conditions"] = [{"type": "Denied", "status": "True", "message": "a policy says no"}]
        return 200, known

    def _delete(self, name: str) -> Answer:
        if "delete" in self.forbidden:
            return forbidden("delete")
        del self.objects[name]
        return 200, {"kind": "Status", "status": "Success"}

    def _whoami(self, _body: bytes) -> Answer:
        if self.seen is not None:
            return self.seen
        request = x509.load_pem_x509_csr(base64.b64decode(self.made[-1]["spec"]["request"]))
        names = [(name.oid == x509.oid.NameOID.COMMON_NAME, name.value) for name in request.subject]
        groups = [value for is_user, value in names if not is_user]
        (user,) = (value for is_user, value in names if is_user)
        return review(str(user), *map(str, groups))


def review(user: str, *groups: str) -> Answer:
    """What SelfSubjectReview answers."""
    return 201, {"status": {"userInfo": {"username": user, "groups": [*groups, "system:authenticated"]}}}
