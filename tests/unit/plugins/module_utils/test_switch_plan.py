# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a plan says of settings of kubelets that the user wants on."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._order import due_hosts
from ansible_collections.certops.kubernetes.plugins.module_utils._plan import rotation_items, rotation_plan
from ansible_collections.certops.kubernetes.plugins.module_utils._report import plan_lines
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.test_plan import needs_jmespath, rotate_policy
from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import authority, record

ROTATION, SERVING = "kubelet:rotateCertificates", "kubelet:serverTLSBootstrap"
CONFIG = "/var/lib/kubelet/config.yaml"
OFF = {"on": False, "path": CONFIG, "obstacle": None}
ON = {"on": True, "path": None, "obstacle": None}
HINDERED = {"on": False, "path": None, "obstacle": "a flag wins."}
BOTH: dict[str, t.Any] = {"enable_kubelet_rotation": True, "cluster_signed_kubelet_serving": True}


def planned(settings: dict[str, t.Any], more: dict[str, t.Any] | None = None, **values: t.Any) -> dict[str, t.Any]:
    """The entries about the kubelet of host n1, by name."""
    records = [dict(one, host="n1") for one in (record("kubelet-client", 200, component="kubelet"), authority())]
    policy = {**rotate_policy(**values), **(more or {})}
    plan = rotation_plan(records, policy, {"n1": {"name": "node-1", "kubelet_settings": settings}})
    return {entry["name"]: entry for entry in plan if entry["name"].startswith("kubelet:")}


def test_what_is_wanted_and_off_is_switched_on_with_a_restart() -> None:
    found = planned({ROTATION: OFF, SERVING: OFF}, **BOTH)
    assert [(name, one["action"], one["code"], one["restarts"]) for name, one in found.items()] == [
        *((ROTATION, "configure", "switched_on", ["kubelet"]), (SERVING, "configure", "switched_on", ["kubelet"])),
    ]
    plan = list(found.values())
    assert due_hosts(plan) == ["n1"]
    assert [(one["name"], one["action"]) for one in rotation_items(plan, "n1")] == [(ROTATION, "configure"), (SERVING, "configure")]
    assert plan_lines(plan)[0] == (
        "n1: configure kubelet:rotateCertificates: it is off, and certs_rotate_enable_kubelet_rotation wants it on (in %s); "
        "restarts kubelet" % CONFIG
    )


def test_nothing_is_said_where_it_is_on_not_wanted_or_not_known() -> None:
    assert planned({ROTATION: ON, SERVING: ON}, **BOTH) == {}
    assert planned({ROTATION: OFF, SERVING: OFF}) == {}
    assert planned({}, **BOTH) == {}
    assert list(planned({ROTATION: OFF, SERVING: OFF}, enable_kubelet_rotation="true")) == [ROTATION]


@pytest.mark.parametrize(
    ("settings", "more", "values", "name", "action", "reason"),
    [
        ({ROTATION: HINDERED}, {}, {}, ROTATION, "report", "not switched: a flag wins."),
        ({ROTATION: OFF}, {}, {"restart": "never"}, ROTATION, "report", "certs_rotate_restart is never"),
        ({SERVING: OFF}, {}, {"approve_serving_requests": "no"}, SERVING, "report", "certs_rotate_approve_serving_requests is false"),
        ({SERVING: OFF}, {"approver": ""}, {}, SERVING, "report", "no control-plane node to approve its request"),
        ({ROTATION: OFF}, {"approver": ""}, {"approve_serving_requests": "no"}, ROTATION, "configure", "it is off"),
    ],
)
def test_what_keeps_it_from_being_switched(
    settings: dict[str, t.Any], more: dict[str, t.Any], values: dict[str, t.Any], name: str, action: str, reason: str
) -> None:
    found = planned(settings, more, **BOTH, **values)[name]
    assert found["action"] == action
    assert reason in found["reason"]


@needs_jmespath
def test_a_selection_without_its_certificate_leaves_it_out() -> None:
    settings = {ROTATION: OFF, SERVING: OFF}
    found = planned(settings, select="[?name=='kubelet-client']", **BOTH)
    assert {name: one["action"] for name, one in found.items()} == {ROTATION: "configure", SERVING: "none"}
    assert found[SERVING]["code"] == "not_selected"
