# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands against a rotation as a whole."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._obstacles import rotation_obstacles
from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import authority, record


def test_one_cluster_that_can_be_asked_has_no_obstacle() -> None:
    """A worker that cannot be reached does not stand in the way either."""
    records = [authority(host="a"), authority(host="b"), lost("c")]
    assert rotation_obstacles(records, ["a", "b"]) == []


def test_a_control_plane_node_that_cannot_be_inspected_is_an_obstacle() -> None:
    """The sentence says which, and why."""
    assert rotation_obstacles([authority(host="a"), lost("b")], ["a", "b"]) == [
        "b could not be reached: no route Nothing is rotated while a control-plane node cannot be inspected."
    ]


def test_a_host_of_etcd_that_cannot_be_inspected_is_an_obstacle() -> None:
    """Its member may be the one whose loss costs the quorum."""
    assert rotation_obstacles([authority(host="a"), lost("e")], ["a"], ["e"]) == [
        "e could not be reached: no route Nothing is rotated while a host of etcd cannot be inspected."
    ]


def test_an_authority_whose_key_is_elsewhere_is_the_same_one() -> None:
    """A control-plane node has the certificate only of the CA of an etcd outside."""
    cas = [authority(name="etcd/ca", host="a", externally_managed=True), authority(name="etcd/ca", host="e", cluster=None)]
    assert rotation_obstacles(cas, ["a"], ["e"]) == []
    cas.append(authority(name="etcd/ca", host="f", cluster=None, fingerprint_sha256="d" * 64))
    (said,) = rotation_obstacles(cas, ["a"], ["e", "f"])
    assert "2 different etcd CAs" in said


def test_two_clusters_by_name_are_an_obstacle() -> None:
    """Their names and nodes are said."""
    (said,) = rotation_obstacles(
        [authority(host="a", cluster="blue"), authority(host="b", cluster="green", fingerprint_sha256="d" * 64)], []
    )
    assert said == "The nodes belong to 2 clusters, blue (a), green (b); rotate one cluster at a time: narrow the run with --limit."


def test_two_clusters_of_one_name_are_told_by_their_cas() -> None:
    """kubeadm calls every cluster `kubernetes`."""
    (said,) = rotation_obstacles([authority(host="a"), authority(host="b", fingerprint_sha256="d" * 64)], [])
    assert "2 different cluster CAs" in said


def lost(host: str) -> dict[str, t.Any]:
    """The record of a node that was not reached."""
    finding = {"code": "unreachable", "severity": "critical", "message": "%s could not be reached: no route" % host, "remedy": "check"}
    return record("node", None, host=host, cluster=None, status="unreachable", fingerprint_sha256=None, renewable=False, findings=[finding])


@pytest.mark.parametrize(("name", "what"), [("front-proxy-ca", "front-proxy CAs"), ("etcd/ca", "etcd CAs"), ("sa", "service-account keys")])
def test_what_nodes_share_must_be_the_same(name: str, what: str) -> None:
    """Else somebody is in the middle of replacing it, or a node is a stranger."""
    records = [authority(host="a"), authority(host="b"), *(record(name, None, host=host, path="/pki/it") for host in "ab")]
    assert rotation_obstacles(records, ["a", "b"]) == []
    (said,) = rotation_obstacles([*records, record(name, None, host="c", path="/pki/it", fingerprint_sha256="d" * 64)], ["a", "b", "c"])
    assert said.startswith("The nodes have 2 different %s in /pki/it: aaaaaaaaaaaaaaaa… (a, b), dddddddddddddddd… (c)." % what)
    assert "narrow the run with --limit" in said
    assert "make the files the same" in said
