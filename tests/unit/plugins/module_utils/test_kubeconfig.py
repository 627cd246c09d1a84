# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of plugins/module_utils/_kubeconfig.py and _yaml_nodes.py."""

from __future__ import annotations

import contextlib
import time

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeconfigs import (
    CA,
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

# --- reading ---


def test_reads_what_kubeadm_writes() -> None:
    config = _kubeconfig.parse_kubeconfig(kubeadm().encode(), "admin.conf")
    assert config.current_context == "kubernetes-admin@kubernetes"
    user = config.current_user()
    assert (user.name, user.client_certificate_data, user.client_key_data) == ("kubernetes-admin", OLD_CERT, OLD_KEY)
    assert (user.client_certificate, user.client_key, user.token, user.exec) == (None, None, False, False)
    cluster = config.current_cluster()
    assert (cluster.server, cluster.ca_data, cluster.ca_file) == ("https://10.0.0.1:6443", CA, None)
    assert list(config.clusters) == ["kubernetes"]
    assert config.contexts["kubernetes-admin@kubernetes"].user == "kubernetes-admin"


def test_the_key_is_not_in_the_text_form() -> None:
    config = _kubeconfig.parse_kubeconfig(kubeadm().encode(), "admin.conf")
    assert "PRIVATE KEY" not in repr(config)
    assert b64(OLD_KEY) not in repr(config)


def test_reads_references_tokens_and_plugins() -> None:
    text = """
users:
- name: kubelet
  user: {client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem, client-key: kubelet.pem}
- {name: a, user: {token: abc}}
- {name: b, user: {tokenFile: /token}}
- {name: c, user: {exec: {command: aws}}}
- {name: d, user: {auth-provider: {name: oidc}}}
- {name: e, user: }
- {name: f}
- {name: 7, user: {token: null, client-certificate-data: "", client-key-data: ~}}
clusters: [{name: c, cluster: {certificate-authority: ca.crt}}]
contexts:
current-context: ""
"""
    config = _kubeconfig.parse_kubeconfig(text.encode(), "x")
    assert list(config.users) == ["kubelet", "a", "b", "c", "d", "e", "f", "7"]
    kubelet = config.users["kubelet"]
    assert (kubelet.client_certificate, kubelet.client_key) == ("/var/lib/kubelet/pki/kubelet-client-current.pem", "kubelet.pem")
    assert [name for name, user in config.users.items() if user.token] == ["a", "b"]
    assert [name for name, user in config.users.items() if user.exec] == ["c", "d"]
    assert config.users["7"] == config.users["e"].__class__("7", None, None, None, None, False, False)
    assert (config.clusters["c"].ca_file, config.clusters["c"].server) == ("ca.crt", None)
    assert config.current_context is None
    with pytest.raises(CertopsError, match="no current-context"):
        config.current_user()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("current-context: a", "none of its contexts"),
        ("current-context: a\ncontexts: [{name: a}]", "names a user"),
        ("current-context: a\ncontexts: [{name: a, context: {user: u}}]", "names a user"),
    ],
)
def test_a_context_that_leads_nowhere(text: str, message: str) -> None:
    config = _kubeconfig.parse_kubeconfig(text.encode(), "x.conf")
    with pytest.raises(CertopsError, match=message):
        config.current_user()
    with pytest.raises(CertopsError):
        config.current_cluster()


def test_a_context_without_its_cluster() -> None:
    text = "current-context: a\ncontexts: [{name: a, context: {user: u, cluster: c}}]\nusers: [{name: u}]"
    config = _kubeconfig.parse_kubeconfig(text.encode(), "x.conf")
    assert config.current_user().name == "u"
    with pytest.raises(CertopsError, match="names a cluster"):
        config.current_cluster()


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join("%s: &%s [%s]\n" % (b, b, ",".join(["*" + a] * 9)) for a, b in zip("abcdefghi", "bcdefghij"))

GARBAGE = {
    "empty": b"",
    "blank": b"\n  \n",
    "comment": b"# nothing\n",
    "null": b"null\n",
    "scalar": b"hello",
    "list": b"- a\n- b\n",
    "der": b"\x30\x82\x01\x0a\x02\x82\x01\x01\x00",
    "pem": OLD_CERT,
    "nul": b"a: \x00",
    "utf-16": "users: []".encode("utf-16"),
    "latin-1": "users: [{name: Jürgen}]".encode("latin-1"),
    "binary": bytes(range(256)),
    "brackets": b"[" * 1000000,
    "braces": b"{a: " * 250000,
    "dashes": b"- " * 500000,
    "too large": b"a: b\n" * 300000,
    "many entries": b"- \n" * 101000,
    "two documents": b"users: []\n---\nusers: []\n",
    "unclosed quote": b"users: 'abc\n",
    "tab": b"users:\n\t- name: a\n",
    "undefined alias": b"users: *u\n",
    "beyond Unicode": b'users: "\\UFFFFFFFF"\n',
    "just beyond Unicode": b'users: "\\U00110000"\n',
    "half of a surrogate pair": b'users: [{name: "\\ud800"}]\n',
    "a NUL": b'users: [{name: a, user: {client-key: "a\\0b"}}]\n',
    "a version of many digits": b"%YAML 1." + b"9" * 100000 + b"\n--- {users: []}\n",
    "users is a mapping": b"users: {name: a}\n",
    "users is a string": b"users: abc\n",
    "user is a list": b"users: [{name: a, user: [b]}]\n",
    "entry is a string": b"users: [abc]\n",
    "entry is a list": b"users: [[a, b]]\n",
    "name is a mapping": b"users: [{name: {a: b}}]\n",
    "clusters is a mapping": b"clusters: {a: b}\n",
    "context is a string": b"contexts: [{name: a, context: b}]\n",
    "current-context is a list": b"current-context: [a]\n",
    "data is a mapping": b"users: [{name: a, user: {client-key-data: {a: b}}}]\n",
    "data is not base64": b"users: [{name: a, user: {client-key-data: 'c2VjcmV0!'}}]\n",
    "data has a space": b"users: [{name: a, user: {client-key-data: 'c2Vj cmV0'}}]\n",
    "data without padding": b"users: [{name: a, user: {client-key-data: 'c2VjcmV'}}]\n",
    "data is not ASCII": "users: [{name: a, user: {client-key-data: 'é'}}]\n".encode(),
    "data is tagged": b"users: [{name: a, user: {client-key-data: !!binary c2VjcmV0}}]\n",
    "same user twice": b"users: [{name: a}, {name: a}]\n",
    "same key twice": b"users: []\nusers: []\n",
    "merge key": b"users: [{name: a, user: {<<: {token: a}}}]\n",
    "another kind": b"kind: Pod\nusers: []\n",
    "alias into itself": b"users: &u [*u]\n",
    "alias of a sequence into its user": b"users: &u [{name: a, user: *u}]\n",
}


@pytest.mark.parametrize("data", list(GARBAGE.values()), ids=list(GARBAGE))
def test_garbage_is_explained(data: bytes) -> None:
    for attempt in (
        lambda: _kubeconfig.parse_kubeconfig(data, "/etc/kubernetes/admin.conf"),
        lambda: _kubeconfig.replace_user_credentials(data, "a", NEW_CERT, NEW_KEY, "/etc/kubernetes/admin.conf"),
    ):
        started = time.monotonic()
        with pytest.raises(CertopsError) as caught:
            attempt()
        text = str(caught.value)
        assert "/etc/kubernetes/admin.conf" in text
        assert "c2Vj" not in text
        assert text.endswith((".", "?"))
        assert time.monotonic() - started < 30


def test_an_alias_bomb_costs_nothing() -> None:
    started = time.monotonic()
    text = BOMB + kubeadm()
    assert _kubeconfig.parse_kubeconfig(text.encode(), "x").current_user().client_key_data == OLD_KEY
    assert replace(text) == (BOMB + kubeadm(b64(NEW_CERT), b64(NEW_KEY))).encode()
    assert time.monotonic() - started < 5


def test_many_users_who_share_a_large_entry() -> None:
    started = time.monotonic()
    entries = "".join("    x%d: y\n" % number for number in range(30000))
    users = "".join("- {name: u%d, user: *u}\n" % number for number in range(5000))
    text = "users:\n- name: a\n  user: &u\n%s    client-key: k\n%s" % (entries, users)
    config = _kubeconfig.parse_kubeconfig(text.encode(), "x")
    assert config.users["u4999"].client_key == "k"
    assert time.monotonic() - started < 60


def test_errors_do_not_quote_the_file() -> None:
    text = kubeadm() + "\n'" + b64(OLD_KEY)
    with pytest.raises(CertopsError) as caught:
        _kubeconfig.parse_kubeconfig(text.encode(), "x")
    assert b64(OLD_KEY) not in str(caught.value)
    assert "line" in str(caught.value)
    assert caught.value.__cause__ is None


@any_loader
@given(st.binary(max_size=300) | st.text(alphabet="ab:-{}[]&*!|>'\"# \n\t%@`,?", max_size=60).map(lambda text: text.encode()))
def test_noise_never_raises_anything_else(data: bytes) -> None:
    for attempt in (
        lambda: _kubeconfig.parse_kubeconfig(data, "x"),
        lambda: _kubeconfig.replace_user_credentials(data, "a", NEW_CERT, NEW_KEY, "x"),
    ):
        with contextlib.suppress(CertopsError):
            attempt()


@any_loader
@given(st.data())
def test_a_damaged_kubeconfig_never_raises_anything_else(data: st.DataObject) -> None:
    """Random characters thrown into a good file: either it is still readable, or it is explained."""
    text = kubeadm()
    for _number in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        noise = data.draw(st.text(alphabet="ab:-{}[]&*!|>'\"# \n\t%@`,?\u2028\x85\x00é", max_size=4))
        text = text[:place] + noise + text[place + data.draw(st.integers(0, 30)) :]
    for attempt in (lambda: _kubeconfig.parse_kubeconfig(text.encode(), "x"), lambda: replace(text)):
        try:
            attempt()
        except CertopsError as exc:
            assert b64(OLD_KEY) not in str(exc)
