# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why no kubeconfig is issued, and that nothing shows a key then."""

from __future__ import annotations

import base64
import json
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.certops.kubernetes.plugins.module_utils import _issue
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_signer import WHOAMI, review
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.issued import Cluster, both, fake_cluster, signers


@pytest.fixture(name="cluster")
def fixture_cluster(tmp_path: Path) -> t.Iterator[Cluster]:
    with fake_cluster(tmp_path) as cluster:
        yield cluster


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"user": "system:node:a"}, "user system:node:a is refused"),
        ({"groups": ("system:nodes",)}, "group system:nodes is refused"),
        ({"groups": ("system:masters",)}, "CertificateSubjectRestriction"),
        ({"groups": ("system:masters",), "allow_masters": True}, "CertificateSubjectRestriction"),
        ({"groups": ("system:masters",), "signer": "ca"}, "bypasses RBAC.*allow_system_masters: true"),
        ({"user": ""}, "cannot be a user"),
        ({"user": "a\nb"}, "cannot be a user"),
        ({"groups": ("x" * 65,)}, "cannot be a group"),
        ({"validity_hours": 0}, "validity_hours is 0"),
        ({"validity_hours": 87601}, "validity_hours is 87601"),
        ({"validity_hours": 24, "renew_before_hours": 24}, "due at once"),
        ({"validity_hours": 87600}, "The CA CN=kubernetes ends at .*, in 87597 hours, .*no more than that"),
        ({"validity_hours": 87600, "signer": "ca"}, "The CA CN=kubernetes ends at"),
        ({"mode": "0644"}, "mode is 0644"),
        ({"mode": 600}, "mode is 1130"),
        ({"mode": "u=rw"}, "mode is 'u=rw'"),
        ({"mode": ["x"]}, r"mode is \['x'\]"),
        ({"owner": "nobody-of-that-name"}, "knows no owner 'nobody-of-that-name'"),
        ({"group": "no-such-group"}, "knows no group"),
        ({"path": "config"}, "no path to write to"),
        ({"path": "/tmp/a\0b"}, "no path to write to"),
        ({"kubernetes_dir": "/tmp/a\0b"}, "cannot be a path"),
        ({"server": "http://a"}, "is no address of an API server"),
        ({"context": "a\nb"}, "no name of a context"),
    ],
)
@pytest.mark.parametrize("check_mode", [True, False])
def test_what_is_refused(cluster: Cluster, changes: dict[str, t.Any], sentence: str, check_mode: bool) -> None:
    assert "Remedy" in cluster.refused(sentence, check_mode, **changes)
    assert cluster.asked() == []


@pytest.mark.parametrize("name", ["admin.conf", "kubelet.conf", "pki/jane.conf"])
def test_the_clusters_own_are_not_replaced(cluster: Cluster, name: str) -> None:
    before = cluster.admin.read_bytes()
    cluster.refused("keeps its own credentials", path=str(cluster.kubernetes_dir / name), force=True)
    copy = cluster.path.with_name("admin")
    copy.write_bytes(before)
    cluster.refused("keeps its own credentials", path=str(copy), kubeconfig=str(copy), force=True)
    assert cluster.admin.read_bytes() == before


def test_a_member_of_system_masters_is_warned_of(cluster: Cluster) -> None:
    cluster.signer.seen = review("jane", "system:masters")
    result = cluster.issue(groups=("system:masters",), signer="ca", allow_masters=True)
    assert [warning for warning in result["warnings"] if "bypasses RBAC" in warning]


def test_a_ca_without_its_key(cluster: Cluster) -> None:
    key = cluster.kubernetes_dir / "pki" / "ca.key"
    key.write_bytes(pki.make_ca().key_pem)
    cluster.refused("does not belong to the CA certificate", signer="ca")
    key.unlink()
    cluster.refused("key of its CA is not on this node .*ca.key.*signer=api", signer="ca", check_mode=True)


def test_without_an_administrators_kubeconfig(cluster: Cluster) -> None:
    cluster.signer.seen = review("jane", "developers", "on-call")
    cluster.admin.unlink()
    cluster.refused("There is no file .*admin.conf.*kubeconfig")
    cluster.refused("Where the API server is, is not known.*say server", signer="ca")
    server = "https://" + cluster.server.address
    assert cluster.issue(signer="ca", server=server)["cluster"] == "kubernetes"
    assert not cluster.issue(signer="ca", server=server)["changed"]
    cluster.refused("There is no file", signer="ca", kubeconfig="/nowhere/else")


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        ("denied", "was denied: a policy says no"),
        ("failed", "was failed: the signer does not like it"),
        ("never", "within 0 s: is the controller manager's csrsigning on"),
    ],
)
def test_no_certificate_comes(cluster: Cluster, outcome: str, sentence: str) -> None:
    cluster.signer.outcome = outcome
    said = cluster.refused("No certificate was issued for jane: .*%s.*Nothing was written" % sentence, wait_seconds=int(outcome != "never"))
    assert "certops-kubeconfig-00000" in said


@pytest.mark.parametrize(
    ("verb", "sentence"),
    [
        ("create", "lacks the permission create on certificatesigningrequests"),
        ("approve", "lacks the permission update on certificatesigningrequests/approval, or approve on signers named kubernetes.io/kube"),
        ("get", "lacks the permission get on certificatesigningrequests"),
    ],
)
def test_a_permission_is_missing(cluster: Cluster, verb: str, sentence: str) -> None:
    cluster.signer.forbidden = {verb}
    assert "admin.conf" in cluster.refused("No certificate was issued for jane: .*" + sentence)


def test_a_request_that_may_not_be_removed_is_a_warning(cluster: Cluster) -> None:
    cluster.signer.forbidden = {"delete"}
    result = cluster.issue()
    assert result["changed"]
    assert "delete on certificatesigningrequests" in result["warnings"][0]


def test_somebody_else_writes_to_the_request(cluster: Cluster) -> None:
    cluster.signer.conflicts = 2
    assert cluster.issue()["proof"] == "identity"
    cluster.signer.conflicts = 3
    cluster.refused("has been modified", force=True)


def test_somebody_else_writes_to_the_file_meanwhile(cluster: Cluster) -> None:
    cluster.issue()

    def answer(_body: bytes) -> t.Any:
        cluster.path.write_text(cluster.path.read_text() + "# Jane was here\n")
        return review("jane", "developers", "on-call")

    cluster.server.routes["POST " + WHOAMI] = answer
    with pytest.raises(CertopsError, match="was changed by somebody else meanwhile"):
        cluster.issue(force=True)
    assert cluster.path.read_text().endswith("# Jane was here\n")


def test_the_cluster_gives_less(cluster: Cluster) -> None:
    cluster.signer.limit = 3600
    result = cluster.issue()
    assert "before the 720 hours that were asked for" in result["warnings"][0]
    assert not cluster.issue()["changed"], "a third of what was given is left"


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        (review("joan", "developers"), "sees 'joan'"),
        (review("jane", "developers"), "sees 'jane' in .*developers.*Nothing was written"),
        ((401, {"message": "Unauthorized"}), "does not take the new certificate.*--client-ca-file"),
    ],
)
@both
def test_the_api_server_sees_somebody_else(cluster: Cluster, signer: str, seen: t.Any, sentence: str) -> None:
    cluster.signer.seen = seen
    cluster.refused(sentence, signer=signer)


def test_another_ca_signs(cluster: Cluster) -> None:
    cluster.signer.ca = pki.make_ca("other")
    cluster.refused("What was signed for jane is not taken: .*does not verify under the cluster's CA")


def test_an_api_server_from_before_self_subject_review(cluster: Cluster) -> None:
    cluster.signer.seen = (404, {"message": "the server could not find the requested resource"})
    result = cluster.issue()
    assert (result["changed"], result["proof"]) == (True, "none")
    assert "not known" in result["warnings"][0]


def test_an_administrator_with_a_token(cluster: Cluster) -> None:
    document = yaml.safe_load(cluster.admin.read_text())
    document["users"][0]["user"] = {"token": "x"}
    cluster.admin.write_text(yaml.safe_dump(document))
    cluster.refused("no client certificate and key", check_mode=True)


@pytest.mark.parametrize("outcome", ["issued", "denied", "failed", "never", "forbidden", "somebody", "unwritable"])
@both
def test_no_key_is_in_anything_that_is_said(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], signer: str, outcome: str
) -> None:
    keys = [pki.new_key(), pki.new_key()]
    made = iter(keys)
    monkeypatch.setattr(_issue, "new_key", lambda _algorithm: next(made))
    signers(cluster, signer)
    first, first_file = cluster.issue(signer=signer), cluster.path.read_text()
    cluster.signer.outcome = outcome if outcome in ("denied", "failed", "never") else "issued"
    cluster.signer.forbidden = {"approve"} if outcome == "forbidden" else set()
    if outcome == "somebody":
        cluster.signer.seen = review("joan")
    if outcome == "unwritable":
        (cluster.path.parent / ".config.certops-new").mkdir()
    said = [json.dumps(first)]
    try:
        said.append(json.dumps(cluster.issue(signer=signer, force=True, wait_seconds=0)))
    except CertopsError as error:
        said += [str(error), repr(error)]
    said += [body.decode() for _method, _path, body in cluster.server.requests]
    said += capfd.readouterr()
    everything = "\n".join(said).replace("\\n", "\n")
    assert len(everything) > 400
    assert base64.b64encode(pki.key_to_pem(keys[0])).decode() in first_file
    for key in [cluster.ca.key, *keys]:
        whole = base64.b64encode(pki.key_to_pem(key)).decode()
        lines = pki.key_to_pem(key).decode().splitlines()[1:-1]
        assert [part for part in [*lines, whole[60:120]] if part in everything] == []
