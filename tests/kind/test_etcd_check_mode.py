# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check mode on a cluster with an etcd outside of it: it changes nothing, and shows what will happen where."""

from __future__ import annotations

import json

import cluster
import observe_etcd


def test_every_host_is_as_it_was() -> None:
    """Content, modification time, inode, mode and owner of every file, and no new one."""
    before, after = json.loads((cluster.STATE / "snapshots.json").read_text()), observe_etcd.snapshots()
    for host in observe_etcd.HOSTS:
        changed = {path for path in {*before[host], *after[host]} if before[host].get(path) != after[host].get(path)}
        assert {path for path in changed if not path.startswith("/root")} == set()
        assert "/var/lib/certops" not in after[host]


def test_the_plan_says_who_signs_and_in_which_order() -> None:
    """Only the first host has the key of etcd's CA."""
    plan = cluster.newest_report("rotate")["plan"]
    renewed = {(entry["host"], entry["name"]): entry["signed_by"] for entry in plan if entry["action"] == "renew"}
    first, second, third = observe_etcd.ETCD
    own = ["etcd/server", "etcd/peer", f"{observe_etcd.SSL}/admin-{first}.pem"]
    assert {name: signer for (host, name), signer in renewed.items() if host == first} == dict.fromkeys(own)
    assert {name: signer for (host, name), signer in renewed.items() if host == second} == dict.fromkeys(own[:2], first)
    assert {name for host, name in renewed if host == third} == {*own[:2], "etcd/healthcheck-client"}
    assert {name: signer for (host, name), signer in renewed.items() if host == cluster.NODE and signer} == {"apiserver-etcd-client": first}
    assert (cluster.NODE, "apiserver") in renewed
