# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A certificate that another node signs: asked for, signed and put in place; the keys stay where they are."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Credential, Node
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Wanted
from ansible_collections.certops.kubernetes.plugins.module_utils._requests import SigningRequest, request_signatures, sign_requests
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import Request, predict
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import load_private_key
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import (
    FakeNode,
    assert_consistent,
    run,
)

NAME = "etcd/server"
KUBECONFIG = "scheduler.conf"


class TwoNodes:
    """A node without the keys of its CAs, and one that has them and little else."""

    def __init__(self, root: Path) -> None:
        self.node = FakeNode(root)
        (root / "signer").mkdir()
        credentials = {}
        for name, authority in self.node.authorities.items():
            cert, key = (root / "signer" / (name.replace("/", "-") + suffix) for suffix in (".pem", "-key.pem"))
            cert.write_bytes(pki.make_ca("kubernetes").cert_pem + authority.cert_pem)  # a bundle
            key.write_bytes(authority.key_pem)
            credentials[name] = Credential(name, "ca", str(cert), str(key), "ca", "etcd")
            (self.node.path("pki/%s.key" % name)).unlink()
        self.signer = Node(None, None, str(root), {}, credentials)

    def ask(self, *names: str, keep: bool = False, days: int | None = None, run_id: str = "run") -> list[SigningRequest]:
        return request_signatures(self.node.access(), self.node.state, run_id, names, keep, days)

    def sign(self, requests: t.Sequence[SigningRequest]) -> dict[str, bytes]:
        return sign_requests(self.signer, requests, self.node.access().now())

    def wanted(self, *names: str, **values: t.Any) -> tuple[Wanted, ...]:
        return tuple(dataclasses.replace(item, signed_by="etcd-1", **values) for item in self.node.wanted(*names))

    def rotate(self, signed: t.Mapping[str, bytes], *names: str, **options: t.Any) -> dict[str, t.Any]:
        items = tuple(dataclasses.replace(item, certificate=signed.get(item.name)) for item in self.wanted(*names))
        return run(self.node, items=items, **options)

    def pending(self) -> list[Path]:
        return sorted(Path(self.node.state.path).glob("pending/*"))


@pytest.fixture(name="nodes")
def _nodes(tmp_path: Path) -> TwoNodes:
    return TwoNodes(tmp_path)


@pytest.mark.parametrize("name", [NAME, KUBECONFIG])
def test_from_the_request_to_the_node(nodes: TwoNodes, name: str) -> None:
    before = nodes.node.tree()
    (request,) = nodes.ask(name, days=100)
    assert nodes.node.tree() == before, "nothing that is in use has changed"
    (key,) = nodes.pending()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert request.validity_seconds == 100 * 86400
    result = nodes.rotate(nodes.sign([request]), name)
    assert result["state"] == "committed"
    assert nodes.pending() == []
    assert_consistent(nodes.node)
    assert {path for path, content in nodes.node.tree().items() if content[0] != before[path][0]} == (
        {str(nodes.node.path(KUBECONFIG))}
        if name == KUBECONFIG
        else {str(nodes.node.path("pki/etcd/server" + suffix)) for suffix in (".crt", ".key")}
    )
    assert result["certificates"][0]["after"]["fingerprint_sha256"] == nodes.node.on_disk(name)
    (backup,) = Path(nodes.node.state.folder("run")).glob("**/*" + (KUBECONFIG if name == KUBECONFIG else "server.crt"))
    assert backup.read_bytes() in [content[0] for content in before.values()]


def test_nothing_secret_travels(nodes: TwoNodes) -> None:
    requests = nodes.ask(NAME, KUBECONFIG)
    text = json.dumps([request.plain() for request in requests])
    assert "PRIVATE KEY" not in text
    secrets = {line for path in nodes.pending() for line in path.read_text().splitlines() if "-----" not in line}
    assert secrets
    assert not [line for line in secrets if line in text]


def test_the_old_key_can_be_kept(nodes: TwoNodes) -> None:
    key = nodes.node.path("pki/etcd/server.key").read_bytes()
    requests = nodes.ask(NAME, keep=True)
    assert nodes.pending() == []
    assert nodes.rotate(nodes.sign(requests), NAME, keep_private_key=True)["state"] == "committed"
    assert nodes.node.path("pki/etcd/server.key").read_bytes() == key
    assert_consistent(nodes.node)


def test_one_request_for_a_file_of_two_names(nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """kubespray has one pair for etcd's clients and its peers."""
    credential = nodes.node.credential

    def twice(name: str) -> Credential:
        return dataclasses.replace(credential(NAME), name=name) if name == "etcd/peer" else credential(name)

    discover = nodes.node.discover

    def discovered() -> Node:
        node = discover()
        return dataclasses.replace(node, credentials={**node.credentials, "etcd/peer": twice("etcd/peer")})

    monkeypatch.setattr(nodes.node, "credential", twice)
    monkeypatch.setattr(nodes.node, "discover", discovered)
    requests = nodes.ask(NAME, "etcd/peer")
    assert [request.name for request in requests] == [NAME]
    result = nodes.rotate(nodes.sign(requests), NAME, "etcd/peer")
    assert {entry["after"]["fingerprint_sha256"] for entry in result["certificates"]} == {nodes.node.on_disk(NAME)}


def test_check_mode_needs_neither_key_nor_certificate(nodes: TwoNodes) -> None:
    before = nodes.node.everything()
    result = predict(nodes.node.access(), nodes.node.state, Request("run", nodes.wanted(NAME)))
    assert nodes.node.everything() == before
    assert (result["changed"], result["certificates"][0]["after"]["fingerprint_sha256"]) == (True, None)


def refused(nodes: TwoNodes, signed: t.Mapping[str, bytes], reason: str, **options: t.Any) -> None:
    """The node refuses what came, and is as it was."""
    before = nodes.node.tree()
    with pytest.raises(CertopsError, match=reason) as caught:
        nodes.rotate(signed, NAME, **options)
    assert "othing was changed" in str(caught.value)
    assert nodes.node.tree() == before
    assert nodes.pending() == [], "a key without a certificate is of no use"


def test_nothing_came(nodes: TwoNodes) -> None:
    nodes.ask(NAME)
    refused(nodes, {}, "etcd/server is signed on etcd-1, and nothing came from there")


def test_a_certificate_for_another_key(nodes: TwoNodes) -> None:
    signed = nodes.sign(nodes.ask(NAME))
    nodes.ask(NAME)
    refused(nodes, signed, "that etcd-1 signed for etcd/server is not taken: it does not belong to the key")


def test_no_key_waits(nodes: TwoNodes) -> None:
    signed = nodes.sign(nodes.ask(NAME, run_id="another"))
    refused(nodes, signed, "No key waits on this node")
    refused(nodes, signed, "does not belong to the key", keep_private_key=True)


@pytest.mark.parametrize("answer", [b"", b"noise", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_garbage_came(nodes: TwoNodes, answer: bytes) -> None:
    nodes.ask(NAME)
    refused(nodes, {NAME: answer}, "The certificate that etcd-1 signed for etcd/server is not taken")


def test_a_certificate_of_another_ca(nodes: TwoNodes) -> None:
    nodes.ask(NAME)
    (key,) = nodes.pending()
    stranger = pki.make_leaf(pki.make_ca("etcd-ca"), NAME, key=load_private_key(key.read_bytes(), str(key)))
    refused(nodes, {NAME: stranger.cert_pem}, "was not signed with the key of its CA")


def test_a_key_of_an_earlier_run_is_thrown_away(nodes: TwoNodes) -> None:
    nodes.ask(NAME, run_id="killed")
    (old,) = nodes.pending()
    nodes.ask(NAME)
    assert old not in nodes.pending()
    assert len(nodes.pending()) == 1


def test_a_request_for_what_is_not_there(nodes: TwoNodes) -> None:
    nodes.node.path("pki/etcd/ca.crt").write_bytes(pki.make_ca("etcd-ca").cert_pem)
    nodes.ask(KUBECONFIG)
    waiting = nodes.pending()
    with pytest.raises(CertopsError, match="Nothing was made. absent: .* etcd/server: the CA .* did not sign it"):
        nodes.ask("absent", NAME)
    assert nodes.pending() == waiting


def test_a_node_that_another_run_holds(nodes: TwoNodes) -> None:
    with nodes.node.state.lock("other", os.getpid(), "now"), pytest.raises(CertopsError, match="Another run"):
        nodes.ask(NAME)


def test_only_a_ca_of_the_signers_signs(nodes: TwoNodes) -> None:
    requests = nodes.ask(NAME)
    Path(str(nodes.signer.credentials["etcd/ca"].key_path)).write_bytes(b"no key")
    with pytest.raises(
        CertopsError, match=r"No CA whose key is on this node has signed etcd/server \(keys of CAs here: .*/ca-key.pem\). .* key"
    ):
        nodes.sign(requests)
    Path(str(nodes.signer.credentials["etcd/ca"].key_path)).unlink()
    Path(str(nodes.signer.credentials["ca"].key_path)).unlink()
    with pytest.raises(CertopsError, match=r"\(keys of CAs here: none\)"):
        nodes.sign(requests)
