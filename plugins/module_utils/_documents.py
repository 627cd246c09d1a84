# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""YAML and JSON documents that others wrote, read without trusting them.

Every scalar stays text ("true", "10250"): no dates, numbers or tags that could fail to parse, and no merge keys, which a
small file could use to grow without bound.
"""

from __future__ import annotations

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._deps import yaml
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

# Deeper than any manifest or configuration; a parser that recurses would run out of stack long before a megabyte of brackets ends.
_MAX_DEPTH = 60


def parse_document(data: bytes, source: str) -> t.Any:
    """The first document of a YAML (or JSON) file, every scalar as text; None for an empty one. Raises CertopsError."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CertopsError("Cannot read %s: it is not UTF-8 text (byte %d)." % (source, error.start)) from error
    loader_class = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        _check_depth(yaml.parse(text, Loader=loader_class), source)
        loader = loader_class(text)
        try:
            return loader.get_data() if loader.check_data() else None
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise CertopsError("Cannot read %s: it is not YAML (%s)." % (source, _one_line(error))) from error


def _check_depth(events: t.Iterable[t.Any], source: str) -> None:
    depth = 0
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentEndEvent):
            return
        if depth > _MAX_DEPTH:
            raise CertopsError("Cannot read %s: it is nested more than %d levels deep." % (source, _MAX_DEPTH))


def _one_line(error: Exception) -> str:
    """What the parser complains about, and where, without quoting the file (it may hold keys)."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be parsed"
    return "%s, line %d" % (problem, mark.line + 1) if mark is not None else str(problem)


def dig(value: t.Any, *keys: str) -> t.Any:
    """`value[key][key]…`, None as soon as something is not a mapping or has no such key."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def text(value: t.Any) -> str | None:
    """A non-empty scalar as text; None for anything else, and for YAML's ways to write nothing."""
    return value if isinstance(value, str) and value not in ("", "null", "~", "Null", "NULL") else None


def items(value: t.Any) -> list[t.Any]:
    """A list; empty for anything that is none."""
    return value if isinstance(value, list) else []


def texts(value: t.Any) -> list[str]:
    """The scalars of a list, as text."""
    return [entry for entry in items(value) if isinstance(entry, str)]


__all__ = ("dig", "items", "parse_document", "text", "texts")
