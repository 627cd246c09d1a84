# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which running process is a component's: argument vector, cgroup and PID namespaces decide."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Process
from ansible_collections.certops.kubernetes.plugins.module_utils._processes import (
    find_process,
    list_processes,
    listens,
    own_processes,
    pod_uid,
    process_alive,
    seen_inode,
)
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import (
    ORDINARY_UID,
    STATIC_UID,
    KubeadmTree,
)

SCHEDULER = ["kube-scheduler", "--leader-elect=true"]


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> KubeadmTree:
    return KubeadmTree(tmp_path)


@pytest.mark.parametrize(
    ("cgroup", "uid"),
    [
        ("0::/kubepods/burstable/pod%s/0a1b" % STATIC_UID, STATIC_UID),
        ("9:name=systemd:/kubepods/burstable/pod%s/0a1b\n8:pids:/kubepods/burstable/pod%s/0a1b" % (STATIC_UID, STATIC_UID), STATIC_UID),
        ("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod%s.slice/cri-containerd-0a1b.scope" % STATIC_UID, STATIC_UID),
        ("0::/kubelet.slice/kubelet-kubepods-besteffort-pod%s.slice/crio-0a.scope" % ORDINARY_UID.replace("-", "_"), ORDINARY_UID),
        ("0::/kubepods/pod%s/0a1b" % ORDINARY_UID, ORDINARY_UID),
        ("0::/kubepods/pod%s/docker/x/kubepods/burstable/pod%s/0a" % (ORDINARY_UID, STATIC_UID), STATIC_UID),
        ("0::/../pod%s/0a" % ORDINARY_UID, ORDINARY_UID),
        ("0::/kubepods.slice/kubepods-pod%s.slice:cri-containerd:0a" % ORDINARY_UID.replace("-", "_"), ORDINARY_UID),
        ("0::/system.slice/kubelet.service", None),
        ("0::/kubepods/podman-1234", None),
        ("", None),
    ],
)
def test_the_innermost_pod_of_a_cgroup(cgroup: str, uid: str | None) -> None:
    assert pod_uid(cgroup) == uid


def test_a_static_pods_process_is_found_by_its_command(tree: KubeadmTree) -> None:
    tree.run(99999001, ["/usr/local/bin/kube-scheduler", *SCHEDULER[1:]], start_ticks=100)
    found = find_process(SCHEDULER, str(tree.proc))
    assert found is not None
    assert (found.pid, found.start_ticks) == (99999001, 100)


def test_an_ordinary_pods_process_is_somebody_elses(tree: KubeadmTree) -> None:
    tree.run(99999001, SCHEDULER, "0::/kubepods/pod%s/0a" % ORDINARY_UID)
    assert find_process(SCHEDULER, str(tree.proc)) is None


def test_when_we_run_in_that_ordinary_pod_ourselves_it_is_ours(tree: KubeadmTree) -> None:
    tree.run(99999001, SCHEDULER, "0::/kubepods/pod%s/0a" % ORDINARY_UID)
    (tree.proc / "self").mkdir()
    (tree.proc / "self" / "cgroup").write_text("0::/kubepods/pod%s/0b\n" % ORDINARY_UID)
    assert find_process(SCHEDULER, str(tree.proc)) is not None


def test_a_cluster_in_a_container_is_somebody_elses(tree: KubeadmTree) -> None:
    tree.run(99999001, SCHEDULER, nesting=3)
    assert find_process(SCHEDULER, str(tree.proc)) is None


def test_other_flags_are_another_process(tree: KubeadmTree) -> None:
    tree.run(99999001, [*SCHEDULER, "--v=4"])
    assert find_process(SCHEDULER, str(tree.proc)) is None


def test_of_two_the_youngest_in_a_static_pod_wins(tree: KubeadmTree) -> None:
    tree.run(99999001, SCHEDULER, start_ticks=100)
    tree.run(99999002, SCHEDULER, start_ticks=300)
    tree.run(99999003, SCHEDULER, "0::/user.slice\n", start_ticks=900)
    found = find_process(SCHEDULER, str(tree.proc))
    assert found is not None
    assert found.pid == 99999002


def test_a_child_that_has_not_executed_its_program_yet_is_not_the_component() -> None:
    """As with a kubelet that is about to run `mount`: the kernel shows its words for the child, too."""
    name = "kubelet-%d" % os.getpid()
    code = "import os, time; os.fork(); os.write(1, b'%d\\n' % os.getpid()); time.sleep(60)"
    pids: list[int] = []
    with subprocess.Popen([name, "-c", code], executable=sys.executable, stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            pids = sorted(int(parent.stdout.readline()) for which in ("parent", "child"))
            running = list_processes(names=[name])
            assert [one.process.pid for one in running] == pids
            assert [one.process.pid for one in own_processes(running)] == [parent.pid]
            found = find_process([name, "-c", code])
            assert found is not None
            assert found.pid == parent.pid
        finally:
            for child in [pid for pid in pids if pid != parent.pid]:
                os.kill(child, signal.SIGKILL)
            parent.kill()


def test_gone_and_garbled_processes_are_left_out(tree: KubeadmTree) -> None:
    for pid, stat in ((99999001, ""), (99999002, "1 (x"), (99999003, "1 (x) Z " + " ".join(["0"] * 18) + " 5")):
        tree.run(pid, SCHEDULER)
        (tree.proc / str(pid) / "stat").write_text(stat)
    tree.run(99999004, [])
    (tree.proc / "99999005").mkdir()
    (tree.proc / "99999006").mkdir()
    (tree.proc / "99999006" / "cmdline").write_bytes(b"\xff\xfe\0--x\0")
    assert [running.process.pid for running in list_processes(str(tree.proc))] == []
    assert own_processes(list_processes(str(tree.root / "nowhere"))) == []


def test_a_name_with_a_line_break_of_unicode_is_no_line(tree: KubeadmTree) -> None:
    """The kernel shows the name of a process, which it may choose itself, with no character escaped but the line end."""
    tree.run(99999001, SCHEDULER, "0::/a\x0b0::/kubepods/pod%s/0a\n" % STATIC_UID, nesting=3)
    status = tree.proc / "99999001" / "status"
    for separator in "\x0b\x0c\x1c\x85\u2028":
        status.write_text("Name:\t%sNSpid:\t1\n%s" % (separator, status.read_text()))
    (running,) = list_processes(str(tree.proc))
    assert running.nesting == 3


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Uid:\t0\t994\t0\t0\nGid:\t0\t993\t0\t0\n", (994, 993)),  # what counts is the effective one
        ("Name:\tUid:\t0\t1\n", (None, None)),
        ("Uid:\t0\nGid:\tx\ty\n", (None, None)),
        ("", (None, None)),
    ],
)
def test_as_whom_it_runs(tree: KubeadmTree, status: str, expected: tuple[int | None, int | None]) -> None:
    tree.run(99999001, SCHEDULER)
    (tree.proc / "99999001" / "status").write_text(status)
    (running,) = list_processes(str(tree.proc))
    assert (running.process.uid, running.process.gid) == expected


@pytest.mark.parametrize("ticks", ["²", "٣", "9" * 30, "9" * 5000, "-1", "x"])
def test_a_start_time_that_is_none(tree: KubeadmTree, ticks: str) -> None:
    tree.run(99999001, SCHEDULER)
    (tree.proc / "99999001" / "stat").write_text("1 (x) S " + "0 " * 18 + ticks)
    (tree.proc / "²").mkdir()
    assert list_processes(str(tree.proc)) == []


def test_no_command_is_no_process() -> None:
    assert find_process([]) is None


def test_the_real_proc() -> None:
    me = next(running for running in list_processes() if running.process.pid == os.getpid())
    assert process_alive(me.process)
    assert not process_alive(Process(os.getpid(), me.process.start_ticks + 1, me.argv, me.process.started_at))
    assert not process_alive(Process(99999999, 1, (), me.process.started_at))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_who_listens(family: socket.AddressFamily) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        port = server.getsockname()[1]
        assert not listens(os.getpid(), port), "bound is not listening"
        server.listen(1)
        assert listens(os.getpid(), port)
        with socket.create_connection(server.getsockname()[:2]):
            server.close()
            assert not listens(os.getpid(), port), "what was accepted goes on, but nobody else gets in"
    assert not listens(99999999, port)


def test_what_a_process_sees_at_a_path(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    found = path.stat()
    assert seen_inode(os.getpid(), str(path)) == (found.st_dev, found.st_ino)
    assert seen_inode(os.getpid(), str(tmp_path / "missing")) is None
    assert seen_inode(99999999, str(path)) is None
    assert seen_inode(os.getpid(), "nul\0byte") is None
