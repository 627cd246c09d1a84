# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of a kubelet.conf that embeds its client certificate: renewed, it names a file that the kubelet can renew; and the way back."""

from __future__ import annotations

import dataclasses
import os
import stat
import typing as t
from datetime import timedelta

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import ClientProof
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Wanted
from ansible_collections.certops.kubernetes.plugins.module_utils._result import RotationFailed
from ansible_collections.certops.kubernetes.plugins.module_utils._rollback import RollbackRequest, roll_back
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import Request, predict
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import key_matches, load_private_key, parse_certificates
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import KUBELET, LIMITS, Killed, run
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubelet_node import CLIENT, CONF, EmbeddedNode
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.test_kubelet_client import killing

if t.TYPE_CHECKING:
    from pathlib import Path


def back(node: EmbeddedNode, **options: t.Any) -> dict[str, t.Any]:
    return roll_back(node.access(), node.state, RollbackRequest(None, "back", health_seconds=1.0, **options), LIMITS)


def renamed(node: EmbeddedNode, before: str) -> str:
    """What kubelet.conf should be now."""
    lines = before.splitlines(keepends=True)
    lines[-2] = "    client-certificate: %s\n" % node.link
    lines[-1] = '    client-key: "%s"  # and this one\n' % node.link
    return "".join(lines)


@pytest.mark.parametrize("rotated", [True, False])
@pytest.mark.parametrize("linked", [True, False])
def test_renewed_it_names_the_link(tmp_path: Path, rotated: bool, linked: bool) -> None:
    node = EmbeddedNode(tmp_path, rotated=rotated, linked=linked)
    before, text, pems = node.on_disk(CONF), node.conf.read_text(), node.pems()
    result = run(node, CONF)
    assert result["state"] == "committed"
    assert len(node.asked) == 1
    assert node.conf.read_text() == renamed(node, text)
    assert stat.S_IMODE(node.conf.stat().st_mode) == 0o640
    assert stat.S_IMODE(node.link.stat().st_mode) == 0o600
    new = node.link.read_bytes()
    leaf = parse_certificates(new, "new")[0]
    assert key_matches(leaf, load_private_key(new, "new"))
    (certificate,) = result["certificates"]
    assert certificate["after"]["fingerprint_sha256"] == node.on_disk(CLIENT) != before
    assert (certificate["before"]["kept_in"], certificate["after"]["kept_in"]) == (str(node.conf), str(node.link))
    assert (certificate["in_use"], certificate["proof"]) == ("true", "process_age")
    assert node.restarts == [KUBELET]
    assert back(node)["state"] == "committed"
    assert (node.conf.read_text(), node.on_disk(CONF)) == (text, before)
    links = {name for name in node.pems() if "->" in name}
    assert links == {name for name in pems if "->" in name}
    assert node.restarts == [KUBELET, KUBELET]
    assert back(node)["changed"] is False


def test_together_with_the_file_that_is_there_it_gets_that_ones_successor(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path, linked=True)
    text, led = node.conf.read_text(), os.readlink(node.link)
    result = run(node, CONF, CLIENT)
    assert len(node.asked) == 1
    assert len({one["after"]["fingerprint_sha256"] for one in result["certificates"]}) == 1
    assert node.conf.read_text() == renamed(node, text)
    back(node)
    assert (node.conf.read_text(), os.readlink(node.link)) == (text, led)


def test_this_nodes_ca_signs_what_has_expired(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path, left=timedelta(days=-2))
    run(node, CONF)
    assert node.asked == []
    assert node.on_disk(CLIENT)


def test_a_kubelet_that_has_another_valid_one_asks_with_that(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path, linked=True, left=timedelta(days=-2))
    valid = pki.make_leaf(node.authorities["ca"], "system:node:n1", organization="system:nodes")
    node.old.write_bytes(valid.cert_pem + valid.key_pem)
    run(node, CONF)
    assert len(node.asked) == 1


def test_another_client_is_not_made_of_it(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path, linked=True)
    other = pki.make_leaf(node.authorities["ca"], "system:node:n2", organization="system:nodes")
    node.old.write_bytes(other.cert_pem + other.key_pem)
    tree, pems = node.tree(), node.pems()
    with pytest.raises(CertopsError, match=r"kubelet-client-current.pem is for .*system:node:n2.* Remedy: find out"):
        run(node, CONF)
    assert (node.tree(), node.pems(), node.asked) == (tree, pems, [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    client-key-data:", "    client-key: /x\n    client-key-data:"),
        ("client-certificate-data:", "client-certificate:\n    client-certificate-data:"),
    ],
)
def test_what_cannot_be_converted_is_renewed_where_it_is(tmp_path: Path, old: str, new: str) -> None:
    node = EmbeddedNode(tmp_path)
    node.conf.write_text(node.conf.read_text().replace(old, new))
    before, pems = node.on_disk(CONF), node.pems()
    result = run(node, CONF)
    assert node.on_disk(CONF) == result["certificates"][0]["after"]["fingerprint_sha256"] != before
    assert node.pems() == pems
    assert any("embeds its new certificate again" in warning and "beside the embedded one" in warning for warning in result["warnings"])
    assert node.restarts == [KUBELET]


def test_check_mode_says_where_it_will_be_and_asks_nobody(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path)
    found = node.everything()
    result = predict(node.access(), node.state, Request("run", node.wanted(CONF)))
    assert result["changed"] is True
    assert "kept in: %s" % node.conf in result["diff"][0]["before"]
    assert "kept in: %s" % node.link in result["diff"][0]["after"]
    assert [component["name"] for component in result["components"] if component["action"] == "restarted"] == [KUBELET]
    assert (node.everything(), node.asked) == (found, [])


def test_a_kubelet_that_does_not_come_back_has_its_kubeconfig_again(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path)
    text, pems = node.conf.read_text(), node.pems()
    node.stubborn.add(KUBELET)
    with pytest.raises(RotationFailed, match="kubelet did not come back"):
        run(node, CONF)
    assert (node.conf.read_text(), node.pems()) == (text, pems)


def test_one_that_is_not_accepted_is_put_back(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path)
    text, before = node.conf.read_text(), node.on_disk(CONF)
    node.proofs[CONF] = lambda wanted: ClientProof("true" if wanted == before else "false", "identity", "not accepted")
    with pytest.raises(RotationFailed, match="kubelet does not use the certificate kubelet.conf"):
        run(node, CONF)
    assert node.conf.read_text() == text


def test_a_kubelet_that_has_renewed_it_since_keeps_its_link_on_the_way_back(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path)
    text = node.conf.read_text()
    run(node, CONF)
    newer = node.folder / "kubelet-client-2030-01-01-00-00-00.pem"
    newer.write_bytes(node.link.read_bytes())
    node.link.unlink()
    node.link.symlink_to(newer)
    back(node)
    assert node.conf.read_text() == text
    assert os.readlink(node.link) == str(newer)


def test_killed_at_any_step_the_next_run_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every moment kubelet.conf leads to a certificate with its key, and the next run leaves none of the killed one's leftovers."""
    strikes = 0
    for number in range(1000):
        node = EmbeddedNode(tmp_path / str(number))
        text = node.conf.read_text()
        with monkeypatch.context() as patch:
            count = [0]
            for call in ("symlink", "replace", "open", "unlink"):
                patch.setattr(os, call, killing(getattr(os, call), count, number, str(node.root)))
            try:
                run(node, CONF)
            except Killed:
                strikes += 1
        user = parse_kubeconfig(node.conf.read_bytes(), "it").current_user()
        if user.client_certificate_data is None:
            assert parse_certificates(node.link.read_bytes(), "it")
        if node.state.exists():
            run(node, items=(Wanted("admin.conf", "renew", node.on_disk("admin.conf")),))
            assert not [name for name in node.pems() if name.startswith(".")]
            converted = node.conf.read_text() != text
            assert len(node.pems()) == (2 if converted else 0)
        if strikes <= number:
            break
    assert strikes > 20


def test_the_key_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path)
    run(node, CONF, keep_private_key=True)
    assert key_matches(parse_certificates(node.link.read_bytes(), "new")[0], load_private_key(node.pair.key_pem, "old"))


def test_a_signer_that_does_not_sign_changes_nothing(tmp_path: Path) -> None:
    def refuse(*_anything: t.Any) -> bytes:
        raise CertopsError("The request is not approved. Remedy: approve it.")

    node = EmbeddedNode(tmp_path)
    tree = node.tree()
    node.access = lambda: dataclasses.replace(EmbeddedNode.access(node), ask_signer=refuse)  # type: ignore[method-assign]
    with pytest.raises(CertopsError, match="nothing was changed. kubelet.conf: The request is not approved"):
        run(node, CONF)
    assert node.tree() == tree
