# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""YAML as text with positions: a tree of nodes that knows where in the text each scalar lies.

For files whose bytes must survive an edit. Nothing is expanded or constructed, nothing recurses, and depth and number of
nodes are bounded, so that a hostile or damaged file costs neither memory nor the process. No message shows any content.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.certops.kubernetes.plugins.module_utils._deps import yaml
from ansible_collections.certops.kubernetes.plugins.module_utils._documents import SURROGATE
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

MAX_TEXT_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 100000

_NULLS = ("", "~", "null", "Null", "NULL")
_STRING_TAGS = (None, "!", "tag:yaml.org,2002:str")


@dataclass(repr=False, eq=False)
class YamlNode:
    """A node of the document. `start` and `end` are character offsets; they include an anchor or a tag in front of a scalar.

    children: a sequence's items; a mapping's keys and values in turn. shared: an alias elsewhere means this very node.
    number: its place among all nodes, in the order of the text.
    """

    kind: str  # scalar | sequence | mapping
    number: int
    start: int
    end: int
    value: str = ""
    style: str = ""  # of a scalar: "" (plain), "'", '"', "|" or ">"
    tag: str | None = None
    children: list[YamlNode] = field(default_factory=list)
    shared: bool = False
    by_key: dict[str, list[YamlNode]] | None = None  # of a mapping, once it was looked at

    @property
    def is_null(self) -> bool:
        return self.kind == "scalar" and self.style == "" and self.tag is None and self.value in _NULLS

    @property
    def is_string(self) -> bool:
        """A scalar without a tag that would make something else of it (such as !!binary)."""
        return self.kind == "scalar" and self.tag in _STRING_TAGS and not self.is_null


@dataclass(repr=False, eq=False)
class YamlDocument:
    """The only document of a text. root: None if it is empty.

    outline: all nodes and aliases in order as (kind, value, tag, anchor), by which two documents are compared.
    """

    text: str
    root: YamlNode | None
    outline: list[tuple[str, str, str | None, str | None]]


def decode_utf8(data: bytes, source: str) -> str:
    """The text of a YAML file without a byte order mark. Raises CertopsError if it is too large or not UTF-8."""
    if len(data) > MAX_TEXT_BYTES:
        raise CertopsError("%s is larger than %d bytes. Restore it from a backup." % (source, MAX_TEXT_BYTES))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise CertopsError("%s is not UTF-8 at byte %d. Restore it from a backup or write it anew." % (source, exc.start)) from None


class _Composer:
    """Builds the tree out of the parser's events, with a stack of its own instead of recursion."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.outline: list[tuple[str, str, str | None, str | None]] = []
        self._top = YamlNode("sequence", -1, 0, 0)
        self._open = [self._top]
        self._anchors: dict[str, YamlNode] = {}

    @property
    def roots(self) -> list[YamlNode]:
        return self._top.children

    def take(self, event: t.Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            if SURROGATE.search(event.value):  # the parser in C refuses it
                raise CertopsError("%s holds half of a surrogate pair, which no text does. Correct the file." % self.source)
            self._add("scalar", event, value=event.value, style=event.style or "")
        elif isinstance(event, yaml.SequenceStartEvent):
            self._open.append(self._add("sequence", event))
        elif isinstance(event, yaml.MappingStartEvent):
            self._open.append(self._add("mapping", event))
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop().end = event.end_mark.index
        elif isinstance(event, yaml.AliasEvent):
            self._add_alias(event)
        if len(self._open) > MAX_DEPTH or len(self.outline) > MAX_NODES:
            raise CertopsError("%s is nested too deeply or has too many entries. Restore it from a backup." % self.source)

    def _add(self, kind: str, event: t.Any, value: str = "", style: str = "") -> YamlNode:
        node = YamlNode(kind, len(self.outline), event.start_mark.index, event.end_mark.index, value, style, event.tag)
        self.outline.append((kind, value, event.tag, event.anchor))
        self._open[-1].children.append(node)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _add_alias(self, event: t.Any) -> None:
        node = self._anchors.get(event.anchor)
        if node is None:
            raise CertopsError("%s uses a YAML alias that is defined nowhere. Correct the file." % self.source)
        node.shared = True
        self.outline.append(("alias", "", None, event.anchor))
        self._open[-1].children.append(node)


def _parsable(text: str) -> str:
    """The text as the parser needs it, each character at the same offset.

    JSON may be indented with tabs, which YAML forbids. A tab inside a JSON string is always escaped.
    """
    return text.replace("\t", " ") if text.lstrip().startswith("{") else text


def compose(text: str, source: str) -> YamlDocument:
    """The tree of a text that holds one YAML (or JSON) document. Raises CertopsError that says in which line it is not YAML."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    composer = _Composer(source)
    try:
        for event in yaml.parse(_parsable(text), Loader=loader):
            composer.take(event)
    except (yaml.YAMLError, ValueError, OverflowError) as exc:  # the parser in Python raises the latter two for "\UFFFFFFFF"
        # Only place and problem: the library's full text may quote the file, and with it a private key.
        mark = getattr(exc, "problem_mark", None)
        place = " in line %d" % (mark.line + 1) if mark is not None else ""
        raise CertopsError("%s is not valid YAML or JSON%s. Correct it or restore it from a backup." % (source, place)) from None
    if len(composer.roots) > 1:
        raise CertopsError("%s holds more than one YAML document. Leave only one in it." % source)
    return YamlDocument(text, composer.roots[0] if composer.roots else None, composer.outline)


def mapping_entry(node: YamlNode, key: str, source: str) -> YamlNode | None:
    """The value of a key in a mapping node; None if it is absent or null.

    Raises CertopsError if the key is there twice, or if a merge key (`<<`) hides what the mapping holds.
    """
    if node.by_key is None:
        node.by_key = _by_key(node, source)
    found = node.by_key.get(key, [])
    if len(found) > 1:
        raise CertopsError("%s has the key %s twice in one place. Remove one of them." % (source, key))
    return None if not found or found[0].is_null else found[0]


def mapping_pair(node: YamlNode, key: str, source: str) -> tuple[YamlNode, YamlNode] | None:
    """The key's own node and its value, null or not; None if it is absent. Raises CertopsError as `mapping_entry` does."""
    mapping_entry(node, key, source)
    pairs = zip(node.children[::2], node.children[1::2])
    return next(((name, value) for name, value in pairs if name.kind == "scalar" and name.value == key), None)


def _by_key(node: YamlNode, source: str) -> dict[str, list[YamlNode]]:
    """A mapping's values, all of them, by key. Made once: aliases may bring a reader to the same node many times."""
    found: dict[str, list[YamlNode]] = {}
    for name, value in zip(node.children[::2], node.children[1::2]):
        if name.kind != "scalar":
            continue
        if name.value == "<<" and name.style == "":
            raise CertopsError("%s uses a YAML merge key (<<), which cannot be followed safely. Write its entries out." % source)
        found.setdefault(name.value, []).append(value)
    return found


__all__ = ("MAX_TEXT_BYTES", "YamlDocument", "YamlNode", "compose", "decode_utf8", "mapping_entry", "mapping_pair")
