# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One setting of a YAML file is switched on, and every other byte stays; or the file is refused."""

from __future__ import annotations

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._yaml_switch import switched_on

KEY = "serverTLSBootstrap"
NESTED = b"kind: K\nserverTLSBootstrap: false\nwebhook:\n  serverTLSBootstrap: false\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"kind: K\nserverTLSBootstrap: false\n", b"kind: K\nserverTLSBootstrap: true\n"),
        (b"serverTLSBootstrap:   no  # never\nz: 1", b"serverTLSBootstrap:   true  # never\nz: 1"),
        (b'"serverTLSBootstrap": False\n', b'"serverTLSBootstrap": true\n'),
        (b"# a\n---\nkind: K # b\n\n# the end\n", b"# a\n---\nkind: K # b\n\n# the end\nserverTLSBootstrap: true\n"),
        (b"kind: K", b"kind: K\nserverTLSBootstrap: true\n"),
        (b"kind: K\r\nz: 1\r\n", b"kind: K\r\nz: 1\r\nserverTLSBootstrap: true\r\n"),
        (b"\xef\xbb\xbfkind: K\nserverTLSBootstrap: false\n", b"\xef\xbb\xbfkind: K\nserverTLSBootstrap: true\n"),
        ("# für\nkind: Ä\nserverTLSBootstrap: off\n".encode(), "# für\nkind: Ä\nserverTLSBootstrap: true\n".encode()),
        (NESTED, NESTED.replace(b"false", b"true", 1)),
        (NESTED[8:].partition(b"\n")[2], NESTED[8:].partition(b"\n")[2] + b"serverTLSBootstrap: true\n"),
        (b"a: |\n  text\n", b"a: |\n  text\nserverTLSBootstrap: true\n"),
        (b"a: {x: 1}\nb: [1]\n", b"a: {x: 1}\nb: [1]\nserverTLSBootstrap: true\n"),
    ],
)
def test_a_word_or_a_line_changes_and_nothing_else(before: bytes, after: bytes, loader: str) -> None:
    assert switched_on(before, KEY, "/config.yaml") == after


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "it holds no settings"),
        (b"- a\n", "it holds no settings"),
        (b'{"kind": "K"}\n', "written as JSON, or with braces"),
        (b"--- {kind: K}\n", "written as JSON, or with braces"),
        (b"  kind: K\n", "do not begin at the start of a line"),
        (b"a: &x 1\nb: *x\n", "it uses anchors of YAML"),
        (b"a: &x 1\n", "it uses anchors of YAML"),
        (b'serverTLSBootstrap: "false"\n', "not simply false"),
        (b"serverTLSBootstrap: !!bool false\n", "not simply false"),
        (b"serverTLSBootstrap:\n", "not simply false"),
        (b"serverTLSBootstrap: [false]\n", "not simply false"),
        (b"serverTLSBootstrap: false\nserverTLSBootstrap: false\n", "twice"),
        (b"kind: K\n...\n", "a line cannot be added at its end"),
        (b"kind: K\na: |\n  text", "a line cannot be added at its end"),
        (b"kind: K\n<<: {a: 1}\n", "merge key"),
        (b"kind: K\n---\nkind: L\n", "more than one YAML document"),
        (b"kind: [\n", "not valid YAML"),
        (b"kind: \xff\n", "not UTF-8"),
    ],
)
def test_what_is_written_otherwise_is_refused_in_plain_words(text: bytes, why: str, loader: str) -> None:
    with pytest.raises(CertopsError) as caught:
        switched_on(text, KEY, "/config.yaml")
    assert why in str(caught.value)
    assert "/config.yaml" in str(caught.value)
