# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What components make in memory when they start: seen as openssl sees it, and renewed by a graceful restart.

They are made for a year or more, so that a playbook restarts nothing on a new cluster: the module is called as the playbook would.
"""

from __future__ import annotations

import json
import typing as t

import cluster
import pytest

ADDRESSES = {
    "kube-apiserver": (f"{cluster.node_address()}:6443", "apiserver-loopback-client"),
    "kube-controller-manager": ("127.0.0.1:10257", ""),
    "kube-scheduler": ("127.0.0.1:10259", ""),
}


def name_of(component: str) -> str:
    address, server_name = ADDRESSES[component]
    return f"served:{address}#{server_name}" if server_name else f"served:{address}"


def served() -> dict[str, str]:
    """The SHA-256 fingerprint that openssl sees, by component."""
    found = {}
    for component, (address, name) in ADDRESSES.items():
        asked = f"-servername {name}" if name else "-noservername"
        script = f"openssl s_client -connect {address} {asked} </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256"
        found[component] = cluster.on_node("sh", "-ec", script).partition("=")[2].strip().replace(":", "").lower()
    return found


def planned(**variables: t.Any) -> dict[str, dict[str, t.Any]]:
    """The plan's entries for them in check mode, by component."""
    cluster.playbook("rotate", "--check", "-e", json.dumps({"certs_rotate_select": "[?source=='served']", **variables}))
    plan = {entry["name"]: entry for entry in cluster.newest_report("rotate")["plan"]}
    return {component: plan[name_of(component)] for component in ADDRESSES}


@pytest.fixture(scope="module", name="seen")
def fixture_seen() -> dict[str, t.Any]:
    """The records before, and what one call that restarts all three did."""
    cluster.playbook("inspect")
    found: dict[str, t.Any] = {"records": {one["name"]: one for one in cluster.newest_report("inspect")["records"]}, "before": served()}
    items = [{"name": name_of(one), "action": "restart", "fingerprint_sha256": found["before"][one]} for one in ADDRESSES]
    result = cluster.module("certificate_rotation", {"run_id": "in-memory", "items": items})
    assert not result["failed"], result
    return {**found, "result": result, "after": served()}


def test_records_are_what_openssl_sees(seen: dict[str, t.Any]) -> None:
    """Nothing is wrong with any of them on a new cluster."""
    for component, fingerprint in seen["before"].items():
        record = seen["records"][name_of(component)]
        assert (record["fingerprint_sha256"], record["component"], record["source"]) == (fingerprint, component, "served")
        assert (record["renewable"], record["lifetime_days"] >= 365, record["findings"]) == (True, True, [])


def test_a_restart_is_proven_by_what_is_served(seen: dict[str, t.Any]) -> None:
    assert set(seen["before"].values()).isdisjoint(seen["after"].values())
    for entry in seen["result"]["certificates"]:
        component = next(one for one in ADDRESSES if name_of(one) == entry["name"])
        assert entry["before"]["fingerprint_sha256"] == seen["before"][component]
        assert entry["after"]["fingerprint_sha256"] == seen["after"][component]
        assert entry["after"]["not_after"] > entry["before"]["not_after"]
        assert (entry["in_use"], entry["proof"]) == ("true", "handshake")


def test_each_was_restarted_once(seen: dict[str, t.Any]) -> None:
    """Gracefully: a leader released its Lease, so that the next one did not wait for its end."""
    restarted = {one["name"]: one for one in seen["result"]["components"]}
    assert {name: one["action"] for name, one in restarted.items()} == dict.fromkeys(ADDRESSES, "restarted")
    assert all(one["away_seconds"] < 30 for one in restarted.values())


@pytest.mark.parametrize(
    ("variables", "action", "code"),
    [
        ({}, "none", "not_due"),
        ({"certs_rotate_force": True}, "none", "not_due"),
        ({"certs_rotate_renew_before_days": 5000}, "report", "validity_below_threshold"),
    ],
)
def test_a_playbook_restarts_by_age_alone(variables: dict[str, t.Any], action: str, code: str) -> None:
    """A threshold beyond what they are made for would never be met."""
    assert {(one["action"], one["code"]) for one in planned(**variables).values()} == {(action, code)}
