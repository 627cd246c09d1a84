# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is not well on one of three control planes stops the run before, or right after, the node whose turn it is."""

from __future__ import annotations

import time

import cluster
import ha
from test_spoilt_component import COMPONENT, MEND, MEND_WHEN_ROLLING_BACK, SPOIL

IMPATIENT = {"certs_rotate_health_timeout_seconds": 6}
MANIFEST, ASIDE = "/etc/kubernetes/manifests/kube-apiserver.yaml", "/root/kube-apiserver.yaml"


def test_an_api_server_that_goes_down_during_the_gate() -> None:
    """The node that is done stays so, the cluster is not well after it, and nobody else is touched; leaders would have their turn last."""
    before = ha.serials()
    led = {lease["holder"].rpartition("_")[0] for lease in cluster.leaders().values()}
    with ha.begun(*ha.forced(), "-e", '{"certs_rotate_health_timeouts": {"other control-plane nodes": 6}}') as run:
        first, second, third = order = run.order()
        assert set(order[-len(led) :]) == led
        ha.wait_for(lambda: run.has_begun_on(first), 180)
        cluster.on_node("mv", MANIFEST, ASIDE, node=second)
        try:
            code, output = run.end()
        finally:
            cluster.on_node("mv", ASIDE, MANIFEST, node=second)
    assert code == 2, output[-3000:]
    assert f"{first} has its new certificates, but the cluster is not healthy after" in output
    assert f"the API server of node {second} is not ready" in output
    assert "of 6 s" in output, "the wait says what it waits for"
    after = ha.serials()
    assert [node for node in ha.NODES if after[node] != before[node]] == [first]
    seen = ha.states()
    assert (seen[first], seen[third]) == ("failed", "planned")
    ha.assert_well()


def test_a_stopped_kubelet_is_noticed() -> None:
    """Before anything is changed on its node."""
    before, first = ha.serials(), ha.NODES[0]
    cluster.on_node("systemctl", "stop", "kubelet", node=first)
    try:
        done = cluster.playbook("rotate", *ha.forced(**IMPATIENT), "--limit", first, check=False)
    finally:
        cluster.on_node("systemctl", "start", "kubelet", node=first)
    assert done.returncode == 2, done.stdout[-3000:]
    assert f"Nothing was changed on {first}" in done.stdout
    assert "kubelet" in done.stdout
    assert ha.serials() == before
    assert cluster.newest_report("rotate")["run"]["nodes"][first]["state"] == "refused"
    ha.assert_well()


def test_a_component_that_does_not_come_back() -> None:
    """Its node is put back and proven, the play fails with the cause, the third node is untouched."""
    for node in ha.NODES:
        cluster.on_node("systemctl", "restart", "kubelet", node=node)  # no back-off left over from earlier restarts
    time.sleep(2)
    before = ha.serials()
    with ha.begun(*ha.forced(certs_rotate_start_timeout_seconds=20)) as run:
        first, second, third = run.order()
        cluster.on_node("sh", "-c", SPOIL, node=second)
        cluster.on_node("sh", "-c", MEND_WHEN_ROLLING_BACK, node=second)
        try:
            code, output = run.end()
        finally:
            cluster.on_node("sh", "-c", MEND, node=second)
    assert code == 2, output[-3000:]
    assert COMPONENT in output
    assert "rolled back" in output
    assert ha.states() == {first: "done", second: "rolled_back", third: "planned"}
    after = ha.serials()
    assert [node for node in ha.NODES if after[node] != before[node]] == [first]
    assert ha.state_of_newest_run(second) == "rolled_back"
    ha.assert_well()
