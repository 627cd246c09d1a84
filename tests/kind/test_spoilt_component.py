# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A component that does not come back after its restart: the node is put back, proven, and the play fails with the cause."""

from __future__ import annotations

import json
import typing as t

import cluster
import pytest

COMPONENT = "kube-scheduler"

# The image's file goes away under the running container, and comes back once the run has begun to roll back.
SPOIL = """
set -e
for f in /var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs/usr/local/bin/kube-scheduler; do mv $f $f.spoilt; done
"""
MEND = """
for f in /var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs/usr/local/bin/kube-scheduler.spoilt; do
  [ -e $f ] && mv $f ${f%.spoilt}
done; true
"""
MEND_WHEN_ROLLING_BACK = (
    """(for i in $(seq 1200); do
  if grep -q '"state": *"rolling_back"' /var/lib/certops/runs/*/journal.json; then
"""
    + MEND
    + """exit; fi; sleep 0.2; done) >/dev/null 2>&1 &"""
)
ASKED = {
    "certs_rotate_force": True,
    "certs_rotate_select": "[?name=='scheduler.conf' || name=='apiserver']",
    "certs_rotate_start_timeout_seconds": 20,
}


@pytest.fixture(scope="module")
def failed_run() -> t.Iterator[tuple[dict[str, list[t.Any]], int, str]]:
    """A forced rotation whose scheduler cannot start: files before, exit code, output."""
    cluster.on_node("systemctl", "restart", "kubelet")  # no back-off left over from earlier restarts
    before = cluster.snapshot()
    cluster.on_node("sh", "-c", SPOIL)
    cluster.on_node("sh", "-c", MEND_WHEN_ROLLING_BACK)
    try:
        done = cluster.playbook("rotate", "-e", json.dumps(ASKED), check=False)
    finally:
        cluster.on_node("sh", "-c", MEND)
    yield before, done.returncode, done.stdout + done.stderr


def test_the_play_fails_with_the_cause(failed_run: tuple[dict[str, list[t.Any]], int, str]) -> None:
    """Exit code and a sentence that names component and node."""
    _before, code, output = failed_run
    assert code == 2, output[-3000:]
    assert COMPONENT in output
    assert "rolled back" in output
    assert "Traceback" not in output


def test_every_file_is_as_it_was(failed_run: tuple[dict[str, list[t.Any]], int, str]) -> None:
    """Content, mode, owner (not the inode: it was replaced and put back)."""
    before, _code, _output = failed_run
    after = cluster.snapshot()
    kept = {path: entry[2:] for path, entry in before.items() if path.startswith("/etc/kubernetes")}
    assert {path: after[path][2:] for path in kept} == kept


def test_the_scheduler_is_back_with_the_old_file(failed_run: tuple[dict[str, list[t.Any]], int, str]) -> None:
    """It runs, and the inode behind its mount is the one that was put back."""
    assert failed_run
    pid = cluster.on_node("pgrep", "-x", COMPONENT).strip()
    host = cluster.on_node("stat", "-c", "%d:%i", "/etc/kubernetes/scheduler.conf")
    assert cluster.on_node("stat", "-L", "-c", "%d:%i", f"/proc/{pid}/root/etc/kubernetes/scheduler.conf") == host


def test_the_report_is_there_and_says_so(failed_run: tuple[dict[str, list[t.Any]], int, str]) -> None:
    """A failed run has its report too."""
    assert failed_run
    assert "rolled" in json.dumps(cluster.newest_report("rotate"))


def test_the_journal_says_rolled_back(failed_run: tuple[dict[str, list[t.Any]], int, str]) -> None:
    """The newest run's state on the node."""
    assert failed_run
    newest = cluster.on_node("sh", "-c", "cat $(ls -t /var/lib/certops/runs/*/journal.json | head -1)")
    assert json.loads(newest)["state"] == "rolled_back"
