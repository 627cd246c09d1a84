# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The AWX project: what it is made of, and what its playbooks do with variables as AWX sends them."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml

pytest.importorskip("ansible.cli", reason="playbooks run on a controller; this Python has no ansible-core")

from ansible_collections.certops.kubernetes.plugins.module_utils import _policy
from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import COLLECTION, Controller, authority, reader, record

PLAYBOOKS = ("inspect", "rotate")
EMPTY = dict.fromkeys((name for name in _policy.OPTIONS if name != "certs_report_dir"), "")
AS_STRINGS = {
    "certs_cluster": "blue",
    "certs_control_plane_group": "masters",
    "certs_etcd_group": "",
    "certs_worker_group": "",
    "certs_kubeconfig_group": "",
    "certs_inspect_warn_days": "40",
    "certs_inspect_critical_days": "5",
    "certs_inspect_fail_on": "expired",
    "certs_inspect_cluster_objects": "false",
    "certs_rotate_renew_before_days": "20",
    "certs_rotate_select": "[?component=='kube-apiserver']",
    "certs_rotate_force": "false",
    "certs_rotate_refresh_sans": "false",
    "certs_rotate_restart": "never",
    "certs_rotate_stop_timeout_seconds": "9",
    "certs_rotate_start_timeout_seconds": "60",
    "certs_rotate_health_timeout_seconds": "0",
    "certs_rotate_health_timeouts": "{etcd: 0}",
    "certs_rotate_validity_days": "90",
    "certs_rotate_private_key": "keep",
    "certs_rotate_keep_backups": "3",
    "certs_rotate_kubeconfig_copies": "/root/.kube/config\n/home/*/.kube/config",
    "certs_rotate_rollback_run_id": "",
    "certs_rotate_take_over_lock": "false",
    "certs_rotate_worker_serial": "25%",
    "certs_rotate_approve_serving_requests": "false",
    "certs_rotate_enable_kubelet_rotation": "false",
    "certs_rotate_cluster_signed_kubelet_serving": "false",
    "certs_report_host": "",
}


def test_the_project_has_three_files() -> None:
    """AWX sees the playbooks at the project's root, and the collection that it installs."""
    project = COLLECTION / "awx"
    files = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    assert files == {"inspect.yml", "rotate.yml", "collections/requirements.yml"}


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_playbook_only_imports_ours(name: str) -> None:
    """AWX cannot select a playbook by its collection's name, but runs one that imports it."""
    plays = yaml.safe_load((COLLECTION / "awx" / f"{name}.yml").read_text())
    assert [play["ansible.builtin.import_playbook"] for play in plays] == [f"certops.kubernetes.{name}"]
    assert all(set(play) == {"name", "ansible.builtin.import_playbook"} for play in plays)
    assert (COLLECTION / "playbooks" / f"{name}.yml").is_file()


def test_the_required_version_is_this_one() -> None:
    """The project is pinned to the collection that it came with."""
    required = yaml.safe_load((COLLECTION / "awx" / "collections" / "requirements.yml").read_text())["collections"]
    version = yaml.safe_load((COLLECTION / "galaxy.yml").read_text())["version"]
    assert required == [{"name": "certops.kubernetes", "version": version}]


def test_every_variable_is_tried_as_a_string() -> None:
    """A variable that is added later must be added here."""
    assert {*AS_STRINGS, "certs_report_dir"} == set(_policy.OPTIONS)


@pytest.fixture(name="controller")
def fixture_controller(tmp_path: pathlib.Path) -> Controller:
    """One node, with something due in ten days."""
    controller = Controller(tmp_path)
    certificates = [
        record("apiserver", 10, readers=[reader("kube-apiserver")]),
        record("scheduler.conf", 10, component="kube-scheduler", readers=[reader("kube-scheduler", "restart")]),
        authority(),
    ]
    controller.node("node1", certificates, groups=("kube_control_plane", "masters", "etcd"))
    return controller


def play(controller: Controller, name: str, variables: dict[str, t.Any]) -> str:
    """Run a playbook of the AWX project as a job does; its output."""
    extra = {"awx_job_id": 4711, "awx_user_name": "ada", **variables}
    done = controller.play(str(controller.installed / "awx" / f"{name}.yml"), **extra)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return done.stdout


def first_call(controller: Controller, module: str) -> dict[str, t.Any]:
    """What a module was given when it was called for the first time."""
    return next(call["params"] for call in controller.state("node1")["calls"] if call["module"] == module)


def test_empty_answers_mean_defaults(controller: Controller) -> None:
    """Optional survey questions without an answer arrive as empty strings."""
    play(controller, "inspect", EMPTY)
    play(controller, "rotate", EMPTY)
    inspection, rotation = (first_call(controller, module) for module in ("certificate_info", "certificate_rotation"))
    assert (inspection["cluster"], inspection["warn_days"], inspection["critical_days"]) == (None, 30, 7)
    assert inspection["cluster_objects"] == "called"
    assert inspection["kubeconfigs"] == ["/root/.kube/config"]
    assert [item["name"] for item in rotation["items"]] == ["apiserver", "scheduler.conf"]
    assert (rotation["restart"], rotation["private_key"], rotation["validity_days"]) == ("auto", "regenerate", None)
    assert (rotation["stop_timeout_seconds"], rotation["start_timeout_seconds"], rotation["keep_backups"]) == (2, 120, 10)
    assert rotation["kubeconfig_copies"] == ["/root/.kube/config"]
    assert "-awx4711-" in rotation["run_id"]


def test_answers_as_strings_are_understood(controller: Controller) -> None:
    """Numbers and truth values arrive as strings."""
    output = play(controller, "inspect", AS_STRINGS)
    assert '"certops_inspect": {' in output
    play(controller, "rotate", AS_STRINGS)
    inspection, rotation = (first_call(controller, module) for module in ("certificate_info", "certificate_rotation"))
    assert (inspection["cluster"], inspection["warn_days"], inspection["critical_days"]) == ("blue", 40, 5)
    assert inspection["cluster_objects"] == "called", "not true because it is a text"
    assert [item["name"] for item in rotation["items"]] == ["apiserver"]
    assert (rotation["restart"], rotation["private_key"], rotation["validity_days"]) == ("never", "keep", 90)
    assert (rotation["stop_timeout_seconds"], rotation["start_timeout_seconds"], rotation["keep_backups"]) == (9, 60, 3)
    assert rotation["kubeconfig_copies"] == ["/root/.kube/config", "/home/*/.kube/config"]
