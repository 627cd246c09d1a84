# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A component that does not come back after its restart: the node is put back, proven, and the play fails with the cause."""

from __future__ import annotations

import subprocess
import typing as t

import node
import pytest

COMPONENT = "kube-scheduler"
Run = t.Tuple[t.Dict[str, t.List[t.Any]], int, str]


@pytest.fixture(scope="module")
def failed_run() -> t.Iterator[Run]:
    """A forced rotation whose scheduler refuses to start until the run has begun to roll back: files before, status, output.

    The time that it has to come back is longer than the five seconds after which the kubelet's back-off is suspected and cleared.
    """
    node.on_node("systemctl", "restart", "kubelet")
    before = node.snapshot()
    node.sandbox("fault", COMPONENT, "refuse")
    select = "[?name=='scheduler.conf' || name=='apiserver']"
    command = node.playbook_command(
        "rotate", *node.extra(certs_rotate_force=True, certs_rotate_select=select, certs_rotate_start_timeout_seconds=12)
    )
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        node.wait_for(lambda: running.poll() is not None or node.newest_journal()["state"] == "rolling_back", 240)
    finally:
        node.sandbox("fault", COMPONENT)
    output, _errors = running.communicate(timeout=240)
    yield before, running.returncode, output


def test_the_play_fails_with_the_cause(failed_run: Run) -> None:
    """Exit status and a sentence that names the component."""
    _before, status, output = failed_run
    assert status == 2, output[-3000:]
    assert COMPONENT in output
    assert "rolled back" in output
    assert "Traceback" not in output


def test_every_file_is_as_it_was(failed_run: Run) -> None:
    """Content, mode, owner (not the inode: it was replaced and put back)."""
    after = node.snapshot()
    kept = {name: entry[2:] for name, entry in failed_run[0].items() if name.startswith("/etc/kubernetes")}
    assert {name: entry[2:] for name, entry in after.items() if name.startswith("/etc/kubernetes")} == kept


def test_the_scheduler_is_back_with_the_old_file(failed_run: Run) -> None:
    """It runs, and the inode behind its mount is the one that was put back."""
    assert failed_run
    paths = ["/etc/kubernetes/scheduler.conf", f"/proc/{node.processes()[COMPONENT]}/root/etc/kubernetes/scheduler.conf"]
    mine, theirs = node.on_node("stat", "-L", "-c", "%d:%i", *paths).split()
    assert mine == theirs


def test_journal_and_report_say_so(failed_run: Run) -> None:
    """A failed run has its report too."""
    assert failed_run
    assert node.newest_journal()["state"] == "rolled_back"
    assert "rolled back" in str(node.newest_report("rotate"))
