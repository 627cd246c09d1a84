# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kubeconfigs on hosts outside of the cluster: inspected, planned, renewed after the nodes."""

from __future__ import annotations

import json
import pathlib
import re
import typing as t

import pytest

pytest.importorskip("ansible.cli", reason="playbooks run on a controller; this Python has no ansible-core")

from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import Controller, authority, reader, record

INSPECT = "certops.kubernetes.inspect"
ROLLBACK = "certops.kubernetes.rollback"
ROTATE = "certops.kubernetes.rotate"
RENEWAL = "kubeconfig_renewal"
SUBJECT = {"source": "kubeconfig", "usage": "client", "subject": "CN=kubernetes-admin", "component": "user"}
JANE, JOE = "/home/jane/.kube/config#admin", "/home/joe/.kube/config#admin"


def user(name: str, days: int = 10, **values: t.Any) -> dict[str, t.Any]:
    """A user with a copy of admin.conf."""
    fixed = {**SUBJECT, "path": name.partition("#")[0], "ca": None, "renewable": False, "externally_managed": True, "issuer": "CN=x"}
    return record(name, days, **{**fixed, "fingerprint_sha256": "1" * 64, **values})


@pytest.fixture(name="controller")
def fixture_controller(tmp_path: pathlib.Path) -> Controller:
    """Two control planes, of which the second has the key of the CA, a worker, and two bastions that come first in the inventory."""
    controller = Controller(tmp_path)
    names = [JANE, JOE]
    issued = dict.fromkeys([*names, "/root/.kube/config#admin"], "c" * 64)
    controller.node("bastion", [user(name) for name in names], groups=["kubeconfig_hosts"], issued_by={**issued, JOE: "9" * 64})
    controller.node("bastion2", [user("/root/.kube/config#admin")], groups=["kubeconfig_hosts"], issued_by=issued)
    admin = record("admin.conf", 10, **SUBJECT, path="/etc/kubernetes/admin.conf", fingerprint_sha256="1" * 64)
    for name in ("cp1", "cp2"):
        controller.node(name, [authority(), dict(admin)], signs=["ca"] if name == "cp2" else [])
    client = record("kubelet-client", 10, component="kubelet", readers=[reader("kubelet", "self", "unknown")])
    controller.node("worker", [client, authority()], groups=["kube_node"])
    return controller


def renewals(controller: Controller, name: str) -> list[dict[str, t.Any]]:
    """How the module was called on a host."""
    return [call for call in controller.state(name)["calls"] if call["module"] == RENEWAL]


def test_from_check_mode_to_the_second_run(controller: Controller) -> None:
    """Last of all, each key on its own host, signed where original and CA key are."""
    (controller.folder / "host_vars").mkdir()
    (controller.folder / "host_vars" / "bastion.json").write_text(json.dumps({"certs_rotate_kubeconfig_copies": ["~jane/.kube/config"]}))
    shown = controller.play(ROTATE, "--check", "--diff")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    line = "%s: renew %s: 10 days left, less than 30 days; the new one has 365 days; signed on cp2, which has the key of its CA"
    assert line % ("bastion", JANE) in shown.stdout
    assert "bastion: report %s: 10 days left, less than 30 days; not renewed: no CA of a node of this run signed it" % JOE in shown.stdout
    assert "Order: cp1, cp2, worker, bastion, bastion2" in shown.stdout
    assert all(call["check_mode"] for name in ("bastion", "cp2") for call in controller.state(name)["calls"])
    assert [call["params"]["names"] for call in renewals(controller, "bastion")] == [[JANE]]
    assert "certificate_signing" not in controller.calls("cp2")
    assert controller.report()["run"]["state"] == "planned"

    controller.change("bastion2", refused={"/root/.kube/config#admin": "The API server does not take it."})
    done = controller.play(ROTATE)
    assert done.returncode == 2, "one of them was refused"
    assert "Not every kubeconfig on bastion2 was renewed. The API server does not take it." in " ".join(done.stdout.split())
    assert "renew %s: valid until 2027-11-24T00:00:00Z" % JANE in done.stdout
    information = [call["params"] for call in controller.state("bastion")["calls"] if call["module"] == "certificate_info"]
    assert {(one["kubeconfigs_only"], tuple(one["kubeconfigs"])) for one in information} == {(True, ("~jane/.kube/config",))}
    on_other = [call["params"] for call in controller.state("bastion2")["calls"] if call["module"] == "certificate_info"]
    assert on_other[0]["kubeconfigs"] == ["/root/.kube/config"]
    assert controller.state("cp1")["calls"][0]["params"]["kubeconfigs_only"] is False
    asked, put = renewals(controller, "bastion")[1:]
    assert (asked["params"]["names"], asked["params"]["validity_days"]) == ([JANE], 365)
    assert put["params"]["certificates"] == [{"name": JANE, "certificate": "signed: asks for %s" % JANE}]
    signing = [call["params"] for call in controller.state("cp2")["calls"] if call["module"] == "certificate_signing"]
    assert [(one["copies_only"], one["requests"][0]["proof"]) for one in signing] == [(True, "p"), (True, "p")]
    assert "certificate_signing" not in controller.calls("cp1")
    assert "certificate_rotation" not in controller.calls("bastion")
    plays = re.findall(r"PLAY \[(.*?)\]", done.stdout)
    assert plays[-1] == "Renew kubeconfigs whose originals are on other nodes"
    assert not controller.lock.exists()
    report = controller.report()
    states = {host: node["state"] for host, node in report["run"]["nodes"].items()}
    assert states == {"bastion": "done", "bastion2": "failed", "cp1": "done", "cp2": "done", "worker": "done"}
    assert [one["name"] for one in report["results"]["bastion"]["certificates"]] == [JANE]
    assert {one["name"]: one["days_left"] for one in report["records"] if one["host"] == "bastion"} == {JANE: 365, JOE: 10}

    controller.change("bastion2", refused={})
    third = controller.play(ROTATE)
    assert third.returncode == 0, third.stdout
    assert re.findall(r"(\w+) +: ok=\d+ +changed=[1-9]", third.stdout) == ["bastion2"]
    again = controller.play(ROTATE)
    assert again.returncode == 0
    assert set(re.findall(r"changed=(\d+)", again.stdout)) == {"0"}
    assert "WARNING" not in shown.stderr + done.stderr + again.stderr


def test_limits(controller: Controller) -> None:
    """Without the bastions; with nothing but them; a rollback leaves them alone."""
    done = controller.play(ROTATE, "--limit", "bastion")
    assert done.returncode == 0, done.stdout
    assert (
        "bastion: report %s: 10 days left, less than 30 days; not renewed: the key of its CA is on no control-plane node" % JANE
        in done.stdout
    )
    controller.change("cp1", signs=["ca"])
    done = controller.play(ROTATE, "--limit", "bastion")
    assert done.returncode == 0, done.stdout
    assert len(renewals(controller, "bastion")) == 2
    assert "certificate_rotation" not in controller.calls("cp1")
    assert not controller.lock.exists()
    controller.change("bastion", certificates=[user(JANE)])
    shown = controller.play(ROTATE, "--check", "--limit", "bastion,worker")
    assert shown.returncode == 0, shown.stdout
    assert "the new one has 365 days; signed on cp1, which has the key of its CA" in shown.stdout
    done = controller.play(ROTATE, "--limit", "!kubeconfig_hosts")
    assert done.returncode == 0, done.stdout
    assert "certificate_rotation" in controller.calls("cp1")
    before = controller.calls("bastion")
    assert controller.play(ROLLBACK).returncode == 0
    assert controller.calls("bastion") == before
    refused = controller.play(ROLLBACK, "--limit", "bastion")
    assert refused.returncode == 2
    assert "none of the hosts of this run is in group kube_control_plane, etcd or kube_node" in refused.stdout


def test_a_host_that_is_not_believed(controller: Controller) -> None:
    """It neither chooses how long what is signed is valid, nor keeps the nodes from being renewed; one refusal is nobody else's."""
    controller.change("cp1", signs=["ca"], unsigned={JOE: "JOE is not signed."})
    certificates = [*(user(name, cluster="another") for name in (JOE, JANE)), authority(), record("admin.conf", 10, **SUBJECT)]
    issued_by = dict.fromkeys([JANE, JOE], "c" * 64)
    controller.change(
        "bastion", certificates=certificates, issued_by=issued_by, claims=3650 * 86400, signs=["ca"], leads=["kube-scheduler"]
    )
    done = controller.play(ROTATE, "--limit", "bastion")
    assert "The nodes belong to" not in done.stdout
    assert done.returncode == 2
    assert "Not every kubeconfig on bastion was renewed. JOE is not signed." in " ".join(done.stdout.split())
    assert [one["name"] for one in renewals(controller, "bastion")[1]["params"]["certificates"]] == [JANE]
    signing = [call["params"] for call in controller.state("cp1")["calls"] if call["module"] == "certificate_signing"]
    assert [[(one["name"], one["validity_seconds"]) for one in call["requests"]] for call in signing] == [
        [(JOE, 365 * 86400)],
        [(JANE, 365 * 86400)],
    ]


def test_an_inspection(controller: Controller) -> None:
    """A copy from before its original was renewed, one of another cluster, a host that is away."""
    renewed = record("admin.conf", 300, **SUBJECT, path="/etc/kubernetes/admin.conf", not_before="2026-06-01T00:00:00Z")
    for name in ("cp1", "cp2"):
        controller.change(name, certificates=[authority(), renewed])
    controller.node("bastion3", [], groups=["kubeconfig_hosts"], lost=True)
    done = controller.play(INSPECT)
    assert done.returncode == 0, done.stdout
    codes = {
        (one["host"], one["name"]): [finding["code"] for finding in one["findings"]]
        for one in controller.report()["records"]
        if one["findings"]
    }
    assert codes == {
        ("bastion", JANE): ["stale_copy"],
        ("bastion", JOE): ["foreign_copy"],
        ("bastion2", "/root/.kube/config#admin"): ["stale_copy"],
        ("bastion3", "node"): ["unreachable"],
    }
    rotated = controller.play(ROTATE)
    assert rotated.returncode == 0, "a host outside of the cluster that is away keeps nobody else from being renewed"
    assert "bastion2: renew /root/.kube/config#admin: 10 days left" in rotated.stdout
