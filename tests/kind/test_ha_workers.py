# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every kubelet gets another client certificate, the worker's after the control plane's, and pods run on."""

from __future__ import annotations

import json
import pathlib
import re
import typing as t

import cluster
import ha
import pytest
from kubeconfigs import credential_id, data_of, seen_by_api, write

WORKER = f"{cluster.CLUSTER}-worker"
FILES = f"{WORKER}-files"  # its second name, for kubeconfigs whose originals are on other nodes
COPY = "/root/.kube/config"
CURRENT = "/var/lib/kubelet/pki/kubelet-client-current.pem"
SELECTED = {
    "certs_rotate_force": True,
    "certs_rotate_select": "[?name=='kubelet-client' || contains(name, '#')]",
    "certs_rotate_health_timeout_seconds": 90,
}


def fingerprint(node: str) -> str:
    """Of the certificate that the kubelet's link leads to."""
    said = cluster.on_node("openssl", "x509", "-in", CURRENT, "-noout", "-fingerprint", "-sha256", node=node)
    return said.strip().partition("=")[2].replace(":", "").lower()


def began(node: str) -> int:
    """When the kubelet was started, in microseconds of the clock that all nodes share."""
    return int(cluster.on_node("systemctl", "show", "kubelet", "-P", "ActiveEnterTimestampMonotonic", node=node))


@pytest.fixture(name="old", scope="module")
def fixture_old() -> t.Iterator[str]:
    """The administrator's kubeconfig as it was before any rotation, on the worker."""
    server = re.search(r"server: \S+", cluster.on_node("cat", "/etc/kubernetes/admin.conf"))
    assert server
    content = re.sub(r"server: \S+", server[0], pathlib.Path(cluster.kubeconfig()).read_text())
    write(WORKER, COPY, content)
    yield content
    cluster.on_node("rm", COPY, node=WORKER)


@pytest.fixture(name="inventory", scope="module")
def fixture_inventory(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The worker's second name: what is said of the nodes counts for it, too."""
    host = {"ansible_host": cluster.address(WORKER)}
    path = tmp_path_factory.mktemp("inventory") / "files.json"
    groups = {"kubeconfig_hosts": {"hosts": {FILES: host}}, "nodes": {"hosts": {FILES: {}}}}
    path.write_text(json.dumps({"all": {"children": groups}}))
    return str(path)


def test_kubelets_and_a_copy_on_the_worker_are_renewed_and_nobody_notices(old: str, inventory: str) -> None:
    """Kubelets by the cluster's own signer, as there is no key of a CA on the worker; the copy where a control-plane node has one."""
    nodes = (*ha.NODES, WORKER)
    before, containers = {node: fingerprint(node) for node in nodes}, cluster.containers("app=holder")
    assert cluster.on_node("find", "/etc/kubernetes", "-name", "*.key", node=WORKER) == ""
    cluster.playbook("rotate", "-i", inventory, "-e", json.dumps(SELECTED))
    assert all(fingerprint(node) != before[node] for node in nodes)
    assert cluster.containers("app=holder") == containers
    report = cluster.newest_report("rotate")
    for node in nodes:
        (certificate,) = report["results"][node]["certificates"]
        print(f"{node}: kubelet {report['results'][node]['components'][0]['away_seconds']} s away")
        assert (certificate["in_use"], certificate["proof"]) == ("true", "identity")
        assert certificate["after"]["fingerprint_sha256"] == fingerprint(node)
        cluster.kubectl("wait", "--for=condition=Ready", f"node/{node}", "--timeout=30s")
    assert began(WORKER) > max(map(began, ha.NODES))

    content = cluster.on_node("cat", COPY, node=WORKER)
    certificate, key = data_of(content, "certificate"), data_of(content, "key")
    assert seen_by_api(WORKER, COPY) == ("kubernetes-admin", [credential_id(certificate)])
    assert certificate != data_of(old, "certificate")
    assert key != data_of(old, "key")
    assert key not in [data_of(cluster.on_node("cat", "/etc/kubernetes/admin.conf", node=node), "key") for node in ha.NODES]
    (renewed,) = report["results"][FILES]["certificates"]
    assert (renewed["name"], renewed["in_use"], renewed["proof"]) == (f"{COPY}#kind-{cluster.CLUSTER}", "true", "identity")


@pytest.mark.usefixtures("old")
def test_the_workers_run_is_put_back() -> None:
    """With the node's own identity, as it has no other; what was renewed under its second name in the same run stays."""
    new, content = fingerprint(WORKER), cluster.on_node("cat", COPY, node=WORKER)
    cluster.playbook("rollback", "--limit", WORKER)
    assert fingerprint(WORKER) != new
    cluster.kubectl("wait", "--for=condition=Ready", f"node/{WORKER}", "--timeout=30s")
    assert cluster.on_node("cat", COPY, node=WORKER) == content
