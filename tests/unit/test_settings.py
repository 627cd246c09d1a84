# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every variable arrives from wherever variables are set, as text and as what it is; and what hosts may differ in."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
import yaml

pytest.importorskip("ansible.cli", reason="playbooks run on a controller; this Python has no ansible-core")

from ansible_collections.certops.kubernetes.plugins.module_utils._policy import OPTIONS
from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import Controller, authority, reader, record

INSPECT, ROLLBACK, ROTATE = (f"certops.kubernetes.{name}" for name in ("inspect", "rollback", "rotate"))
NODES = {"node1": "masters", "node2": "masters", "store": "stores", "worker": "workers", "bastion": "bastions"}

# None is its default, and none is what another one is.
VALUES: dict[str, t.Any] = {
    "certs_cluster": "blue",
    "certs_control_plane_group": "masters",
    "certs_etcd_group": "stores",
    "certs_worker_group": "workers",
    "certs_kubeconfig_group": "bastions",
    "certs_inspect_warn_days": 41,
    "certs_inspect_critical_days": 5,
    "certs_inspect_fail_on": "expired",
    "certs_inspect_cluster_objects": True,
    "certs_rotate_renew_before_days": 21,
    "certs_rotate_select": "[?name=='apiserver']",
    "certs_rotate_force": True,
    "certs_rotate_refresh_sans": True,
    "certs_rotate_restart": "never",
    "certs_rotate_stop_timeout_seconds": 9,
    "certs_rotate_start_timeout_seconds": 61,
    "certs_rotate_health_timeout_seconds": 17000,
    "certs_rotate_health_timeouts": {"etcd": 7000},
    "certs_rotate_validity_days": 90,
    "certs_rotate_private_key": "keep",
    "certs_rotate_keep_backups": 3,
    "certs_rotate_kubeconfig_copies": ["/home/*/.kube/config"],
    "certs_rotate_rollback_run_id": "run-7",
    "certs_rotate_take_over_lock": True,
    "certs_rotate_worker_serial": "25%",
    "certs_rotate_approve_serving_requests": False,
    "certs_rotate_enable_kubelet_rotation": True,
    "certs_rotate_cluster_signed_kubelet_serving": True,
    "certs_report_dir": "",  # a folder of the test's own
    "certs_report_host": "reporter",
}


@pytest.fixture(name="controller")
def fixture_controller(tmp_path: pathlib.Path) -> Controller:
    """Two control-plane nodes, an etcd node, a worker, and a host that keeps reports; the second node is well only after two questions."""
    controller = Controller(tmp_path)
    for name, group in NODES.items():
        certificates = [
            record("apiserver", 200, readers=[reader("kube-apiserver")]),
            record("scheduler.conf", 20, readers=[reader("kube-scheduler", "restart")]),
            record("controller-manager.conf", 22),
            authority(),
        ]
        controller.node(name, certificates if group == "masters" else [], groups=[group], runs={"run-7": "apiserver", "run-8": "apiserver"})
    off = {"on": False, "path": "/var/lib/kubelet/config.yaml", "obstacle": None}
    controller.change("node1", kubelet_settings={"kubelet:rotateCertificates": off, "kubelet:serverTLSBootstrap": off})
    controller.change("node2", health=[["etcd", "kubelet"], ["etcd"], "healthy"])
    reporter = {
        "ansible_connection": "local",
        "ansible_remote_tmp": str(tmp_path / "reporter"),
    }
    controller.inventory["reporters"] = {"hosts": {"reporter": reporter}}
    return controller


def as_text(value: t.Any) -> str:
    """A value as AWX surveys and `-e name=value` deliver it."""
    return value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).partition("\n")[0]


def set_in_files(controller: Controller, folder: str, names: t.Iterable[str], values: dict[str, t.Any]) -> None:
    """Write variables beside the inventory, as users do."""
    (controller.folder / folder).mkdir()
    for name in names:
        (controller.folder / folder / f"{name}.json").write_text(json.dumps(values))


def test_every_variable_is_tried() -> None:
    """One that is added later must be added here, with a value that is not its default."""
    assert set(VALUES) == set(OPTIONS)
    assert [name for name, value in VALUES.items() if value == OPTIONS[name].default] == []


@pytest.mark.parametrize("source", ["group_vars", "host_vars", "extra variables", "extra variables as text"])
def test_every_variable_arrives(controller: Controller, source: str) -> None:
    """Seen in what the modules are given, in what is said, and in where the report is."""
    values = {**VALUES, "certs_report_dir": str(controller.folder / "chosen")}
    extra: dict[str, t.Any] = {}
    if source == "group_vars":
        set_in_files(controller, source, ["all"], values)
    elif source == "host_vars":
        set_in_files(controller, source, NODES, values)
    else:
        extra = {name: as_text(value) if source.endswith("text") else value for name, value in values.items()}
    controller.reports = controller.folder / "chosen"
    # One after the other in one command, which is as good and costs less.
    done = controller.play(INSPECT, ROTATE, ROLLBACK, report_dir=False, **extra)
    assert done.returncode == 0, done.stdout

    calls = {name: controller.state(name)["calls"] for name in NODES}
    assert all(calls[name][0]["module"] == "certificate_info" for name in NODES), "groups by their names"
    information = calls["node1"][0]["params"]
    assert (information["cluster"], information["warn_days"], information["critical_days"]) == ("blue", 41, 5)
    assert information["cluster_objects"] == "all"
    assert all(calls[name][0]["params"]["kubeconfigs"] == ["/home/*/.kube/config"] for name in NODES), "an inspection sees them, too"
    assert '"fail_on": "expired"' in done.stdout
    assert [call["module"] for call in calls["node1"]].count("certificate_rotation") == 1
    rotation = next(call["params"] for call in calls["node1"] if call["module"] == "certificate_rotation")
    assert [item["name"] for item in rotation["items"]] == ["apiserver"], "selected, and renewed whatever its age"
    wanted: dict[str, t.Any] = {"restart": "never", "stop_timeout_seconds": 9, "start_timeout_seconds": 61, "validity_days": 90}
    wanted.update(private_key="keep", keep_backups=3, kubeconfig_copies=["/home/*/.kube/config"])
    assert {name: rotation[name] for name in wanted} == wanted
    left = "node1: leave scheduler.conf: 20 days left, less than 21 days, but certs_rotate_select leaves it out"
    assert left in done.stdout
    for name in ("certs_rotate_enable_kubelet_rotation", "certs_rotate_cluster_signed_kubelet_serving"):
        assert "it is off, and %s wants it on, but certs_rotate_select leaves it out" % name in done.stdout
    assert "leave controller-manager.conf" not in done.stdout, "it has 22 days left, and nobody had to leave it out"
    assert "Waiting, 0 of 17000 s" in done.stdout, "the kubelet's limit is everybody's"
    assert "of 7000 s: no leader" in done.stdout, "etcd's is its own"
    rollback = next(call["params"] for call in calls["node1"] if call["module"] == "certificate_rollback")
    assert rollback["run_id"] == "run-7"
    assert {call["params"]["take_over"] for call in calls["node1"] if call["module"] == "cluster_lock"} >= {"any"}
    assert "-> reporter]" in done.stdout
    assert {path.name.partition("-")[0] for path in controller.reports.glob("*.json")} == {"inspect", "rollback", "rotate"}


def test_nodes_may_have_different_settings(controller: Controller) -> None:
    """Each counts for the host that has it: what is due there, and how it is done."""
    for name, days in (("node1", 10), ("node2", 30)):
        values = {"certs_rotate_renew_before_days": days, "certs_rotate_keep_backups": days, "certs_rotate_validity_days": 100 + days}
        values["certs_rotate_stop_timeout_seconds"] = days
        (controller.folder / "host_vars").mkdir(exist_ok=True)
        (controller.folder / "host_vars" / f"{name}.json").write_text(json.dumps(values))
    set_in_files(controller, "group_vars", ["all"], {name: VALUES[name] for name in VALUES if name.endswith("_group")})
    done = controller.play(ROTATE)
    assert done.returncode == 0, done.stdout
    assert "certificate_rotation" not in controller.calls("node1"), "22 days are enough there"
    rotation = next(call["params"] for call in controller.state("node2")["calls"] if call["module"] == "certificate_rotation")
    assert [item["name"] for item in rotation["items"]] == ["scheduler.conf", "controller-manager.conf"]
    assert (rotation["keep_backups"], rotation["stop_timeout_seconds"], rotation["validity_days"]) == (30, 30, 130)


@pytest.mark.parametrize(
    "name",
    ["certs_inspect_fail_on", "certs_report_dir", "certs_report_host", "certs_rotate_take_over_lock", "certs_rotate_worker_serial"],
)
def test_what_a_run_has_one_of_must_be_the_same(controller: Controller, name: str) -> None:
    """Said before a node is asked anything."""
    groups = {name: VALUES[name] for name in VALUES if name.endswith("_group")}
    set_in_files(controller, "group_vars", ["all"], groups)
    others: dict[str, t.Any] = {"certs_inspect_fail_on": "critical", "certs_report_dir": "/elsewhere", "certs_report_host": "reporter"}
    others["certs_rotate_worker_serial"] = 3
    set_in_files(controller, "host_vars", ["node2"], {name: others.get(name, True)})
    refused = controller.play(INSPECT, report_dir=False)
    assert refused.returncode == 2
    said = " ".join(refused.stdout.split())
    assert f"{name} differs between the hosts of this run" in said
    assert "set it alike for all of them" in said
    assert controller.calls("node1") == []
