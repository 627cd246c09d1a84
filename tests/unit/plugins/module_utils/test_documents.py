# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documents that others wrote: read as text, or explained, with both parsers of PyYAML; never slow, never large."""

from __future__ import annotations

import time
import traceback

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._documents import parse_document
from ansible_collections.certops.kubernetes.plugins.module_utils._manifests import parse_manifest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

pytestmark = pytest.mark.usefixtures("loader")

ALIAS_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join("%s: &%s [%s]\n" % (b, b, ",".join(["*" + a] * 9)) for a, b in zip("abcdef", "bcdefg"))
SECRET = "MIIEowIBAAKCAQEA"

GARBAGE = {
    "no UTF-8": b"a: \xff",
    "not closed": b"[",
    "brackets": b"[" * 500_000,
    "deep": b"[" * 100 + b"]" * 100,
    "an alias of nothing": b"a: *b",
    "an alias into itself": b"&a [*a]",
    "an alias bomb": ALIAS_BOMB.encode(),
    "a list of one long entry many times": b"a: &a [" + b"x," * 20_000 + b"]\nb: [" + b"*a," * 20_000 + b"]",
    "many entries": b"[" + b"a," * 200_000 + b"]",
    "too large": b"a: " + b"x" * 2_000_000,
    "a list as a key": b"[a]: b",
    "beyond Unicode": b'a: "\\UFFFFFFFF"',
    "just beyond Unicode": b'a: "\\U00110000"',
    "half of a surrogate pair": b'a: "\\ud800"',
    "half of a surrogate pair as a key": b'"\\ud800": a',
    "a NUL": b'a: "b\\0c"',
    "a NUL in JSON": b'{"a": "b\\u0000c"}',
    "a version of many digits": b"%YAML 1." + b"9" * 100_000 + b"\n--- a",
}


@pytest.mark.parametrize("data", list(GARBAGE.values()), ids=list(GARBAGE))
def test_garbage_is_explained(data: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(CertopsError) as caught:
        parse_document(data, "/etc/kubernetes/x.yaml")
    message = str(caught.value)
    assert message.startswith("Cannot read /etc/kubernetes/x.yaml: ")
    assert message.endswith(".")
    assert len(message) < 300
    assert message.isprintable()
    assert time.monotonic() - started < 30


def test_every_scalar_is_text() -> None:
    data = b"a: true\nb: 2001-99-99\nc: 0o9\nd: [1e999, ~, '']\ne: !!int x\nf: !!binary '*'\n<<: {g: h}\n"
    assert parse_document(data, "x") == {
        "a": "true",
        "b": "2001-99-99",
        "c": "0o9",
        "d": ["1e999", "~", ""],
        "e": "x",
        "f": "*",
        "<<": {"g": "h"},
    }


def test_only_the_first_document_is_read() -> None:
    assert parse_document(b"a: b\n---\nc: d\n--- [", "x") == {"a": "b"}
    assert parse_document(b"", "x") is None
    assert parse_document(b"# nothing\n", "x") is None


def test_aliases_are_followed() -> None:
    assert parse_document(b"a: &a [b, &c {d: e}]\nf: [*a, *c]", "x") == {"a": ["b", {"d": "e"}], "f": [["b", {"d": "e"}], {"d": "e"}]}


def test_letters_beyond_the_basic_plane() -> None:
    assert parse_document('a: "ü\\U0001F511\U0001f511"'.encode(), "x") == {"a": "ü\U0001f511\U0001f511"}


def test_nothing_of_the_file_is_in_a_traceback() -> None:
    for line in ("key: [%s", "key: '%s", "a: %s: b", "%s: [}", "*%s", '"\\z%s"', "? %s\n- a", "[&%s a, &%s b]", "!%s!a b"):
        with pytest.raises(CertopsError) as caught:
            parse_document(line.replace("%s", SECRET).encode(), "x")
        shown = "".join(traceback.format_exception(type(caught.value), caught.value, caught.value.__traceback__))
        assert SECRET not in shown


def test_a_manifest_with_many_containers_of_one_long_command() -> None:
    started = time.monotonic()
    text = "kind: Pod\nspec:\n  x: &c {command: [%s]}\n  containers: [%s]" % (",".join("a" * 20_000), ",".join(["*c"] * 20_000))
    with pytest.raises(CertopsError):
        parse_manifest(text.encode(), "x")
    assert time.monotonic() - started < 30
