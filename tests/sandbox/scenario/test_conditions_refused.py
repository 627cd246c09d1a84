# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node on which a rotation would fail half-way: it is refused before anything is changed, in check mode too, with the remedy."""

from __future__ import annotations

import contextlib
import json
import re
import typing as t
from dataclasses import dataclass

import node
import pytest

KUBERNETES, STATE, PKI = "/etc/kubernetes", "/var/lib/certops", "/etc/kubernetes/pki"
WANTED = {"items": [{"name": name} for name in (*node.PAIRS, *node.KUBECONFIGS)], "run_id": "refused"}
# A signature in the lock is no change: whoever looks may hold it.
LOCK = f"{STATE}/lock"


@dataclass(frozen=True)
class Condition:
    """What is done to the node, how it is undone, and what the refusal says: what, where, and the remedy."""

    begin: str
    end: str
    says: tuple[str, ...]


def full(folder: str, size: str) -> Condition:
    """A small file system, full to the last byte, in a folder's place, with what was in the folder."""
    return Condition(
        f"mkdir -p {folder} /mnt; mount -t tmpfs -o size={size},mode=700 full /mnt; cp -a {folder}/. /mnt; "
        f"cat /dev/zero >/mnt/filler 2>&- || mount --move /mnt {folder}",
        f"umount {folder}",
        (rf"Cannot write( to)? {folder}", "Remedy: make room on that file system"),
    )


def read_only(folder: str) -> Condition:
    """A folder that is mounted read-only, as after an error of its disk."""
    return Condition(
        f"mkdir -p {folder}; mount --bind {folder} {folder}; mount -o remount,bind,ro {folder}",
        f"umount {folder}",
        ("read-only|Read-only", folder, "Remedy: the file system is mounted read-only"),
    )


def mounted(file: str) -> Condition:
    """A file that is mounted over by a copy of itself, as some tools hand out secrets."""
    return Condition(
        f"cp -a {file} /run/mounted; mount --bind /run/mounted {file}",
        f"umount {file}; rm /run/mounted",
        (f"Cannot replace {file}: it is a mount point", "Remedy: unmount it"),
    )


CONDITIONS = {
    "the certificates' disk is full": full(PKI, "400k"),
    "the backups' disk is full": full(STATE, "400k"),
    "/etc is read-only": read_only("/etc"),
    "the backups' folder is read-only": read_only(STATE),
    "a certificate is a mount point": mounted(f"{PKI}/apiserver.crt"),
    "a key is a mount point": mounted(f"{PKI}/etcd/peer.key"),
    "a kubeconfig is a mount point": mounted(f"{KUBERNETES}/scheduler.conf"),
    "a reboot is scheduled": Condition(
        'mkdir -p /run/systemd/shutdown; printf "USEC=%s\\nWARN_WALL=1\\nMODE=reboot\\n" $(($(date +%s) + 300))000000 '
        ">/run/systemd/shutdown/scheduled",
        "rm /run/systemd/shutdown/scheduled",
        ("a reboot of this node is scheduled for ", "wait until it has ended"),
    ),
}


@contextlib.contextmanager
def condition(which: Condition) -> t.Iterator[None]:
    """The node in a condition, and afterwards as it was."""
    node.on_node("sh", "-ec", which.begin)
    try:
        yield
    finally:
        node.on_node("sh", "-ec", which.end)


def state_of_the_node() -> dict[str, list[t.Any]]:
    """Everything that a run could have changed, but for the lock's signature."""
    seen = node.snapshot_as_mounted(KUBERNETES, STATE)
    return {path: entry for path, entry in seen.items() if path not in (LOCK, STATE)}


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("mode", [["--check"], []], ids=["check", "run"])
def test_it_is_refused_before_anything_is_changed(name: str, mode: list[str]) -> None:
    """In both modes: the sentence, and not a file else than before, no run's folder either."""
    which = CONDITIONS[name]
    with condition(which):
        before = state_of_the_node()
        result = node.module("certificate_rotation", WANTED, *mode)
        after = state_of_the_node()
    assert result["failed"], result
    for said in which.says:
        assert re.search(said, result["msg"]), result["msg"]
    assert "Traceback" not in json.dumps(result)
    assert sorted(path for path in {*before, *after} if before.get(path) != after.get(path)) == []


def test_an_immutable_file() -> None:
    """Where the machine allows to make one: only the machine's own root may, not that of a sandbox."""
    file = node.path(f"{PKI}/apiserver.crt")
    made = node.run("chattr", "+i", str(file), check=False)
    if made.returncode:
        pytest.skip(f"chattr +i is not allowed here: {made.stderr.strip()}")
    try:
        before = state_of_the_node()
        results = [node.module("certificate_rotation", WANTED, *mode) for mode in (["--check"], [])]
        assert state_of_the_node() == before
    finally:
        node.run("chattr", "-i", str(file))
    for result in results:
        assert f"Cannot replace {PKI}/apiserver.crt: it is immutable" in result["msg"]


@pytest.fixture(name="conditions")
def fixture_conditions() -> t.Iterator[t.Callable[[str, str], None]]:
    """Sets the node's condition Ready."""

    def ready(status: str, message: str) -> None:
        node.patch_node({"status": {"conditions": [{"type": "Ready", "status": status, "message": message}]}})

    yield ready
    ready("True", "kubelet is posting ready status")


def test_a_node_that_is_not_ready(conditions: t.Callable[[str, str], None]) -> None:
    """The gate says why and refuses; so does the module where nobody asked a gate."""
    conditions("False", "container runtime network not ready")
    before = state_of_the_node()
    forced = node.extra(certs_rotate_force=True, certs_rotate_select="[?name=='admin.conf']", certs_rotate_health_timeout_seconds=0)
    for mode in (["--check"], []):
        done = node.playbook("rotate", *forced, *mode, check=False)
        assert done.returncode == 2
        said = " ".join(done.stdout.split())
        assert "Nothing was changed on sandbox" in said
        assert "node sandbox is not Ready: container runtime network not ready" in said
    alone = node.module("certificate_rotation", {"items": [{"name": "admin.conf"}], "run_id": "refused"})
    assert "Refused, nothing was changed: the node is not healthy (node sandbox is not Ready" in alone["msg"]
    assert state_of_the_node() == before
