# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.

from __future__ import annotations


class ModuleDocFragment:
    """A module that runs in the node's background and is followed there by its action plugin."""

    DOCUMENTATION = r"""
attributes:
  action:
    description: Has an action plugin, which runs on the controller.
    support: full
  async:
    description: Supports being used with the C(async) keyword.
    support: full
    details:
      - "Without it the module runs in the background of the node all the same, but in check mode: it ends well there when the connection or
        the controller is lost, and is followed to its end. Every 15 seconds a line says for how long."
      - With C(async) Ansible itself does what C(poll) says, and a node that is lost is tried again for the whole time of C(async).
options:
  reconnect_timeout_seconds:
    description:
      - For how long a node that is lost while the module runs there is tried again before the task ends as unreachable. What runs on
        the node goes on.
    type: int
    default: 60
"""
