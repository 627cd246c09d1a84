# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json
import stat
import threading
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, ApiError
from ansible_collections.certops.kubernetes.plugins.module_utils._cluster_lock import (
    ANY,
    FILE_SECONDS,
    LEASE_SECONDS,
    Held,
    Holder,
    foresee,
    hold,
    release,
    renew,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import NOW, FakeServer, lease_path, server_pair

ADA = Holder("run-1", "2026-11-24T01:50:00Z", "rotate", "ada", "awx-7", "4711")
BOB = Holder("run-2", "2026-11-24T01:51:00Z", "rotate", "bob", "laptop")
PATH = lease_path("certops-rotation")
LISTED = PATH.rpartition("/")[0]
DOWN = CertopsError("connection refused")


class Api:
    """An API server that keeps the one Lease, and counts its versions as a real one does."""

    def __init__(self) -> None:
        self.lease: dict[str, t.Any] | None = None
        self.version = 0
        self.lock = threading.Lock()
        self.meddlers: list[t.Callable[[], None]] = []  # each acts once, before a write

    def routes(self) -> dict[str, t.Any]:
        return {"GET " + PATH: self.get, "POST " + LISTED: self.post, "PUT " + PATH: self.put, "DELETE " + PATH: self.delete}

    def get(self, _body: bytes) -> tuple[int, object]:
        return (404, {"message": "not found"}) if self.lease is None else (200, self.lease)

    def post(self, body: bytes) -> tuple[int, object]:
        return self.write(body, lambda document: self.lease is None)

    def put(self, body: bytes) -> tuple[int, object]:
        return self.write(body, self.is_current)

    def is_current(self, document: dict[str, t.Any]) -> bool:
        return self.lease is not None and document["metadata"]["resourceVersion"] == self.lease["metadata"]["resourceVersion"]

    def write(self, body: bytes, allowed: t.Callable[[dict[str, t.Any]], bool]) -> tuple[int, object]:
        if self.meddlers:
            self.meddlers.pop()()
        with self.lock:
            document = json.loads(body)
            if not allowed(document):
                return 409, {"message": "the object has been modified"}
            self.version += 1
            document["metadata"].update(resourceVersion=str(self.version), uid="u")
            self.lease = document
            return 200, document

    def delete(self, body: bytes) -> tuple[int, object]:
        wanted = json.loads(body)["preconditions"]
        if self.lease is None or wanted != {"uid": "u", "resourceVersion": self.lease["metadata"]["resourceVersion"]}:
            return 409, {"message": "the UID or version in the precondition does not match"}
        self.lease = None
        return 200, {}


@pytest.fixture(name="api")
def fixture_api() -> Api:
    return Api()


@pytest.fixture(name="client")
def fixture_client(api: Api, tmp_path: Path) -> t.Iterator[ApiClient]:
    ca = pki.make_ca()
    with FakeServer(tmp_path, api.routes(), server_pair(ca)) as server:
        yield ApiClient(server.address, ca_pem=ca.cert_pem)


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> str:
    return str(tmp_path / "certops")


def on_file(folder: str) -> dict[str, t.Any] | None:
    path = Path(folder) / "cluster-lock.json"
    return json.loads(path.read_text()) if path.exists() else None


def test_a_lease_says_who_since_when_and_from_where(client: ApiClient, api: Api, folder: str) -> None:
    kept = hold(client, folder, ADA, NOW)
    assert (kept.kept_in, kept.taken_over) == ("lease", ())
    assert api.lease is not None
    spec = api.lease["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("run-1", LEASE_SECONDS)
    assert spec["acquireTime"] == "2026-11-24T01:50:00.000000Z"
    assert json.loads(api.lease["metadata"]["annotations"]["certops.kubernetes/holder"]) == dataclasses.asdict(ADA)
    assert on_file(folder) is None


def test_another_run_is_refused_at_once(client: ApiClient, folder: str) -> None:
    hold(client, folder, ADA, NOW)
    for attempt in (hold, foresee):
        with pytest.raises(Held) as refused:
            attempt(client, folder, BOB, NOW)
        assert refused.value.holder == ADA
        assert "run run-1 (rotate, started at 2026-11-24T01:50:00Z by ada on awx-7, AWX job 4711)" in str(refused.value)
        assert "Lease kube-system/certops-rotation" in str(refused.value)
        assert "certs_rotate_take_over_lock" in str(refused.value)
    with pytest.raises(Held):
        renew(client, folder, BOB, NOW)


def test_the_same_run_holds_it_on_every_node(client: ApiClient, folder: str, tmp_path: Path) -> None:
    for node in ("a", "b", "c"):
        assert hold(client, str(tmp_path / node), ADA, NOW).kept_in == "lease"


def test_runs_that_begin_at_once(client: ApiClient, folder: str, tmp_path: Path) -> None:
    """Of many that want it at the same time, exactly one gets it."""
    outcomes: list[str] = []

    def begin(number: int) -> None:
        holder = dataclasses.replace(BOB, run_id="run-%d" % number)
        try:
            hold(client, str(tmp_path / str(number)), holder, NOW)
            outcomes.append("held")
        except Held:
            outcomes.append("refused")

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held"] + ["refused"] * 7


@pytest.mark.parametrize(("seconds", "refused"), [(LEASE_SECONDS, True), (LEASE_SECONDS + 1, False)])
def test_one_that_says_nothing_is_taken_over(client: ApiClient, folder: str, seconds: int, refused: bool) -> None:
    hold(client, folder, ADA, NOW)
    later = NOW + timedelta(seconds=seconds)
    if refused:
        with pytest.raises(Held):
            hold(client, folder, BOB, later)
        return
    foreseen = foresee(client, folder, BOB, later)
    kept = hold(client, folder, BOB, later)
    assert foreseen.taken_over == kept.taken_over
    assert "held by run run-1" in kept.taken_over[0]
    assert "it has said nothing since" in kept.taken_over[0]
    with pytest.raises(Held):
        renew(client, folder, ADA, later)


def test_a_renewal_keeps_it(client: ApiClient, folder: str) -> None:
    hold(client, folder, ADA, NOW)
    renew(client, folder, ADA, NOW + timedelta(seconds=LEASE_SECONDS))
    with pytest.raises(Held):
        hold(client, folder, BOB, NOW + timedelta(seconds=2 * LEASE_SECONDS - 1))
    assert on_file(folder) is None


@pytest.mark.parametrize("take_over", [ANY, "run-1"])
def test_it_is_taken_over_as_asked(client: ApiClient, folder: str, take_over: str) -> None:
    hold(client, folder, ADA, NOW)
    kept = hold(client, folder, BOB, NOW, take_over)
    assert "taken over as asked" in kept.taken_over[0]


def test_who_names_another_run_does_not_take_it(client: ApiClient, folder: str) -> None:
    hold(client, folder, ADA, NOW)
    with pytest.raises(Held):
        hold(client, folder, BOB, NOW, "run-0")


def test_without_an_api_it_lies_in_a_file(folder: str) -> None:
    kept = hold(DOWN, folder, ADA, NOW)
    assert (kept.kept_in, kept.because) == ("file", "connection refused")
    path = Path(folder) / "cluster-lock.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
    with pytest.raises(Held, match="cluster-lock.json"):
        hold(DOWN, folder, BOB, NOW + timedelta(seconds=FILE_SECONDS))
    assert "it has said nothing" in hold(DOWN, folder, BOB, NOW + timedelta(seconds=FILE_SECONDS + 1)).taken_over[0]


def test_a_file_counts_when_the_api_is_back(client: ApiClient, api: Api, folder: str) -> None:
    hold(DOWN, folder, ADA, NOW)
    with pytest.raises(Held):
        hold(client, folder, BOB, NOW)
    assert api.version == 0, "who is refused writes nothing"
    renew(client, folder, ADA, NOW)
    assert api.lease is not None
    release(client, folder, "run-1")
    assert (api.get(b"")[0], on_file(folder)) == (404, None)
    assert hold(client, folder, BOB, NOW).kept_in == "lease"


def test_a_renewal_while_the_api_is_away_leaves_no_file(client: ApiClient, folder: str) -> None:
    hold(client, folder, ADA, NOW)
    renew(DOWN, folder, ADA, NOW)
    assert on_file(folder) is None


def test_what_nobody_may_write_lies_in_a_file(tmp_path: Path, folder: str) -> None:
    """An identity that may not read the Lease is as good as none."""
    ca = pki.make_ca()
    with FakeServer(tmp_path, {"GET " + PATH: (403, {"message": "leases is forbidden"})}, server_pair(ca)) as server:
        kept = hold(ApiClient(server.address, ca_pem=ca.cert_pem), folder, ADA, NOW)
    assert kept.kept_in == "file"
    assert "leases is forbidden" in kept.because


def test_only_its_own_lock_is_released(client: ApiClient, api: Api, folder: str) -> None:
    hold(client, folder, ADA, NOW)
    assert not release(client, folder, "run-2")
    assert api.lease is not None
    assert release(client, folder, "run-1")
    assert not release(client, folder, "run-1")
    assert not release(DOWN, folder + "/nowhere", "run-1")


def test_one_who_meddles_all_the_time_is_told(client: ApiClient, api: Api, folder: str) -> None:
    hold(client, folder, ADA, NOW)

    def meddle() -> None:
        assert api.lease is not None
        api.lease["metadata"]["resourceVersion"] += "x"

    api.meddlers = [meddle] * 2
    assert hold(client, folder, ADA, NOW).kept_in == "lease"
    api.meddlers = [meddle] * 9
    with pytest.raises(CertopsError, match="written by somebody else all the time"):
        hold(client, folder, ADA, NOW)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"holder": 7}', '{"holder": {"run_id": 1}}', '{"holder": {}, "renewed": 1}', "[" * 90000]
)
def test_a_file_that_nobody_can_read_holds_nobody_up(folder: str, text: str) -> None:
    hold(DOWN, folder, ADA, NOW)
    (Path(folder) / "cluster-lock.json").write_text(text)
    assert hold(DOWN, folder, BOB, NOW).kept_in == "file"


@pytest.mark.parametrize("annotations", [None, {}, {"certops.kubernetes/holder": "{"}, {"certops.kubernetes/holder": '{"run_id": [1]}'}])
def test_a_lease_that_a_hand_wrote_counts(client: ApiClient, api: Api, folder: str, annotations: object) -> None:
    hold(client, folder, ADA, NOW)
    assert api.lease is not None
    api.lease["metadata"]["annotations"] = annotations
    api.lease["spec"]["holderIdentity"] = "do not touch, says ops"
    with pytest.raises(Held, match="do not touch, says ops"):
        hold(client, folder, BOB, NOW)


def test_an_api_error_is_no_other_run(client: ApiClient, folder: str) -> None:
    assert not issubclass(Held, ApiError), "what is refused must not look like an API that cannot be asked"
    assert hold(client, folder, ADA, NOW).kept_in == "lease"
