# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Who decides what lies at a path: root alone, or a user; and files of users, read and replaced with that user's rights."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field

from ansible_collections.certops.kubernetes.plugins.module_utils._as_user import as_user
from ansible_collections.certops.kubernetes.plugins.module_utils._files import (
    Attributes,
    MissingFile,
    attributes_of,
    explain,
    read_bounded,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._guarded_folder import guarded_file
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MANY_LINKS = 40  # as the kernel has it


@dataclass(frozen=True)
class Place:
    """Where a file is. `path` has the links followed that root alone could lay; `by` is the user who decides from there on, None: root.

    `problem` says why nothing may be written there, whoever would.
    """

    path: str
    by: int | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Seen:
    """What was read: the content may hold a private key."""

    data: bytes = field(repr=False)
    attributes: Attributes


def place_of(path: str) -> Place:
    """Walk the way to a path from the root on, as far as nobody but root decides where it goes. Raises MissingFile or CertopsError."""
    rest = [name for name in reversed(os.path.normpath(path).split("/")) if name]
    if not path.startswith("/") or not rest:
        raise CertopsError("%r is no path of a file. Remedy: give an absolute one." % path)
    place, links = "/", 0
    while True:
        found = _look(place)
        whole = os.path.join(place, *reversed(rest))
        if found.st_uid not in (0, os.geteuid()):
            return Place(whole, found.st_uid)
        # In a sticky folder, such as /tmp above it, others cannot exchange what belongs to root; in the file's own they need not.
        if found.st_mode & _OTHERS_WRITE and not (found.st_mode & stat.S_ISVTX and len(rest) > 1):
            return Place(whole, None, "others may write to %s" % place)
        if len(rest) == 1:
            return Place(whole)
        here = os.path.join(place, rest.pop())
        inner = _look(here)
        if not stat.S_ISLNK(inner.st_mode):
            place = here
            continue
        links += 1
        if links > _MANY_LINKS or inner.st_uid not in (0, os.geteuid()):
            return Place(whole, None, "%s is a symbolic link that somebody else laid" % here)
        place = _follow(here, place, rest)


def _look(path: str) -> os.stat_result:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFile("There is no %s." % path) from error
    except OSError as error:
        raise explain(error, "look at", path) from error


def _follow(link: str, place: str, rest: list[str]) -> str:
    """Put a link's target in front of what is left of the way; returns where that begins."""
    try:
        target = os.readlink(link)
    except OSError as error:
        raise explain(error, "follow", link) from error
    for name in reversed([name for name in target.split("/") if name not in ("", ".")]):
        rest.append(name)
    place = "/" if target.startswith("/") else place
    while rest and rest[-1] == "..":  # `place` has no links in it
        rest.pop()
        place = os.path.dirname(place)
    return place


def read_place(place: Place) -> Seen:
    """Content, owner and mode of a regular file. Raises MissingFile or CertopsError: a link, another one's file, too large, a pipe."""
    if place.by is None:
        return Seen(read_bounded(place.path), attributes_of(place.path))
    by, path = place.by, place.path
    answer = as_user(by, None, "read %s" % path, lambda: _read_guarded(path, by))
    header, _line_end, data = answer.partition(b"\n")
    mode, uid, gid = (int(word) for word in header.split())
    return Seen(data, Attributes(mode, uid, gid))


def _read_guarded(path: str, by: int) -> bytes:
    with guarded_file(path, by) as file:
        found = file.read()
    if found is None:
        raise MissingFile("There is no file %s." % path)
    data, attributes = found
    if attributes.uid != by:
        raise CertopsError(
            "%s belongs to the user with id %d, and its folder to the user %d. Remedy: chown it to whom the folder belongs."
            % (path, attributes.uid, by)
        )
    return b"%d %d %d\n" % (attributes.mode, attributes.uid, attributes.gid) + data


def replace_in_place(place: Place, data: bytes, sha256_before: str) -> None:
    """Put new content in a user's file with his rights; owner, group and mode stay. Only while its content has that SHA-256.

    Raises CertopsError. Not for places where root decides: those are `replace_file`'s.
    """
    if place.by is None:
        raise CertopsError("%s is in no folder of a user who is not root." % place.path)
    by, path = place.by, place.path
    seen = read_place(place)

    def work() -> bytes:
        with guarded_file(path, by) as file:
            found = file.read()
            if found is None or hashlib.sha256(found[0]).hexdigest() != sha256_before or found[1] != seen.attributes:
                raise CertopsError("%s was changed by somebody else meanwhile. Remedy: run again." % path)
            file.replace(data, found[1])
        return b""

    as_user(by, seen.attributes.gid, "write %s" % path, work)


def read_as(path: str, by: int | None) -> bytes:
    """A file that a kubeconfig of the user `by` (None: root) names, with that user's rights. Raises MissingFile or CertopsError."""
    place = place_of(path) if by is None else Place(path, by)
    reader = place.by
    if place.problem is not None:
        raise CertopsError("%s, so that root does not read there. Remedy: move the file." % place.problem)
    if reader is None:
        return read_bounded(path)
    return as_user(reader, None, "read %s" % path, lambda: read_bounded(path))


__all__ = ("Place", "Seen", "place_of", "read_as", "read_place", "replace_in_place")
