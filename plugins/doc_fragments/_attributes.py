# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.

from __future__ import annotations


class ModuleDocFragment:
    """The attributes that the modules share."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return a changed status prediction without modifying the target.
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
  platform:
    description: Target operating systems that can be operated against.
    support: full
    platforms: posix
"""

    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: This module does not modify state.
  diff_mode:
    support: N/A
    details: This module does not modify state.
  idempotent:
    support: full
    details: This module does not modify state.
"""

    CHANGES_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: Check mode predicts what would be done, and writes nothing on the node, not even a lock.
"""

    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/certops.kubernetes.all) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - certops.kubernetes.all
"""
