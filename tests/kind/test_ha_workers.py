# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every kubelet gets another client certificate, the worker's after the control plane's, and pods run on."""

from __future__ import annotations

import json

import cluster
import ha

WORKER = f"{cluster.CLUSTER}-worker"
CURRENT = "/var/lib/kubelet/pki/kubelet-client-current.pem"
ONLY_KUBELETS = {"certs_rotate_force": True, "certs_rotate_select": "[?name=='kubelet-client']", "certs_rotate_health_timeout_seconds": 90}


def fingerprint(node: str) -> str:
    """Of the certificate that the kubelet's link leads to."""
    said = cluster.on_node("openssl", "x509", "-in", CURRENT, "-noout", "-fingerprint", "-sha256", node=node)
    return said.strip().partition("=")[2].replace(":", "").lower()


def began(node: str) -> int:
    """When the kubelet was started, in microseconds of the clock that all nodes share."""
    return int(cluster.on_node("systemctl", "show", "kubelet", "-P", "ActiveEnterTimestampMonotonic", node=node))


def test_kubelets_are_renewed_and_nobody_notices() -> None:
    """By the cluster's own signer: there is no key of a CA on the worker."""
    nodes = (*ha.NODES, WORKER)
    before, containers = {node: fingerprint(node) for node in nodes}, cluster.containers("app=holder")
    assert cluster.on_node("find", "/etc/kubernetes", "-name", "*.key", node=WORKER) == ""
    cluster.playbook("rotate", "-e", json.dumps(ONLY_KUBELETS))
    assert all(fingerprint(node) != before[node] for node in nodes)
    assert cluster.containers("app=holder") == containers
    results = cluster.newest_report("rotate")["results"]
    for node in nodes:
        (certificate,) = results[node]["certificates"]
        print(f"{node}: kubelet {results[node]['components'][0]['away_seconds']} s away")
        assert (certificate["in_use"], certificate["proof"]) == ("true", "identity")
        assert certificate["after"]["fingerprint_sha256"] == fingerprint(node)
        cluster.kubectl("wait", "--for=condition=Ready", f"node/{node}", "--timeout=30s")
    assert began(WORKER) > max(map(began, ha.NODES))


def test_the_workers_run_is_put_back() -> None:
    """With the node's own identity, as it has no other."""
    new = fingerprint(WORKER)
    cluster.playbook("rollback", "--limit", WORKER)
    assert fingerprint(WORKER) != new
    cluster.kubectl("wait", "--for=condition=Ready", f"node/{WORKER}", "--timeout=30s")
