# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbooks do when all goes well and when it does not, with modules that stand in for the real ones."""

from __future__ import annotations

import html.parser
import json
import os
import pathlib
import re
import typing as t

import pytest

pytest.importorskip("ansible.cli", reason="playbooks run on a controller; this Python has no ansible-core")

from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import Controller, authority, reader, record

INSPECT = "certops.kubernetes.inspect"
ROLLBACK = "certops.kubernetes.rollback"
ROTATE = "certops.kubernetes.rotate"
FAILURE = "kube-scheduler did not come back; everything was rolled back"


@pytest.fixture(name="controller")
def fixture_controller(tmp_path: pathlib.Path) -> Controller:
    """A controller without nodes."""
    return Controller(tmp_path)


def due(**values: t.Any) -> list[dict[str, t.Any]]:
    """The certificates of a node where two are due, one of which nobody can renew here."""
    return [
        record("apiserver", 10, readers=[reader("kube-apiserver")]),
        record("kubelet-client", 10, renewable=False, not_renewable_because="the kubelet renews it itself"),
        record("scheduler.conf", 200, readers=[reader("kube-scheduler", "restart")]),
        authority(**values),
    ]


def said(output: str) -> str:
    """A failure's text without line breaks."""
    return " ".join(output.split())


def test_a_rotation_from_check_mode_to_the_second_run(controller: Controller) -> None:
    """The plan is shown and changes nothing; nodes go one by one; the second run touches no node."""
    for name in ("node2", "node1"):  # not the alphabet's order but the inventory's
        controller.node(name, due())
    shown = controller.play(ROTATE, "--check", "--diff")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "node1: renew apiserver: 10 days left, less than 30 days; the new one has 365 days" in shown.stdout
    assert "node1: report kubelet-client: 10 days left, less than 30 days; not renewed: the kubelet renews it itself" in shown.stdout
    assert controller.report()["run"]["check_mode"] is True
    assert controller.report()["run"]["state"] == "planned"
    assert controller.report()["results"] == {}
    assert all(call["check_mode"] for call in controller.state("node1")["calls"])

    done = controller.play(ROTATE)
    assert done.returncode == 0, done.stdout + done.stderr
    after_check_mode = controller.calls("node1")[4:]
    assert after_check_mode == [
        "certificate_info",
        "cluster_lock",
        "cluster_health_info",
        "certificate_rotation",
        "cluster_health_info",
        "certificate_info",
        "cluster_lock",
    ]
    assert re.findall(r"^changed: \[(node\d)\]", done.stdout, re.MULTILINE) == ["node2", "node1"]
    assert controller.state("node1")["calls"][-4]["params"]["stop_timeout_seconds"] == 15, "there are two control planes"
    report = controller.report()
    assert {host: node["state"] for host, node in report["run"]["nodes"].items()} == {"node2": "done", "node1": "done"}
    assert {one["days_left"] for one in report["records"] if one["name"] == "apiserver"} == {365}
    assert len(list(controller.reports.glob("rotate-*.html"))) == 2, "one report for each run"

    again = controller.play(ROTATE)
    assert again.returncode == 0
    assert re.findall(r"changed=(\d+)", again.stdout) == ["0", "0"]
    assert controller.calls("node1")[11:] == ["certificate_info"]
    assert "WARNING" not in shown.stderr + done.stderr + again.stderr


def test_a_node_that_fails_ends_the_run_and_has_a_report(controller: Controller) -> None:
    """The next node is not touched."""
    controller.node("node1", due(), rotation=FAILURE)
    controller.node("node2", due())
    done = controller.play(ROTATE)
    assert done.returncode == 2
    assert FAILURE in done.stdout
    assert controller.calls("node2") == ["certificate_info", "cluster_lock"]
    assert not controller.lock.exists(), "a run that has ended holds nobody up"
    nodes = controller.report()["run"]["nodes"]
    assert nodes == {"node1": {"state": "rolled_back", "message": FAILURE}, "node2": {"state": "planned", "message": None}}


@pytest.mark.parametrize(
    ("health", "sentence", "state"),
    [
        (["unhealthy"], "Nothing was changed on node1, because the cluster is not healthy before: no leader (waited for ", "refused"),
        (["unhealthy", "expired_only", "unhealthy"], "node1 has its new certificates, but the cluster is not healthy after", "failed"),
    ],
)
def test_the_gates(controller: Controller, health: list[str], sentence: str, state: str) -> None:
    """Before: what the plan cures may be wrong. After: nothing may be. Each waits for a moment."""
    controller.node("node1", due(), health=health)
    controller.node("node2", due())
    done = controller.play(ROTATE, certs_rotate_health_timeout_seconds="3")
    assert done.returncode == 2
    assert sentence in said(done.stdout)
    assert "Waiting, 0 of 3 s: no leader" in done.stdout
    assert ("certificate_rotation" in controller.calls("node1")) == (state == "failed")
    assert controller.calls("node2") == ["certificate_info", "cluster_lock"]
    assert controller.report()["run"]["nodes"]["node1"]["state"] == state


def test_the_leaders_have_their_turn_last(controller: Controller) -> None:
    """The plan shows the order, and each gate knows what the nodes after it are going to get."""
    controller.node("node1", due(), leads=["kube-controller-manager"])
    controller.node("node2", due())
    done = controller.play(ROTATE)
    assert done.returncode == 0, done.stdout
    assert "Order: node2, node1 (leads kube-controller-manager)" in done.stdout
    assert re.findall(r"^changed: \[(node\d)\]", done.stdout, re.MULTILINE) == ["node2", "node1"]
    asked = {
        name: [call["params"] for call in controller.state(name)["calls"] if call["module"] == "cluster_health_info"]
        for name in ("node1", "node2")
    }
    assert [params["planned"] for params in asked["node2"]] == [["apiserver"], []]
    assert [params["planned_elsewhere"] for params in asked["node2"]] == [["apiserver"], ["apiserver"]]
    assert [params["planned_elsewhere"] for params in asked["node1"]] == [[], []]


def test_in_check_mode_the_nodes_before_have_nothing_new(controller: Controller) -> None:
    """So that what has expired on them is still to be renewed, as on the nodes after."""
    for name in ("node1", "node2"):
        controller.node(name, due())
    assert controller.play(ROTATE, "--check").returncode == 0
    for name in ("node1", "node2"):
        (gate,) = [call["params"] for call in controller.state(name)["calls"] if call["module"] == "cluster_health_info"]
        assert gate["planned_elsewhere"] == ["apiserver"]


def external_etcd(controller: Controller, **first: t.Any) -> None:
    """Three hosts of etcd, the first of which has the key of its CA, and a control plane that has etcd's CA without its key."""
    ca = authority(name="etcd/ca", fingerprint_sha256="e" * 64, component="etcd")
    foreign = {"ca": "etcd/ca", "renewable": False, "externally_managed": True, "not_renewable_because": "the key of its CA is elsewhere"}
    client = record("apiserver-etcd-client", 10, readers=[reader("kube-apiserver")], **foreign)
    controller.node("cp", [*due(), client, ca])
    server = {"component": "etcd", "ca": "etcd/ca", "readers": [reader("etcd")]}
    controller.node("etcd1", [record("etcd/server", 10, **server), ca], groups=("etcd",), signs=["etcd/ca"], **first)
    controller.node("etcd2", [record("etcd/server", 10, **{**server, **foreign}), ca], groups=("etcd", "kube_node"))


def but_for_the_lock(controller: Controller, name: str) -> list[str]:
    """What was called on a node besides the modules that hold the cluster for this run."""
    return [module for module in controller.calls(name) if module != "cluster_lock"]


def test_an_etcd_outside_of_the_cluster(controller: Controller) -> None:
    """Its hosts come first; what they alone can sign is asked for, signed there and put in place."""
    external_etcd(controller)
    shown = controller.play(ROTATE, "--check")
    assert shown.returncode == 0, shown.stdout
    assert "Order: etcd1 (etcd), etcd2 (etcd), cp" in shown.stdout
    assert "10 days left, less than 30 days; the new one has 365 days; signed on etcd1, which has the key of its CA" in shown.stdout
    assert not {"certificate_request", "certificate_signing"} & {*controller.calls("cp"), *controller.calls("etcd1")}

    done = controller.play(ROTATE)
    assert done.returncode == 0, done.stdout + done.stderr
    step = ["cluster_health_info", "certificate_request", "certificate_rotation", "cluster_health_info", "certificate_info"]
    assert but_for_the_lock(controller, "cp")[-5:] == step
    assert but_for_the_lock(controller, "etcd2")[-5:] == step
    signed = [*(call for call in step if call != "certificate_request"), *["certificate_signing"] * 2]
    assert but_for_the_lock(controller, "etcd1")[-6:] == signed
    given = {call["module"]: call["params"] for call in controller.state("cp")["calls"]}
    asked, rotated = given["certificate_request"], given["certificate_rotation"]
    assert (asked["run_id"], asked["names"]) == (rotated["run_id"], ["apiserver-etcd-client"])
    assert {item["name"]: (item["signed_by"], item["certificate"]) for item in rotated["items"]} == {
        "apiserver": (None, None),
        "apiserver-etcd-client": ("etcd1", "signed: asks for apiserver-etcd-client"),
    }
    again = controller.play(ROTATE)
    assert re.findall(r"changed=(\d+)", again.stdout) == ["0"] * 3
    assert "WARNING" not in shown.stderr + done.stderr + again.stderr


def test_an_etcd_of_a_plain_worker_is_somebody_elses(controller: Controller) -> None:
    """The groups of the inventory say whose it is."""
    controller.node("cp", due())
    controller.node("etcd", [], groups=("etcd", "kube_node"))
    controller.node("worker", [], groups=("kube_node",))
    assert controller.play(INSPECT).returncode == 0
    kubeconfigs = {name: controller.state(name)["calls"][0]["params"]["kubeconfigs"] for name in ("cp", "etcd", "worker")}
    assert kubeconfigs == {"cp": ["/root/.kube/config"], "etcd": [], "worker": []}, "root's own, on control-plane nodes"
    asked = {name: controller.state(name)["calls"][0]["params"]["etcd_unit"] for name in ("cp", "etcd", "worker")}
    assert asked == {"cp": True, "etcd": True, "worker": False}


def test_a_signature_that_is_refused_ends_the_run(controller: Controller) -> None:
    """With nothing changed on the host that asked, and those after it untouched."""
    external_etcd(controller, refuses="No CA whose key is on this node has signed it.")
    done = controller.play(ROTATE)
    assert done.returncode == 2
    assert "No CA whose key is on this node has signed it." in done.stdout
    assert "certificate_rotation" not in controller.calls("etcd2")
    assert but_for_the_lock(controller, "cp") == ["certificate_info"]


def test_without_the_host_that_has_the_key_it_is_reported(controller: Controller) -> None:
    """A run that is narrowed to others renews the rest."""
    external_etcd(controller)
    done = controller.play(ROTATE, "--limit", "cp")
    assert done.returncode == 0, done.stdout
    assert "cp: report apiserver-etcd-client: 10 days left, less than 30 days; not renewed: the key of its CA is elsewhere" in done.stdout
    assert "certificate_request" not in controller.calls("cp")
    assert "certificate_rotation" in controller.calls("cp")


def test_nothing_is_rotated_while_a_host_of_etcd_is_lost(controller: Controller) -> None:
    """Its member may be the one that is missed."""
    external_etcd(controller)
    controller.node("etcd3", [], groups=("etcd",), lost=True)
    refused = controller.play(ROTATE)
    assert refused.returncode == 2
    assert "Nothing is rotated while a host of etcd cannot be inspected." in refused.stdout


def test_nothing_is_rotated_while_a_control_plane_node_is_lost(controller: Controller) -> None:
    """The report of the refusal is there; an inspection goes on without it, counts it, and fails by its policy only."""
    controller.node("node1", due())
    controller.node("node2", due(), lost=True)
    refused = controller.play(ROTATE)
    assert refused.returncode == 2
    assert "Nothing is rotated while a control-plane node cannot be inspected." in refused.stdout
    assert controller.calls("node1") == ["certificate_info"]
    assert controller.report()["run"]["state"] == "refused"
    assert controller.play(INSPECT, certs_inspect_fail_on="critical").returncode == 2
    (lost,) = [one for one in controller.report()["records"] if one["host"] == "node2"]
    assert lost["status"] == "unreachable"
    assert controller.report()["run"]["nodes"]["node1"]["state"] == "nothing_due"


def test_a_node_that_is_lost_on_the_way(controller: Controller) -> None:
    """The run ends there and says so, in its report too; the others are not touched, and the lock is let go from another one."""
    controller.node("node1", due(), goes_away="certificate_rotation")
    controller.node("node2", due())
    done = controller.play(ROTATE)
    assert done.returncode == 2, done.stdout
    assert "node1 was lost during its change, which goes on there without us" in said(done.stdout)
    states = {host: node["state"] for host, node in controller.report()["run"]["nodes"].items()}
    assert states == {"node1": "failed", "node2": "planned"}
    assert "certificate_rotation" not in controller.calls("node2")
    assert not controller.lock.exists()


def test_two_clusters_are_not_mixed(controller: Controller) -> None:
    """Their CAs tell them apart, and --limit narrows the run to one; the other one is not even asked."""
    controller.node("node1", due())
    controller.node("node2", due(fingerprint_sha256="d" * 64))
    refused = controller.play(ROTATE)
    assert refused.returncode == 2
    assert "2 different cluster CAs" in refused.stdout
    assert controller.play(ROTATE, "--limit", "node2").returncode == 0
    assert controller.calls("node1") == ["certificate_info"]
    assert "certificate_rotation" in controller.calls("node2")


def test_a_wrong_clock_is_said_and_keeps_certificates_from_being_made(controller: Controller) -> None:
    """Seconds are a warning, more than what new certificates are backdated by is an obstacle: the nodes' own clocks make them."""
    controller.node("node1", due())
    controller.node("node2", due(), clock_ahead=60)
    shown = controller.play(ROTATE, "--check")
    assert shown.returncode == 0, shown.stdout
    (problem,) = controller.report()["problems"]
    assert (problem["code"], problem["severity"], problem["host"]) == ("clock_skew", "warning", "node2")
    assert controller.play(INSPECT, certs_inspect_fail_on="warning").returncode == 2

    controller.node("node2", due(), clock_ahead=-1200)
    for mode in ([], ["--check"]):
        refused = controller.play(ROTATE, *mode)
        assert refused.returncode == 2
        assert re.search("The clock of node2 is at least (19|20) minutes behind that of the controller", said(refused.stdout))
        assert controller.report()["run"]["state"] == "refused"
    assert but_for_the_lock(controller, "node1")[3:] == ["certificate_info"] * 3


@pytest.mark.parametrize(
    ("playbook", "groups", "sentence"),
    [
        (ROTATE, ("masters",), "none of the hosts of this run is in group kube_control_plane, etcd or kube_node"),
        (INSPECT, ("kube_node",), "the control-plane group of node1 is empty"),
    ],
)
def test_an_empty_control_plane_is_an_error(controller: Controller, playbook: str, groups: tuple[str, ...], sentence: str) -> None:
    """Not a green run of nothing."""
    controller.node("node1", due(), groups=groups)
    done = controller.play(playbook)
    assert done.returncode == 2
    assert sentence in said(done.stdout)
    assert "certs_control_plane_group" in done.stdout


def test_variables_of_groups_count(controller: Controller) -> None:
    """`hosts:` does not see them. Hosts of other trades are left alone, and sudo on nodes is not sudo on the controller."""
    controller.node("node1", due(), groups=("masters",))
    controller.node("database", [], groups=("databases",))
    no_sudo = controller.folder / "no-sudo"
    no_sudo.write_text("#!/bin/sh\nexit 1\n")
    no_sudo.chmod(0o755)
    controller.inventory["masters"]["hosts"]["node1"]["ansible_become"] = False
    variables = {"masters": {"certs_control_plane_group": "masters"}, "all": {"ansible_become": True, "ansible_become_exe": str(no_sudo)}}
    (controller.folder / "group_vars").mkdir()
    for group, values in variables.items():
        (controller.folder / "group_vars" / f"{group}.json").write_text(json.dumps(values))
    done = controller.play(INSPECT)
    assert done.returncode == 0, done.stdout
    assert (controller.calls("node1"), controller.calls("database")) == (["certificate_info"], [])


def test_a_bad_value_is_refused_before_a_node_is_asked(controller: Controller) -> None:
    """In one sentence."""
    controller.node("node1", due())
    done = controller.play(ROTATE, certs_rotate_restart="perhaps")
    assert done.returncode == 2
    assert "certs_rotate_restart is 'perhaps', but must be one of auto, always, never." in done.stdout
    assert controller.calls("node1") == []


def test_a_module_that_fails_fails_the_inspection_after_its_report(controller: Controller) -> None:
    """What is known of the other nodes is not lost."""
    controller.node("node1", due())
    controller.node("node2", [], broken="cryptography is missing")
    done = controller.play(INSPECT)
    assert done.returncode == 2
    assert "Could not inspect node2: cryptography is missing" in said(done.stdout)
    assert {one["host"]: one["status"] for one in controller.report()["records"]} == {"node1": "ok", "node2": "unreadable"}


class Page(html.parser.HTMLParser):
    """An HTML page's tags, which must be balanced, and the addresses that it loads from."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self) -> None:
        """Nothing is open."""
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember it."""
        self.seen.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """It closes the last one."""
        assert self.open.pop() == tag


def test_the_page_shows_hostile_text_as_text(controller: Controller) -> None:
    """A certificate's subject may hold anything; nothing of it becomes markup, and nothing is loaded from elsewhere."""
    evil = "</td><script>alert(1)</script>&\"'{{ 7 * 191 }}"
    finding = {"code": evil, "severity": evil, "message": evil, "remedy": evil}
    values = dict.fromkeys(("subject", "not_renewable_because", "node", "component", "path", "not_after"), evil)
    controller.node("node1", [*due(), record(evil, 10, findings=[finding], readers=[reader(evil, in_use="false")], **values)])
    done = controller.play(ROTATE, certs_rotate_force="true")
    assert done.returncode == 0, done.stdout
    (path,) = controller.reports.glob("*.html")
    text = path.read_text()
    page = Page()
    page.feed(text)
    assert (page.open, page.addresses) == ([], [])
    assert page.seen.isdisjoint({"script", "link", "img", "iframe"})
    assert "1337" not in text
    assert "&lt;script&gt;" in text
    assert os.access(path, os.R_OK)


def test_a_talkative_run_does_not_repeat_its_report(controller: Controller) -> None:
    """AWX keeps what each task returned; who debugs sees it."""
    controller.node("node1", due())
    shown = {verbosity: '"__certs_report": {' in controller.play(INSPECT, verbosity).stdout for verbosity in ("-vv", "-vvv")}
    assert shown == {"-vv": False, "-vvv": True}
