# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node in an odd condition that is no obstacle: the rotation does the same there, and leaves the condition as it is."""

from __future__ import annotations

import json
import stat
import typing as t
from pathlib import Path

import node
import pytest

PKI = "/etc/kubernetes/pki"
FORCED = node.extra(certs_rotate_force=True)
INTERPRETER = "/opt/sandbox/bin/odd-python"
# Python reads it before anything else.
CLOCK = """
import datetime, time

class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=SECONDS)

datetime.datetime = Shifted
kept = time.time
time.time = lambda: kept() + SECONDS
"""

Files = t.Dict[str, t.List[t.Any]]


def odd_python(folder: Path, *lines: str) -> str:
    """An inventory of the node whose Python begins with these lines of shell, as a connection user's profile would."""
    inventory = json.loads(node.sandbox("inventory"))
    for host in inventory["kube_control_plane"]["hosts"].values():
        script = ["#!/bin/sh", *lines, f'exec {host["ansible_python_interpreter"]} "$@"']
        host["ansible_python_interpreter"] = INTERPRETER
    interpreter = node.path(INTERPRETER)
    interpreter.write_text("\n".join([*script, ""]))
    interpreter.chmod(0o755)
    inventory["all"] = {"vars": {"certs_report_dir": str(node.REPORTS)}}
    path = folder / "inventory.json"
    path.write_text(json.dumps(inventory))
    return str(path)


def files() -> Files:
    """The files of /etc/kubernetes by their paths, links not followed."""
    return {path: entry for path, entry in node.snapshot().items() if path.startswith("/etc/kubernetes")}


def renewed() -> set[str]:
    """Every file that a rotation of everything replaces."""
    pairs = {f"{PKI}/{pair}.{end}" for pair in node.PAIRS for end in ("crt", "key")}
    return pairs | {f"/etc/kubernetes/{config}" for config in node.KUBECONFIGS}


@pytest.fixture(name="open_umask", scope="module")
def fixture_open_umask(tmp_path_factory: pytest.TempPathFactory) -> tuple[Files, Files, str]:
    """A rotation as a user whose umask is 000, where nothing may be executed below /tmp, /var/tmp, /dev/shm and Ansible's own folders, and
    the node is cordoned: files before and after, output."""
    inventory = odd_python(tmp_path_factory.mktemp("open"), "umask 000")
    places = ("/tmp", "/var/tmp", "/dev/shm", "/root/.ansible", "/root/.ansible_async")
    begin = [f"mkdir -p {place}; mount --bind {place} {place}; mount -o remount,bind,noexec {place}" for place in places]
    node.on_node("sh", "-ec", "; ".join(begin))
    node.patch_node({"spec": {"unschedulable": True}})
    before = files()
    try:
        for place in places:
            tried = f"cp /bin/true {place}/executable; if {place}/executable 2>&-; then exit 1; fi; rm {place}/executable"
            node.on_node("sh", "-ec", tried)
        done = node.playbook("rotate", *FORCED, inventory=inventory)
    finally:
        node.patch_node({"spec": {"unschedulable": None}})
        node.on_node("sh", "-ec", "; ".join(f"umount {place}" for place in places))
    return before, files(), done.stdout + done.stderr


def test_nothing_needs_to_be_executed_below_a_temporary_folder(open_umask: tuple[Files, Files, str]) -> None:
    """The run came to its end, in the background of the node as always."""
    assert "changed=1" in open_umask[2]
    before, after, _said = open_umask
    assert {path for path in before if before[path][5] != after[path][5]} == renewed()


def test_an_open_umask_opens_nothing(open_umask: tuple[Files, Files, str]) -> None:
    """Modes and owners as before; what the run keeps for itself is its own."""
    before, after, _said = open_umask
    assert {path: entry[2:5] for path, entry in after.items()} == {path: entry[2:5] for path, entry in before.items()}
    kept = {path: entry for path, entry in node.snapshot().items() if path.startswith("/var/lib/certops")}
    assert len(kept) > 10
    assert {entry[2] for entry in kept.values()} == {stat.S_IFDIR | 0o700, stat.S_IFREG | 0o600}


def test_a_cordoned_node_is_rotated_and_that_it_is_cordoned_is_said(open_umask: tuple[Files, Files, str]) -> None:
    """Before and after."""
    assert open_umask[2].count("node sandbox is cordoned, which is no obstacle") == 2


@pytest.fixture(name="links", scope="module")
def fixture_links(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[tuple[Files, Files, str]]:
    """A rotation as a user whose umask is 077, where pki is a link to ssl (as kubespray makes it), a certificate and a kubeconfig are links
    themselves, and a backup was made of hard links: files before and after, output."""
    inventory = odd_python(tmp_path_factory.mktemp("links"), "umask 077")
    begin = """
        cd /etc/kubernetes
        mv pki ssl; ln -s ssl pki
        mv ssl/apiserver.crt ssl/apiserver-1.crt; ln -s apiserver-1.crt ssl/apiserver.crt
        mkdir people; mv admin.conf people/; ln -s people/admin.conf admin.conf
        cp -al ssl /var/backups-ssl
    """
    end = """
        cd /etc/kubernetes
        rm pki; mv ssl pki
        rm pki/apiserver.crt; mv pki/apiserver-1.crt pki/apiserver.crt
        rm admin.conf; mv people/admin.conf .; rmdir people
        rm -r /var/backups-ssl
    """
    node.on_node("sh", "-ec", begin)
    try:
        before = files()
        done = node.playbook("rotate", *FORCED, inventory=inventory)
        yield before, files(), done.stdout + done.stderr
    finally:
        node.on_node("sh", "-ec", end)


def test_links_stay_and_what_they_point_to_is_replaced(links: tuple[Files, Files, str]) -> None:
    """By content; modes and owners are kept under a narrow umask, so that certificates stay readable."""
    before, after, said = links
    assert "changed=1" in said
    known = {path: entry[2:5] for path, entry in before.items()}
    assert {path: entry[2:5] for path, entry in after.items()} == known, "no file more, none less"
    for link in ("/etc/kubernetes/pki", "/etc/kubernetes/ssl/apiserver.crt", "/etc/kubernetes/admin.conf"):
        assert after[link] == before[link], "the very same link"
    moved = {path.replace("/pki/", "/ssl/") for path in renewed()} - {"/etc/kubernetes/ssl/apiserver.crt", "/etc/kubernetes/admin.conf"}
    moved |= {"/etc/kubernetes/ssl/apiserver-1.crt", "/etc/kubernetes/people/admin.conf"}
    assert {path for path in before if before[path][5] != after[path][5]} == moved
    assert after["/etc/kubernetes/ssl/apiserver-1.crt"][2] & 0o777 == 0o644


def test_a_backup_of_hard_links_keeps_the_old_files(links: tuple[Files, Files, str]) -> None:
    """And it is said what that means for whoever watches the files."""
    before, _after, said = links
    kept = node.snapshot_of("/var/backups-ssl/apiserver.key")
    assert kept[5] == before["/etc/kubernetes/ssl/apiserver.key"][5]
    assert "/etc/kubernetes/ssl/apiserver.key had 2 names for one file" in " ".join(said.split())


def test_everybody_serves_and_is_served(links: tuple[Files, Files, str]) -> None:
    """Seen with curl, which verifies the server."""
    assert links
    assert node.ask("admin.conf", f"https://{node.ADDRESS}:6443/api/v1/namespaces/default") == 200


@pytest.mark.parametrize(("seconds", "says"), [(1200, "ahead of"), (-1200, "behind")])
def test_a_wrong_clock_is_refused_before_anything_is_changed(tmp_path: Path, seconds: int, says: str) -> None:
    """What the collection runs on the node sees another time than the controller, as on a node whose clock nobody keeps right."""
    folder = node.path("/opt/sandbox/clock")
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(CLOCK.replace("SECONDS", str(seconds)))
    inventory = odd_python(tmp_path, "export PYTHONPATH=/opt/sandbox/clock PYTHONDONTWRITEBYTECODE=1")
    before = node.snapshot()
    shown = node.playbook("rotate", *FORCED, "--check", inventory=inventory, check=False)
    done = node.playbook("rotate", *FORCED, inventory=inventory, check=False)
    for run in (shown, done):
        assert run.returncode == 2
        said = " ".join(run.stdout.split())
        assert f"minutes {says} that of the controller" in said, run.stdout + run.stderr
        assert "nothing is rotated with such a clock" in said
    assert node.snapshot() == before
