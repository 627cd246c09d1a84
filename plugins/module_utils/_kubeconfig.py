# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Kubeconfig files: read them; exchange the client certificate and key of one user and leave every other byte as it was.

Facts: k8s.io/client-go `tools/clientcmd` (`api/v1/types.go`, `api/v1/conversion.go`, `loader.go`): lists of named entries,
a name that is there twice is an error, data in the file wins over a path. The `*-data` fields are Go's []byte, so base64 in
its standard alphabet, in which Go ignores line ends and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._yaml_nodes import (
    YamlDocument,
    YamlNode,
    compose,
    decode_utf8,
    mapping_entry,
    mapping_pair,
)

_CERTIFICATE = "client-certificate-data"
_KEY = "client-key-data"
_FILES = {_CERTIFICATE: "client-certificate", _KEY: "client-key"}

_PLAIN_PATH = re.compile(r"/[\w./@+-]*\Z", re.ASCII)  # needs no quotes in YAML, and no escape within them

# What may stand in front of a scalar and belongs to its node: an anchor, a tag.
_NODE_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")


@dataclass(frozen=True)
class Cluster:
    """A cluster's entry. ca_data: decoded (PEM); ca_file: the path as written, relative to the kubeconfig's directory."""

    name: str
    server: str | None
    ca_data: bytes | None
    ca_file: str | None


@dataclass(frozen=True)
class UserCredential:
    """A user's entry. Data fields are decoded (PEM); paths are as written, relative to the kubeconfig's directory.

    token, exec: whether the user (also) identifies itself by a token, or by a plugin. The key is kept out of the text form.
    """

    name: str
    client_certificate_data: bytes | None
    client_key_data: bytes | None = field(repr=False)
    client_certificate: str | None
    client_key: str | None
    token: bool
    exec: bool


class Context(t.NamedTuple):
    """A context's entry: the names of its cluster and user."""

    cluster: t.Optional[str]  # evaluated at run time, so as Python 3.8 knows it
    user: t.Optional[str]


@dataclass(frozen=True)
class Kubeconfig:
    """What a kubeconfig says. `source` is what messages call it."""

    source: str
    current_context: str | None
    clusters: dict[str, Cluster]
    users: dict[str, UserCredential]
    contexts: dict[str, Context]

    def _current_context(self) -> Context:
        if self.current_context is None:
            raise CertopsError("%s has no current-context. Set one with 'kubectl config use-context'." % self.source)
        if self.current_context not in self.contexts:
            raise CertopsError(
                "The current-context %s of %s is none of its contexts. Set one with 'kubectl config use-context'."
                % (self.current_context, self.source)
            )
        return self.contexts[self.current_context]

    def current_user(self) -> UserCredential:
        """The user of the current context. Raises CertopsError if there is none."""
        name = self._current_context().user
        if name is None or name not in self.users:
            raise CertopsError("The current context of %s names a user (%s) that the file does not have. Correct it." % (self.source, name))
        return self.users[name]

    def current_cluster(self) -> Cluster:
        """The cluster of the current context. Raises CertopsError if there is none."""
        name = self._current_context().cluster
        if name is None or name not in self.clusters:
            raise CertopsError(
                "The current context of %s names a cluster (%s) that the file does not have. Correct it." % (self.source, name)
            )
        return self.clusters[name]


# --- reading ---


class _Reader:
    """Looks up entries in the file's tree; what is not of the expected type is a CertopsError."""

    def __init__(self, source: str) -> None:
        self.source = source

    def mapping(self, node: YamlNode, what: str) -> YamlNode:
        if node.kind != "mapping":
            raise CertopsError("%s is no kubeconfig: %s should be a mapping. Restore it from a backup." % (self.source, what))
        return node

    def text(self, mapping: YamlNode, key: str) -> str | None:
        """A string (or a plain number as text); None if absent, null or empty, which is all the same to client-go."""
        node = mapping_entry(mapping, key, self.source)
        if node is None:
            return None
        if not node.is_string:
            raise CertopsError("%s is no kubeconfig: %s should be a string. Restore it from a backup." % (self.source, key))
        if "\0" in node.value:
            raise CertopsError("%s is no kubeconfig: %s holds a NUL. Correct it or restore it from a backup." % (self.source, key))
        return node.value or None

    def data(self, mapping: YamlNode, key: str) -> bytes | None:
        encoded = self.text(mapping, key)
        if encoded is None:
            return None
        try:
            return base64.b64decode(encoded.replace("\r", "").replace("\n", "").encode("ascii"), validate=True) or None
        except (binascii.Error, UnicodeEncodeError):
            raise CertopsError("In %s, %s is not base64. Restore it from a backup or write it anew." % (self.source, key)) from None

    def entries(self, root: YamlNode, key: str, inner: str) -> dict[str, list[YamlNode]]:
        """Name → path of nodes from the list to the inner mapping, of a list of `{name, inner: {…}}`."""
        found: dict[str, list[YamlNode]] = {}
        items = mapping_entry(root, key, self.source)
        if items is None:
            return found
        if items.kind != "sequence":
            raise CertopsError("%s is no kubeconfig: %s should be a list. Restore it from a backup." % (self.source, key))
        for item in items.children:
            name = self.text(self.mapping(item, "an entry of %s" % key), "name") or ""
            if name in found:
                raise CertopsError("%s has the name %s twice in its %s, so Kubernetes refuses it. Remove one." % (self.source, name, key))
            body = mapping_entry(item, inner, self.source)
            path = [items, item]
            if body is not None:
                path.append(self.mapping(body, "%s of %s" % (inner, name)))
            found[name] = path
        return found


_EMPTY = YamlNode("mapping", -1, 0, 0)


def _body(path: t.Sequence[YamlNode]) -> YamlNode:
    """The inner mapping of an entry, or an empty one where it is absent."""
    return path[2] if len(path) > 2 else _EMPTY


def _root(document: YamlDocument, source: str) -> YamlNode:
    if document.root is None or document.root.is_null:
        raise CertopsError("%s is empty. Restore it from a backup or write it anew." % source)
    reader = _Reader(source)
    root = reader.mapping(document.root, "the document")
    kind = reader.text(root, "kind")
    if kind not in (None, "Config"):
        raise CertopsError("%s is no kubeconfig: its kind is %s. Is this the right file?" % (source, kind[:80] if kind else kind))
    return root


def _read_user(reader: _Reader, name: str, body: YamlNode) -> UserCredential:
    return UserCredential(
        name=name,
        client_certificate_data=reader.data(body, _CERTIFICATE),
        client_key_data=reader.data(body, _KEY),
        client_certificate=reader.text(body, "client-certificate"),
        client_key=reader.text(body, "client-key"),
        token=any(reader.text(body, key) is not None for key in ("token", "tokenFile")),
        exec=any(mapping_entry(body, key, reader.source) is not None for key in ("exec", "auth-provider")),
    )


def _read(document: YamlDocument, source: str) -> Kubeconfig:
    root = _root(document, source)
    reader = _Reader(source)
    clusters = {}
    for name, path in reader.entries(root, "clusters", "cluster").items():
        body = _body(path)
        ca_data = reader.data(body, "certificate-authority-data")
        clusters[name] = Cluster(name, reader.text(body, "server"), ca_data, reader.text(body, "certificate-authority"))
    contexts = {}
    for name, path in reader.entries(root, "contexts", "context").items():
        contexts[name] = Context(reader.text(_body(path), "cluster"), reader.text(_body(path), "user"))
    return Kubeconfig(
        source=source,
        current_context=reader.text(root, "current-context"),
        clusters=clusters,
        users={name: _read_user(reader, name, _body(path)) for name, path in reader.entries(root, "users", "user").items()},
        contexts=contexts,
    )


def parse_kubeconfig(data: bytes, source: str) -> Kubeconfig:
    """Reads a kubeconfig, in YAML or JSON; `source` is what messages call it.

    Raises CertopsError for everything that client-go would refuse, and for a file larger than a megabyte. No message holds
    anything of the file but names.
    """
    return _read(compose(decode_utf8(data, source), source), source)


# --- writing ---


def _spelled_like(document: YamlDocument, node: YamlNode, value: str) -> str:
    """The text of a new scalar in the style of the old one. base64 needs no escape in any of them."""
    raw = document.text[node.start : node.end]
    match = _NODE_PROPERTIES.match(raw)
    properties = match.group() if match else ""
    raw = raw[len(properties) :]
    if node.style in ("'", '"'):
        return properties + node.style + value + node.style
    if node.style in ("|", ">"):
        header, _line_end, content = raw.partition("\n")
        indent = content[: len(content) - len(content.lstrip())].rpartition("\n")[2]
        return properties + header + "\n" + indent + value + raw[len(raw.rstrip()) :]
    return properties + value


def _scalar_to_replace(path: t.Sequence[YamlNode], user: str, key: str, source: str) -> YamlNode:
    """The scalar of an embedded credential; refuses what cannot be changed without changing something else."""
    node = mapping_entry(path[-1], key, source)
    if node is None or not node.is_string or not node.value.strip():
        raise CertopsError("The user %s of %s has no %s embedded, so there is nothing to replace." % (user, source, key))
    if any(step.shared for step in [*path, node]):
        raise CertopsError(
            "The %s of user %s in %s is shared with another place by a YAML alias. Write the value out in both places."
            % (key, user, source)
        )
    return node


def _check_outcome(before: YamlDocument, data: bytes, values: dict[int, str], source: str) -> None:
    """Proof that the edit did what it should: the new text differs in the values of exactly these nodes, by their number."""
    after = compose(decode_utf8(data, source), source)
    # A block scalar's value ends with a line end.
    expected = [(kind, values.get(i, value), *rest) for i, (kind, value, *rest) in enumerate(before.outline)]
    found = [(kind, value.strip() if i in values else value, *rest) for i, (kind, value, *rest) in enumerate(after.outline)]
    if expected != found:
        raise CertopsError("%s is written in a way that cannot be changed safely. Write it in plain YAML." % source)


def replace_user_credentials(data: bytes, user: str, certificate_pem: bytes, key_pem: bytes, source: str) -> bytes:
    """The kubeconfig with another client certificate and key for one user, and every other byte as it was.

    Comments, order, quoting, line ends and anchors stay. Raises CertopsError if the user does not have both embedded, if a
    YAML alias shares them with another place, or if the file is not a kubeconfig.
    """
    document, path = _user_to_change(data, user, source)
    pieces = {}
    values = {}
    for key, pem in ((_CERTIFICATE, certificate_pem), (_KEY, key_pem)):
        node = _scalar_to_replace(path, user, key, source)
        values[node.number] = base64.b64encode(pem).decode("ascii")
        pieces[node.start, node.end] = _spelled_like(document, node, values[node.number])
    changed = _with_pieces(document, data, pieces)
    _check_outcome(document, changed, values, source)
    return changed


def name_user_file(data: bytes, user: str, file: str, source: str) -> bytes:
    """The kubeconfig with a user that names `file` (an absolute path) as client certificate and key instead of embedding them.

    Every other byte stays, as with `replace_user_credentials`. Raises CertopsError for the same reasons, and if the user has paths
    already, or the file's name or the way in which the keys are written would need more than an exchange of words.
    """
    document, path = _user_to_change(data, user, source)
    if not _PLAIN_PATH.match(file):
        raise CertopsError("The path %s cannot be written into %s as it is." % (file, source))
    pieces = {}
    values = {}
    for key, name in _FILES.items():
        node = _scalar_to_replace(path, user, key, source)
        pair = mapping_pair(path[-1], key, source)
        if mapping_pair(path[-1], name, source) is not None or pair is None or pair[0].shared:
            raise CertopsError("The user %s of %s has a %s beside the embedded one, or an alias for it." % (user, source, name))
        values.update({pair[0].number: name, node.number: file})
        pieces[pair[0].start, pair[0].end] = _spelled_like(document, pair[0], name)
        pieces[node.start, node.end] = _on_one_line(document, node, file)
    changed = _with_pieces(document, data, pieces)
    _check_outcome(document, changed, values, source)
    now = parse_kubeconfig(changed, source).users[user]
    if (now.client_certificate, now.client_key) != (file, file):  # a block's line end would belong to the path
        raise CertopsError("%s is written in a way that cannot be changed safely. Write it in plain YAML." % source)
    return changed


def _user_to_change(data: bytes, user: str, source: str) -> tuple[YamlDocument, list[YamlNode]]:
    """The document, and the nodes from the list of users to the user's own mapping."""
    document = compose(decode_utf8(data, source), source)
    path = _Reader(source).entries(_root(document, source), "users", "user").get(user)
    if path is None:
        raise CertopsError("%s has no user %s." % (source, user))
    return document, [*path[:2], _body(path)]


def _on_one_line(document: YamlDocument, node: YamlNode, value: str) -> str:
    """As `_spelled_like`, but a block becomes a plain scalar: it would end with a line end."""
    if node.style not in ("|", ">"):
        return _spelled_like(document, node, value)
    raw = document.text[node.start : node.end]
    match = _NODE_PROPERTIES.match(raw)
    return (match.group() if match else "") + value + raw[len(raw.rstrip()) :]


def _with_pieces(document: YamlDocument, data: bytes, pieces: t.Mapping[tuple[int, int], str]) -> bytes:
    """The text with these pieces, each between two of its offsets, as the bytes of a file that begins as `data` does."""
    text = document.text
    for (start, end), piece in sorted(pieces.items(), reverse=True):
        text = text[:start] + piece + text[end:]
    bom = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    return bom + text.encode("utf-8")


__all__ = (
    "Cluster",
    "Context",
    "Kubeconfig",
    "UserCredential",
    "name_user_file",
    "parse_kubeconfig",
    "replace_user_credentials",
)
