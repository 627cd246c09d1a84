# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a module as Python does, with the installed ansible-core's helpers at hand.

A module brings a copy of them as source in a zip, the compiling of which is most of what a module that does next to nothing costs.
"""

from __future__ import annotations

import runpy
import sys

import ansible.module_utils.basic

assert ansible.module_utils.basic, "what is imported here is not looked for in the zip"

if len(sys.argv) > 1:
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    piped = compile(sys.stdin.buffer.read(), "<stdin>", "exec", dont_inherit=True)
    exec(piped, {"__name__": "__main__"})
