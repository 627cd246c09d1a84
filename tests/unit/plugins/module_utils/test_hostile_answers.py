# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers that answer with anything: what they say is explained, costs little, and never passes for good news."""

from __future__ import annotations

import contextlib
import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import (
    _api,
    _cluster_health,
    _etcd,
    _health,
    _lease,
    _node_access,
    _node_objects,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, ApiError, ApiResponse
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import NOW, FakeNode

DEEP = b"[" * 100_000 + b"]" * 100_000
ODD: list[t.Any] = [None, True, 7, -1, 1.5, "x", "", [], [[]], [None], ["x"], {}, {"a": 1}]


class Canned(ApiClient):
    """A client whose server always gives this answer."""

    def __init__(self, answer: object, status: int = 200) -> None:
        super().__init__("127.0.0.1:1")
        self._answer = ApiResponse(status, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def request(self, *_args: t.Any, **_kwargs: t.Any) -> ApiResponse:
        return self._answer


QUESTIONS: dict[str, t.Callable[[ApiClient], object]] = {
    "whoami": _api.whoami,
    "validity": _api.cluster_certificate_validity_seconds,
    "lease": lambda client: _lease.get_lease(client, "kube-scheduler"),
    "release": lambda client: _lease.release_lease(client, "kube-scheduler", "x"),
    "members": _etcd.members,
    "status": _etcd.endpoint_status,
    "nodes": _node_objects.control_plane_nodes,
    "node lease": lambda client: _node_objects.node_lease(client, "a"),
}


@pytest.mark.parametrize("question", sorted(QUESTIONS))
@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"7", b"NaN", b"{", DEEP, b'{"a":' * 100_000, b"9" * 1_000_000, b'{"a": "\\ud800"}'])
def test_what_is_no_object_is_an_api_error(question: str, body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        QUESTIONS[question](Canned(body))
    assert "https://127.0.0.1:1" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("body", [DEEP, b'{"message": ' + DEEP + b"}", b'{"message": 5}', b"x" * 3_000_000, b"\xff\xfe", b"a " * 1_000_000])
def test_the_beginning_of_any_answer_can_be_shown(body: bytes) -> None:
    text = ApiResponse(500, body).text()
    assert len(text) <= 300
    assert text


def changed(document: t.Any, value: t.Any) -> t.Iterator[t.Any]:
    """The document with each of its parts in turn replaced by the value, and left out."""
    if isinstance(document, (dict, list)):
        keys: t.Iterable[t.Any] = document if isinstance(document, dict) else range(len(document))
        for key in keys:
            for inner in (value, *changed(document[key], value)):
                copy: t.Any = dict(document) if isinstance(document, dict) else list(document)
                copy[key] = inner
                yield copy
            without: t.Any = dict(document) if isinstance(document, dict) else list(document)
            del without[key]
            yield without


GOOD: dict[str, t.Any] = {
    "whoami": {"status": {"userInfo": {"username": "a", "groups": ["g"], "extra": {"authentication.kubernetes.io/credential-id": ["i"]}}}},
    "validity": {"data": {"ClusterConfiguration": "certificateValidityPeriod: 1h"}},
    "lease": {"spec": {"holderIdentity": "x", "leaseDurationSeconds": 15, "acquireTime": "x", "renewTime": "2026-11-24T01:00:00.000000Z"}},
    "members": {"members": [{"ID": "5", "name": "a", "peerURLs": ["p"], "clientURLs": ["c"], "isLearner": False}]},
    "status": {"header": {"member_id": "5", "revision": "7"}, "leader": "5", "raftTerm": "2", "raftIndex": 3, "errors": ["NOSPACE"]},
    "nodes": {
        "items": [
            {
                "metadata": {"name": "a"},
                "status": {
                    "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                    "conditions": [{"type": "Ready", "status": "False", "message": "why"}],
                },
            }
        ]
    },
}
GOOD["release"] = GOOD["lease"]
GOOD["node lease"] = {"items": [GOOD["lease"]]}


@pytest.mark.parametrize("question", sorted(QUESTIONS))
def test_any_part_of_an_answer_may_be_anything(question: str) -> None:
    QUESTIONS[question](Canned(GOOD[question]))
    for value in ODD:
        for document in changed(GOOD[question], value):
            with contextlib.suppress(CertopsError):
                QUESTIONS[question](Canned(document))


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "²", "", 1.5, True, -1, [], {}, "9" * 21])
@pytest.mark.parametrize("name", ["leader", "raftTerm", "raftIndex"])
def test_numbers_of_etcd_that_are_none(name: str, value: object) -> None:
    with pytest.raises(ApiError, match="garbled"):
        _etcd.endpoint_status(Canned({**GOOD["status"], name: value}))


@pytest.mark.parametrize(("errors", "alarms"), [(None, ()), ([], ()), (["A", "B"], ("A", "B")), ("A", ("A",)), ([1], 1), ({}, 1), (0, 1)])
def test_an_alarm_that_cannot_be_read_is_one(errors: object, alarms: object) -> None:
    status = _etcd.endpoint_status(Canned({**GOOD["status"], "errors": errors}))
    assert (status.errors if isinstance(alarms, tuple) else len(status.errors)) == alarms


@pytest.mark.parametrize("entries", ["x", 7, {"a": 1}, [None], [[]], [{}], [{"metadata": {}}], [{"metadata": {"name": 5}}]])
def test_a_garbled_list_of_nodes_does_not_pass_for_a_cluster_of_one(entries: object) -> None:
    with pytest.raises(ApiError, match="garbled"):
        _node_objects.control_plane_nodes(Canned({"items": entries}))


def test_lists_that_nobody_has_do_not_become_threads() -> None:
    with pytest.raises(ApiError, match="more than can be believed"):
        _node_objects.control_plane_nodes(Canned({"items": GOOD["nodes"]["items"] * 10_000}))
    with pytest.raises(ApiError, match="10000 members"):
        _etcd.members(Canned({"members": [{"ID": str(number)} for number in range(10_000)]}))
    with pytest.raises(ApiError, match="not all of them different"):
        _etcd.members(Canned({"members": [{"ID": "5"}, {"ID": "5"}]}))
    (member,) = _etcd.members(Canned({"members": [{"ID": "5", "clientURLs": ["https://127.0.0.1:1"] * 100_000}]}))
    assert len(member.client_urls) < 50


@pytest.mark.parametrize("spec", [{"holderIdentity": "x" * 5000}, {"leaseDurationSeconds": -1}, {"leaseDurationSeconds": 10**30}])
def test_a_lease_that_nobody_writes(spec: dict[str, t.Any]) -> None:
    with pytest.raises(ApiError, match="garbled"):
        _lease.get_lease(Canned({"spec": spec}), "kube-scheduler")


@pytest.mark.parametrize("text", ["9" * 400 + "h", "9" * 100_000, "1h" * 100, "2562048h", "٣h", "1" + "0" * 90 + "s", "\ud800h"])
def test_durations_that_go_does_not_know(text: str) -> None:
    with pytest.raises(CertopsError, match="no duration"):
        _api.parse_go_duration(text)


def test_the_longest_duration_of_go() -> None:
    assert _api.parse_go_duration("2562047h47m16.854775807s") == 2562047 * 3600 + 47 * 60 + 16


# --- addresses that are none ---


@pytest.mark.parametrize("url", ["unix:///run/etcd", "https://10.0.0.1", "https://a b:1", "\0", "x" * 5000])
def test_an_etcd_address_that_is_none_is_a_failed_check(tmp_path: Path, url: str) -> None:
    node = FakeNode(tmp_path)
    node.add_ca("etcd/ca", node.etcd_ca)
    node.add_pair("etcd/healthcheck-client")
    node.add_component("etcd", listen_client_urls=url, listen_metrics_urls="http://" + url)
    check = _cluster_health.check_etcd_members(node.node(), NOW)
    assert (check.ok, "no address" in check.message) == (False, True)
    assert _health.check_health(node.node(), NOW).verdict == "unhealthy"


def test_a_member_with_an_address_that_is_none(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    node.add_component("etcd", listen_client_urls="unix:///run/etcd")
    node.add_ca("etcd/ca", node.etcd_ca)
    node.add_pair("etcd/healthcheck-client")
    member = _etcd.Member("5", "a", (), ("https://a b:1", "x"), False)
    identity = _etcd.etcd_identity(node.node(), NOW)[1]
    with pytest.raises(ApiError, match=r"'a b:1' is no address.*'x' is no address"):
        _etcd.ask_member(member, identity)
    assert not _cluster_health._is_own(node.node(), member)


# --- an aggregated API, asked through the node's own server ---

SERVICE = {"spec": {"group": "g", "version": "v1", "service": {}}, "status": {"conditions": [{"type": "Available", "status": "True"}]}}


@pytest.mark.parametrize("value", ODD)
def test_any_list_of_api_services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: object) -> None:
    node = FakeNode(tmp_path)
    node.add_component("kube-apiserver", advertise_address="127.0.0.1")
    for document in (value, *changed({"items": [SERVICE]}, value)):
        monkeypatch.setattr(_node_access, "api_client", lambda *_args, document=document: Canned(document))
        assert _node_access.client_proof(node.node(), "front-proxy-client", "ab").in_use in ("true", "unknown")
