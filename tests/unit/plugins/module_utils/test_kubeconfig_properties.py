# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kubeconfigs as any program may write them: read as PyYAML reads them, changed in two places and nowhere else, or refused."""

from __future__ import annotations

import base64
import json
import re
import typing as t

import pytest
import yaml
from ansible_collections.certops.kubernetes.plugins.module_utils import _kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeconfigs import NEW_CERT, NEW_KEY, b64
from hypothesis import assume, event, given
from hypothesis import strategies as st

pytestmark = pytest.mark.usefixtures("loader")

# What PyYAML's readers and writers agree about: no control characters, no line ends but "\n", no byte order mark.
PRINTABLE = st.characters(blacklist_categories=["Cs", "Cc", "Cn", "Co"], blacklist_characters="\ufeff\u2028\u2029\x85")
TEXTS = st.text(PRINTABLE | st.just("\n"), max_size=12)
NAMES = st.one_of(st.sampled_from(["kubernetes-admin", "a b", "1", "true", "null", "~", "<<", "-", "? a", "#", "&a", "a: b"]), TEXTS)
SHORT_DATA = st.binary(min_size=1, max_size=90)
EXTRAS = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS.filter(lambda text: text != "<<"), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def entries(draw: t.Any, inner: str, known: dict[str, st.SearchStrategy[t.Any]]) -> list[dict[str, t.Any]]:
    """A list of named entries, each with some of the known fields and some that nobody knows."""
    names = draw(st.lists(NAMES.filter(bool), max_size=3, unique=True))
    found = []
    for name in names:
        body = {key: draw(values) for key, values in known.items() if draw(st.booleans())}
        body.update(draw(st.dictionaries(st.sampled_from(["x-a", "x-b", "extensions"]), EXTRAS, max_size=2)))
        entry = {"name": name, inner: body}
        found.append(dict(reversed(list(entry.items()))) if draw(st.booleans()) else entry)
    return found


ENCODED = SHORT_DATA.map(b64)
USERS = entries(
    "user",
    {
        "client-certificate-data": ENCODED,
        "client-key-data": ENCODED,
        "client-certificate": TEXTS,
        "token": TEXTS,
        "exec": st.dictionaries(TEXTS.filter(lambda text: text != "<<"), TEXTS, min_size=1, max_size=2),
    },
)
CLUSTERS = entries("cluster", {"server": TEXTS, "certificate-authority-data": ENCODED, "certificate-authority": TEXTS})
CONTEXTS = entries("context", {"cluster": NAMES, "user": NAMES})


@st.composite
def kubeconfigs(draw: t.Any) -> dict[str, t.Any]:
    """The content of a kubeconfig, its keys in any order."""
    document: dict[str, t.Any] = {"users": draw(USERS), "clusters": draw(CLUSTERS), "contexts": draw(CONTEXTS)}
    document.update(draw(st.dictionaries(st.sampled_from(["preferences", "extensions", "x-c"]), EXTRAS, max_size=2)))
    if draw(st.booleans()):
        document.update({"kind": "Config", "apiVersion": "v1", "current-context": draw(NAMES)})
    return {key: document[key] for key in draw(st.permutations(sorted(document)))}


class Writing(t.NamedTuple):
    """A way to write a document down, and an independent way to read that."""

    write: t.Callable[[t.Any], bytes]
    load: t.Callable[[bytes], t.Any]


@st.composite
def writings(draw: t.Any) -> Writing:
    """Any of the ways that PyYAML and json offer."""
    if draw(st.integers(0, 3)) == 0:
        options = {
            "indent": draw(st.sampled_from([None, 0, 2, "\t"])),
            "separators": draw(st.sampled_from([None, (",", ":"), (" , ", " : ")])),
        }
        # JSON may be indented with tabs, and PyYAML refuses those.
        return Writing(lambda document: json.dumps(document, ensure_ascii=False, **options).encode(), json.loads)
    yaml_options = {
        "default_flow_style": draw(st.sampled_from([None, True, False])),
        "default_style": draw(st.sampled_from([None, None, None, "'", '"', "|", ">"])),
        "canonical": draw(st.sampled_from([None, None, None, True])),
        "indent": draw(st.integers(2, 6)),
        "width": draw(st.sampled_from([20, 80, 100000])),
        "allow_unicode": draw(st.booleans()),
        "line_break": draw(st.sampled_from(["\n", "\r\n"])),
        "explicit_start": draw(st.booleans()),
        "explicit_end": draw(st.booleans()),
        "version": draw(st.sampled_from([None, (1, 1)])),
        "sort_keys": False,
    }
    before, after = draw(st.sampled_from(["", "# ü \U0001f511\n\n", "#\n"])), draw(st.sampled_from(["", "# end", "\n\n  # end\n"]))
    mark = draw(st.sampled_from(["", "\ufeff"]))

    def render(document: t.Any) -> bytes:
        text = str(yaml.dump(document, Dumper=yaml.SafeDumper, **yaml_options))
        return str.encode(mark + before + text + ("" if yaml_options["explicit_end"] else after))

    return Writing(render, yaml.safe_load)


def as_text(value: t.Any) -> str | None:
    """What client-go makes of a string: an empty one is none."""
    return str(value) if value not in (None, "") else None


def decoded(value: t.Any) -> bytes | None:
    return base64.b64decode(value) or None if value else None


@given(kubeconfigs(), writings())
def test_reads_what_pyyaml_reads(document: dict[str, t.Any], writing: Writing) -> None:
    data = writing.write(document)
    loaded = writing.load(data)
    assert loaded == document
    config = _kubeconfig.parse_kubeconfig(data, "x")
    assert config.current_context == as_text(loaded.get("current-context"))
    assert list(config.users) == [entry["name"] for entry in loaded["users"]]
    for entry in loaded["users"]:
        user, body = config.users[entry["name"]], entry["user"]
        assert (user.client_certificate_data, user.client_key_data) == tuple(
            decoded(body.get(key)) for key in ("client-certificate-data", "client-key-data")
        )
        assert (user.client_certificate, user.client_key) == (as_text(body.get("client-certificate")), None)
        assert (user.token, user.exec) == (bool(body.get("token")), "exec" in body)
    for entry in loaded["clusters"]:
        cluster, body = config.clusters[entry["name"]], entry["cluster"]
        assert (cluster.server, cluster.ca_file) == (as_text(body.get("server")), as_text(body.get("certificate-authority")))
        assert cluster.ca_data == decoded(body.get("certificate-authority-data"))
    for entry in loaded["contexts"]:
        context, body = config.contexts[entry["name"]], entry["context"]
        assert tuple(context) == (as_text(body.get("cluster")), as_text(body.get("user")))


def check_exchange(data: bytes, changed: bytes, old: dict[str, bytes]) -> None:
    """Apart from the two new values, each once, all is as it was; and what they replaced was the old values."""
    pieces = re.split(b"|".join((re.escape(b64(NEW_CERT).encode()), re.escape(b64(NEW_KEY).encode()))), changed)
    before, between, after = pieces
    assert data.startswith(before)
    assert data.endswith(after)
    middle = data[len(before) : len(data) - len(after)]
    certificate_first = changed.index(b64(NEW_CERT).encode()) < changed.index(b64(NEW_KEY).encode())
    wanted = [old["client-certificate-data"], old["client-key-data"]]
    # One of the places where the part between them occurs splits what was there into the two old values.
    places = (match.start() for match in re.finditer(b"(?=%s)" % re.escape(between), middle))
    found = [[spelled(middle[:place]), spelled(middle[place + len(between) :])] for place in places]
    assert (wanted if certificate_first else wanted[::-1]) in found


def spelled(raw: bytes) -> bytes | None:
    """The value of base64 as it is spelled in YAML: escapes and folded lines taken out."""
    text = re.sub(rb"\\\r?\n[ \t]*|\s", b"", raw.replace(b"\\/", b"/"))
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


@given(kubeconfigs(), writings(), st.data())
def test_two_scalars_change_and_every_other_byte_stays(document: dict[str, t.Any], writing: Writing, data: st.DataObject) -> None:
    name = data.draw(NAMES.filter(bool))
    old = {"client-certificate-data": data.draw(SHORT_DATA), "client-key-data": data.draw(SHORT_DATA)}
    further = data.draw(st.dictionaries(st.just("x"), TEXTS, max_size=1))
    user = {**{key: b64(value) for key, value in old.items()}, **further}
    entry = {"name": name, "user": user}
    document["users"] = [*(other for other in document["users"] if other["name"] != name), entry]
    text = writing.write(document)
    changed = _kubeconfig.replace_user_credentials(text, name, NEW_CERT, NEW_KEY, "x")
    check_exchange(text, changed, old)
    user.update({"client-certificate-data": b64(NEW_CERT), "client-key-data": b64(NEW_KEY)})
    assert writing.load(changed) == document


@given(kubeconfigs(), writings(), st.sampled_from(["---\n- x\n", "--- {users: []}\n", "...\n---\n", "--- [\n", "}"]))
def test_further_documents_are_refused_not_touched(document: dict[str, t.Any], writing: Writing, further: str) -> None:
    data = writing.write(document)
    assume(data.rstrip().endswith((b"}", b"]", b"...")) or data.endswith(b"\n"))
    for attempt in (
        lambda: _kubeconfig.parse_kubeconfig(data + b"\n" + further.encode(), "x"),
        lambda: _kubeconfig.replace_user_credentials(data + b"\n" + further.encode(), "u", NEW_CERT, NEW_KEY, "x"),
    ):
        with pytest.raises(CertopsError, match=r"^x .*\.$"):
            attempt()


@given(EXTRAS.filter(lambda value: isinstance(value, (list, dict)) and bool(value)), writings(), st.booleans())
def test_anchors_elsewhere_stay_and_shared_ones_are_refused(extra: t.Any, writing: Writing, share: bool) -> None:
    """PyYAML writes an anchor and aliases for what is in a document more than once."""
    user = {"client-certificate-data": b64(b"c" * 40), "client-key-data": b64(b"k" * 40), "extensions": extra}
    document = {"users": [{"name": "u", "user": user}], "x-a": extra, "x-b": [extra, user if share else None]}
    data = writing.write(document)
    shared = share and b"&id" in data
    event("shared" if shared else "not shared")
    if shared:
        with pytest.raises(CertopsError, match="alias"):
            _kubeconfig.replace_user_credentials(data, "u", NEW_CERT, NEW_KEY, "x")
        return
    changed = _kubeconfig.replace_user_credentials(data, "u", NEW_CERT, NEW_KEY, "x")
    user_after = {**user, "client-certificate-data": b64(NEW_CERT), "client-key-data": b64(NEW_KEY)}
    assert writing.load(changed) == {**document, "users": [{"name": "u", "user": user_after}]}


@given(kubeconfigs(), writings(), st.data())
def test_a_damaged_file_is_read_explained_or_changed_in_two_places_only(
    document: dict[str, t.Any], writing: Writing, data: st.DataObject
) -> None:
    document["users"] = [{"name": "u", "user": {"client-certificate-data": b64(b"c" * 40), "client-key-data": b64(b"k" * 40)}}]
    text = writing.write(document).decode()
    for _number in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text)))
        noise = data.draw(st.text("ab:-{}[]&*!|>'\"# \n\r\t%@`,?\\\u2028\x85\x00é<", max_size=4))
        text = text[:place] + noise + text[place + data.draw(st.integers(0, 20)) :]
    try:
        changed = _kubeconfig.replace_user_credentials(text.encode(), "u", NEW_CERT, NEW_KEY, "x")
    except CertopsError as error:
        assert b64(b"k" * 40) not in str(error)
        event("refused")
        return
    event("changed")
    assert changed.count(b64(NEW_CERT).encode()) == changed.count(b64(NEW_KEY).encode()) == 1
    user = _kubeconfig.parse_kubeconfig(changed, "x").users["u"]
    assert (user.client_certificate_data, user.client_key_data) == (NEW_CERT, NEW_KEY)
