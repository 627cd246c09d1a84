# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Switch one setting of a YAML file on: a word is replaced or a line is added, and every other byte stays. Pure."""

from __future__ import annotations

from ansible_collections.certops.kubernetes.plugins.module_utils._documents import parse_document
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._yaml_nodes import YamlNode, compose, decode_utf8, mapping_entry

_BOM = b"\xef\xbb\xbf"
_OFF = ("false", "no", "off")  # as YAML 1.1, which Kubernetes reads, has them


def switched_on(data: bytes, key: str, source: str) -> bytes:
    """The file with `key: true` at its top level, of which nothing else is another.

    Raises CertopsError where it is written in a way that is not edited here; `source` is its path, for the message.
    """
    text = decode_utf8(data, source)
    document = compose(text, source)
    root = document.root
    if root is None or root.kind != "mapping" or root.start >= len(text):
        raise _by_hand(source, key, "it holds no settings")
    if text[root.start] == "{":
        raise _by_hand(source, key, "it is written as JSON, or with braces")
    if root.start and text[root.start - 1] not in "\r\n":
        raise _by_hand(source, key, "its settings do not begin at the start of a line")
    if any(anchor for _kind, _value, _tag, anchor in document.outline):
        raise _by_hand(source, key, "it uses anchors of YAML")
    mapping_entry(root, key, source)  # not twice, and hidden by no merge key
    known = next((value for name, value in zip(root.children[::2], root.children[1::2]) if name.value == key), None)
    new = _added(text, key) if known is None else _replaced(text, known, key, source)
    after = (_BOM if data.startswith(_BOM) else b"") + new.encode("utf-8")
    _check(data, after, key, source)
    return after


def _replaced(text: str, known: YamlNode, key: str, source: str) -> str:
    if known.kind != "scalar" or known.style or known.tag is not None or known.value.lower() not in _OFF:
        raise _by_hand(source, key, "what it has there is not simply false")
    return text[: known.start] + "true" + text[known.end :]


def _added(text: str, key: str) -> str:
    end = "\r\n" if "\r\n" in text else "\n"
    return text + ("" if text.endswith("\n") else end) + "%s: true" % key + end


def _check(before: bytes, after: bytes, key: str, source: str) -> None:
    """That the edit is what it was meant to be: by the parser's word, not by ours."""
    try:
        same = parse_document(after, source) == dict(parse_document(before, source), **{key: "true"})
    except CertopsError:
        same = False
    if not same:
        raise _by_hand(source, key, "a line cannot be added at its end")


def _by_hand(source: str, key: str, why: str) -> CertopsError:
    return CertopsError("%s is not changed here: %s. Remedy: set %s: true in it by hand, and restart the kubelet." % (source, why, key))


__all__ = ("switched_on",)
