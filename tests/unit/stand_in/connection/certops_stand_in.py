# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A connection to a node of JSON that can be lost: to this very machine, unless a file says that the node is gone."""

from __future__ import annotations

import os
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
"""


class Connection(LocalConnection):
    """A connection that can be lost."""

    transport = "certops_stand_in"

    def exec_command(self, *args: t.Any, **kwargs: t.Any) -> tuple[int, bytes, bytes]:
        """Run a command, if the node is there."""
        if os.path.exists(str(self.get_option("gone_file"))):  # type: ignore[no-untyped-call]  # ansible-core says no types
            raise AnsibleConnectionFailure("the node is gone")
        return super().exec_command(*args, **kwargs)
