# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster whose certificates had all expired, after one run of `rotate`."""

from __future__ import annotations

import json
import time
import typing as t

import cluster

EXCHANGED = "/root/.kube/exchanged"  # root's own, with the key of somebody else
COPIES = ("/root/.kube/config", "/home/jane/.kube/config", EXCHANGED)
FORGED = "/home/john/.kube/config"  # has the certificate, which is public, and not its key
KUBECONFIGS = ("admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf")


def first_report() -> dict[str, t.Any]:
    """What the inspection before the rotation found."""
    reports = [json.loads(path.read_text()) for path in sorted(cluster.REPORTS.rglob("*.json"), key=lambda path: path.stat().st_mtime)]
    return next(report for report in reports if report["run"]["playbook"] == "inspect")


def test_the_report_shows_that_they_had_expired() -> None:
    """The first inspection called them expired: this scenario would prove nothing on a healthy cluster."""
    status = {record["name"]: record["status"] for record in first_report()["records"]}
    expected = ("apiserver", "etcd/server", "etcd/peer", "apiserver-etcd-client", *KUBECONFIGS)
    assert {name: status[name] for name in expected} == dict.fromkeys(expected, "expired")


def test_the_report_names_file_and_user_of_each_error() -> None:
    """An expired certificate of the server, one of a client that is let in no more, and one that is not its key's."""
    found = {record["name"]: {finding["code"] for finding in record["findings"]} for record in first_report()["records"]}
    assert "expired" in found["apiserver"]
    for copy in (*COPIES, FORGED):
        assert "expired" in found[f"{copy}#kubernetes-admin"]
    messages = [finding["message"] for record in first_report()["records"] for finding in record["findings"]]
    for copy in (EXCHANGED, FORGED):
        assert "key_mismatch" in found[f"{copy}#kubernetes-admin"]
        assert any(f"{copy}#kubernetes-admin" in message for message in messages)


def test_copies_are_their_owners_still() -> None:
    """Jane's trusts any server as before."""
    for user in ("jane", "john"):
        path = f"/home/{user}/.kube/config"
        assert cluster.on_node("stat", "-c", "%U:%G:%a", path).strip() == f"{user}:{user}:600"
    assert "insecure-skip-tls-verify: true" in cluster.on_node("cat", "/home/jane/.kube/config")


def test_everybody_is_let_in_again() -> None:
    """kubectl with each of the four kubeconfigs, and with people's copies of one."""
    for config in (*(f"/etc/kubernetes/{name}" for name in KUBECONFIGS), *COPIES):
        assert "kubernetes" in cluster.kubectl("auth", "whoami", "-o", "json", config=config)


def test_who_did_not_hold_the_key_was_given_none() -> None:
    """The file still has the expired certificate, and says so."""
    embedded = cluster.kubectl("config", "view", "--raw", "-o", "jsonpath={.users[0].user.client-certificate-data}", config=FORGED)
    renewed = cluster.kubectl("config", "view", "--raw", "-o", "jsonpath={.users[0].user.client-certificate-data}", config=COPIES[0])
    assert embedded != renewed


def test_the_controllers_work() -> None:
    """A Deployment's ReplicaSet appears: the controller-manager has a leader that is let in."""
    cluster.kubectl("create", "deployment", f"cured-{int(time.time())}", "--image", "lab/busybox:1")
    give_up = time.monotonic() + 60
    while not cluster.kubectl("get", "replicasets", "-o", "name"):
        assert time.monotonic() < give_up, "no ReplicaSet within 60 s"
        time.sleep(0.5)


def test_kubeadm_sees_a_year_ahead_everywhere() -> None:
    """With a tool that is not ours."""
    seen = json.loads(cluster.on_node("kubeadm", "certs", "check-expiration", "-o", "json"))
    assert min(item["residualTime"] for item in seen["certificates"] if not item.get("missing")) > 364 * 86400
