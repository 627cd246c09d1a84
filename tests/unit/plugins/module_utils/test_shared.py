# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What nodes of one cluster should have alike."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._summary import node_problems
from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import authority, record

NAMES = {"ca": "cluster CA", "front-proxy-ca": "front-proxy CA", "etcd/ca": "etcd CA", "sa": "service-account key"}


def shared(cluster: str | None = "kubernetes", **letters: str) -> dict[str, t.Any]:
    """What was found on a node: each of the four with a fingerprint of one letter, `a` unless told."""
    certificates = [
        record(name, None, cluster=cluster, path="/pki/" + name, fingerprint_sha256=64 * letters.get(name.replace("/", "_"), "a"))
        for name in NAMES
    ]
    return {"certificates": certificates}


def told(results: dict[str, t.Any]) -> list[tuple[str, str]]:
    """Host and message of each finding."""
    found = node_problems(results)
    assert {(one["code"], one["severity"]) for one in found} <= {("nodes_differ", "critical")}
    assert all("make the files the same" in one["remedy"] for one in found)
    return [(one["host"], one["message"]) for one in found]


def test_nodes_that_have_the_same_are_well() -> None:
    assert told({"a": shared(), "b": shared(), "worker": {"certificates": [authority(fingerprint_sha256="a" * 64)]}, "gone": {}}) == []


@pytest.mark.parametrize(("name", "what"), NAMES.items())
def test_one_that_differs_is_a_finding(name: str, what: str) -> None:
    """Of the node that is alone with it; the sentence names files, fingerprints and all nodes."""
    other = shared(**{name.replace("/", "_"): "d"})
    said = "The nodes have 2 different %ss in /pki/%s: aaaaaaaaaaaaaaaa… (a, c), dddddddddddddddd… (b)." % (what, name)
    assert told({"a": shared(), "b": other, "c": shared()}) == [("b", said)]


def test_several_clusters_in_one_inspection_are_none() -> None:
    """kubeadm calls each of them the same: they have nothing in common."""
    other = shared(ca="b", etcd_ca="b", sa="b", **{"front-proxy-ca": "b"})
    assert told({"a": shared(), "b": other, "c": shared()}) == []


def test_clusters_with_names_of_their_own_may_share_an_etcd() -> None:
    """Whose hosts know no cluster; one that differs from them is told once."""
    two = {"a": shared("blue", etcd_ca="e"), "b": shared("green", ca="b", sa="b", etcd_ca="e")}
    etcd = {"e": {"certificates": [authority(name="etcd/ca", cluster=None, path="/pki/etcd/ca", fingerprint_sha256="e" * 64)]}}
    assert told({**two, **etcd}) == []
    ((host, said),) = told({**two, "c": shared("green", ca="b", sa="c", etcd_ca="e"), **etcd})
    assert (host, "service-account keys" in said, "(b)" in said, "(c)" in said, "(a)" in said) == ("b", True, True, True, False)


def test_a_ca_behind_the_first_tells_of_one_cluster() -> None:
    """All four were replaced on one node, which still trusts the old CA."""
    new = shared(ca="b", etcd_ca="b", sa="b", **{"front-proxy-ca": "b"})
    new["certificates"].append(authority(name="ca[2]", fingerprint_sha256="a" * 64))
    assert [host for host, _message in told({"a": shared(), "b": shared(), "c": new})] == ["c"] * 4


def test_hosts_that_are_related_through_others_are_of_one_cluster() -> None:
    """However the inventory orders them."""
    first = shared(ca="b", etcd_ca="b", sa="s", **{"front-proxy-ca": "b"})
    between = shared(sa="s")
    for hosts in (["first", "other", "between"], ["other", "between", "first"]):
        found = told({host: {"first": first, "other": shared(), "between": between}[host] for host in hosts})
        assert len(found) == 4
        assert all("(first" in message or "first)" in message for _host, message in found)
