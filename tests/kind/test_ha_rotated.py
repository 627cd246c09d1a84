# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the users of a cluster of three control planes saw of its rotation, and what each node has now."""

from __future__ import annotations

import json
import subprocess

import cluster
import observe
import pytest

NODES = cluster.control_plane()
PAIRS = {"apiserver": "ca", "apiserver-kubelet-client": "ca", "front-proxy-client": "front-proxy-ca", "apiserver-etcd-client": "etcd/ca"}
PAIRS |= {f"etcd/{name}": "etcd/ca" for name in ("server", "peer", "healthcheck-client")}
MATCHES = """
cd /etc/kubernetes/pki
openssl verify -CAfile $1.crt $0.crt >/dev/null &&
[ "$(openssl x509 -in $0.crt -noout -pubkey)" = "$(openssl pkey -in $0.key -pubout)" ] &&
openssl x509 -in $0.crt -noout -checkend 25920000 &&
openssl pkey -in $0.key -noout -text | grep -q prime256v1
"""


def test_no_request_failed() -> None:
    """Reads through the load balancer and at each API server's own address, and writes: over fresh connections, none failed."""
    observe.stop()
    probe = observe.measured("probe.json")
    print("watches:", probe["watches"])
    assert json.loads((cluster.STATE / "ended_early.json").read_text()) == []
    assert len(probe["targets"]) == 2 + len(NODES)
    assert all(target["requests"] > 20 for target in probe["targets"])
    assert probe["failed"] == 0, (probe, observe.elections(NODES))
    assert all(watch["breaks"] == [] for watch in probe["watches"])


def test_the_work_went_on() -> None:
    """No container was started again, and the Job made its steps."""
    before = {name: tuple(state) for name, state in json.loads((cluster.STATE / "holders.json").read_text()).items()}
    assert cluster.containers("app=holder") == before
    status = json.loads(cluster.kubectl("get", "job", "steps", "-o", "json"))["status"]
    assert status.get("failed", 0) == 0
    assert status.get("succeeded", 0) >= 3


def test_leadership_moved_once() -> None:
    """The nodes that led came last."""
    before, after = json.loads((cluster.STATE / "leases.json").read_text()), cluster.leaders()
    print("leaders before:", before, "after:", after)
    moved = {name: after[name]["transitions"] - before[name]["transitions"] for name in before}
    same_node = len({lease["holder"].rpartition("_")[0] for lease in before.values()}) == 1
    # Where two nodes lead, what the first of them gives up may go to the second.
    assert all(count <= (1 if same_node else 2) for count in moved.values()), moved


@pytest.mark.parametrize("node", NODES)
def test_every_pair_is_new_and_fits(node: str) -> None:
    """By openssl: signed by its CA, with its key, which is of the kind that kubeadm makes here, and 300 days to go."""
    for name, ca in PAIRS.items():
        cluster.on_node("sh", "-ec", MATCHES, name, ca, node=node)


@pytest.mark.parametrize("node", NODES)
def test_every_node_serves_what_lies_on_it(node: str) -> None:
    """API server and etcd, at the node's own address."""
    for port, name in ((6443, "apiserver"), (2379, "etcd/server"), (2380, "etcd/peer")):
        script = "openssl s_client -connect $0 -cert $1.crt -key $1.key </dev/null 2>/dev/null | openssl x509 -noout -serial"
        pair = "/etc/kubernetes/pki/" + ("etcd/peer" if port != 6443 else "apiserver-kubelet-client")
        served = cluster.on_node("sh", "-c", script, f"{cluster.address(node)}:{port}", pair, node=node)
        assert served == cluster.on_node("openssl", "x509", "-in", f"/etc/kubernetes/pki/{name}.crt", "-noout", "-serial", node=node)


def test_the_nodes_are_reached_as_somebody_who_is_not_root() -> None:
    """Over SSH, as the inventory says."""
    inventory = (cluster.STATE / "inventory.yml").read_text()
    assert "ansible_user: ops" in inventory
    key = next(line.split(": ")[1] for line in inventory.splitlines() if "private_key_file" in line)
    known = f"UserKnownHostsFile={key.rpartition('/')[0]}/known_hosts"
    command = ["ssh", "-i", key, "-o", known, "-o", "BatchMode=yes", f"ops@{cluster.node_address()}", "cat", "/etc/kubernetes/admin.conf"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Permission denied" in refused.stderr
