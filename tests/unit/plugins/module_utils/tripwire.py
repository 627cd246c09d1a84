# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that ends at one of the calls by which it changes something."""

from __future__ import annotations

import os
import stat
import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Item
from ansible_collections.certops.kubernetes.plugins.module_utils._proof import disk_problem
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import Request, rotate
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import (
    LIMITS,
    NAMES,
    FakeNode,
    Killed,
)

if t.TYPE_CHECKING:
    pass

CHANGING = (
    "write",
    "pwrite",
    "ftruncate",
    "fsync",
    "fchmod",
    "fchown",
    "chmod",
    "replace",
    "rename",
    "unlink",
    "mkdir",
    "rmdir",
    "setxattr",
)


class Tripwire:
    """Counts the calls that change something; at one of them, `strike` decides what happens."""

    def __init__(self, node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
        self.node = node
        self.calls: list[str] = []
        self.strike: t.Callable[[int], None] = lambda _number: None
        self.after_each: t.Callable[[], None] = lambda: None
        for name in CHANGING:
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))
        monkeypatch.setattr(os, "open", self._watched_open(os.open))
        monkeypatch.setattr(node, "restart", self._watched_restart(node.restart))

    def _watched(self, name: str, real: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        def call(*args: t.Any, **kwargs: t.Any) -> t.Any:
            self._count("%s %s" % (name, args[-1] if isinstance(args[-1], str) else ""))
            result = real(*args, **kwargs)
            self.after_each()
            return result

        return call

    def _watched_open(self, real: t.Callable[..., int]) -> t.Callable[..., int]:
        def call(path: t.Any, flags: int, *args: t.Any, **kwargs: t.Any) -> int:
            if flags & os.O_CREAT:
                self._count("open %s" % path)
            return real(path, flags, *args, **kwargs)

        return call

    def _watched_restart(self, real: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        def call(found: t.Any, component: str, meanwhile: t.Callable[[], object] | None = None) -> t.Any:
            self._count("stop %s" % component)
            result = real(found, component, meanwhile)
            self._count("started %s" % component)
            return result

        return call

    def _count(self, call: str) -> None:
        self.calls.append(call)
        self.strike(len(self.calls))


def assert_secret(node: FakeNode) -> None:
    """Keys keep their modes; what the run makes itself is its own alone."""
    for folder, folders, files in os.walk(str(node.root)):
        private = folder.startswith(node.state.path)
        for name in files:
            mode = stat.S_IMODE(os.lstat(os.path.join(folder, name)).st_mode)
            assert not mode & 0o007 or name.endswith((".crt", ".crt.certops-new")), name
            assert not (private and mode & 0o077), name
        for name in folders:
            assert not (private and stat.S_IMODE(os.lstat(os.path.join(folder, name)).st_mode) & 0o077), name


def killed_from(number: int) -> t.Callable[[int], None]:
    """Nothing happens from this call on: the process is dead, its own cleaning up included."""

    def strike(now: int) -> None:
        if now >= number:
            raise Killed

    return strike


def failing(number: int, error: int, lasting: bool) -> t.Callable[[int], None]:
    def strike(now: int) -> None:
        if now == number or (lasting and now > number):
            raise OSError(error, os.strerror(error))

    return strike


def attempt(node: FakeNode, items: t.Any, **options: t.Any) -> dict[str, t.Any]:
    return rotate(node.access(), node.state, Request("run", items, health_seconds=1.0, **options), LIMITS)


def assert_good(node: FakeNode) -> None:
    found = node.discover()
    for name in NAMES:
        assert disk_problem(found, Item(name, "renew", {}, {}), node.on_disk(name)) is None
        assert "false" not in node.reader_states(name)
    assert not [path for path in node.tree() if "certops" in path]
    assert node.state.unfinished() == []
    assert set(node.processes) == set(node.discover().components)
