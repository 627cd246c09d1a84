# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of the renewal of the kubelet's client certificate: who signs it, what is written, and the way back."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import stat
import typing as t
from datetime import timedelta

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Reader
from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import ClientProof
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Wanted
from ansible_collections.certops.kubernetes.plugins.module_utils._result import RotationFailed
from ansible_collections.certops.kubernetes.plugins.module_utils._rollback import RollbackRequest, predict_rollback, roll_back
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import Request, predict, rotate
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import key_matches, load_private_key, parse_certificates
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import KUBELET, LIMITS, NAMES, Killed, run
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubelet_node import CLIENT, KubeletNode

if t.TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential

YEAR = 365 * 86400


@pytest.fixture(name="node")
def fixture_node(tmp_path: Path) -> KubeletNode:
    return KubeletNode(tmp_path)


def back(node: KubeletNode, **options: t.Any) -> dict[str, t.Any]:
    return roll_back(node.access(), node.state, RollbackRequest(None, "back", health_seconds=1.0, **options), LIMITS)


def test_the_cluster_signs_and_the_link_leads_to_a_new_file(node: KubeletNode) -> None:
    old = node.old.read_bytes()
    result = run(node, CLIENT)
    assert result["state"] == "committed"
    assert node.asked == [(("digital signature", "client auth"), YEAR)]
    led = os.readlink(node.link)
    assert led != str(node.old)
    assert os.path.dirname(led) == str(node.folder)
    assert stat.S_IMODE(os.stat(led).st_mode) == 0o600
    assert node.old.read_bytes() == old
    new = node.link.read_bytes()
    leaf = parse_certificates(new, "new")[0]
    assert leaf.subject == parse_certificates(old, "old")[0].subject
    assert key_matches(leaf, load_private_key(new, "new"))
    assert not key_matches(leaf, load_private_key(old, "old"))
    assert node.restarts == [KUBELET]
    assert len(node.pems()) == 3


def test_a_worker_restarts_its_kubelet_because_the_plan_knows_it(node: KubeletNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """There nothing on the node tells what the kubelet has in memory; a control-plane node has asked it."""
    monkeypatch.setattr(node, "_reader", lambda name, spec: Reader(spec.component, spec.reload, "unknown", "none"))
    result = run(node, items=(Wanted(CLIENT, "activate", node.on_disk(CLIENT)),))
    assert result["state"] == "committed"
    assert node.restarts == [KUBELET]


def test_one_that_was_left_pending_is_restarted_by_the_next_run(node: KubeletNode) -> None:
    """Nothing is renewed again for that."""
    result = run(node, CLIENT, restart="never")
    assert [component["action"] for component in result["components"]] == ["pending"]
    assert node.restarts == []
    led, renewed = os.readlink(node.link), node.on_disk(CLIENT)
    assert node.reader_states(CLIENT) == ["false"]
    result = run(node, items=(Wanted(CLIENT, "activate", renewed),))
    assert node.restarts == [KUBELET]
    assert (os.readlink(node.link), node.on_disk(CLIENT)) == (led, renewed)
    assert [(one["in_use"], one["proof"]) for one in result["certificates"]] == [("true", "process_age")]


def test_that_it_has_it_is_not_enough_where_the_api_can_be_asked(node: KubeletNode) -> None:
    node.proofs[CLIENT] = lambda _fingerprint: ClientProof("true", "identity")
    result = run(node, CLIENT)
    assert [(one["in_use"], one["proof"]) for one in result["certificates"]] == [("true", "identity")]
    before = node.on_disk(CLIENT)
    node.proofs[CLIENT] = lambda wanted: ClientProof("true" if wanted == before else "false", "identity", "not accepted")
    with pytest.raises(RotationFailed, match="kubelet does not use the certificate kubelet-client"):
        run(node, CLIENT)


def test_an_rsa_key_asks_for_encipherment_too(tmp_path: Path) -> None:
    node = KubeletNode(tmp_path, key="RSA-2048")
    run(node, CLIENT)
    assert node.asked[0][0] == ("digital signature", "key encipherment", "client auth")


def test_this_nodes_ca_signs_what_has_expired(tmp_path: Path) -> None:
    node = KubeletNode(tmp_path, left=timedelta(days=-2))
    before = node.on_disk(CLIENT)
    run(node, CLIENT)
    assert node.asked == []
    assert node.on_disk(CLIENT) != before
    assert os.readlink(node.link) != str(node.old)


def test_an_expired_one_without_the_cas_key_is_refused(tmp_path: Path) -> None:
    node = KubeletNode(tmp_path, left=timedelta(days=-2))
    node.path("pki/ca.key").unlink()
    tree, pems = node.tree(), node.pems()
    with pytest.raises(CertopsError, match="kubelet-client: the key of its CA is not on this node"):
        run(node, CLIENT)
    assert (node.tree(), node.pems(), node.restarts) == (tree, pems, [])


def test_a_signer_that_does_not_sign_changes_nothing(node: KubeletNode) -> None:
    def refuse(*_anything: t.Any) -> bytes:
        raise CertopsError("The request is not approved. Remedy: approve it.")

    pems = node.pems()
    access = dataclasses.replace(node.access(), ask_signer=refuse)
    with pytest.raises(CertopsError, match="nothing was changed. kubelet-client: The request is not approved"):
        rotate(access, node.state, Request("run", node.wanted(CLIENT), health_seconds=1.0), LIMITS)
    assert (node.pems(), node.restarts) == (pems, [])


def test_another_cas_certificate_is_not_taken(node: KubeletNode) -> None:
    stranger = pki.make_leaf(pki.make_ca(), "system:node:n1", organization="system:nodes")
    access = dataclasses.replace(node.access(), ask_signer=lambda *_anything: stranger.cert_pem)
    with pytest.raises(CertopsError, match="the certificate that the cluster's signer gave is not taken"):
        rotate(access, node.state, Request("run", node.wanted(CLIENT), health_seconds=1.0), LIMITS)
    assert os.readlink(node.link) == str(node.old)


def test_check_mode_asks_nobody(node: KubeletNode) -> None:
    found = node.everything()
    result = predict(node.access(), node.state, Request("run", node.wanted(CLIENT)))
    assert [component["name"] for component in result["components"] if component["action"] == "restarted"] == [KUBELET]
    assert result["certificates"][0]["after"]["fingerprint_sha256"] is None
    assert node.asked == []
    assert node.everything() == found


def test_a_kubelet_that_does_not_come_back_has_its_link_again(node: KubeletNode) -> None:
    pems = node.pems()
    node.stubborn.add(KUBELET)
    with pytest.raises(RotationFailed, match="kubelet did not come back"):
        run(node, CLIENT)
    assert node.pems() == pems


def test_a_relative_link_is_put_back_as_it_was(node: KubeletNode) -> None:
    node.link.unlink()
    node.link.symlink_to(node.old.name)
    run(node, CLIENT)
    assert os.readlink(node.link).startswith(str(node.folder))
    back(node)
    assert os.readlink(node.link) == node.old.name


def test_comes_back_where_the_kubelets_folder_is_a_link_itself(node: KubeletNode) -> None:
    elsewhere = node.path("data")
    node.folder.rename(elsewhere)
    node.folder.symlink_to(elsewhere)
    before, led = node.on_disk(CLIENT), os.readlink(node.link)
    run(node, CLIENT)
    assert node.on_disk(CLIENT) != before
    assert back(node)["state"] == "committed"
    assert (node.on_disk(CLIENT), os.readlink(node.link)) == (before, led)


def test_goes_with_the_others_and_comes_back_with_them(node: KubeletNode) -> None:
    before = {name: node.on_disk(name) for name in (*NAMES, CLIENT)}
    run(node, *NAMES, CLIENT)
    assert all(node.on_disk(name) != before[name] for name in before)
    node.restarts.clear()
    result = back(node)
    assert result["state"] == "committed"
    assert {name: node.on_disk(name) for name in before} == before
    assert node.restarts[-1] == KUBELET
    assert back(node)["changed"] is False


def test_no_way_back_to_a_file_that_is_gone(node: KubeletNode) -> None:
    run(node, CLIENT)
    node.old.unlink()
    led = os.readlink(node.link)
    with pytest.raises(CertopsError, match="Refused, nothing was changed: the backup of run run cannot be used"):
        back(node)
    with pytest.raises(CertopsError, match="cannot be used"):
        predict_rollback(node.access(), node.state, RollbackRequest(None, "back"))
    assert os.readlink(node.link) == led


class PairNode(KubeletNode):
    """The kubelet's certificate and key lie in files of their own."""

    def __init__(self, root: Path) -> None:
        """Write them."""
        self.cert, self.key = (root / "kubernetes" / "kubelet" / ("kubelet-client" + suffix) for suffix in (".crt", ".key"))
        super().__init__(root)
        self.cert.write_bytes(self.pair.cert_pem)
        self.key.write_bytes(self.pair.key_pem)
        self.start(KUBELET)

    def credential(self, name: str) -> Credential:
        """As discovery finds it."""
        found = super().credential(name)
        return dataclasses.replace(found, cert_path=str(self.cert), key_path=str(self.key)) if name == CLIENT else found


def test_a_key_that_is_kept_is_not_written(tmp_path: Path) -> None:
    """Or a run that was stopped could not be told from one that was put back."""
    node = PairNode(tmp_path)
    before, key = node.on_disk(CLIENT), node.key.stat()
    run(node, CLIENT, keep_private_key=True)
    assert node.on_disk(CLIENT) != before
    assert (node.key.stat().st_ino, node.key.stat().st_mtime_ns) == (key.st_ino, key.st_mtime_ns)
    assert [file.path for file in node.state.load("run").files] == [str(node.cert)]


def test_without_a_ca_on_the_node_the_kubeconfigs_is_taken(node: KubeletNode) -> None:
    found = node.discover()
    without = {name: one for name, one in found.credentials.items() if name != "ca"}
    access = dataclasses.replace(node.access(), discover=lambda: dataclasses.replace(found, credentials=without))
    wanted = (Wanted(CLIENT, "renew", node.on_disk(CLIENT)),)
    with pytest.raises(CertopsError, match=r"nothing was changed. kubelet-client: .*kubelet.conf"):
        rotate(access, node.state, Request("run", wanted, health_seconds=1.0), LIMITS)
    ca = base64.b64encode(node.authorities["ca"].cert_pem).decode()
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k"}}],
        "clusters": [{"name": "k", "cluster": {"certificate-authority-data": ca}}],
    }
    node.path("kubelet.conf").write_text(json.dumps(document))
    assert rotate(access, node.state, Request("run", wanted, health_seconds=1.0), LIMITS)["state"] == "committed"


def test_killed_at_any_step_the_next_run_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link leads to a whole file at every moment, and the next run leaves none of the killed one's leftovers."""
    strikes = 0
    for number in range(1000):
        node = KubeletNode(tmp_path / str(number))
        before = node.on_disk(CLIENT)
        with monkeypatch.context() as patch:
            count = [0]
            for call in ("symlink", "replace", "open", "unlink"):
                patch.setattr(os, call, killing(getattr(os, call), count, number, str(node.root)))
            try:
                run(node, CLIENT)
            except Killed:
                strikes += 1
        assert node.on_disk(CLIENT)
        if node.state.exists():
            run(node, items=node.wanted("admin.conf"))
            assert not [name for name in node.pems() if name.startswith(".")]
            assert len(node.pems()) == (2 if node.on_disk(CLIENT) == before else 3)
        if strikes <= number:
            break
    assert strikes > 20


def killing(call: t.Callable[..., t.Any], count: list[int], number: int, root: str) -> t.Callable[..., t.Any]:
    """The call, but for the `number`th of all those that change something below `root`, which kills."""

    def strike(*arguments: t.Any, **named: t.Any) -> t.Any:
        writes = call.__name__ != "open" or arguments[1] & os.O_CREAT
        if writes and any(str(argument).startswith(root) for argument in arguments):
            if count[0] == number:
                count[0] += 1
                raise Killed
            if count[0] > number:
                raise Killed  # nothing happens after a SIGKILL
            count[0] += 1
        return call(*arguments, **named)

    return strike
