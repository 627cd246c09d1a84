# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Garbage where a certificate should be is a finding on that item: never a failed task, never a traceback."""

from __future__ import annotations

import typing as t

import node
import pytest

PKI = "/etc/kubernetes/pki/"
NOISE = bytes(range(256)) * 41_000  # 10 MB


def write(content: bytes) -> t.Callable[[str], None]:
    """Spoil a file by writing something else into it."""
    return lambda name: (node.path(name).write_bytes(content), None)[1]


def directory_instead(name: str) -> None:
    """Spoil a file by putting a directory in its place."""
    node.path(name).mkdir()


def truncated(name: str) -> None:
    """Half of a PEM block."""
    content = (node.path(name).parent / "ca.crt").read_bytes()
    node.path(name).write_bytes(content[: len(content) // 2])


# None: the file is taken away; else it is taken away first and then spoilt.
GARBAGE: dict[str, t.Callable[[str], None] | None] = {
    PKI + "apiserver.crt": write(b""),
    PKI + "apiserver-kubelet-client.crt": truncated,
    PKI + "front-proxy-client.crt": write(NOISE),
    PKI + "apiserver-etcd-client.crt": directory_instead,
    PKI + "etcd/healthcheck-client.crt": None,
    PKI + "etcd/peer.key": write(b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"),
    "/etc/kubernetes/admin.conf": write(b"\xff\xfe\x00garbage"),
    "/etc/kubernetes/super-admin.conf": write(b"a: &a [x]\nb: *a\nusers: 7\n"),
    "/etc/kubernetes/scheduler.conf": write(b'{"users": [{"name": "x"}]}'),
}
EXPECTED = {
    "apiserver",
    "apiserver-kubelet-client",
    "front-proxy-client",
    "apiserver-etcd-client",
    "etcd/healthcheck-client",
    "etcd/peer",
    "admin.conf",
    "super-admin.conf",
    "scheduler.conf",
}


@pytest.fixture(scope="module")
def inspection() -> t.Iterator[tuple[int, str, dict[str, t.Any]]]:
    """An inspection of the spoilt node: exit status, output, report. Afterwards everything is as it was."""
    for name, spoil in GARBAGE.items():
        node.path(name).rename(node.path(name + ".kept"))
        if spoil:
            spoil(name)
    try:
        done = node.playbook("inspect", check=False)
        yield done.returncode, done.stdout + done.stderr, node.newest_report("inspect")
    finally:
        for name in GARBAGE:
            spoilt = node.path(name)
            spoilt.rmdir() if spoilt.is_dir() else spoilt.unlink(missing_ok=True)
            node.path(name + ".kept").rename(spoilt)


def test_the_inspection_succeeds(inspection: tuple[int, str, dict[str, t.Any]]) -> None:
    """No failed task, no traceback."""
    status, output, _report = inspection
    assert status == 0, output[-3000:]
    assert "Traceback" not in output


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_there_is_a_finding_on_the_item(inspection: tuple[int, str, dict[str, t.Any]], name: str) -> None:
    """With words for what is wrong and what to do."""
    records = {record["name"]: record for record in inspection[2]["records"]}
    findings = [finding for finding in records[name]["findings"] if finding["severity"] in ("warning", "critical")]
    assert findings, records[name]
    assert all(finding["message"] and finding["remedy"] for finding in findings)


def test_the_rest_is_inspected_all_the_same(inspection: tuple[int, str, dict[str, t.Any]]) -> None:
    """Neighbours of garbage are seen as before."""
    records = {record["name"]: record for record in inspection[2]["records"]}
    assert records["etcd/server"]["status"] == "ok"
    assert records["controller-manager.conf"]["status"] == "ok"
