# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._run_holder import controller_process, holder_has_ended, run_holder

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/ns/pid"), reason="only where there is a /proc with namespaces")
RUN = {"id": "run-1", "started_at": "2026-11-24T01:50:00Z"}


def test_a_holder_says_who_and_from_where() -> None:
    holder = run_holder(RUN, "rotate", 4711, "ada")
    assert (holder["run_id"], holder["since"], holder["playbook"]) == ("run-1", "2026-11-24T01:50:00Z", "rotate")
    assert (holder["job_id"], holder["user"], holder["controller"]) == ("4711", "ada", os.uname().nodename)
    assert run_holder(RUN, "rotate", "", None)["user"]


def test_a_run_that_goes_on_has_not_ended() -> None:
    assert not holder_has_ended(run_holder(RUN, "rotate"))


def test_a_process_that_is_gone_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        holder = {"process": controller_process(pid=process.pid)}
        assert not holder_has_ended(holder)
        process.kill()
        process.wait()
    assert holder_has_ended(holder)


def test_a_later_process_with_the_same_number_is_another_one() -> None:
    boot, namespace, pid, start = controller_process().split(":")
    assert holder_has_ended({"process": ":".join([boot, namespace, pid, str(int(start) - 1)])})


@pytest.mark.parametrize("change", [0, 1])
def test_of_another_machine_or_container_nothing_is_known(change: int) -> None:
    parts = controller_process(pid=1).split(":")
    parts[change], parts[3] = "another", "1"
    assert not holder_has_ended({"process": ":".join(parts)})


@pytest.mark.parametrize("holder", [{}, {"process": None}, {"process": "x"}, {"process": "a:b:c:d"}, {"process": 7}])
def test_of_garbage_nothing_is_known(holder: dict[str, t.Any]) -> None:
    assert not holder_has_ended(holder)


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    assert controller_process(str(tmp_path)) == ""
    assert not holder_has_ended({"process": controller_process()}, str(tmp_path))
