# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A connection to a node of JSON that can be lost: to this very machine, unless a file says that the node is gone.

Each attempt to reach a node that is gone makes its file longer by a byte. Once a controller that doubts whether a change still goes on has
been told that it does, there is a file NODE.told. What stands in for a module waits for both, so that no test depends on how fast this is.
"""

from __future__ import annotations

import os
import time
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection.local import Connection as LocalConnection

DOCUMENTATION = r"""
name: certops_stand_in
short_description: A connection to this machine that can be lost
description: For tests. While the file exists, the node cannot be reached.
author: certops.kubernetes contributors (@certops)
extends_documentation_fragment:
  - connection_pipelining
options:
  gone_file:
    description: The file whose existence means that the node cannot be reached.
    type: path
    required: true
    vars:
      - name: ansible_gone_file
  goes_away:
    description: Whether the node goes away when something has been started in its background; seen before that command's answer is.
    type: bool
    default: false
    vars:
      - name: ansible_goes_away
"""

PATIENCE = 600  # seconds for what was started to make the file
DOUBT = "/proc/[0-9]*/cmdline"  # what a controller in doubt looks at


class Connection(LocalConnection):
    """A connection that can be lost."""

    transport = "certops_stand_in"
    _doubted = False

    def exec_command(self, *args: t.Any, **kwargs: t.Any) -> tuple[int, bytes, bytes]:
        """Run a command, if the node is there."""
        self._assert_there()
        done = super().exec_command(*args, **kwargs)
        if self._doubted and kwargs.get("in_data"):  # a module, which said what the change has come to
            with open(os.path.splitext(self._gone_file())[0] + ".told", "w", encoding="utf-8"):
                pass
        self._doubted = self._doubted or DOUBT in args[0]
        # What is started in the background makes the file; whoever asks afterwards must not be able to come before it.
        if self._option("goes_away") and "async_wrapper" in args[0] and "chmod" not in args[0]:
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                self._assert_there()
                time.sleep(0.1)
        return done

    def _assert_there(self) -> None:
        try:
            file = os.open(self._gone_file(), os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            return
        os.write(file, b".")
        os.close(file)
        raise AnsibleConnectionFailure("the node is gone")

    def _gone_file(self) -> str:
        return str(self._option("gone_file"))

    def _option(self, name: str) -> t.Any:
        return t.cast("t.Callable[[str], t.Any]", self.get_option)(name)  # ansible-core says no types
