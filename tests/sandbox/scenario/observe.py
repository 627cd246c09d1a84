# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Before anything is done to the node: remember how it is, and start a decoy.

The decoy has the controller-manager's name and arguments and belongs to an ordinary pod, as where somebody runs other people's clusters
as pods on this one. It has a network of its own. Nobody may take it for the node's.
"""

from __future__ import annotations

import sys
import time

import node

VALIDITY_SECONDS = 60
CGROUP = "0::/kubepods/burstable/pod0f6d2c1e-8a3b-4c5d-9e7f-112233445566/0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9\n"


def start_decoy() -> int:
    """Start the decoy; its process ID on the node."""
    before = set(node.on_node("pgrep", "-x", "kube-controller").split())
    arguments = node.path("/var/tmp/decoy-arguments")
    real = next(iter(before))
    arguments.write_text(node.on_node("cat", f"/proc/{real}/cmdline"))
    script = "setsid unshare --net xargs -0 -a /var/tmp/decoy-arguments env >/var/log/decoy.log 2>&1 </dev/null &"
    node.on_node("sh", "-c", script)
    node.wait_for(lambda: len(node.on_node("pgrep", "-x", "kube-controller").split()) > len(before), 10)
    pid = next(iter(set(node.on_node("pgrep", "-x", "kube-controller").split()) - before))
    node.path("/var/tmp/decoy-cgroup").write_text(CGROUP)
    node.on_node("mount", "--bind", "/var/tmp/decoy-cgroup", f"/proc/{pid}/cgroup")
    assert node.on_node("cat", f"/proc/{pid}/cgroup") == CGROUP
    assert node.on_node("cat", f"/proc/{pid}/cmdline") == arguments.read_text()
    return int(pid)


def main() -> None:
    """Remember the node; make another one that has expired by the time that it is needed."""
    node.remember("expires.json", time.time() + VALIDITY_SECONDS)
    days = str(VALIDITY_SECONDS / 86400)
    node.sandbox("up", "--days-left", days, "--python", sys.executable, directory=node.EXPIRED)
    node.remember("decoy.json", start_decoy())
    node.remember("processes.json", node.processes())
    node.remember("kubeconfigs.json", {name: node.path(f"/etc/kubernetes/{name}").read_text() for name in node.KUBECONFIGS})
    node.remember("snapshot.json", node.snapshot())


if __name__ == "__main__":
    main()
