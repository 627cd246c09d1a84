# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What kubelets tell of the certificates in their memory when an API server passes the question on."""

from __future__ import annotations

import time
import typing as t
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, Identity
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_told import Told, ask_kubelets
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import FakeServer, client_pair, server_pair

METRIC = "kubelet_certificate_manager_client_ttl_seconds"
LEFT = 86400


def asked(tmp_path: Path, answers: dict[str, t.Any], timeout: float = 5.0, **options: t.Any) -> list[Told]:
    """What is known after these nodes' kubelets have been asked."""
    ca = pki.make_ca()
    routes = {"GET /api/v1/nodes/%s/proxy/metrics" % name: answer for name, answer in answers.items()}
    with FakeServer(tmp_path, routes, server_pair(ca)) as server:
        pair = client_pair(ca, "kubernetes-admin")
        client = ApiClient(server.address, Identity("admin.conf", pair.cert_pem, pair.key_pem, ca.cert_pem), timeout=timeout)
        return ask_kubelets(client, list(answers), options.pop("limit_seconds", 60), **options)


def test_each_tells_its_end_or_why_not(tmp_path: Path) -> None:
    """One that fails spoils nothing of the others, and the order is that of the question."""
    answers = {
        "w1": (200, "# HELP\n%s %d\n" % (METRIC, LEFT)),
        "w2": (403, {"kind": "Status", "message": 'nodes "w2" is forbidden'}),
        "w3": (200, "\x00\xff garbage"),
        "w4": (200, "%s +Inf\n" % METRIC),
        "w5": (200, "%s %d\n" % (METRIC, 2 * LEFT)),
        "w6": (200, "%s 1\n" % METRIC + "x" * 5_000_000),
        "w7": (503, "error trying to reach service: dial tcp: i/o timeout"),
        "w8": (500, "\x1b[2Jgone"),
    }
    before = datetime.now(timezone.utc)
    found = asked(tmp_path, answers)
    after = datetime.now(timezone.utc)
    assert [one.node for one in found] == list(answers)
    for one, seconds in ((found[0], LEFT), (found[4], 2 * LEFT)):
        assert one.reason is None
        end = timedelta(seconds=seconds)
        assert iso(before + end - timedelta(seconds=3)) <= str(one.earliest_end) <= iso(before + end)
        assert iso(after + end) <= str(one.latest_end) <= iso(after + end + timedelta(seconds=4))
    assert found[3] == Told("w4")
    reasons = [str(one.reason) for one in found]
    assert "HTTP 403" in reasons[1]
    assert "do not tell the end" in reasons[2]
    assert "more than" in reasons[5]
    assert "i/o timeout" in reasons[6]
    assert "\x1b" not in reasons[7]


def test_one_that_hangs_takes_no_longer_than_its_timeout(tmp_path: Path) -> None:
    def hang(_body: bytes) -> t.Any:
        time.sleep(1.5)
        return 200, ""

    (found,) = asked(tmp_path, {"w1": hang}, timeout=0.3)
    assert "no answer within 0.3 s" in str(found.reason)


def test_after_the_limit_nobody_else_is_asked(tmp_path: Path) -> None:
    seconds = iter((0.0, 1.0, 99.0, 99.0))
    metric = (200, "%s %d\n" % (METRIC, LEFT))
    found = asked(tmp_path, {"w1": metric, "w2": metric, "w3": metric}, clock=lambda: next(seconds))
    assert sorted(str(one.reason) for one in found) == ["None"] + ["the others took 60 s, so it was not asked"] * 2


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "x" * 300, "w1\n", "-w", "w1?x=1"])
def test_what_is_no_name_is_not_asked_for(tmp_path: Path, name: str) -> None:
    """Of a node that says that it is called so."""
    assert asked(tmp_path, {name: (200, "%s 1\n" % METRIC)}) == [Told(name, reason="that is no name of a Node")]
