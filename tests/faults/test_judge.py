# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The judge finds everything that may be wrong with a node: what it calls good is good."""

from __future__ import annotations

import base64
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import judge
import pytest
from durability import undurable
from judge import PKI, STATE, File, Files
from worker import Strike, Watch, exposure

TREE = Path(__file__).resolve().parents[1] / "sandbox" / "node_tree.py"
KEY, CERTIFICATE = PKI + "apiserver.key", PKI + "apiserver.crt"


@pytest.fixture(scope="module", name="nodes")
def fixture_nodes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Files, Files]:
    """Two nodes with other keys."""
    roots = [tmp_path_factory.mktemp("node") for _number in range(2)]
    for root in roots:
        subprocess.run([sys.executable, str(TREE), str(root), "sandbox", "10.0.0.1", "10", "3640", "ec"], check=True)
    first, second = (judge.read_node(root) for root in roots)
    return first, second


@pytest.fixture(name="good")
def fixture_good(nodes: tuple[Files, Files]) -> Files:
    """A node that is well."""
    return dict(nodes[0])


def problems(files: Files, good: Files) -> list[str]:
    """What does not fit together, with the good node's server."""
    return judge.inconsistent(files, judge.identity_of(good, "apiserver"))


def test_a_good_node_is_called_good(good: Files) -> None:
    """Otherwise the rest proves nothing."""
    assert problems(good, good) == []
    assert judge.exposed(good) == []
    assert judge.leftovers(good, good) == []


@pytest.mark.parametrize("path", [path for name in (*judge.NAMES, judge.KUBELET) for path in judge.files_of(name)])
def test_each_foreign_file_is_noticed(nodes: tuple[Files, Files], good: Files, path: str) -> None:
    """A key or a certificate of another node in the file's place; a kubeconfig with everything of another node's but its CA."""
    foreign = nodes[1][path]
    if path.endswith(".conf"):
        name = path.rpartition("/")[2]
        ours = judge.identity_of(good, name)
        theirs = judge.identity_of(nodes[1], name)
        data = (foreign.data or b"").replace(base64.b64encode(theirs.authority), base64.b64encode(ours.authority))
        foreign = dataclasses.replace(foreign, data=data)
    assert problems({**good, path: foreign}, good)


@pytest.mark.parametrize("data", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None])
@pytest.mark.parametrize("path", [KEY, CERTIFICATE, judge.KUBERNETES + "scheduler.conf"])
def test_garbage_and_halves_are_noticed(good: Files, path: str, data: bytes | None) -> None:
    """An empty file, PEM of nothing, a directory; and half of what was there."""
    for spoilt in (data, (good[path].data or b"")[:100]):
        assert problems({**good, path: dataclasses.replace(good[path], data=spoilt)}, good)
    assert problems({name: file for name, file in good.items() if name != path}, good)


def test_a_server_certificate_where_a_client_is_asked_for_is_noticed(good: Files) -> None:
    """Purpose is checked too."""
    client = {".key": PKI + "apiserver-kubelet-client.key", ".crt": PKI + "apiserver-kubelet-client.crt"}
    spoilt = {**good, client[".key"]: good[KEY], client[".crt"]: good[CERTIFICATE]}
    assert [problem.partition(":")[0] for problem in problems(spoilt, good)] == ["apiserver-kubelet-client"]


def test_what_others_may_read_is_noticed(good: Files) -> None:
    """A key, a kubeconfig, any file of ours and its folder; a certificate may be read."""
    state = {STATE + "runs": File(0o755, (0, 0), None), STATE + "lock": File(0o640, (0, 0), b"")}
    for path in (KEY, judge.KUBERNETES + "admin.conf", *state):
        files = {**good, **state}
        files = {name: dataclasses.replace(file, mode=0o700 if name in state else file.mode) for name, file in files.items()}
        assert judge.exposed(files) == []
        assert judge.exposed({**files, path: dataclasses.replace(files[path], mode=0o604)})
    copy = {"/tmp/copy": File(0o644, (0, 0), b"x" + (good[KEY].data or b""))}
    assert judge.exposed({**good, **copy})


def test_what_was_left_lying_is_noticed(good: Files) -> None:
    """Temporary files, and whatever else does not belong there; a run's folder does."""
    run = {STATE + "runs/a": None, STATE + "runs/a/journal.json": b"{}", STATE + "runs/a/backup/etc/x": b"", STATE + "lock": b""}
    files = {**good, **{path: File(0o600, (0, 0), data) for path, data in run.items()}}
    assert judge.leftovers(files, good) == []
    for path in (PKI + ".apiserver.key.certops-new", PKI + "x", STATE + "runs/a/.journal.json.certops-new", STATE + "y", "/tmp/z"):
        assert judge.leftovers({**files, path: File(0o600, (0, 0), b"")}, good) == [path]


def test_changes_are_noticed(good: Files) -> None:
    """Content, mode, owner, and a file that came or went."""
    other = {**good, KEY: dataclasses.replace(good[KEY], mode=0o640)}
    assert judge.differences(other, good) == judge.other_modes(other, good) == [KEY]
    assert judge.other_modes({**good, KEY: dataclasses.replace(good[KEY], owner=(1, 0))}, good) == [KEY]
    assert judge.differences({**good, KEY: dataclasses.replace(good[KEY], data=b"")}, good) == [KEY]
    assert judge.differences({**good, PKI + "x": good[KEY]}, good) == [PKI + "x"]
    assert judge.differences({**good, PKI + "x": good[KEY]}, good, but={PKI + "x"}) == []


def test_what_is_as_before_is_so_in_everything_but_the_lock(good: Files) -> None:
    """A run that was stopped before its first change has signed it."""
    lock, journal = STATE + "lock", STATE + "runs/a/journal.json"
    before = {**good, lock: File(0o600, (0, 0), b""), journal: File(0o600, (0, 0), b"{}")}
    assert judge.same({**before, lock: File(0o600, (0, 0), b"pid 7")}, before)
    assert not judge.same({**before, journal: File(0o600, (0, 0), b"[]")}, before)
    assert not judge.same({path: file for path, file in before.items() if path != journal}, before)
    assert not judge.same(before, good)


def test_a_lost_backup_and_an_unfinished_run_are_noticed(good: Files) -> None:
    """By the journal's own words."""
    backup = STATE + "runs/a/backup" + KEY
    journal = {
        "run_id": "a",
        "started_at": "",
        "state": "committed",
        "files": [{"backup": backup, "sha256_before": judge._sha256(good[KEY])}],
    }

    def node(state: str, data: bytes | None) -> Files:
        text = json.dumps({**journal, "state": state}).encode()
        return {**good, STATE + "runs/a/journal.json": File(0o600, (0, 0), text), backup: File(0o600, (0, 0), data)}

    well = node("committed", good[KEY].data)
    assert (judge.lost_backups(well), judge.unfinished(well)) == ([], [])
    assert judge.lost_backups(node("committed", b"")) == [backup]
    assert judge.lost_backups({path: file for path, file in well.items() if path != backup}) == [backup]
    assert judge.unfinished(node("applying", good[KEY].data)) == ["a"]


def test_what_is_not_synced_in_time_is_noticed() -> None:
    """A step may begin when the one before is on disk."""
    replaced = ["openat /a/.b#1", "write /a/.b#1", "fchmod /a/.b#1", "fsync /a/.b#1", "rename /a/.b /a/b#1", "fsync /a#1"]
    copied = ["mkdir /a/c#1", "chmod /a/c#1", "fsync /a#2", "openat /a/c/d#1", "write /a/c/d#1", "fsync /a/c/d#1", "fsync /a/c#1"]
    whole = [*replaced, *copied, "unlink /a/e#1"]
    assert undurable(whole, ()) == []
    for place, call in enumerate(whole):
        if call.startswith("fsync"):
            assert undurable(whole[:place] + whole[place + 1 :], ()), call
    assert undurable(["mkdir /a#1", "unlink /b#1"], ["/a"]) == []


@pytest.mark.parametrize(
    ("mode", "content", "found"), [(0o600, b"PRIVATE KEY", False), (0o604, b"PRIVATE KEY", True), (0o644, b"x", False)]
)
def test_the_watch_on_the_node_sees_what_others_may_read(tmp_path: Path, mode: int, content: bytes, found: bool) -> None:
    """It looks at each file right after the call that touched it."""
    path = tmp_path / "file"
    path.write_bytes(content)
    path.chmod(mode)
    assert bool(exposure(str(path))) == found
    watch = Watch([Strike("nothing", 1)], calls=["fchmod"], _touched=(str(path),))
    watch.look()
    assert bool(watch.exposed) == found
