# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates that components make when they start: seen by handshake, renewed by a restart, proven by another handshake."""

from __future__ import annotations

import dataclasses
import socket
import ssl
import threading
import typing as t
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._in_memory import LOOPBACK_NAME
from ansible_collections.certops.kubernetes.plugins.module_utils._inspection import inspect_node
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Component, Endpoint, Node
from ansible_collections.certops.kubernetes.plugins.module_utils._plan import rotation_items, rotation_plan
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Wanted
from ansible_collections.certops.kubernetes.plugins.module_utils._report import plan_lines
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import Request, predict, rotate
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import describe
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import (
    API_SERVER,
    CONTROLLER_MANAGER,
    LIMITS,
    SCHEDULER,
    FakeNode,
)
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.inspected import LIMITS as THRESHOLDS
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.inspected import by_name, codes
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.test_plan import rotate_policy
from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import authority, record

if t.TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Record
    from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import NodeAccess

NOW = datetime.now(timezone.utc)


def own(name: str, days: float) -> pki.Pair:
    """A certificate as a component makes it for itself."""
    end = NOW + timedelta(days=days)
    return pki.make_leaf(
        pki.make_ca("%s-ca@1" % name, not_after=end), "%s@1" % name, usages=("server",), sans=["DNS:%s" % name], not_after=end
    )


class Server:
    """A TLS server that shows one certificate to whoever asks for a name, and another one to everybody else."""

    def __init__(self, folder: Path, shown: pki.Pair, by_name_: dict[str, pki.Pair] | None = None) -> None:
        self._folder, self._count = folder, 0
        self.show(shown, by_name_)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def show(self, shown: pki.Pair, by_name_: dict[str, pki.Pair] | None = None) -> None:
        """What a new process would."""
        context = self._context(shown)
        named = {name: self._context(pair) for name, pair in (by_name_ or {}).items()}

        def choose(connection: t.Any, name: str | None, _context: t.Any) -> None:
            connection.context = named.get(name or "", connection.context)

        context.sni_callback = choose
        self._shown = context

    def _context(self, pair: pki.Pair) -> ssl.SSLContext:
        self._count += 1
        path = self._folder / ("server-%d.pem" % self._count)
        path.write_bytes(pair.cert_pem + pair.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(path))
        return context

    def _serve(self) -> None:
        while True:
            try:
                connection, _peer = self._listener.accept()
            except OSError:
                return
            try:
                self._shown.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

    def close(self) -> None:
        self._listener.close()


def component(name: str, port: int, credential: str | None = None, **flags: str) -> Component:
    return Component(name, {key: (value,) for key, value in flags.items()}, endpoints=(Endpoint(name, "127.0.0.1", port, credential),))


def seen(*components: Component) -> dict[str, Record]:
    node = Node("n1", "c", "/nowhere", {one.name: one for one in components}, {})
    return by_name(inspect_node(node, "h", "c", NOW, THRESHOLDS))


@pytest.mark.parametrize(("days", "found"), [(364, []), (20, [("expiring", "warning")]), (3, [("expiring", "critical")])])
def test_the_api_server_s_own_is_seen_by_its_name(tmp_path: Path, days: int, found: list[tuple[str, str]]) -> None:
    loopback = own(LOOPBACK_NAME, days)
    server = Server(tmp_path, own("kube-apiserver", 300), {LOOPBACK_NAME: loopback})
    records = seen(component(API_SERVER, server.port))
    server.close()
    one = records["served:127.0.0.1:%d#%s" % (server.port, LOOPBACK_NAME)]
    assert one.fingerprint_sha256 == describe(loopback.cert).fingerprint_sha256
    assert (one.source, one.component, one.renewable, one.not_renewable_because, one.ca) == ("served", API_SERVER, True, None, None)
    assert one.address == one.name[len("served:") :]
    assert codes(one) == found
    assert all("Restart kube-apiserver" in finding.remedy for finding in one.findings)
    assert not records["served:127.0.0.1:%d" % server.port].renewable, "its file is renewed instead"


def test_a_server_that_knows_no_such_name_has_none(tmp_path: Path) -> None:
    server = Server(tmp_path, own("kube-apiserver", 300))
    assert list(seen(component(API_SERVER, server.port))) == ["served:127.0.0.1:%d" % server.port]
    server.close()


def test_an_address_that_is_dead_is_told_once() -> None:
    assert list(seen(component(API_SERVER, 9))) == ["served:127.0.0.1:9"]


@pytest.mark.parametrize("name", [CONTROLLER_MANAGER, SCHEDULER])
def test_self_signed_ones_are_renewed_by_a_restart_unless_they_are_kept_in_files(tmp_path: Path, name: str) -> None:
    server = Server(tmp_path, own("localhost", 20))
    (one,) = seen(component(name, server.port)).values()
    (kept,) = seen(component(name, server.port, **{"cert-dir": "/var/run/x"})).values()
    server.close()
    assert (one.renewable, codes(one)) == (True, [("expiring", "info")])
    assert "Restart %s" % name in one.findings[0].remedy
    assert (kept.renewable, kept.not_renewable_because) == (False, "it is what an address serves; its file is kept by the component itself")


# --- the plan --------------------------------------------------------------------------------------------------------

SERVED = "served:10.0.0.1:6443#apiserver-loopback-client"


def planned(days: int, lifetime: int = 365, **values: t.Any) -> dict[str, t.Any]:
    one = {**record(SERVED, days, source="served"), "component": API_SERVER, "lifetime_days": lifetime, "readers": []}
    return rotation_plan([one, authority()], rotate_policy(**values))[0]


@pytest.mark.parametrize(
    ("values", "action", "code"),
    [
        ({"days": 40}, "none", "not_due"),
        ({"days": 20}, "restart", "due"),
        ({"days": -1}, "restart", "due"),
        ({"days": 20, "restart": "never"}, "report", "activation_pending"),
        ({"days": 300, "force": True}, "none", "not_due"),
        ({"days": 300, "renew_before_days": 364}, "restart", "due"),
        ({"days": 364, "renew_before_days": 365}, "report", "validity_below_threshold"),
        ({"days": 364, "renew_before_days": 500}, "report", "validity_below_threshold"),
    ],
)
def test_it_is_due_by_age_alone(values: dict[str, t.Any], action: str, code: str) -> None:
    entry = planned(**values)
    assert (entry["action"], entry["code"], entry["ends_after"]) == (action, code, None)
    assert entry["restarts"] == ([API_SERVER] if action == "restart" else [])


def test_what_is_left_out_is_not_restarted() -> None:
    pytest.importorskip("jmespath")
    assert planned(20, select="[?name=='apiserver']")["code"] == "not_selected"


def test_a_plan_in_words_and_as_items() -> None:
    entry = planned(20)
    assert "restart %s: 20 days left, less than 30 days; kube-apiserver made it in memory" % SERVED in plan_lines([entry])[0]
    assert plan_lines([entry])[0].endswith("; restarts kube-apiserver")
    assert rotation_items([entry], entry["host"])[0]["action"] == "restart"


# --- the transaction -------------------------------------------------------------------------------------------------


class Memory:
    """A fake node whose scheduler serves what it made when it started."""

    def __init__(self, folder: Path, makes: t.Sequence[pki.Pair]) -> None:
        self.node = FakeNode(folder)
        self._makes = list(makes)
        self.server = Server(folder, self._makes.pop(0))
        self.name = "served:127.0.0.1:%d" % self.server.port

    def discover(self) -> Node:
        found = self.node.discover()
        endpoints = (Endpoint(SCHEDULER, "127.0.0.1", self.server.port, None),)
        return dataclasses.replace(
            found, components={**found.components, SCHEDULER: dataclasses.replace(found.components[SCHEDULER], endpoints=endpoints)}
        )

    def inspect(self, node: Node) -> list[Record]:
        only = dataclasses.replace(node, components={SCHEDULER: node.components[SCHEDULER]}, credentials={})
        return [*self.node.inspect(node), *inspect_node(only, "h", "c", NOW, THRESHOLDS)]

    def restart(self, node: Node, name: str, meanwhile: t.Any = None) -> t.Any:
        done = self.node.restart(node, name, meanwhile)
        if name == SCHEDULER and self._makes:
            self.server.show(self._makes.pop(0))
        return done

    def access(self) -> NodeAccess:
        return dataclasses.replace(self.node.access(), discover=self.discover, inspect=self.inspect, restart=self.restart)

    def fingerprint(self) -> str:
        return next(one.fingerprint_sha256 for one in self.inspect(self.discover()) if one.name == self.name) or ""

    def item(self) -> Wanted:
        return Wanted(self.name, "restart", self.fingerprint())

    def rotate(self, *items: Wanted) -> dict[str, t.Any]:
        return rotate(self.access(), self.node.state, Request("run", items or (self.item(),), health_seconds=1.0), LIMITS)


def test_a_restart_is_proven_by_what_is_served_then(tmp_path: Path) -> None:
    memory = Memory(tmp_path, [own("localhost", 20), own("localhost", 365)])
    before, tree = memory.fingerprint(), memory.node.tree()
    result = memory.rotate()
    assert (result["state"], result["changed"], memory.node.restarts) == ("committed", True, [SCHEDULER])
    (entry,) = result["certificates"]
    assert (entry["action"], entry["in_use"], entry["proof"]) == ("restart", "true", "handshake")
    assert entry["before"]["fingerprint_sha256"] == before
    assert entry["after"]["fingerprint_sha256"] == memory.fingerprint() != before
    assert entry["after"]["not_after"] > entry["before"]["not_after"]
    (touched,) = result["components"]
    assert touched["because"] == "made %s in memory when it started" % memory.name
    assert memory.node.tree() == tree
    memory.server.close()


def test_what_was_restarted_since_the_plan_is_left_alone(tmp_path: Path) -> None:
    memory = Memory(tmp_path, [own("localhost", 20), own("localhost", 365)])
    item = memory.item()
    memory.restart(memory.discover(), SCHEDULER)
    result = memory.rotate(item)
    assert (result["changed"], memory.node.restarts) == (False, [SCHEDULER])
    assert "is another one than the plan saw" in result["warnings"][0]
    memory.server.close()


def test_together_with_a_file_there_is_one_restart(tmp_path: Path) -> None:
    memory = Memory(tmp_path, [own("localhost", 20), own("localhost", 365)])
    result = memory.rotate(memory.item(), *memory.node.wanted("scheduler.conf"))
    assert memory.node.restarts == [SCHEDULER]
    assert {entry["name"]: entry["in_use"] for entry in result["certificates"]} == {memory.name: "true", "scheduler.conf": "true"}
    memory.server.close()


def test_a_restart_that_changes_nothing_is_a_failure(tmp_path: Path) -> None:
    """Files that were renewed with it are put back."""
    memory = Memory(tmp_path, [own("localhost", 20)])
    before = memory.node.tree()
    with pytest.raises(CertopsError, match="is still the one from before the restart"):
        memory.rotate(memory.item(), *memory.node.wanted("apiserver"))
    assert memory.node.tree() == before
    memory.server.close()


def test_one_that_ends_sooner_is_a_failure(tmp_path: Path) -> None:
    memory = Memory(tmp_path, [own("localhost", 20), own("localhost", 10)])
    with pytest.raises(CertopsError, match="not later than the one before"):
        memory.rotate()
    assert memory.node.restarts == [SCHEDULER], "it is not restarted once more on the way back"
    memory.server.close()


def test_one_that_does_not_come_back_is_waited_for(tmp_path: Path) -> None:
    memory = Memory(tmp_path, [own("localhost", 20), own("localhost", 365)])
    memory.node.stubborn.add(SCHEDULER)
    with pytest.raises(CertopsError, match="did not come back"):
        memory.rotate()
    assert memory.node.restarts == [SCHEDULER, SCHEDULER]
    memory.server.close()


def test_check_mode_restarts_nothing(tmp_path: Path) -> None:
    memory = Memory(tmp_path, [own("localhost", 20)])
    request = Request("run", (memory.item(),))
    result = predict(memory.access(), memory.node.state, request)
    assert (result["changed"], memory.node.restarts) == (True, [])
    assert result["components"][0]["action"] == "restarted"
    assert "a new certificate that its component makes when it starts" in result["diff"][0]["after"]
    memory.server.close()


@pytest.mark.parametrize("name", ["served:127.0.0.1:1", "apiserver"])
def test_what_nobody_made_in_memory_is_refused(tmp_path: Path, name: str) -> None:
    memory = Memory(tmp_path, [own("localhost", 20)])
    with pytest.raises(CertopsError, match="no component of this node makes it in memory"):
        memory.rotate(Wanted(name, "restart"))
    assert memory.node.restarts == []
    memory.server.close()
