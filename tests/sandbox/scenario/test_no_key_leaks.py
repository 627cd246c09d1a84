# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No private key of the node in anything that a rotation says or keeps outside the key files themselves."""

from __future__ import annotations

import base64

import node
import pytest


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """Everything that a forced rotation with `-vvv --diff` says, and all that it leaves but key files and backups."""
    before = node.private_keys()
    done = node.playbook("rotate", "-vvv", "--diff", *node.extra(certs_rotate_force=True))
    assert len(node.private_keys() - before) == len(node.PAIRS) + len(node.KUBECONFIGS) + 1, "the forced rotation made new keys"
    journals = "\n".join(file.read_text() for file in node.path("/var/lib/certops").rglob("*.json"))
    reports = "\n".join(file.read_text() for file in node.REPORTS.rglob("*") if file.is_file())
    processes = node.on_node("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    ansible = "\n".join(file.read_text(errors="replace") for file in node.path("/root").rglob("*") if file.is_file())
    return {"output": done.stdout + done.stderr, "journals": journals, "reports": reports, "processes": processes, "ansible": ansible}


def fragments(key: str) -> set[str]:
    """What would show a key: its lines, and the PEM in base64 at each of the three ways it may be shifted."""
    lines = {line for line in key.splitlines() if len(line) >= 40 and "-----" not in line}
    shifted = [base64.b64encode(b"\0" * shift + key.encode()).decode() for shift in range(3)]
    return lines | {whole[at : at + 40] for whole in shifted for at in range(60, len(whole) - 60, 40)}


@pytest.mark.parametrize("where", ["output", "journals", "reports", "processes", "ansible"])
def test_no_fragment_of_a_key(said: dict[str, str], where: str) -> None:
    """Each line of each key, old and new, also in base64."""
    everything = said[where].replace("\\n", "\n")
    assert everything or where == "ansible", "Ansible clears up behind itself, the others leave something"
    leaked = [key.splitlines()[0] for key in node.private_keys() if any(fragment in everything for fragment in fragments(key))]
    assert leaked == []


def test_the_search_would_find_a_key() -> None:
    """Proof that the test above can fail."""
    key = sorted(node.private_keys())[0]
    embedded = base64.b64encode(("x" + key).encode()).decode()
    assert any(fragment in embedded for fragment in fragments(key))
    assert any(fragment in key for fragment in fragments(key))
