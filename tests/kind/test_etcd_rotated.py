# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rotation leaves on a cluster with an etcd outside of it, seen with openssl, etcdctl and kubectl."""

from __future__ import annotations

import json

import cluster
import observe
import observe_etcd
import pytest

A_YEAR_ALMOST = str(300 * 86400)
MATCHES = """
openssl verify -CAfile $2 $0 >/dev/null &&
[ "$(openssl x509 -in $0 -noout -pubkey)" = "$(openssl pkey -in $1 -pubout)" ] && openssl x509 -in $0 -noout -checkend $3
"""
SERVED = "openssl s_client -connect $0 -cert $1 -key $2 </dev/null 2>/dev/null | openssl x509 -noout -serial"


def test_no_request_failed() -> None:
    """Reads every 50 ms over fresh connections, writes and a watch, from before check mode until now."""
    observe.stop()
    probe = observe.measured("probe.json")
    assert json.loads((cluster.STATE / "ended_early.json").read_text()) == []
    assert len(probe["targets"]) == 2
    assert all(target["requests"] > 20 for target in probe["targets"])
    assert probe["failed"] == 0, (probe, observe.elections(observe_etcd.ETCD))
    assert [watch["breaks"] for watch in probe["watches"]] == [[]]


@pytest.mark.parametrize("host", observe_etcd.HOSTS)
def test_every_pair_is_new_and_fits(host: str) -> None:
    """By openssl: signed by the CA, with its key, and 300 days to go; the key is a new one of this very host."""
    before = json.loads((cluster.STATE / "keys.json").read_text())
    after = observe_etcd.keys()
    for cert, key, authority in observe_etcd.PAIRS[host]:
        cluster.on_node("sh", "-ec", MATCHES, cert, key, authority, A_YEAR_ALMOST, node=host)
        assert after[host][key] != before[host][key]
        others = [found for other, found in after.items() if other != host]
        assert all(after[host][key] not in found.values() for found in others)


def test_files_keep_owner_and_mode() -> None:
    """etcd runs as a user of its own on the first host."""
    before, after = json.loads((cluster.STATE / "snapshots.json").read_text()), observe_etcd.snapshots()
    for host, pairs in observe_etcd.PAIRS.items():
        for path in (path for pair in pairs for path in pair[:2]):
            assert after[host][path][2:5] == before[host][path][2:5], path
            assert after[host][path][5] != before[host][path][5], path
    assert before[observe_etcd.ETCD[0]][observe_etcd.PAIRS[observe_etcd.ETCD[0]][0][1]][3] != 0


def test_the_key_of_the_ca_lies_where_it_lay() -> None:
    """On the first host, and nowhere else; nothing waits any more."""
    fragment = cluster.on_node("sed", "-n", "2p", f"{observe_etcd.SSL}/ca-key.pem", node=observe_etcd.ETCD[0]).strip()
    assert len(fragment) == 64
    for host in observe_etcd.HOSTS:
        holders = cluster.on_node("grep", "-rlF", fragment, "/etc", "/var/lib/certops", "/root", node=host, check=False).split()
        assert holders == ([f"{observe_etcd.SSL}/ca-key.pem"] if host == observe_etcd.ETCD[0] else [])
        assert cluster.on_node("find", "/var/lib/certops", "-name", "*.key", "-path", "*/pending/*", node=host) == ""
        assert cluster.on_node("find", "/var/lib/certops", "-perm", "/077", node=host) == ""


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_member_serves_what_lies_on_its_host(number: int) -> None:
    """To clients and to its peers, at its own address."""
    host, address = observe_etcd.ETCD[number], cluster.address(observe_etcd.ETCD[number])
    pairs = observe_etcd.PAIRS[host]
    for port, (cert, key, _ca) in ((2379, pairs[0]), (2380, pairs[0] if number == 0 else pairs[1])):
        shown = cluster.on_node("sh", "-c", SERVED, f"{address}:{port}", cert, key, node=host)
        assert shown == cluster.on_node("openssl", "x509", "-in", cert, "-noout", "-serial", node=host)


def test_etcdctl_sees_three_members_with_the_api_servers_new_pair() -> None:
    """The pair is carried to a host that has etcdctl for this only."""
    cert, key, authority = observe_etcd.PAIRS[cluster.NODE][0]
    host = observe_etcd.ETCD[2]
    for path in (cert, key, authority):
        content = cluster.on_node("cat", path)
        cluster.on_node(
            "sh", "-c", 'umask 077; mkdir -p /run/probe; cat >"/run/probe/$0"', path.rsplit("/", 1)[1], stdin=content, node=host
        )
    endpoints = ",".join(f"https://{cluster.address(one)}:2379" for one in observe_etcd.ETCD)
    pair = [f"--cert=/run/probe/{cert.rsplit('/', 1)[1]}", f"--key=/run/probe/{key.rsplit('/', 1)[1]}", "--cacert=/run/probe/ca.pem"]
    seen = json.loads(cluster.on_node("etcdctl", f"--endpoints={endpoints}", *pair, "-w", "json", "endpoint", "status", node=host))
    cluster.on_node("rm", "-r", "/run/probe", node=host)
    assert len(seen) == len(observe_etcd.ETCD)
    assert len({one["Status"]["leader"] for one in seen}) == 1


def test_the_api_server_reaches_etcd() -> None:
    """And what is written through it is there."""
    assert cluster.kubectl("get", "--raw", "/readyz/etcd") == "ok"
    cluster.kubectl("create", "configmap", "after")
    assert cluster.kubectl("get", "configmap", "after", "-o", "name").strip() == "configmap/after"


def test_nothing_was_restarted_that_reloads() -> None:
    """Every etcd and the API server are the processes that they were."""
    assert observe_etcd.processes() == json.loads((cluster.STATE / "processes.json").read_text())


def test_the_hosts_of_etcd_came_first() -> None:
    """By the times in their journals."""
    script = (
        "import glob, json; print(min(json.load(open(path))['started_at'] for path in glob.glob('/var/lib/certops/runs/*/journal.json')))"
    )
    began = [cluster.on_node("python3", "-c", script, node=host).strip() for host in (*observe_etcd.ETCD, cluster.NODE)]
    assert began == sorted(began)
