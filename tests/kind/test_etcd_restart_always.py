# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every member of an etcd outside of the cluster renewed and restarted once more; and no key in anything that is said of it."""

from __future__ import annotations

import json
import re
import subprocess

import cluster
import observe
import observe_etcd
import pytest

KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(.+?)-----END", re.DOTALL)
SELECT = "[?component=='etcd']"
# Not every host has each of these folders; how many keys there must be is asked below.
COLLECT = "find /etc/ssl/etcd /etc/etcd /etc/kubernetes /var/lib/certops -type f -name '*key*' -exec cat {} + 2>/dev/null || true"


@pytest.fixture(scope="module", name="done")
def _done() -> subprocess.CompletedProcess[str]:
    """Watched by a probe of its own; the output is as talkative as it gets."""
    observe.remember("watchers.json", json.dumps({"probe": observe.detached("probe", observe_etcd.probe("restarted.json"))}))
    variables = {"certs_rotate_force": True, "certs_rotate_select": SELECT, "certs_rotate_restart": "always"}
    try:
        return cluster.playbook("rotate", "-vvv", "--diff", "-e", json.dumps(variables), check=False)
    finally:
        observe.stop()


def test_every_member_is_a_new_process(done: subprocess.CompletedProcess[str]) -> None:
    """systemd's and the kubelet's; each was ready again, and how long it was away is said."""
    assert done.returncode == 0, done.stdout[-3000:]
    before, after = json.loads((cluster.STATE / "processes.json").read_text()), observe_etcd.processes()
    assert all(after[host] and after[host] != before[host] for host in observe_etcd.ETCD)
    assert after[cluster.NODE] == before[cluster.NODE]
    results = cluster.newest_report("rotate")["results"]
    away = {host: {one["name"]: one["away_seconds"] for one in results[host]["components"]} for host in observe_etcd.ETCD}
    print("away:", json.dumps(away))
    assert all(away[host]["etcd"] > 0 for host in observe_etcd.ETCD)
    for host in observe_etcd.ETCD[:2]:
        assert cluster.on_node("systemctl", "is-active", "etcd", node=host).strip() == "active"


def test_each_was_restarted_while_the_others_were_well(done: subprocess.CompletedProcess[str]) -> None:
    """The gates saw three members before and after each, and no two hosts were at it at the same time."""
    assert done.returncode == 0
    gates = cluster.newest_report("rotate")["gates"]
    seen = [check for host in observe_etcd.ETCD for gate in ("before", "after") for check in gates[host][gate]["checks"]]
    assert {(check["ok"], check["message"][:33]) for check in seen if check["name"] == "etcd"} == {
        (True, "etcd: 3 of 3 members answer, know")
    }
    script = "import glob, json; runs = [json.load(open(path)) for path in glob.glob('/var/lib/certops/runs/*/journal.json')]"
    script += "; print(json.dumps(max((run['started_at'], run['finished_at']) for run in runs)))"
    spans = [json.loads(cluster.on_node("python3", "-c", script, node=host)) for host in observe_etcd.ETCD]
    assert all(earlier[1] <= later[0] for earlier, later in zip(spans, spans[1:])), spans


def test_the_api_server_kept_its_etcd(done: subprocess.CompletedProcess[str]) -> None:
    """It uses the members that are there: what fails is what was on its way to the one that was stopped."""
    assert done.returncode == 0
    probe = observe.measured("restarted.json")
    assert all(target["failed"] <= len(observe_etcd.ETCD) for target in probe["targets"]), (probe, observe.elections(observe_etcd.ETCD))


def test_no_key_shows(done: subprocess.CompletedProcess[str]) -> None:
    """Neither in the output, nor in journals, reports and processes; also not in base64."""
    keys = [key for host in observe_etcd.HOSTS for key in KEY.findall(cluster.on_node("sh", "-c", COLLECT, node=host))]
    assert len(keys) >= 20, "old ones, of the backups, and new ones"
    reports = "\n".join(path.read_text() for path in cluster.REPORTS.rglob("*") if path.is_file())
    on_hosts = "cat /var/lib/certops/runs/*/journal.json; cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    said = [done.stdout, done.stderr, reports, *(cluster.on_node("sh", "-c", on_hosts, node=host) for host in observe_etcd.HOSTS)]
    everything = "\n".join(said).replace("\\n", "\n")
    assert "BEGIN CERTIFICATE REQUEST" in everything, "what travels is seen"
    lines = {line for key in keys for line in key.splitlines() if len(line) >= 40}
    assert [line for line in lines if line in everything] == []
