# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No private key of the node in anything that a rotation says or keeps outside the key files themselves."""

from __future__ import annotations

import base64
import json
import re

import cluster
import pytest

COLLECT = "for f in $(find /etc/kubernetes /var/lib/kubelet/pki /var/lib/certops -type f); do cat $f; echo; done"
KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----\n?", re.DOTALL)
NO_RESTART = "[?name!='controller-manager.conf' && name!='scheduler.conf']"


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """Everything that a forced rotation with `-vvv --diff` says, and all that it leaves but key files and backups."""
    force = ["-e", json.dumps({"certs_rotate_force": True, "certs_rotate_select": NO_RESTART}), "-vvv", "--diff"]
    before = keys()
    done = cluster.playbook("rotate", *force)
    assert len(keys() - before) >= 9, "the forced rotation made new keys"
    journals = cluster.on_node("sh", "-c", "cat /var/lib/certops/runs/*/journal.json")
    reports = "\n".join(path.read_text() for path in cluster.REPORTS.rglob("*") if path.is_file())
    processes = cluster.on_node("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    return {"output": done.stdout + done.stderr, "journals": journals, "reports": reports, "processes": processes}


def keys() -> set[str]:
    """Every private key of the node, old and new, as PEM."""
    content = cluster.on_node("sh", "-c", COLLECT)
    embedded = [base64.b64decode(data).decode() for data in re.findall(r"client-key-data: (\S+)", content)]
    return set(KEY.findall("\n".join([content, *embedded])))


def fragments(key: str) -> set[str]:
    """What would show a key: its lines, and the PEM in base64 as kubeconfigs embed it."""
    lines = [line for line in key.splitlines() if len(line) >= 40 and "-----" not in line]
    whole = base64.b64encode(key.encode()).decode()
    return {*lines, *(whole[at : at + 60] for at in range(60, len(whole) - 60, 60))}


@pytest.mark.parametrize("where", ["output", "journals", "reports", "processes"])
def test_no_fragment_of_a_key(said: dict[str, str], where: str) -> None:
    """Each line of each key, also in base64."""
    assert len(said[where]) > 200
    everything = said[where].replace("\\n", "\n")
    leaked = [key.splitlines()[0] for key in keys() if any(fragment in everything for fragment in fragments(key))]
    assert leaked == []


def test_the_diff_shows_what_a_person_wants_to_know(said: dict[str, str]) -> None:
    """Subject, serial, validity and fingerprint, before and after."""
    for word in ("subject", "serial", "not_after", "fingerprint"):
        assert re.search(rf"^[-+ ].*{word}", said["output"], re.MULTILINE), word


def test_backups_and_keys_are_only_roots() -> None:
    """Nothing under /var/lib/certops is open to others."""
    assert cluster.on_node("find", "/var/lib/certops", "-perm", "/077") == ""
