# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of plugins/module_utils/_kubeconfig.py: one user's credentials are exchanged, every other byte stays."""

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from ansible_collections.certops.kubernetes.plugins.module_utils import _kubeconfig, _yaml_nodes
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeconfigs import (
    NEW_CERT,
    NEW_KEY,
    OLD_CERT,
    OLD_KEY,
    any_loader,
    b64,
    kubeadm,
    replace,
)
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.usefixtures("loader")

# --- writing ---


def test_changes_two_scalars_and_nothing_else() -> None:
    assert replace(kubeadm()) == kubeadm(b64(NEW_CERT), b64(NEW_KEY)).encode()


STYLES: dict[str, t.Callable[[str, int], str]] = {
    "plain": lambda value, indent: value,
    "single": lambda value, indent: "'%s'" % value,
    "double": lambda value, indent: '"%s"' % value,
    "anchored": lambda value, indent: "&anchor " + value,
    "anchored and quoted": lambda value, indent: '&anchor "%s"' % value,
    "tagged": lambda value, indent: "!!str " + value,
    "next line": lambda value, indent: "\n" + " " * (indent + 1) + value,
}


@pytest.mark.parametrize("style", sorted(STYLES))
@pytest.mark.parametrize("comment", ["", "  # admin's", "  "])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_keeps_quoting_comments_and_line_ends(style: str, comment: str, line_end: str) -> None:
    spell = STYLES[style]

    def text(cert: bytes, key: bytes) -> bytes:
        return (
            kubeadm(spell(b64(cert), 4) + comment, spell(b64(key), 4).replace("anchor", "other") + comment).replace("\n", line_end).encode()
        )

    assert replace(text(OLD_CERT, OLD_KEY)) == text(NEW_CERT, NEW_KEY)


@pytest.mark.parametrize("header", ["|", "|-", "|+", ">-", "|  # wrapped", "&a |-"])
@pytest.mark.parametrize("after", ["", "\n\n", "# comment at the margin\n", "    # indented comment\n", "    username: x\n"])
def test_block_scalars(header: str, after: str) -> None:
    wrapped = b64(OLD_CERT)
    if header[-1] != "-" or header[0] == "|":
        # A folded scalar's line ends would become spaces, which base64 does not allow; a literal's stay.
        wrapped = wrapped[:40] + "\n      " + wrapped[40:]
    if ">" in header:
        wrapped = wrapped.replace("\n      ", "")
    ending = "    client-key-data: '%s'\n"

    def text(cert: str, key: str) -> str:
        return kubeadm(header + "\n      " + cert, "").replace("    client-key-data: \n", "") + after + ending % key

    assert replace(text(wrapped, b64(OLD_KEY))) == text(b64(NEW_CERT), b64(NEW_KEY)).encode()


def test_block_scalars_at_the_very_end() -> None:
    for ending in ("", "\n", "\n\n", "\n  \n"):
        text = kubeadm(key="|-\n      " + b64(OLD_KEY)).rstrip() + ending
        assert replace(text) == text.replace(b64(OLD_CERT), b64(NEW_CERT)).replace(b64(OLD_KEY), b64(NEW_KEY)).encode()


def as_data(cert: bytes, key: bytes) -> dict[str, t.Any]:
    data = yaml.safe_load(kubeadm(b64(cert), b64(key)))
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize("indent", [None, 2, "\t"])
@pytest.mark.parametrize("escape", [False, True])
def test_json(indent: int | str | None, escape: bool) -> None:
    def text(cert: bytes, key: bytes, escape: bool) -> str:
        dumped = json.dumps(as_data(cert, key), indent=indent)
        return dumped.replace("/", "\\/") if escape else dumped

    found = replace(text(OLD_CERT, OLD_KEY, escape)).decode()
    assert json.loads(found) == as_data(NEW_CERT, NEW_KEY)
    if not escape:
        assert found == text(NEW_CERT, NEW_KEY, escape)


def test_compact_json() -> None:
    text = json.dumps(as_data(OLD_CERT, OLD_KEY), separators=(",", ":"))
    assert json.loads(replace(text)) == as_data(NEW_CERT, NEW_KEY)


def test_flow_style() -> None:
    def text(cert: bytes, key: bytes) -> str:
        return "{users: [ {name: a ,user: {client-key-data: %s ,client-certificate-data: '%s'}}]} # end" % (b64(key), b64(cert))

    assert replace(text(OLD_CERT, OLD_KEY), "a") == text(NEW_CERT, NEW_KEY).encode()


def test_byte_order_mark_and_letters_beyond_ascii() -> None:
    def text(cert: bytes, key: bytes) -> bytes:
        return ("\ufeff# Jürgens 🔑 \u2028\n" + kubeadm(b64(cert), b64(key)) + "# ü🔑").encode()

    assert replace(text(OLD_CERT, OLD_KEY)) == text(NEW_CERT, NEW_KEY)


def test_one_of_ten_users() -> None:
    def text(chosen: tuple[bytes, bytes]) -> str:
        entries = []
        for number in range(10):
            cert, key = chosen if number == 6 else (OLD_CERT, OLD_KEY)
            entries.append(
                "- name: u%d\n  user:\n    client-certificate-data: %s\n    client-key-data: %s\n" % (number, b64(cert), b64(key))
            )
        return "users:\n" + "".join(entries)

    assert replace(text((OLD_CERT, OLD_KEY)), "u6") == text((NEW_CERT, NEW_KEY)).encode()


def test_anchors_elsewhere_stay() -> None:
    text = "x-common: &c {a: b}\ny: *c\n" + kubeadm()
    assert replace(text) == ("x-common: &c {a: b}\ny: *c\n" + kubeadm(b64(NEW_CERT), b64(NEW_KEY))).encode()


SHARED = {
    "scalar": (
        "users:\n- {name: a, user: {client-certificate-data: &c %(c)s, client-key-data: %(k)s}}\n"
        "- {name: b, user: {client-certificate-data: *c}}"
    ),
    "alias": "x: &c %(c)s\nusers:\n- {name: a, user: {client-certificate-data: *c, client-key-data: %(k)s}}",
    "mapping": "users:\n- {name: a, user: &u {client-certificate-data: %(c)s, client-key-data: %(k)s}}\n- {name: b, user: *u}",
    "entry": "users:\n- &u {name: a, user: {client-certificate-data: %(c)s, client-key-data: %(k)s}}\nold: [*u]",
    "list": "users: &u\n- {name: a, user: {client-certificate-data: %(c)s, client-key-data: %(k)s}}\nold: *u",
}


@pytest.mark.parametrize("text", list(SHARED.values()), ids=list(SHARED))
def test_refuses_what_an_alias_shares(text: str) -> None:
    data = (text % {"c": b64(OLD_CERT), "k": b64(OLD_KEY)}).encode()
    assert _kubeconfig.parse_kubeconfig(data, "x").users["a"].client_certificate_data == OLD_CERT
    with pytest.raises(CertopsError, match="alias"):
        replace(data, "a")


@pytest.mark.parametrize(
    ("text", "user", "message"),
    [
        (kubeadm(), "nobody", "has no user nobody"),
        (kubeadm(cert=""), "kubernetes-admin", "no client-certificate-data embedded"),
        (kubeadm(key='""'), "kubernetes-admin", "no client-key-data embedded"),
        (kubeadm(key="|"), "kubernetes-admin", "no client-key-data embedded"),
        ("users: [{name: a}]", "a", "embedded"),
        ("users: [{name: a, user: {client-certificate: x}}]", "a", "embedded"),
        (kubeadm(key="!!binary " + b64(OLD_KEY)), "kubernetes-admin", "embedded"),
    ],
)
def test_refuses_what_is_not_embedded(text: str, user: str, message: str) -> None:
    with pytest.raises(CertopsError, match=message):
        replace(text, user)


# --- any file around the two scalars ---

COMMENTS = st.sampled_from(["", "", '# comment: \'with "quotes"\n', "\n", "  \n", "# ü🔑 [{\n"])
NAMES = st.sampled_from(["kubernetes-admin", "a b", "ü", "x@y", "1", "🔑"])
QUOTES = st.sampled_from(["plain", "single", "double", "anchored", "next line"])


@st.composite
def layouts(draw: t.Any) -> t.Callable[[bytes, bytes], bytes]:
    """A function that renders one and the same random kubeconfig around the given certificate and key."""
    name = draw(NAMES)
    styles = draw(st.tuples(QUOTES, QUOTES))
    comments = draw(st.lists(COMMENTS, min_size=8, max_size=8))
    key_first = draw(st.booleans())
    indent = draw(st.integers(1, 6))
    others = draw(st.lists(NAMES.filter(lambda other: other != name), max_size=3, unique=True))
    before = draw(st.integers(0, len(others)))
    line_end: str = draw(st.sampled_from(["\n", "\r\n"]))
    trailing = draw(st.sampled_from(["", " ", "  # c"]))

    def entry(who: str, cert: bytes, key: bytes) -> str:
        outer_pad = " " * max(indent, 2)
        pad = outer_pad + " " * indent
        fields = [
            "%sclient-certificate-data: %s%s\n" % (pad, STYLES[styles[0]](b64(cert), len(pad)), trailing),
            "%sclient-key-data: %s%s\n" % (pad, STYLES[styles[1]](b64(key), len(pad)).replace("anchor", "k"), trailing),
        ]
        inner = comments[1].join(reversed(fields) if key_first else fields)
        return "-%sname: '%s'\n%s%suser:\n%s%s" % (outer_pad[1:], who, comments[2], outer_pad, comments[3], inner)

    def render(cert: bytes, key: bytes) -> bytes:
        entries = [entry(other, OLD_CERT, OLD_KEY).replace("&anchor ", "").replace("&k ", "") for other in others]
        entries.insert(before, entry(name, cert, key))
        text: str = (
            comments[4] + "kind: Config\n" + comments[5] + "users:\n" + comments[6].join(entries) + comments[7] + "current-context: x\n"
        )
        return text.replace("\n", line_end).encode()

    render.user = name  # type: ignore[attr-defined]
    return render


@any_loader
@given(layouts())
def test_any_layout_survives(render: t.Any) -> None:
    assert replace(render(OLD_CERT, OLD_KEY), render.user) == render(NEW_CERT, NEW_KEY)
    again = _kubeconfig.replace_user_credentials(render(NEW_CERT, NEW_KEY), render.user, OLD_CERT, OLD_KEY, "x")
    assert again == render(OLD_CERT, OLD_KEY)
    user = _kubeconfig.parse_kubeconfig(replace(render(OLD_CERT, OLD_KEY), render.user), "x").users[render.user]
    assert (user.client_certificate_data, user.client_key_data) == (NEW_CERT, NEW_KEY)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@any_loader
@given(JSON_VALUES, st.sampled_from([None, 0, 2]), st.booleans())
def test_anything_else_in_the_file_survives(extra: t.Any, indent: int | None, flow: bool) -> None:
    """Extensions that nobody knows, as YAML in block or flow style, or as JSON."""

    data = dict(as_data(OLD_CERT, OLD_KEY), extensions=[{"name": "x", "extension": extra}])
    before = yaml.safe_dump(data, default_flow_style=flow, indent=indent or None, allow_unicode=True, width=100000)
    after = replace(before).decode()
    assert after == before.replace(b64(OLD_CERT), b64(NEW_CERT)).replace(b64(OLD_KEY), b64(NEW_KEY))


def test_refuses_when_the_outcome_is_not_the_wanted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kubeconfig, "_spelled_like", lambda document, node, value: "x\n- y")
    with pytest.raises(CertopsError):
        replace(kubeadm())
    monkeypatch.setattr(_kubeconfig, "_spelled_like", lambda document, node, value: "'x'")
    with pytest.raises(CertopsError, match="safely"):
        replace(kubeadm())


def test_offsets_are_those_of_the_text() -> None:
    text = "é: [a, 'b', \"🔑\"]  # ü\r\nc: |\r\n  x\r\n"
    root = _yaml_nodes.compose(text, "x").root
    assert root is not None
    raw = [text[node.start : node.end] for node in [*root.children[1].children, root.children[0]]]
    assert raw == ["a", "'b'", '"🔑"', "é"]


# --- a file instead of what is embedded ---

FILE = "/var/lib/kubelet/pki/kubelet-client-current.pem"


def name_file(text: str, user: str = "kubernetes-admin", file: str = FILE) -> bytes:
    return _kubeconfig.name_user_file(text.encode(), user, file, "kubelet.conf")


def with_file(text: str, cert: str = FILE, key: str = FILE) -> str:
    """The text with other keys and values, as a person would write it."""
    text = text.replace("client-certificate-data", "client-certificate").replace("client-key-data", "client-key")
    return text.replace(b64(OLD_CERT), cert).replace(b64(OLD_KEY), key)


def test_names_a_file_and_changes_nothing_else() -> None:
    assert name_file(kubeadm()) == with_file(kubeadm()).encode()


@pytest.mark.parametrize("style", sorted(STYLES))
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_names_a_file_in_the_style_of_what_is_there(style: str, line_end: str) -> None:
    spell = STYLES[style]
    text = kubeadm(spell(b64(OLD_CERT), 4) + "  # admin's", spell(b64(OLD_KEY), 4).replace("anchor", "other")).replace("\n", line_end)
    assert name_file(text) == with_file(text).encode()


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quoted_keys_stay_quoted(quote: str) -> None:
    text = kubeadm().replace("client-key-data", quote + "client-key-data" + quote)
    assert name_file(text) == with_file(text).encode()


@pytest.mark.parametrize("header", ["|", "|-", "|+", ">-", "|  # wrapped"])
@pytest.mark.parametrize("after", ["", "# comment at the margin\n", "    username: x\n"])
def test_a_block_becomes_one_line(header: str, after: str) -> None:
    text = kubeadm(header + "\n      " + b64(OLD_CERT)) + after
    user = yaml.safe_load(name_file(text))["users"][0]["user"]
    expected = {"client-certificate": FILE, "client-key": FILE}
    assert user == ({**expected, "username": "x"} if "username" in after else expected)


def test_json_names_a_file_too() -> None:
    text = json.dumps(as_data(OLD_CERT, OLD_KEY), indent="\t")
    assert name_file(text) == with_file(text).encode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    client-key-data", "    client-key: /x\n    client-key-data"),
        ("    client-key-data", "    client-certificate:\n    client-key-data"),
        ("client-key-data:", "client-key:"),
        ("client-key-data: ", "client-key-data: &key "),
    ],
)
def test_a_file_is_not_named_where_more_would_change(old: str, new: str) -> None:
    text = kubeadm().replace(old, new) + ("- name: *key\n" if "&key" in new else "")
    with pytest.raises(CertopsError):
        name_file(text)


@pytest.mark.parametrize("file", ["relative.pem", "/a b", "/a: b", "/a#b", "/\n", "/ü", '/"', ""])
def test_a_path_that_would_need_quotes_is_not_written(file: str) -> None:
    with pytest.raises(CertopsError, match="cannot be written into kubelet.conf as it is"):
        name_file(kubeadm(), file=file)


def test_a_user_that_is_not_there_names_no_file() -> None:
    with pytest.raises(CertopsError, match="has no user x"):
        name_file(kubeadm(), user="x")
