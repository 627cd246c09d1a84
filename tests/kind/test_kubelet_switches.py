# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rotation of the kubelet's client certificate, and a serving certificate of the cluster, switched on and put back on a real node."""

from __future__ import annotations

import json
import re
import time
import typing as t

import cluster
import pytest
from test_kubelet_client import running
from test_kubelet_serving import ADDED, CONFIG, PKI, assert_logs_and_exec, configure, requests, said_of, served, wait_for

SWITCHES = {
    "certs_rotate_enable_kubelet_rotation": True,
    "certs_rotate_cluster_signed_kubelet_serving": True,
    "certs_rotate_renew_before_days": 0,
}
OFF = "# switched off for a test\nrotateCertificates: false # as somebody wrote it\n"
# On the node: when a handshake showed a certificate, and when not, until the file is gone.
WATCH = """
touch /tmp/watching
while [ -e /tmp/watching ]; do
  shown=no
  openssl s_client -connect %s:10250 </dev/null 2>/dev/null | grep -q BEGIN && shown=yes
  echo "$(date +%%s.%%N) $shown"
  sleep 0.1
done >/tmp/watched
"""


@pytest.fixture(name="off")
def fixture_off() -> t.Iterator[None]:
    """A kubelet that does not renew its client certificate, and signs its serving certificate itself; as it was, afterwards."""
    cluster.on_node("cp", "-p", CONFIG, ADDED)
    cluster.on_node("sed", "-i", "/^rotateCertificates:/d", CONFIG)
    configure(OFF)
    wait_for(lambda: "BEGIN" in served(), "a handshake before the test")
    yield
    cluster.on_node("rm", "-f", "/tmp/watching")
    cluster.on_node("mv", ADDED, CONFIG)
    cluster.on_node("systemctl", "restart", "kubelet")
    cluster.on_node("sh", "-c", f"rm -f {PKI}/kubelet-server-*")
    for name in requests():
        cluster.kubectl("delete", "csr", name)
    wait_for(lambda: "BEGIN" in served(), "a handshake after the test")


def effective() -> tuple[t.Any, t.Any]:
    """What the kubelet itself says that it has."""
    answer = cluster.kubectl("get", "--raw", f"/api/v1/nodes/{cluster.NODE}/proxy/configz")
    config = json.loads(answer)["kubeletconfig"]
    return config.get("rotateCertificates", False), config.get("serverTLSBootstrap", False)


def longest_gap() -> float:
    """For how long no handshake showed a certificate, in seconds."""
    cluster.on_node("rm", "-f", "/tmp/watching")
    looks = [line.split() for line in cluster.on_node("cat", "/tmp/watched").splitlines()]
    longest, last = 0.0, float(looks[0][0])
    for moment, shown in looks:
        if shown == "yes":
            longest, last = max(longest, float(moment) - last), float(moment)
    return longest


def files() -> dict[str, t.Any]:
    """What is in the node's files, and when they were changed, but for those of a connection."""
    found: dict[str, t.Any] = {path: seen for path, seen in cluster.snapshot().items() if not path.startswith("/root")}
    return {**found, CONFIG: cluster.on_node("stat", "-c", "%i %Y %Z", CONFIG)}


def rotate(*argv: str) -> str:
    """What a rotation says; a warning is one line."""
    done = cluster.playbook("rotate", "-e", json.dumps(SWITCHES), *argv)
    return done.stdout + " ".join(done.stderr.split())


def test_switched_on_as_asked_for_and_put_back(off: None) -> None:
    """Check mode shows both; the kubelet has both; logs and exec work; containers stay; a rollback brings every byte back."""
    began = time.monotonic()
    text, containers, self_signed = cluster.on_node("cat", CONFIG), running(), served()
    mode = cluster.on_node("stat", "-c", "%a %u %g", CONFIG)
    assert effective() == (False, False)

    before = files()
    shown = rotate("--check", "--diff")
    assert files() == before
    assert f"configure kubelet:rotateCertificates: it is off, and certs_rotate_enable_kubelet_rotation wants it on (in {CONFIG})" in shown
    assert re.search(r"^-rotateCertificates: false$", shown, re.MULTILINE)
    assert re.search(r"^\+rotateCertificates: true$", shown, re.MULTILINE)
    assert re.search(r"^\+serverTLSBootstrap: true$", shown, re.MULTILINE)

    cluster.run("docker", "exec", "-d", cluster.NODE, "sh", "-c", WATCH % cluster.node_address())
    said = rotate()
    assert "kubectl -n kube-system edit configmap kubelet-config" in said
    assert "asks for its own names" in said
    assert re.search(r"CN ?= ?kubernetes\b", said_of(served(), "-issuer"))
    print(f"kubelet: no serving certificate for {longest_gap():.1f} s")
    assert effective() == (True, True)
    assert cluster.on_node("cat", CONFIG) == text.replace(OFF, OFF.replace("false", "true")) + "serverTLSBootstrap: true\n"
    assert cluster.on_node("stat", "-c", "%a %u %g", CONFIG) == mode
    assert_logs_and_exec()
    assert running() == containers
    report = cluster.newest_report("rotate")
    assert report["run"]["nodes"][cluster.NODE]["state"] == "done"
    done = report["results"][cluster.NODE]["certificates"]
    assert {one["name"]: one["in_use"] for one in done} == {"kubelet:rotateCertificates": "true", "kubelet:serverTLSBootstrap": "true"}

    cluster.playbook("rollback")
    assert cluster.on_node("cat", CONFIG) == text
    assert effective() == (False, False)
    assert served() == self_signed
    assert_logs_and_exec()
    assert running() == containers
    print(f"switched on and put back: {time.monotonic() - began:.0f} s")
