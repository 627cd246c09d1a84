# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What inspect lists, against a scan that does not know where certificates are kept."""

from __future__ import annotations

import typing as t

import cluster
import pytest
import scan

DAY = 86400


@pytest.fixture(scope="module", name="records")
def fixture_records() -> list[dict[str, t.Any]]:
    """What an inspection of everything lists."""
    cluster.playbook("inspect", "-e", "certs_inspect_cluster_objects=true")
    return t.cast("list[dict[str, t.Any]]", cluster.newest_report("inspect")["records"])


def listed(records: list[dict[str, t.Any]], node: str, *sources: str) -> dict[str, set[str]]:
    """Where inspect says that a node has which certificate."""
    places: dict[str, set[str]] = {}
    for record in records:
        if record["host"] == node and record["source"] in sources and record["fingerprint_sha256"] and record["usage"] != "signing-key":
            places.setdefault(record["fingerprint_sha256"], set()).add(record["name"])
    return places


@pytest.mark.parametrize("node", scan.nodes())
def test_what_a_node_has(records: list[dict[str, t.Any]], node: str) -> None:
    """Each certificate in a file or behind a port of the node is listed there, and no other one."""
    found, said = scan.on(node), listed(records, node, "file", "kubeconfig", "served")
    said = {fingerprint: names for fingerprint, names in said.items() if not all(".svc:" in name for name in names)}
    print(f"{node}: {len(found)} certificates in {sum(map(len, found.values()))} places, {len(said)} in the records")
    assert {fingerprint: found[fingerprint] for fingerprint in found.keys() - said.keys()} == {}, "missed"
    assert {fingerprint: said[fingerprint] for fingerprint in said.keys() - found.keys()} == {}, "invented"


def test_what_the_objects_have(records: list[dict[str, t.Any]]) -> None:
    """Each certificate in an object of the API that inspect promises to look into, and no other one."""
    found = scan.in_objects()
    said: dict[str, set[str]] = {}
    for node in scan.nodes():
        for fingerprint, names in listed(records, node, "api").items():
            said.setdefault(fingerprint, set()).update(names)
    print(f"API: {len(found)} certificates in {sum(map(len, found.values()))} objects, {sum(map(len, said.values()))} records")
    assert found
    assert {fingerprint: found[fingerprint] for fingerprint in found.keys() - said.keys()} == {}, "missed"
    assert {fingerprint: said[fingerprint] for fingerprint in said.keys() - found.keys()} == {}, "invented"


def test_nothing_of_the_cluster_ends_soon(records: list[dict[str, t.Any]]) -> None:
    """After a rotation with the defaults: 30 days ahead, and nothing that inspect would warn of."""
    soon = {
        (record["host"], record["name"]) for record in records if record["seconds_left"] is not None and record["seconds_left"] < 30 * DAY
    }
    assert soon == set()
    severe = [
        (record["host"], record["name"], finding["code"])
        for record in records
        for finding in record["findings"]
        if finding["severity"] != "info"
    ]
    assert severe == []
