# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""YAML and JSON documents that others wrote, read without trusting them.

Every scalar stays text ("true", "10250"): no dates, numbers or tags that could fail to parse, and no merge keys. Depth and number of
entries are bounded, each alias counted as what it stands for: whoever goes through a document needs no bound of its own. No message
and no traceback shows any content, which may be a private key in the wrong place.
"""

from __future__ import annotations

import json
import math
import re
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._deps import yaml
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

_MAX_BYTES = 1024 * 1024
# Deeper than any manifest or configuration; a parser that recurses would run out of stack long before a megabyte of brackets ends.
_MAX_DEPTH = 60
# Far more than any of them has; PyYAML's parser in Python takes a tenth of a millisecond for each.
_MAX_ENTRIES = 20000
_MAX_DIGITS = 40
SURROGATE = re.compile("[\\ud800-\\udfff]")
_NAMES_IN_IT = re.compile(r"'[!\w][^']*'")  # of anchors and tags, in what the parser says


def parse_document(data: bytes, source: str) -> t.Any:
    """The first document of a YAML (or JSON) file, every scalar as text; None for an empty one. Raises CertopsError."""
    if len(data) > _MAX_BYTES:
        raise CertopsError("Cannot read %s: it has more than %d bytes." % (source, _MAX_BYTES))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CertopsError("Cannot read %s: it is not UTF-8 text (byte %d)." % (source, error.start)) from None
    loader_class = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        _check_size(yaml.parse(text, Loader=loader_class), source)
        loader = loader_class(text)
        try:
            return loader.get_data() if loader.check_data() else None
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the parser in Python raises the latter two for "\UFFFFFFFF"
        raise CertopsError("Cannot read %s: it is not YAML (%s)." % (source, _one_line(error))) from None


def _check_size(events: t.Iterable[t.Any], source: str) -> None:
    """Raises CertopsError when the first document would cost too much, or holds what no text does."""
    sizes = [0]  # of the collections that are open, aliases expanded
    anchors: list[str | None] = [None]  # theirs
    known: dict[str, int] = {}
    for number, event in enumerate(events):
        if isinstance(event, yaml.DocumentEndEvent):
            return
        if isinstance(event, yaml.CollectionStartEvent):
            sizes.append(0)
            anchors.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            _count(1 + sizes.pop(), anchors.pop(), sizes, known)
        elif isinstance(event, yaml.ScalarEvent):
            _check_text(event.value, source)
            _count(1, event.anchor, sizes, known)
        elif isinstance(event, yaml.AliasEvent):
            sizes[-1] += known.get(event.anchor, 1)
        if len(sizes) - 1 > _MAX_DEPTH:
            raise _too_deep(source)
        if max(sizes[-1], number) > _MAX_ENTRIES:
            raise CertopsError("Cannot read %s: it has more than %d entries." % (source, _MAX_ENTRIES))


def _count(size: int, anchor: str | None, sizes: list[int], known: dict[str, int]) -> None:
    sizes[-1] += size
    if anchor is not None:
        known[anchor] = size


def _check_text(value: str, source: str) -> None:
    """Only escapes can bring these in, and a path or an argument cannot hold them."""
    if "\0" in value or SURROGATE.search(value):
        raise CertopsError("Cannot read %s: it holds a NUL or half of a surrogate pair, which no text does." % source)


def _one_line(error: Exception) -> str:
    """What the parser complains about, and where, without quoting the file (it may hold keys)."""
    mark = getattr(error, "problem_mark", None)
    said = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be parsed")
    problem = _NAMES_IN_IT.sub("…", said)[:100]
    return "%s, line %d" % (problem, mark.line + 1) if mark is not None else problem


def parse_json(data: bytes, source: str, *, paths: bool = False) -> t.Any:
    """A JSON text (RFC 8259, so no NaN) with its numbers as numbers. Raises CertopsError.

    With `paths`, halves of surrogate pairs are let through: Python writes them for the bytes of a path that is not UTF-8.
    Depth and digits are bounded: nothing runs out of stack that goes through it, and Python before 3.11 takes minutes for a million digits.
    """
    try:
        value = json.loads(data.decode("utf-8"), parse_int=_whole, parse_float=_broken, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise CertopsError("Cannot read %s: it is not UTF-8 text (byte %d)." % (source, error.start)) from None
    except RecursionError:
        raise _too_deep(source) from None
    except ValueError as error:
        said = "%s, line %d" % (error.msg, error.lineno) if isinstance(error, json.JSONDecodeError) else str(error)
        raise CertopsError("Cannot read %s: it is not JSON (%s)." % (source, said)) from None
    _check_values(value, source, surrogates=paths)
    return value


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError("a number of %d digits" % len(digits))
    return int(digits)


def _broken(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number beyond all bounds")
    return number


def _no_number(word: str) -> t.Any:
    raise ValueError("%s is no number" % word)


def _check_values(value: t.Any, source: str, *, surrogates: bool) -> None:
    """Raises CertopsError for what is nested too deeply and, unless they are wanted, for half of a surrogate pair: it cannot be printed."""
    level = [value]
    for _depth in range(_MAX_DEPTH + 2):
        inner: list[t.Any] = []
        for entry in level:
            if isinstance(entry, dict):
                inner += entry
                inner += entry.values()
            elif isinstance(entry, list):
                inner += entry
            elif isinstance(entry, str) and not surrogates and SURROGATE.search(entry):
                raise CertopsError("Cannot read %s: it holds half of a surrogate pair, which no text does." % source)
        if not inner:
            return
        level = inner
    raise _too_deep(source)


def _too_deep(source: str) -> CertopsError:
    return CertopsError("Cannot read %s: it is nested more than %d levels deep." % (source, _MAX_DEPTH))


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


__all__ = ("SURROGATE", "dig", "items", "parse_document", "parse_json", "text", "texts")
