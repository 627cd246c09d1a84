# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of plugins/module_utils/_journal.py."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _journal
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Item, Journal, ReplacedFile, StateFolder, Touched
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="state")
def fixture_state(tmp_path: Path) -> StateFolder:
    return StateFolder(str(tmp_path / "certops"))


def journal(run_id: str, number: int = 0, state: str = _journal.COMMITTED, **values: t.Any) -> Journal:
    return Journal(run_id, "h", "2026-11-24T01:%02d:00Z" % number, state, "auto", **values)


def facts(serial: str) -> dict[str, t.Any]:
    return {"subject": "CN=a", "serial": serial, "not_before": None, "not_after": "2027-11-24T01:50:00Z", "fingerprint_sha256": "ab"}


FULL = journal(
    "full",
    finished_at="2026-11-24T01:59:00Z",
    cause="why",
    files=(ReplacedFile("/a", "/b", "0" * 64, "1" * 64, 0o644, 1, 2), ReplacedFile("/c", None, None, "1" * 64, 0o600, 0, 0)),
    items=(Item("apiserver", "renew", facts("1"), facts("2")),),
    components=(Touched("etcd", "restarted", "always", 1.5, None, (1, 2)), Touched("kube-apiserver", "none", "")),
)


def test_a_journal_comes_back_as_it_was(state: StateFolder) -> None:
    state.save(FULL)
    assert state.load("full") == FULL
    assert stat.S_IMODE(os.stat(os.path.join(state.folder("full"), "journal.json")).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(state.path).st_mode) == 0o700


def test_a_path_that_is_not_utf_8_comes_back_as_it_was(state: StateFolder) -> None:
    odd = os.fsdecode(b"/etc/kubernetes/pki-\xe4/a.crt")
    saved = dataclasses.replace(FULL, files=(dataclasses.replace(FULL.files[0], path=odd),))
    state.save(saved)
    assert state.load("full") == saved


def rewrite(state: StateFolder, **changes: t.Any) -> None:
    """Change what the journal of the run `full` says, behind its back."""
    path = os.path.join(state.folder("full"), "journal.json")
    with open(path) as stream:
        document = json.load(stream)
    with open(path, "w") as stream:
        json.dump(dict(document, **changes), stream)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"schema_version": 99}', "\udcff", "[" * 200000, "9" * 5000, "9" * 900_000])
def test_a_damaged_journal_is_said_to_be_so(state: StateFolder, text: str) -> None:
    state.save(FULL)
    path = os.path.join(state.folder("full"), "journal.json")
    with open(path, "wb") as stream:
        stream.write(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CertopsError, match="damaged"):
        state.unfinished()


def test_a_state_of_a_later_version_is_not_guessed(state: StateFolder) -> None:
    state.save(FULL)
    path = os.path.join(state.folder("full"), "journal.json")
    with open(path) as stream:
        document = json.load(stream)
    for key, value in (("state", "dreaming"), ("schema_version", 2), ("files", [{"path": "/a"}]), ("surplus", 1)):
        with open(path, "w") as stream:
            json.dump(dict(document, **{key: value}), stream)
        with pytest.raises(CertopsError, match="damaged"):
            state.load("full")


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        ("", "started_at", 5),
        ("", "started_at", None),
        ("", "host", []),
        ("", "restart", True),
        ("", "cause", {}),
        ("", "schema_version", True),
        ("", "files", {"a": 1}),
        ("files", "path", None),
        ("files", "path", 3),
        ("files", "path", "relative"),
        ("files", "path", "/a\0b"),
        ("files", "backup", "/\ud800"),
        ("files", "sha256_before", 3),
        ("files", "mode", "0644"),
        ("files", "mode", 10**30),
        ("files", "uid", -1),
        ("files", "gid", 2**32 - 1),
        ("files", "mode", 1.5),
        ("items", "name", {}),
        ("items", "before", []),
        ("items", "before", {"serial": "1"}),
        ("items", "after", dict(facts("1"), not_after=7)),
        ("components", "name", []),
        ("components", "away_seconds", "1"),
        ("components", "process", 5),
        ("components", "process", ["1", "2"]),
        ("components", "process", [1, 2, 3]),
        ("components", "process", {}),
        ("components", "process", [True, 2]),
        ("components", "away_seconds", float("nan")),
        ("components", "name", ["x" * 500_000]),
    ],
)
def test_a_value_of_another_kind_is_damage(state: StateFolder, place: str, name: str, value: object) -> None:
    state.save(journal("good", 1))
    state.save(FULL)
    rewrite(state, **(_changed(place, name, value) if place else {name: value}))
    with pytest.raises(CertopsError, match=r"full/journal\.json is damaged") as caught:
        state.journals()
    assert len(str(caught.value)) < 1000


def _changed(place: str, name: str, value: object) -> dict[str, t.Any]:
    entries = json.loads(json.dumps(dataclasses.asdict(FULL)))[place]
    entries[0][name] = value
    return {place: entries}


@pytest.mark.parametrize("run_id", ["../../elsewhere", "good", "", ".", None, 7, ["full"]])
def test_a_journal_that_says_to_be_another_runs_removes_nothing(state: StateFolder, tmp_path: Path, run_id: object) -> None:
    (tmp_path / "elsewhere").mkdir()
    state.save(journal("good", 1))
    state.save(FULL)
    rewrite(state, run_id=run_id)
    with pytest.raises(CertopsError, match=r"full/journal\.json is damaged"):
        state.retain(0)
    assert state.unfinished_run_id() == "full"
    assert sorted(os.listdir(state.runs_path)) == ["full", "good"]
    assert (tmp_path / "elsewhere").is_dir()


def test_runs_are_listed_by_their_time(state: StateFolder) -> None:
    for number, run_id in enumerate(["c", "a", "b"]):
        state.save(journal(run_id, number, _journal.APPLYING if run_id == "b" else _journal.COMMITTED))
    assert [entry.run_id for entry in state.journals()] == ["b", "a", "c"]
    assert [entry.run_id for entry in state.unfinished()] == ["b"]


def test_an_inspection_learns_of_an_unfinished_run(state: StateFolder) -> None:
    assert state.unfinished_run_id() is None
    state.save(journal("good", 1))
    assert state.unfinished_run_id() is None
    state.save(journal("stopped", 2, _journal.APPLYING))
    assert state.unfinished_run_id() == "stopped"
    with open(os.path.join(state.folder("good"), "journal.json"), "w") as stream:
        stream.write("noise")
    assert state.unfinished_run_id() == "good"


def test_the_newest_rotation_is_one_that_replaced_files(state: StateFolder) -> None:
    state.save(journal("good", 1, files=FULL.files))
    state.save(journal("activation", 2))
    state.save(journal("undone", 3, _journal.ROLLED_BACK, files=FULL.files))
    state.save(journal("rollback", 4, files=FULL.files, kind=_journal.ROLLBACK))
    found = state.newest_rotation()
    assert found is not None
    assert found.run_id == "good"


def test_retention_keeps_the_last_good_one_and_what_failed_since(state: StateFolder) -> None:
    for number, (run_id, end) in enumerate(
        [
            ("old", _journal.COMMITTED),
            ("old-failure", _journal.FAILED),
            ("good", _journal.COMMITTED),
            ("failure", _journal.FAILED),
            ("undone", _journal.ROLLED_BACK),
            ("undone-2", _journal.ROLLED_BACK),
        ]
    ):
        state.save(journal(run_id, number, end, files=FULL.files))
    assert state.retain(1) == ["undone", "old-failure", "old"]
    assert [entry.run_id for entry in state.journals()] == ["undone-2", "failure", "good"]
    assert state.retain(10) == []


def test_retention_keeps_what_can_be_gone_back_to(state: StateFolder) -> None:
    state.save(journal("rotation", 1, files=FULL.files))
    state.save(journal("rollback", 2, files=FULL.files, kind=_journal.ROLLBACK))
    for number in range(3, 6):
        state.save(journal("activation-%d" % number, number))
    assert state.retain(1) == ["activation-4", "activation-3"]
    assert [entry.run_id for entry in state.journals()] == ["activation-5", "rollback", "rotation"]


def test_a_folder_without_a_journal_changed_nothing(state: StateFolder) -> None:
    state.save(FULL)
    os.makedirs(os.path.join(state.folder("unborn"), "backup"))
    assert state.discard_unborn() == ["unborn"]
    assert os.listdir(state.runs_path) == ["full"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "-x", "a\n", "a" * 200, "é"])
def test_a_run_id_that_is_no_name(state: StateFolder, name: str) -> None:
    with pytest.raises(CertopsError, match="run id"):
        state.new_run_id(name)


def test_the_lock_names_its_holder_and_is_let_go(state: StateFolder) -> None:
    assert state.holder() is None
    with state.lock("one", 4711, "2026-11-24T01:50:00Z"):
        assert state.holder() == "pid 4711, run one, since 2026-11-24T01:50:00Z"
        with pytest.raises(CertopsError, match="pid 4711, run one"), state.lock("two", 4712, "x"):
            pass
    assert state.holder() is None
    with pytest.raises(ZeroDivisionError), state.lock("one", 1, "x"):
        raise ZeroDivisionError
    with state.lock("two", 4712, "x"):
        pass


def test_a_killed_holder_holds_no_longer(state: StateFolder) -> None:
    pid = os.fork()
    if pid == 0:
        with state.lock("killed", os.getpid(), "x"):
            os._exit(0)
    os.waitpid(pid, 0)
    with state.lock("next", 1, "y"):
        assert state.holder() == "pid 1, run next, since y"


def test_a_lock_that_is_a_link_is_not_followed(state: StateFolder, tmp_path: Path) -> None:
    os.mkdir(state.path)
    (tmp_path / "elsewhere").write_text("untouched")
    os.symlink(str(tmp_path / "elsewhere"), os.path.join(state.path, "lock"))
    with pytest.raises(CertopsError, match="lock"), state.lock("one", 1, "x"):
        pass
    assert (tmp_path / "elsewhere").read_text() == "untouched"
