# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two settings of the kubelet are switched on in one transaction, put back when it fails, and put back later."""

from __future__ import annotations

import dataclasses
import typing as t
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import COMMITTED, ROLLED_BACK
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_config import read_kubelet
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_switches import ROTATION, SERVING, Switch, look_at_switches
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Process
from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import ClientProof
from ansible_collections.certops.kubernetes.plugins.module_utils._plan import rollback_plan
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import CONFIGURE, Wanted
from ansible_collections.certops.kubernetes.plugins.module_utils._report import rotation_lines
from ansible_collections.certops.kubernetes.plugins.module_utils._result import RotationFailed
from ansible_collections.certops.kubernetes.plugins.module_utils._rollback import RollbackRequest, predict_rollback, roll_back
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import Request, predict, rotate
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import KUBELET, LIMITS, FakeNode, Killed, run

TEXT = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n# off, as it was\nrotateCertificates: false\nz: 1\n"
ON = TEXT.replace("false", "true") + "serverTLSBootstrap: true\n"
BOTH = (Wanted(ROTATION, CONFIGURE), Wanted(SERVING, CONFIGURE))


class KubeletNode(FakeNode):
    """A node whose kubelet has a configuration file; `ended` are certificates that have expired."""

    def __init__(self, root: Path, *flags: str, text: str = TEXT) -> None:
        super().__init__(root)
        self.config, self.flags, self.ended = root / "config.yaml", flags, []  # type: tuple[Path, tuple[str, ...], list[str]]
        self.config.write_text(text)
        self.config.chmod(0o640)
        self.run_kubelet(nothing="hot")

    def start(self, component: str) -> None:
        super().start(component)
        if component == KUBELET:
            self.started_with = self.config.read_text()
            argv = ("kubelet", "--kubeconfig=/k", "--config=%s" % self.config, *self.flags)
            self.processes[component] = dataclasses.replace(self.processes[component], argv=argv)

    def access(self) -> t.Any:
        return dataclasses.replace(super().access(), expired=lambda _node, _names: self.ended)

    def switch(self, *more: Wanted, **options: t.Any) -> dict[str, t.Any]:
        return run(self, items=(*more, *BOTH), **options)

    def put_back(self, run_id: str | None = None) -> dict[str, t.Any]:
        return roll_back(self.access(), self.state, RollbackRequest(run_id, "back", health_seconds=0), LIMITS)


@pytest.fixture(name="node")
def fixture_node(tmp_path: Path) -> KubeletNode:
    return KubeletNode(tmp_path)


def test_both_are_switched_on_and_the_kubelet_is_restarted_once(node: KubeletNode) -> None:
    before = node.config.stat()
    result = node.switch()
    after = node.config.stat()
    assert node.config.read_text() == ON
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert node.restarts == [KUBELET]
    assert (result["changed"], result["state"], result["run_id"], result["settings_run_id"]) == (
        *(True, COMMITTED, "run-kubelet", "run-kubelet"),
    )
    assert [(one["name"], one["in_use"], one["proof"]) for one in result["certificates"]] == [
        *((ROTATION, "true", "process_age"), (SERVING, "true", "process_age")),
    ]
    assert [(one["before"], one["after"]) for one in result["diff"]] == [
        ("rotateCertificates: false\n", "rotateCertificates: true\n"),
        ("", "serverTLSBootstrap: true\n"),
    ]
    (warning,) = result["warnings"]
    assert "set rotateCertificates: true and serverTLSBootstrap: true there too" in warning
    assert warning.endswith("kubectl -n kube-system edit configmap kubelet-config")
    assert "configure kubelet:serverTLSBootstrap: true in %s, before not set" % node.config in rotation_lines(result)


def test_a_second_time_nothing_is_done(node: KubeletNode) -> None:
    node.switch()
    again = node.switch()
    assert (again["changed"], node.restarts) == (False, [KUBELET])
    assert again["warnings"] == ["rotateCertificates is on already on this node.", "serverTLSBootstrap is on already on this node."]


def test_check_mode_shows_it_and_writes_nothing(node: KubeletNode) -> None:
    before = node.everything()
    result = predict(node.access(), node.state, Request("run", BOTH))
    assert node.everything() == before
    assert (result["changed"], [one["action"] for one in result["certificates"]]) == (True, [CONFIGURE, CONFIGURE])
    assert [(one["name"], one["action"]) for one in result["components"]] == [(KUBELET, "restarted")]
    assert result["diff"][0]["after_header"] == str(node.config)


def test_it_is_a_run_of_its_own_after_what_is_renewed(node: KubeletNode) -> None:
    result = node.switch(*node.wanted("apiserver"))
    assert (result["run_id"], result["settings_run_id"]) == ("run", "run-kubelet")
    assert [one["name"] for one in result["certificates"]] == ["apiserver", ROTATION, SERVING]
    assert [journal.run_id for journal in node.state.journals()] == ["run-kubelet", "run"]


def test_a_kubelet_that_does_not_come_back_is_put_back_and_what_was_renewed_stays(
    node: KubeletNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = node.on_disk("apiserver")
    real, failures = node.restart, ["once"]

    def restart(found: t.Any, component: str, meanwhile: t.Any = None) -> t.Any:
        if failures:
            failures.pop()
            raise CertopsError("kubelet did not come back.")
        return real(found, component, meanwhile)

    monkeypatch.setattr(node, "restart", restart)
    with pytest.raises(RotationFailed, match="kubelet did not come back") as caught:
        node.switch(*node.wanted("apiserver"))
    assert node.config.read_text() == TEXT
    assert node.on_disk("apiserver") != old
    assert node.restarts == [KUBELET], "it may have read the new file"
    assert (caught.value.result["state"], caught.value.result["run_id"]) == (ROLLED_BACK, "run")
    assert str(caught.value).endswith(" What was renewed before stays.")


@pytest.mark.parametrize("moment", ["before the file", "before the restart", "after the restart"])
def test_a_run_that_is_killed_is_ended_by_the_next_one(node: KubeletNode, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def die(*_arguments: t.Any) -> t.Any:
        if moment == "after the restart":
            node.start(KUBELET)
        raise Killed

    with monkeypatch.context() as patch:
        if moment == "before the file":
            patch.setattr("ansible_collections.certops.kubernetes.plugins.module_utils._transaction.put_if_unchanged", die)
        else:
            patch.setattr(node, "restart", die)
        with pytest.raises(Killed):
            node.switch()
    process = node.processes[KUBELET]
    result = node.switch()
    (recovered,) = result["recovered"]
    assert recovered["state"] == (ROLLED_BACK if moment == "before the file" else COMMITTED)
    assert node.config.read_text() == ON
    assert (node.processes[KUBELET] == process) == (moment == "after the restart"), "restarted unless it was"
    assert node.state.unfinished() == []


def test_what_was_renewed_can_be_put_back_however_few_backups_are_kept(node: KubeletNode) -> None:
    node.switch(*node.wanted("apiserver"), keep_backups=1)
    assert [journal.run_id for journal in node.state.journals()] == ["run-kubelet", "run"]
    assert node.put_back("run")["changed"]


@pytest.mark.parametrize("killed", [False, True])
def test_a_kubelet_that_the_cluster_does_not_take_any_more_is_put_back(
    node: KubeletNode, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    def seen(_fingerprint: str) -> ClientProof:
        return ClientProof("true", "identity") if node.started_with == TEXT else ClientProof("false", "identity", "it renews no Lease")

    def die(*_arguments: t.Any) -> t.Any:
        raise Killed

    node.proofs = {ROTATION: seen}
    if killed:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(node, "restart", die)
            node.switch()
    with pytest.raises(RotationFailed, match="does not reach its API server with rotateCertificates: true.*it renews no Lease"):
        node.switch()
    assert (node.config.read_text(), node.started_with) == (TEXT, TEXT)
    assert node.time > LIMITS.proof, "it was given its time"


def test_a_rollback_is_not_refused_by_what_did_not_work_before_it(node: KubeletNode) -> None:
    node.switch()
    node.proofs = {ROTATION: lambda _fingerprint: ClientProof("false", "identity", "it renews no Lease")}
    assert node.put_back()["state"] == COMMITTED
    assert node.config.read_text() == TEXT


def test_a_rollback_puts_the_file_back_and_restarts_the_kubelet(node: KubeletNode) -> None:
    node.switch(*node.wanted("apiserver"))
    renewed = node.on_disk("apiserver")
    request = RollbackRequest(None, "back")
    foreseen = predict_rollback(node.access(), node.state, request)
    planned = rollback_plan(foreseen, "h", [])
    assert [(one["name"], one["action"], one["restarts"]) for one in planned] == [
        *((ROTATION, "restore", [KUBELET]), (SERVING, "restore", [KUBELET])),
    ]
    assert planned[0]["reason"] == "run run-kubelet switched it on"
    node.restarts.clear()
    result = node.put_back()
    assert node.config.read_text() == TEXT
    assert (node.restarts, node.on_disk("apiserver")) == ([KUBELET], renewed)
    assert (result["state"], {one["in_use"] for one in result["certificates"]}) == (COMMITTED, {"true"})
    assert [one["after"] for one in result["diff"]] == ["rotateCertificates: false\n", ""]
    assert not node.put_back("run-kubelet")["changed"], "it is as before"
    assert node.put_back("run")["changed"]
    assert node.on_disk("apiserver") != renewed


def test_a_file_that_somebody_has_changed_since_is_not_put_back(node: KubeletNode) -> None:
    node.switch()
    node.config.write_text(ON + "maxPods: 99\n")
    with pytest.raises(CertopsError, match="was changed since the run run-kubelet. Remedy: set rotateCertificates: false in it by hand"):
        node.put_back()
    assert node.config.read_text() == ON + "maxPods: 99\n"


def test_what_somebody_writes_while_the_node_becomes_well_is_kept(node: KubeletNode) -> None:
    def unwell(_node: t.Any) -> str | None:
        if "maxPods" not in node.config.read_text():
            node.config.write_text(TEXT + "maxPods: 99\n")
            return "not yet"
        return None

    node.unhealthy = unwell
    node.switch()
    assert node.config.read_text() == TEXT.replace("false", "true") + "maxPods: 99\nserverTLSBootstrap: true\n"


def test_a_kubelet_that_would_not_start_again_is_not_restarted(node: KubeletNode) -> None:
    node.ended = ["kubelet-client"]
    with pytest.raises(CertopsError, match="kubelet-client has expired, and it would not start again"):
        node.switch()
    with pytest.raises(CertopsError, match="would not start again"):
        predict(node.access(), node.state, Request("run", BOTH))
    assert (node.config.read_text(), node.restarts) == (TEXT, [])
    with pytest.raises(RotationFailed, match=r"would not start again.* What was renewed before stays\.") as caught:
        node.switch(*node.wanted("apiserver"))
    assert [one["name"] for one in caught.value.result["certificates"]] == ["apiserver"]


def test_a_setting_that_does_not_take_effect_is_put_back(node: KubeletNode, monkeypatch: pytest.MonkeyPatch) -> None:
    real = node.start

    def start(component: str) -> None:
        node.flags = ("--rotate-certificates=false",) if node.config.read_text() == ON else ()
        real(component)

    monkeypatch.setattr(node, "start", start)
    with pytest.raises(RotationFailed, match="rotateCertificates is not true after the change"):
        node.switch()
    assert node.config.read_text() == TEXT


# --- how it is configured --------------------------------------------------------------------------------------------


def seen(config: Path, *flags: str, text: str | None = TEXT, running: bool = True, kubeconfig: bool = True) -> dict[str, Switch]:
    if text is not None:
        config.write_text(text)
    argv = ("kubelet", *(("--kubeconfig=/k",) if kubeconfig else ()), "--config=%s" % config, *flags)
    process = Process(1, 1, argv, datetime.now(timezone.utc)) if running else None
    return look_at_switches(read_kubelet(process, str(config.parent), str(config)))


def test_what_is_on_and_where_the_rest_is_changed(tmp_path: Path) -> None:
    config, folder = tmp_path / "config.yaml", tmp_path / "conf.d"
    assert seen(config) == {ROTATION: Switch(False, str(config)), SERVING: Switch(False, str(config))}
    assert seen(config, text=ON) == {ROTATION: Switch(True), SERVING: Switch(True)}
    assert seen(config, "--rotate-certificates", "--rotate-server-certificates=true") == {ROTATION: Switch(True), SERVING: Switch(True)}
    folder.mkdir()
    (folder / "10-a.conf").write_text("kind: KubeletConfiguration\nrotateCertificates: true\n")
    (folder / "20-b.conf").write_text("kind: KubeletConfiguration\nrotateCertificates: false\n")
    found = seen(config, "--config-dir=%s" % folder)
    assert found == {ROTATION: Switch(False, str(folder / "20-b.conf")), SERVING: Switch(False, str(config))}


def test_a_drop_in_is_changed_where_it_wins_and_kubeadm_leaves_it(tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "a.conf").write_text("kind: KubeletConfiguration\nrotateCertificates: false\n")
    node = KubeletNode(tmp_path, "--config-dir=%s" % folder)
    result = run(node, items=(Wanted(ROTATION, CONFIGURE),))
    assert (folder / "a.conf").read_text() == "kind: KubeletConfiguration\nrotateCertificates: true\n"
    assert (node.config.read_text(), result["warnings"]) == (TEXT, [])


@pytest.mark.parametrize(
    ("flags", "text", "running", "name", "why"),
    [
        (["--rotate-certificates=false"], TEXT, True, ROTATION, "--rotate-certificates=false on the kubelet's command line wins over"),
        (["--rotate-server-certificates=false"], TEXT, True, SERVING, "/var/lib/kubelet/kubeadm-flags.env"),
        ([], TEXT + "tlsCertFile: /a\ntlsPrivateKeyFile: /b\n", True, SERVING, "comes from the file /a (tlsCertFile)"),
        ([], TEXT, False, ROTATION, "does not run"),
        ([], '{"kind": "KubeletConfiguration"}', True, ROTATION, "written as JSON"),
        ([], "kind: [\n", True, SERVING, "not wholly known"),
        ([], None, True, ROTATION, "not wholly known"),
    ],
)
def test_what_cannot_be_switched_and_why(tmp_path: Path, flags: list[str], text: str | None, running: bool, name: str, why: str) -> None:
    switch = seen(tmp_path / "config.yaml", *flags, text=text, running=running)[name]
    assert not switch.on
    assert why in str(switch.obstacle)
    assert "Remedy" in str(switch.obstacle) or "not wholly known" in why


def test_a_flag_that_wins_is_refused_by_the_transaction_too(tmp_path: Path) -> None:
    node = KubeletNode(tmp_path, "--rotate-certificates=false")
    with pytest.raises(CertopsError, match="configuration was not changed. --rotate-certificates=false on the kubelet's command line wins"):
        node.switch()
    assert node.config.read_text() == TEXT


def test_a_kubelet_without_a_configuration_file_and_one_that_is_no_client(tmp_path: Path) -> None:
    process = Process(1, 1, ("kubelet", "--kubeconfig=/k"), datetime.now(timezone.utc))
    found = look_at_switches(read_kubelet(process, str(tmp_path), str(tmp_path / "none")))
    assert "has no configuration file (--config)" in str(found[ROTATION].obstacle)
    assert seen(tmp_path / "config.yaml", kubeconfig=False) == {}
    assert look_at_switches(read_kubelet(None, str(tmp_path), str(tmp_path / "none"))) == {}


def test_nothing_is_asked_of_rotate_without_a_switch(node: KubeletNode) -> None:
    assert "settings_run_id" not in rotate(node.access(), node.state, Request("run", ()), LIMITS)
