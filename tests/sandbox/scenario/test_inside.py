# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller is a control-plane node itself: a local connection, and become."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import node

BECOME = "/opt/sandbox/bin/become"
# What sudo does for somebody who may; there is nobody else than root on this node.
SUDO = """#!/bin/sh
while [ $# -gt 0 ] && [ "$1" != /bin/sh ]; do shift; done
echo yes >>/root/became
exec "$@"
"""


def test_a_rotation_from_the_node_itself() -> None:
    """Its own API server is not needed to reach it, so nothing that is restarted cuts the run off."""
    program = node.path(BECOME)
    program.write_text(SUDO)
    program.chmod(0o755)
    python = json.loads((node.DIRECTORY / "sandbox.json").read_text())["python"]
    variables = {"ansible_connection": "local", "ansible_become": True, "ansible_become_exe": BECOME, "ansible_python_interpreter": python}
    inventory = {"kube_control_plane": {"hosts": {"sandbox": variables}}, "etcd": {"hosts": {"sandbox": {}}}}
    node.path("/root/inventory.json").write_text(json.dumps(inventory))
    tree = Path(__file__).resolve().parents[6]
    before = node.snapshot_of("/etc/kubernetes/pki/apiserver.crt")
    forced = {"certs_rotate_force": True, "certs_rotate_restart": "always", "certs_report_dir": "/root/reports"}
    path = f"/opt/sandbox/bin:{Path(sys.executable).parent}:{os.defpath}"
    # The node's only user is root, who would need nobody's rights to become root.
    environment = (f"ANSIBLE_COLLECTIONS_PATH={tree}", "LC_ALL=C.UTF-8", f"PATH={path}", "ANSIBLE_BECOME_ALLOW_SAME_USER=true")
    playbook = ("ansible-playbook", "-i", "/root/inventory.json", "certops.kubernetes.rotate", "-e", json.dumps(forced))
    said = node.on_node("env", *environment, *playbook)
    assert "changed=1" in said
    assert "failed=0" in said
    assert node.snapshot_of("/etc/kubernetes/pki/apiserver.crt")[5] != before[5]
    assert node.path("/root/became").exists()
    assert len(list(node.path("/root/reports").glob("rotate-*.html"))) == 1
