# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Has a module that is piped into it run by `interpreters.py`, and anything else by itself.

What goes on in the background is a file, and has a process that is its own from the start.
"""

from __future__ import annotations

import json
import os
import socket
import sys

if len(sys.argv) > 1:
    os.execv(sys.executable, [sys.executable, os.environ["CERTOPS_INTERPRETERS"], *sys.argv[1:]])

with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.environ["CERTOPS_INTERPRETERS_SOCKET"])
    umask = os.umask(0o22)
    where = json.dumps({"cwd": os.getcwd(), "umask": umask, "environment": dict(os.environ)}).encode()
    socket.send_fds(server, [b"%10d" % len(where)], [0, 1, 2])
    server.sendall(where)
    exit_status = server.recv(1)

sys.exit(exit_status[0] if exit_status else 137)
