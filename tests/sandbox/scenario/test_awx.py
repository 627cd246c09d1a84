# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks of the AWX project, with extra variables as AWX sends a survey's answers: strings all, empty ones too."""

from __future__ import annotations

import node

AWX = node.TESTS.parents[1] / "awx"
INSPECT = {"certs_inspect_warn_days": "30", "certs_inspect_critical_days": "7", "certs_inspect_fail_on": "", "awx_job_id": "17"}
ROTATE = {
    "certs_rotate_renew_before_days": "30",
    "certs_rotate_select": "",
    "certs_rotate_force": "false",
    "certs_rotate_restart": "auto",
    "certs_rotate_stop_timeout_seconds": "",
    "certs_rotate_start_timeout_seconds": "120",
    "certs_rotate_validity_days": "",
    "certs_rotate_private_key": "",
    "awx_job_id": "18",
}


def test_inspect() -> None:
    """It ends well, and leaves one artifact with its statistics."""
    done = node.playbook(str(AWX / "inspect.yml"), *node.extra(**INSPECT))
    assert "changed=0" in done.stdout


def test_rotate_as_a_check_job() -> None:
    """Nothing is due, so nothing would change."""
    done = node.playbook(str(AWX / "rotate.yml"), "--check", "--diff", *node.extra(**ROTATE))
    assert "changed=0" in done.stdout


def test_rotate_with_a_forced_selection_of_strings() -> None:
    """ "true" is true."""
    answers = {**ROTATE, "certs_rotate_force": "true", "certs_rotate_select": "[?name=='front-proxy-client']"}
    done = node.playbook(str(AWX / "rotate.yml"), *node.extra(**answers))
    assert "changed=1" in done.stdout
    renewed = [entry["name"] for entry in node.newest_report("rotate")["plan"] if entry["action"] == "renew"]
    assert renewed == ["front-proxy-client"]
