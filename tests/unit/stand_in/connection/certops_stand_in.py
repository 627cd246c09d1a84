# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A connection to a node of JSON that can be lost: to this very machine, unless a file says that the node is gone."""

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

PATIENCE = 120  # seconds for what was started to make the file


class Connection(LocalConnection):
    """A connection that can be lost."""

    transport = "certops_stand_in"

    def exec_command(self, *args: t.Any, **kwargs: t.Any) -> tuple[int, bytes, bytes]:
        """Run a command, if the node is there."""
        self._assert_there()
        done = super().exec_command(*args, **kwargs)
        # What is started in the background makes the file; whoever asks afterwards must not be able to come before it.
        if self._option("goes_away") and "async_wrapper" in args[0] and "chmod" not in args[0]:
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                self._assert_there()
                time.sleep(0.1)
        return done

    def _assert_there(self) -> None:
        if os.path.exists(str(self._option("gone_file"))):
            raise AnsibleConnectionFailure("the node is gone")

    def _option(self, name: str) -> t.Any:
        return t.cast("t.Callable[[str], t.Any]", self.get_option)(name)  # ansible-core says no types
