# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the running kubelet has the client certificate that lies on disk: by its age, by what we wrote, by its own word."""

from __future__ import annotations

import dataclasses
import os
import typing as t
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._files import sha256
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Journal, ReplacedFile, StateFolder
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_use import End, kubelet_readers, kubelet_to_ask, parsed_end
from ansible_collections.certops.kubernetes.plugins.module_utils._material import read_material
from ansible_collections.certops.kubernetes.plugins.module_utils._model import (
    CertopsError,
    Component,
    Credential,
    Node,
    Process,
    Reader,
    ReaderSpec,
    Record,
)
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki

if t.TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(timezone.utc)
END = NOW.replace(microsecond=0) + timedelta(days=10)
BEFORE, AFTER = timedelta(hours=-1), timedelta(hours=1)
NOTHING = ("unknown", "none")
AGE, WORD = "process_age", "metrics"


class Kubelet:
    """A kubelet's folder with a certificate that was written now."""

    def __init__(self, root: Path, end: datetime = END, ca_end: datetime | None = None, rotated: bool = True, kind: str = "pair") -> None:
        self.root, self.rotated, self.kind = root, rotated, kind
        self.ca = pki.make_ca(not_after=ca_end) if ca_end else pki.make_ca()
        pair = pki.make_leaf(self.ca, "system:node:n1", not_before=NOW - timedelta(days=20), not_after=end)
        self.target = root / "kubelet-client-2026-01-02-03-04-05.pem"
        self.target.write_bytes(pair.cert_pem + pair.key_pem)
        self.link = root / "kubelet-client-current.pem"
        self.link.symlink_to(self.target)
        self.conf, self.config = root / "kubelet.conf", root / "config.yaml"
        self.conf.write_text("x")
        self.config.write_text("x")
        (root / "ca.crt").write_bytes(self.ca.cert_pem)
        self.state = StateFolder(str(root / "state"))
        self.asked = 0

    def journal(self, path: Path, content: bytes) -> None:
        """A run of ours wrote this."""
        file = ReplacedFile(str(path), None, None, sha256(content), 0o600, 0, 0)
        self.state.save(Journal("run", "h", "2026-01-01T00:00:00Z", "committed", "never", files=(file,)))

    def node(self, started: timedelta) -> Node:
        """A node whose kubelet was started so long after (or before) now."""
        flags: dict[str, tuple[str, ...]] = {"cert-dir": (str(self.root),), "kubeconfig": (str(self.conf),), "config": (str(self.config),)}
        process = Process(4711, 1, ("kubelet",), NOW + started)
        path = str(self.link)
        specs = (ReaderSpec("kubelet", "self"),)
        client = Credential(
            "kubelet-client", self.kind, path, path, "client", "kubelet", "ca", readers=specs, managed_by="kubelet", rotated=self.rotated
        )
        return Node("n1", None, str(self.root), {"kubelet": Component("kubelet", flags, process=process)}, {client.name: client})

    def known(self, started: timedelta, told: End | str = "nobody to ask") -> tuple[str, str]:
        """What is known of that kubelet."""
        node = self.node(started)
        client = node.credentials["kubelet-client"]
        authority = Credential("ca", "ca", str(self.root / "ca.crt"), None, "ca", "kubelet")

        def ask(_node: Node) -> End:
            self.asked += 1
            if isinstance(told, str):
                raise CertopsError(told)
            return told

        materials = {client.name: read_material(client), "ca": read_material(authority)}
        (reader,) = kubelet_readers((Reader("kubelet", "self", *NOTHING),), client, node, materials, self.state, ask)
        return reader.in_use, reader.proof


def ends(at: datetime) -> End:
    return at - timedelta(seconds=2), at + timedelta(seconds=2)


def test_one_that_started_later_has_read_it_and_is_not_asked(tmp_path: Path) -> None:
    kubelet = Kubelet(tmp_path)
    assert kubelet.known(AFTER) == ("true", AGE)
    assert kubelet.asked == 0


def test_one_that_started_before_and_tells_nothing_is_unknown(tmp_path: Path) -> None:
    kubelet = Kubelet(tmp_path)
    assert kubelet.known(BEFORE) == NOTHING
    assert kubelet.asked == 1


def test_one_that_tells_the_same_end_has_it(tmp_path: Path) -> None:
    """It has renewed it by itself, since it started."""
    assert Kubelet(tmp_path).known(BEFORE, ends(END)) == ("true", WORD)


@pytest.mark.parametrize("told", [ends(END - timedelta(days=3)), ends(END + timedelta(seconds=5)), None])
def test_one_that_tells_another_end_or_none_has_it_not(tmp_path: Path, told: End) -> None:
    assert Kubelet(tmp_path).known(BEFORE, told) == ("false", WORD)


def test_the_end_of_the_ca_is_the_end_of_many(tmp_path: Path) -> None:
    assert Kubelet(tmp_path, ca_end=END).known(BEFORE, ends(END)) == NOTHING


def test_one_that_had_expired_when_it_started_is_not_taken(tmp_path: Path) -> None:
    assert Kubelet(tmp_path, end=NOW - timedelta(hours=2)).known(AFTER) == NOTHING


def test_what_a_run_of_ours_wrote_since_it_started_it_has_not(tmp_path: Path) -> None:
    kubelet = Kubelet(tmp_path)
    kubelet.journal(kubelet.target, kubelet.target.read_bytes())
    assert known_by_age_alone(kubelet) == ("false", AGE)
    assert kubelet.asked == 0


def test_what_has_become_of_our_file_since_is_not_ours(tmp_path: Path) -> None:
    kubelet = Kubelet(tmp_path)
    kubelet.journal(kubelet.target, b"something else")
    assert known_by_age_alone(kubelet) == NOTHING


def test_a_link_that_is_put_back_to_what_it_had_proves_nothing(tmp_path: Path) -> None:
    """A rollback without a restart: it may have had that one all the time."""
    kubelet = Kubelet(tmp_path)
    kubelet.journal(kubelet.target, kubelet.target.read_bytes())
    os.utime(kubelet.target, (1, 1))
    assert known_by_age_alone(kubelet) == NOTHING


def known_by_age_alone(kubelet: Kubelet) -> tuple[str, str]:
    """Of one that was configured long before it started: of that, a test can only leave out the file."""
    kubelet.config.unlink()
    return kubelet.known(BEFORE)


def test_how_one_was_configured_when_it_started_must_be_known(tmp_path: Path) -> None:
    kubelet = Kubelet(tmp_path)
    kubelet.journal(kubelet.target, kubelet.target.read_bytes())
    assert kubelet.known(BEFORE) == NOTHING


def test_without_rotation_it_follows_its_files_and_is_never_said_to_have_older_ones(tmp_path: Path) -> None:
    kubelet = Kubelet(tmp_path, rotated=False)
    assert kubelet.known(AFTER) == ("true", AGE)
    kubelet.journal(kubelet.target, kubelet.target.read_bytes())
    assert known_by_age_alone(kubelet) == NOTHING
    assert kubelet.asked == 0


def test_a_damaged_journal_is_not_believed(tmp_path: Path) -> None:
    kubelet = Kubelet(tmp_path)
    kubelet.journal(kubelet.target, kubelet.target.read_bytes())
    (tmp_path / "state" / "runs" / "run" / "journal.json").write_text("{")
    assert known_by_age_alone(kubelet) == NOTHING


@pytest.mark.parametrize("text", ["863791", "8.63791e+05"])
def test_the_metric_tells_the_end(text: str) -> None:
    told = parsed_end(b"# HELP x\nkubelet_certificate_manager_client_ttl_seconds %s\nother 1\n" % text.encode(), NOW, NOW)
    assert told is not None
    assert told[0] < NOW + timedelta(seconds=863791) < told[1]


def test_a_kubelet_without_a_certificate_says_so() -> None:
    assert parsed_end(b"kubelet_certificate_manager_client_ttl_seconds +Inf\n", NOW, NOW) is None


@pytest.mark.parametrize("value", [None, "NaN", "1e300", "x", "-Inf"])
def test_metrics_that_do_not_tell_it(value: str | None) -> None:
    text = "x 1\n" if value is None else "kubelet_certificate_manager_client_ttl_seconds %s\n" % value
    with pytest.raises(CertopsError, match="do not tell"):
        parsed_end(text.encode(), NOW, NOW)


def to_ask(folder: Kubelet, component: Component | None = None, in_use: str = "unknown") -> str | None:
    """What the node says that its kubelet has to be asked about."""
    node = folder.node(BEFORE)
    if component is not None:
        node.components[component.name] = component
    values: dict[str, t.Any] = {field.name: None for field in dataclasses.fields(Record)}
    values.update(name="kubelet-client", not_after="2027-01-01T00:00:00Z", readers=(Reader("kubelet", "self", in_use, "none"),))
    return kubelet_to_ask(node, [Record(**values)])


def test_a_worker_that_cannot_tell_says_so(tmp_path: Path) -> None:
    assert to_ask(Kubelet(tmp_path)) == "kubelet-client"


def test_nobody_is_asked_for_what_is_known_or_cannot_be_told(tmp_path: Path) -> None:
    """One with an API server has asked; one that does not rotate, or whose kubeconfig names another file, tells of something else."""
    kubelet = Kubelet(tmp_path)
    assert to_ask(kubelet, in_use="true") is None
    assert to_ask(kubelet, Component("kube-apiserver", {})) is None
    assert to_ask(kubelet, Component("kubelet", {"cert-dir": (str(tmp_path),)})) is None, "it does not run"
    process = Process(1, 1, ("kubelet",), NOW)
    assert to_ask(kubelet, Component("kubelet", {"cert-dir": (str(tmp_path / "other"),)}, process=process)) is None
    kubelet.rotated = False
    assert to_ask(kubelet) is None
