# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a controller sees of a change that goes on in a node's background."""

from __future__ import annotations

import pathlib
import re

import pytest

pytest.importorskip("ansible.cli", reason="playbooks run on a controller; this Python has no ansible-core")

from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import Controller, authority, reader, record

ROTATE = "certops.kubernetes.rotate"
ENDED = "The process that changed this node has ended without a result"


@pytest.fixture(name="controller")
def fixture_controller(tmp_path: pathlib.Path) -> Controller:
    """A controller with one node that is not due."""
    made = Controller(tmp_path)
    made.node("node2", [record("apiserver", 300, readers=[reader("kube-apiserver")]), authority()])
    return made


def due() -> list[dict[str, object]]:
    return [record("apiserver", 10, readers=[reader("kube-apiserver")]), authority()]


def test_a_connection_that_is_lost_for_a_moment_is_no_failure(controller: Controller) -> None:
    """Each attempt is said; the result is that of the module, and nothing of it is left in the background's folder."""
    controller.node("node1", due(), away_attempts=3)
    done = controller.play(ROTATE, "--diff")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "node1 cannot be reached, for " in done.stdout
    assert " of 60 s: the node is gone" in done.stdout
    assert controller.report()["run"]["nodes"]["node1"]["state"] == "done"
    result = controller.report()["results"]["node1"]
    assert "kube-scheduler" in str(result)
    assert not {"ansible_job_id", "results_file", "finished"} & set(result)
    assert list((controller.folder / "async").iterdir()) == []


def test_a_connection_that_stays_lost_ends_the_run(controller: Controller) -> None:
    """After the time that a check may take to be well, and not after that of the change."""
    controller.node("node1", due(), away_attempts=10000)
    done = controller.play(ROTATE, certs_rotate_health_timeout_seconds=2)
    (controller.folder / "node1.gone").unlink()  # there still is what waits for it to come back
    assert done.returncode == 2, done.stdout
    said = " ".join(done.stdout.split())
    assert "node1 was lost during its change, which goes on there without us" in said
    assert "it could not be reached for" in said
    assert controller.report()["run"]["nodes"]["node1"]["state"] == "failed"


@pytest.mark.parametrize("killed", ["process", "group"])
def test_a_change_that_is_killed_is_not_waited_for(controller: Controller, killed: str) -> None:
    """By the system when memory is short, or with its whole node: a sentence, and what to do."""
    controller.node("node1", due(), killed=killed)
    done = controller.play(ROTATE)
    assert done.returncode == 2, done.stdout
    assert ENDED in done.stdout
    assert "Run the playbook again" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_long_change_says_that_it_goes_on(controller: Controller) -> None:
    """Every quarter of a minute, with how long it takes by now."""
    controller.node("node1", due(), outlasts_doubt=True)
    done = controller.play(ROTATE)
    assert done.returncode == 0, done.stdout + done.stderr
    seconds = [int(said) for said in re.findall(r"node1 is being changed, (\d+) s by now", done.stdout)]
    assert len(seconds) >= 1
    assert seconds[0] >= 15
    assert "cannot be reached" not in done.stdout
