# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import signal
import time
import typing as t
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _activation
from ansible_collections.certops.kubernetes.plugins.module_utils._activation import clear_backoff, restart_component
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Component
from ansible_collections.certops.kubernetes.plugins.module_utils._stopping import stop_process
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import (
    FakeNode,
    FakeServer,
    lease_document,
    lease_path,
    server_pair,
)
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.stand_ins import Kubelet, list_own_processes

KCM = "kube-controller-manager"
HOST = os.uname().nodename


class ControllerManager:
    """A controller manager under a kubelet, its health port and an API server that keeps its lease."""

    def __init__(self, directory: Path, stack: ExitStack, **kubelet: t.Any) -> None:
        self.node = FakeNode(directory)
        self.lease: dict[str, t.Any] = lease_document(KCM, "nobody_x", datetime.now(timezone.utc))
        routes: dict[str, t.Any] = {"GET " + lease_path(KCM): lambda body: (200, self.lease), "PUT " + lease_path(KCM): self._put}
        self.api = stack.enter_context(FakeServer(directory, routes, self.node.add_pair("apiserver")))
        self.health = stack.enter_context(FakeServer(directory, {"GET /healthz": (200, "ok")}, server_pair(self.node.ca)))
        self.node.add_kubeconfigs(self.api.address, "controller-manager.conf")
        self.node.add_component("kube-apiserver", advertise_address="127.0.0.1", secure_port=str(self.api.port))
        self.kubelet = stack.enter_context(Kubelet(KCM, **kubelet))
        self.kubelet.on_start = self._acquire_if_free
        flags: dict[str, tuple[str, ...]] = {
            "secure-port": (str(self.health.port),),
            "bind-address": ("127.0.0.1",),
            "leader-elect": ("true",),
        }
        self.node.components[KCM] = Component(KCM, flags, process=self.kubelet.process())

    def hold(self, holder: str, age: float = 0.0) -> None:
        now = datetime.now(timezone.utc) - timedelta(seconds=age)
        self.lease = lease_document(KCM, holder, now)

    def restart(self, **kwargs: t.Any) -> _activation.Restart:
        return restart_component(self.node.components[KCM], node=self.node.node(), **{"start_timeout": 30.0, **kwargs})

    def written(self) -> list[dict[str, t.Any]]:
        return [json.loads(body) for method, _path, body in self.api.requests if method == "PUT"]

    def _put(self, body: bytes) -> tuple[int, object]:
        self.lease = json.loads(body)
        return 200, self.lease

    def _acquire_if_free(self) -> None:
        if not self.lease["spec"]["holderIdentity"]:
            self.hold(HOST + "_new")


@pytest.fixture(autouse=True)
def fixture_nothing_else_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_activation, "list_processes", list_own_processes)


@pytest.fixture(name="make")
def fixture_make(tmp_path: Path) -> t.Iterator[t.Callable[..., ControllerManager]]:
    with ExitStack() as stack:
        yield lambda **kwargs: ControllerManager(tmp_path, stack, **kwargs)


def test_a_leader_is_restarted_and_its_lease_released(make: t.Callable[..., ControllerManager]) -> None:
    kcm = make()
    kcm.hold(HOST + "_old")
    before = kcm.node.components[KCM].process
    result = kcm.restart()
    assert before is not None
    assert result.pid_before == before.pid
    assert result.pid_after == kcm.kubelet.process().pid != before.pid
    assert (result.forced, result.lease_released, result.back_off_cleared) == (False, True, False)
    assert [document["spec"]["holderIdentity"] for document in kcm.written()] == [""]
    assert 0 < result.away_seconds < 20
    assert result.leaderless_seconds is not None
    assert 0 < result.leaderless_seconds < 20


def test_a_process_that_replaced_the_discovered_one_is_stopped(make: t.Callable[..., ControllerManager]) -> None:
    kcm = make()
    discovered = kcm.node.components[KCM]
    first = kcm.restart()
    second = restart_component(discovered, start_timeout=30.0, node=kcm.node.node())
    assert second.pid_before == first.pid_after
    assert second.pid_after not in (first.pid_before, first.pid_after)


def test_the_lease_of_another_node_is_not_touched(make: t.Callable[..., ControllerManager]) -> None:
    kcm = make()
    kcm.hold("node-2_uuid")
    result = kcm.restart()
    assert (result.leaderless_seconds, result.lease_released) == (0.0, False)
    assert kcm.written() == []


def test_a_component_that_nobody_led_before(make: t.Callable[..., ControllerManager]) -> None:
    kcm = make()
    kcm.hold("node-1_dead", age=3600)
    kcm.kubelet.on_start = lambda: kcm.hold(HOST + "_new")
    result = kcm.restart()
    assert kcm.written() == []
    assert result.leaderless_seconds is not None
    assert result.leaderless_seconds > 0


def test_the_lease_of_an_earlier_process_of_this_node_is_not_touched(make: t.Callable[..., ControllerManager]) -> None:
    kcm = make()
    kcm.hold(HOST + "_earlier", age=4000)
    kcm.lease["spec"]["renewTime"] = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    kcm.restart()
    assert kcm.written() == []


def test_a_leader_that_releases_its_lease_itself(make: t.Callable[..., ControllerManager]) -> None:
    kcm = make()
    kcm.hold(HOST + "_old")
    kcm.kubelet.on_end = lambda: kcm.hold("node-2_next")
    kcm.restart()
    assert kcm.lease["spec"]["holderIdentity"] != HOST + "_old"


def test_a_stubborn_process_is_killed(make: t.Callable[..., ControllerManager]) -> None:
    assert make(stubborn=True).restart(stop_timeout=0.1).forced


def test_an_api_that_does_not_answer_does_not_stop_a_restart(make: t.Callable[..., ControllerManager]) -> None:
    kcm = make()
    kcm.api.routes["GET " + lease_path(KCM)] = (500, {"message": "etcdserver: no leader"})
    result = kcm.restart()
    assert (result.leaderless_seconds, result.lease_released) == (None, False)


def test_it_waits_until_the_component_is_ready(make: t.Callable[..., ControllerManager]) -> None:
    kcm = make()
    answers = [(500, "[-]leaderElection failed"), (403, "forbidden"), (200, "ok")]
    kcm.health.routes["GET /healthz"] = lambda body: answers.pop(0) if len(answers) > 1 else answers[0]
    kcm.restart()
    assert len(answers) == 1


def test_a_component_that_is_never_ready(make: t.Callable[..., ControllerManager]) -> None:
    kcm = make()
    kcm.health.routes["GET /healthz"] = (500, "[-]informer-sync failed")
    with pytest.raises(CertopsError, match=r"kube-controller-manager is not ready 0.5 s.*informer-sync failed.*crictl ps -a"):
        kcm.restart(start_timeout=0.5)


def test_a_component_whose_lease_nobody_takes(make: t.Callable[..., ControllerManager]) -> None:
    kcm = make()
    kcm.hold(HOST + "_old")
    kcm.kubelet.on_start = lambda: None
    with pytest.raises(CertopsError, match="has no leader"):
        kcm.restart(start_timeout=0.5)


def test_the_back_off_of_the_kubelet_is_cleared(make: t.Callable[..., ControllerManager], monkeypatch: pytest.MonkeyPatch) -> None:
    kcm = make(backs_off=True)
    restarted: list[str] = []

    with FakeServer(kcm.node.directory, {"GET /healthz": (200, "ok")}) as kubelet, Kubelet("kubelet") as process:
        kcm.node.components["kubelet"] = Component(
            "kubelet", {"healthz-port": (str(kubelet.port),)}, unit="kubelet.service", process=process.process()
        )

        def restart_unit(unit: str, timeout: float) -> None:
            restarted.append(unit)
            os.kill(process.process().pid, signal.SIGKILL)
            kcm.kubelet.cleared.set()

        monkeypatch.setattr(_activation, "restart_unit", restart_unit)
        monkeypatch.setattr(_activation, "BACK_OFF_SUSPECTED_SECONDS", 0.2)
        assert kcm.restart().back_off_cleared
    assert restarted == ["kubelet.service"]


def test_a_component_that_stays_away(make: t.Callable[..., ControllerManager], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_activation, "BACK_OFF_SUSPECTED_SECONDS", 0.1)
    with pytest.raises(CertopsError, match=r"no new process; the kubelet of this node is no systemd unit"):
        make(backs_off=True).restart(start_timeout=2.0)


def test_a_kubelet_that_would_not_start_again_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = FakeNode(tmp_path, expired=["kubelet-client"])
    node.add_pair("kubelet-client")
    node.components["kubelet"] = Component("kubelet", {}, unit="kubelet.service")
    monkeypatch.setattr(_activation, "restart_unit", lambda unit, timeout: pytest.fail("restarted"))
    with pytest.raises(CertopsError, match="kubelet-client has expired"):
        clear_backoff(node.node())


def test_after_etcd_the_api_server_must_be_ready_again(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    answers: list[tuple[int, str]] = [(200, "ok"), (500, "[-]etcd failed"), (200, "ok")]
    routes = {"GET /readyz": lambda body: answers.pop(0) if len(answers) > 1 else answers[0]}
    with FakeServer(tmp_path, routes, node.add_pair("apiserver")) as api, FakeServer(tmp_path, {"GET /readyz": (200, "ok")}) as metrics:
        node.add_kubeconfigs(api.address, "admin.conf")
        node.add_component("kube-apiserver", advertise_address="127.0.0.1", secure_port=str(api.port))
        with Kubelet("etcd") as kubelet:
            flags: dict[str, tuple[str, ...]] = {"listen-metrics-urls": ("http://" + metrics.address,)}
            result = restart_component(Component("etcd", flags, process=kubelet.process()), start_timeout=30, node=_with_etcd(node, flags))
    assert len(answers) == 1
    assert result.leaderless_seconds is None


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.01, 0.02])
def test_nothing_of_a_kubelet_is_left(seconds: float) -> None:
    """A component that it is starting when the test ends would be there in the next one."""
    with Kubelet("etcd", delay=0) as kubelet:
        os.kill(kubelet.process().pid, signal.SIGKILL)
        time.sleep(seconds)
    time.sleep(0.2)
    assert list_own_processes() == []


def test_etcd_as_a_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd is asked to restart it, and another unit's etcd is not taken for its successor."""
    node = FakeNode(tmp_path)
    asked: list[str] = []
    answers: list[dict[str, object]] = [{"leader": "0"}, {"leader": "5"}]
    routes = {"POST /v3/maintenance/status": lambda body: (200, answers.pop(0) if len(answers) > 1 else answers[0])}
    with ExitStack() as stack:
        server = stack.enter_context(FakeServer(tmp_path, routes, node.add_pair("etcd/server"), client_ca=node.etcd_ca))
        node.add_ca("etcd/ca", node.etcd_ca)
        ours, others = stack.enter_context(Kubelet("etcd")), stack.enter_context(Kubelet("etcd", delay=60))
        foreign = others.process().pid

        def listed(proc: str = "/proc", names: t.Any = None) -> list[t.Any]:
            units = {foreign: "etcd-events.service"}
            return [replace(one, service=units.get(one.process.pid, "etcd.service")) for one in list_own_processes(proc, names)]

        def restart(unit: str, process: t.Any, stop_timeout: float) -> bool:
            asked.append(unit)
            return stop_process(process, stop_timeout)

        monkeypatch.setattr(_activation, "list_processes", listed)
        monkeypatch.setattr(_activation, "restart_unit_within", restart)
        flags: dict[str, tuple[str, ...]] = {"listen-client-urls": ("https://" + server.address,)}
        node.components["etcd"] = Component("etcd", flags, unit="etcd.service", process=ours.process())
        result = restart_component(node.components["etcd"], start_timeout=30, node=node.node())
        assert asked == ["etcd.service"]
        assert (result.pid_after, answers) == (ours.process().pid, [{"leader": "5"}])
        assert result.pid_after not in (result.pid_before, foreign)
        answers[:] = [{"leader": "0"}]
        with pytest.raises(CertopsError, match=r"etcd is not ready 0.5 s after .* look at `journalctl -u etcd.service`"):
            restart_component(node.components["etcd"], start_timeout=0.5, node=node.node())


def _with_etcd(node: FakeNode, flags: dict[str, tuple[str, ...]]) -> t.Any:
    node.components["etcd"] = Component("etcd", flags)
    return node.node()
