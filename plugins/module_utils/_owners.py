# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Who owns a credential's files, and who else may write them.

They are root's, or belong to whom a component that reads them runs as: etcd mostly has a user of its own, and kubeadm's rootless control
plane one for each component. While such a process does not run, nobody knows who that is, and nothing is said of owners. What no process
reads (`admin.conf`) is root's alone.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._findings import WARNING
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import ETCD
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Finding

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._files import Attributes
    from ansible_collections.certops.kubernetes.plugins.module_utils._findings import About
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential, Node

# kubespray gives these etcd's files, on hosts without an etcd too. They have etcd's data, or the static pods' folder, anyway.
_INSTALLERS_ACCOUNTS = (ETCD, "kube")

# The name of a user or a group by its number; None: it has none.
Name = t.Callable[[int], t.Optional[str]]


def user_name(uid: int) -> str | None:
    """A user's name on this node."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return None


def group_name(gid: int) -> str | None:
    """A group's name on this node."""
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        return None


def owner_findings(
    about: About,
    credential: Credential,
    node: Node,
    files: t.Mapping[str, Attributes],
    user: Name = user_name,
    group: Name = group_name,
) -> t.Iterator[Finding]:
    """What is wrong with owner and mode of a credential's `files` (by path). Names are looked up only where the number is a stranger's."""
    readers = _readers(credential, node)
    for path, found in files.items():
        if readers is not None and not _may_have(found.uid, {0, os.geteuid(), *(uid for uid, _gid in readers)}, user):
            yield _owned_by_another_user(about, path, found, _owner_for(found, readers), user)
        if found.mode & stat.S_IWOTH:
            yield _writable_by_others(about, path, found, "every user of the node", user)
        elif (
            found.mode & stat.S_IWGRP
            and readers is not None
            and not _may_have(found.gid, {0, os.getegid(), *(gid for _uid, gid in readers)}, group)
        ):
            who = "the group %s (gid %d)" % (group(found.gid) or "without a name", found.gid)
            yield _writable_by_others(about, path, found, who, user)


def _readers(credential: Credential, node: Node) -> list[tuple[int, int | None]] | None:
    """(uid, gid) of all processes that read it; None while one of them is not known."""
    names = dict.fromkeys((credential.component, *(reader.component for reader in credential.readers)))
    found = []
    for component in (node.components[name] for name in names if name in node.components):
        if component.process is None or component.process.uid is None:
            return None
        found.append((component.process.uid, component.process.gid))
    return found


def _may_have(number: int, known: t.Collection[int | None], name: Name) -> bool:
    return number in known or name(number) in _INSTALLERS_ACCOUNTS


def _owner_for(found: Attributes, readers: t.Iterable[tuple[int, int | None]]) -> int:
    """Whose the file should be, so that all who read it still can."""
    others = {uid for uid, _gid in readers} - {0}
    return others.pop() if len(others) == 1 and not found.mode & stat.S_IROTH else 0


def _belongs_to(found: Attributes, user: Name) -> str:
    return "belongs to the user %s (uid %d, mode %04o)" % (user(found.uid) or "without a name", found.uid, found.mode)


def _owned_by_another_user(about: About, path: str, found: Attributes, owner: int, user: Name) -> Finding:
    text = "has a file %s that %s, who is neither root nor runs a component that reads it"
    remedy = "chown %s %s; unless that user was to have it, compare it with a backup, and renew a private key with a new one."
    return Finding(
        "owned_by_another_user", WARNING, about.tells(text % (path, _belongs_to(found, user))), remedy % (user(owner) or owner, path)
    )


def _writable_by_others(about: About, path: str, found: Attributes, who: str, user: Name) -> Finding:
    text = "has a file %s that %s may write; it %s" % (path, who, _belongs_to(found, user))
    remedy = "chmod go-w %s; then compare it with a backup: it need not be what was put there."
    return Finding("writable_by_others", WARNING, about.tells(text), remedy % path)


__all__ = ("group_name", "owner_findings", "user_name")
