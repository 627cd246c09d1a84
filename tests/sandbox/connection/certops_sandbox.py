# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible's way into a sandbox node: commands and files go through `sandbox exec`, as they would through SSH on a real node."""

from __future__ import annotations

import importlib.util
import subprocess
import typing as t
from importlib.machinery import SourceFileLoader
from pathlib import Path

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = r"""
name: certops_sandbox
short_description: Run tasks on a sandbox node of the tests
description: Enters the namespaces of a node that C(tests/sandbox/sandbox up) has started. Only for tests and demonstrations.
author: certops.kubernetes contributors (@certops)
options:
  sandbox_dir:
    description: The directory that was given to C(sandbox up --dir).
    type: path
    required: true
    vars:
      - name: ansible_sandbox_dir
"""

_SCRIPT = Path(__file__).resolve().parent.parent / "sandbox.py"


def _load_sandbox_command() -> t.Any:
    loader = SourceFileLoader("certops_sandbox_command", str(_SCRIPT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    if spec is None:
        raise ImportError("cannot load %s" % _SCRIPT)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


_command = _load_sandbox_command()


class Connection(ConnectionBase):
    """A connection into a sandbox node."""

    transport = "certops_sandbox"
    has_pipelining = True
    become_methods: t.ClassVar[list[str]] = []

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def _run(self, command: list[str], in_data: bytes | None) -> tuple[int, bytes, bytes]:
        try:
            prefix = _command.Sandbox(Path(self.get_option("sandbox_dir"))).command()
        except _command.SandboxError as exc:
            raise AnsibleConnectionFailure(str(exc)) from exc
        # nsenter cannot tell its own failure from the command's, so the node's absence is looked for before
        done = subprocess.run([*prefix, *command], input=in_data or b"", capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._run(["/bin/sh", "-c", cmd], in_data)

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        self._must_run(["/bin/sh", "-c", 'cat >"$0"', out_path], Path(in_path).read_bytes())

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        Path(out_path).write_bytes(self._must_run(["cat", in_path], None))

    def _must_run(self, command: list[str], in_data: bytes | None) -> bytes:
        status, output, errors = self._run(command, in_data)
        if status:
            raise AnsibleConnectionFailure("%s failed on the sandbox: %s" % (command, errors.decode(errors="replace")))
        return output

    def close(self) -> None:
        self._connected = False
