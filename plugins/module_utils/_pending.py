# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Private keys that wait on their node while another node signs: `pending/<hash of run id and certificate's name>.key`, 0600.

They wait for one run only, and nothing uses them yet: whoever holds the node's lock may throw them away.
"""

from __future__ import annotations

import os
import shutil
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._files import (
    Attributes,
    MissingFile,
    explain,
    make_private_directory,
    read_bounded,
    replace_file,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import sha256

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._journal import StateFolder


def keep_key(state: StateFolder, run_id: str, name: str, key_pem: bytes) -> None:
    """Let a key wait. Raises CertopsError."""
    path = _path(state, run_id, name)
    make_private_directory(os.path.dirname(path))
    replace_file(path, key_pem, Attributes(0o600, os.geteuid(), os.getegid()))


def kept_pending_key(state: StateFolder, run_id: str, name: str) -> bytes | None:
    """The key that waits for a certificate in this run; None when none does. Raises CertopsError."""
    try:
        return read_bounded(_path(state, run_id, name))
    except MissingFile:
        return None


def forget_keys(state: StateFolder) -> None:
    """Throw away whatever waits. Raises CertopsError."""
    folder = os.path.join(state.path, "pending")
    try:
        if os.path.isdir(folder):
            shutil.rmtree(folder)
    except OSError as error:
        raise explain(error, "remove the keys of an earlier run in", folder) from error


def _path(state: StateFolder, run_id: str, name: str) -> str:
    which = sha256(("%s/%s" % (run_id, name)).encode("utf-8", "surrogateescape"))
    return os.path.join(state.path, "pending", "%s.key" % which[:32])


__all__ = ("forget_keys", "keep_key", "kept_pending_key")
