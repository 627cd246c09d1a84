# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Which files people's kubeconfigs are, by paths and wildcards: looked for in a process of its own, for a limited time.

Homes may be in a network that is not there, or in a file system of their owner's own: who looks there may hang for ever.
"""

from __future__ import annotations

import functools
import glob
import itertools
import os
import re
import stat
import time
import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._as_user import as_user
from ansible_collections.certops.kubernetes.plugins.module_utils._files import final_target
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node

MOST_FILES = 500  # that are looked into
_LONGEST_SECONDS = 10.0  # for one pattern
_ALL_SECONDS = 30.0
_WILDCARDS = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Listing:
    """`files`: (path, whether it was named and not only matched), the named ones first. `unread`: patterns, and why."""

    files: tuple[tuple[str, bool], ...]
    unread: dict[str, str]


def matching_files(patterns: Sequence[str], node: Node) -> Listing:
    """The files that these paths (`~` allowed) and wildcards mean, but for folders and the node's own kubeconfigs. Never raises."""
    own = {final_target(one.cert_path) for one in node.credentials.values() if one.kind == "kubeconfig"}
    found: dict[str, bool] = {}
    unread: dict[str, str] = {}
    deadline = time.monotonic() + _ALL_SECONDS
    for pattern in dict.fromkeys(patterns):
        seconds = min(_LONGEST_SECONDS, deadline - time.monotonic())
        if seconds <= 0:
            unread[pattern] = "To look for those before it took longer than %g s. Remedy: look at their folders." % _ALL_SECONDS
            continue
        try:
            # Root's rights: what is found is read with those of whoever decides what lies there.
            answer = as_user(os.geteuid(), None, "look for %s" % pattern, functools.partial(_look, pattern), seconds)
        except CertopsError as error:
            unread[pattern] = str(error)
            continue
        named, *names = answer.split(b"\0")
        for path, target in zip(map(os.fsdecode, names[::2]), map(os.fsdecode, names[1::2])):
            if target not in own:
                found[path] = found.get(path, False) or bool(named)
    # So that nobody keeps a file that was named from its turn by many that are only matched.
    return Listing(tuple(sorted(found.items(), key=lambda item: (not item[1], item[0]))), unread)


def _look(pattern: str) -> bytes:
    """Whether it names one file, then path and target of each, with a NUL between, which no path has in it."""
    expanded = os.path.abspath(os.path.expanduser(pattern))
    named = not _WILDCARDS.search(expanded)
    paths = [expanded] if named else list(itertools.islice(glob.iglob(expanded), 2 * MOST_FILES))
    answer = [b"named" if named else b""]
    for path in paths:
        if _may_be_a_file(path):
            answer += [os.fsencode(path), os.fsencode(final_target(path))]
    return b"\0".join(answer)


def _may_be_a_file(path: str) -> bool:
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # its owner may see more than root (a network home)


__all__ = ("MOST_FILES", "Listing", "matching_files")
