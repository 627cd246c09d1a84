# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server's certificate gets the names of kubeadm's configuration: planned, foreseen and renewed."""

from __future__ import annotations

import dataclasses
import typing as t
from datetime import datetime, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._names import refreshed_names, wanted_names
from ansible_collections.certops.kubernetes.plugins.module_utils._plan import rotation_items, rotation_plan
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Wanted, look_at
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import Request, predict, rotate
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import describe, parse_certificates
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_renew import renew
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import API_SERVER, LIMITS, FakeNode, run
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.test_plan import rotate_policy
from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import authority, record

if t.TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node
    from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import NodeAccess

NAMES = (
    *("DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc", "DNS:kubernetes.default.svc.cluster.local"),
    *("DNS:lb.example.org", "DNS:n1", "IP:10.96.0.1", "IP:192.0.2.7", "IP:2001:db8::9"),
)
MESSAGE = "apiserver has other names than kubeadm's configuration of the cluster wants: it lacks DNS:lb (/x on n1)."
DIFFERS = {"code": "sans_differ", "severity": "info", "message": MESSAGE, "remedy": "R."}


@pytest.fixture(name="node")
def fixture_node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path)


def configuration(node: FakeNode) -> dict[str, t.Any]:
    return {
        "certificatesDir": str(node.path("pki")),
        "controlPlaneEndpoint": "lb.example.org:6443",
        "networking": {"dnsDomain": "cluster.local", "serviceSubnet": "10.96.0.0/12"},
        "apiServer": {"certSANs": ["2001:DB8::9", "lb.example.org"]},
        "etcd": {"local": {"serverCertSANs": ["etcd.example.org"]}},
    }


def access(node: FakeNode, configured: t.Any) -> NodeAccess:
    """A node whose API server has an address, and a cluster with that configuration."""

    def discover() -> Node:
        found = node.discover()
        api_server = dataclasses.replace(found.components[API_SERVER], flags={"advertise-address": ("192.0.2.7",)})
        return dataclasses.replace(found, components={**found.components, API_SERVER: api_server})

    return dataclasses.replace(node.access(), discover=discover, configuration=lambda _node: configured)


def refreshing(node: FakeNode, *names: str) -> Request:
    items = tuple(Wanted(name, "renew", node.on_disk(name), refresh_sans=True) for name in names)
    return Request("run", items, health_seconds=1.0)


def names_of(node: FakeNode, name: str) -> tuple[str, ...]:
    return describe(look_at(node.credential(name)).leaf).sans


def test_the_names_become_those_that_kubeadm_would_give(node: FakeNode) -> None:
    """DNS names, sorted, before addresses in kubeadm's order; what is beyond them goes."""
    result = rotate(access(node, configuration(node)), node.state, refreshing(node, "apiserver", "etcd/server"), LIMITS)
    assert result["state"] == "committed"
    assert names_of(node, "apiserver") == NAMES
    assert names_of(node, "etcd/server") == ("DNS:etcd.example.org", "DNS:localhost", "DNS:n1", "IP:192.0.2.7", "IP:127.0.0.1", "IP:::1")
    (entry, _etcd) = result["certificates"]
    assert (entry["before"]["sans"], entry["after"]["sans"]) == (["DNS:n1"], list(NAMES))
    assert "name: DNS:lb.example.org\n" in result["diff"][0]["after"]
    assert "name: DNS:lb" not in result["diff"][0]["before"]
    found = access(node, None).discover()
    assert set(wanted_names(node.credential("apiserver"), found, configuration(node))) == set(NAMES), "so that nothing differs any more"


def test_without_being_asked_a_renewal_keeps_the_names(node: FakeNode) -> None:
    item = Wanted("apiserver", "renew", node.on_disk("apiserver"))
    rotate(access(node, configuration(node)), node.state, Request("run", (item,), health_seconds=1.0), LIMITS)
    assert names_of(node, "apiserver") == ("DNS:n1",)


def test_check_mode_shows_the_names_and_writes_nothing(node: FakeNode) -> None:
    before = node.everything()
    result = predict(access(node, configuration(node)), node.state, refreshing(node, "apiserver"))
    assert result["certificates"][0]["after"]["sans"] == list(NAMES)
    assert "name: IP:192.0.2.7\n" in result["diff"][0]["after"]
    assert node.everything() == before


@pytest.mark.parametrize("call", ["rotate", "predict"])
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (None, r"ClusterConfiguration \(ConfigMap kube-system/kubeadm-config\).* could not be read"),
        ({"networking": {}}, "first address of serviceSubnet could not be read"),
        ({"certificatesDir": "/elsewhere"}, "kubeadm did not make this one"),
    ],
)
def test_names_that_are_not_known_are_refused(node: FakeNode, changes: t.Any, why: str, call: str) -> None:
    """To guess them would take names away."""
    configured = None if changes is None else {**configuration(node), **changes}
    before = node.tree()
    with pytest.raises(
        CertopsError, match="^Refused, nothing was changed. apiserver: the names .*%s.*certs_rotate_refresh_sans false" % why
    ):
        if call == "rotate":
            rotate(access(node, configured), node.state, refreshing(node, "apiserver"), LIMITS)
        else:
            predict(access(node, configured), node.state, refreshing(node, "apiserver"))
    assert node.tree() == before


def test_an_api_server_without_an_address_is_refused(node: FakeNode) -> None:
    with pytest.raises(CertopsError, match="--advertise-address"):
        refreshed_names(node.credential("apiserver"), node.discover(), configuration(node))


def test_a_rollback_brings_the_old_names_back(node: FakeNode) -> None:
    old = node.path("pki/apiserver.crt").read_bytes()
    node.unhealthy = lambda now: None if now.path("pki/apiserver.crt").read_bytes() == old else "it is worse"
    with pytest.raises(CertopsError, match="rolled back"):
        rotate(access(node, configuration(node)), node.state, refreshing(node, "apiserver"), LIMITS)
    assert node.path("pki/apiserver.crt").read_bytes() == old


def test_a_certificate_without_names_gets_some() -> None:
    ca = pki.make_ca()
    leaf = pki.make_leaf(ca, "x", usages=("server",))
    renewed = renew(leaf.cert, ca.cert, ca.key, datetime.now(timezone.utc), 86400, sans=("DNS:x", "IP:::1"))
    assert describe(parse_certificates(renewed.certificate_pem, "x")[0]).sans == ("DNS:x", "IP:::1")


def planned(differing: bool = True, days: int = 200, ca_days: int = 3000, **values: t.Any) -> dict[str, t.Any]:
    ours: dict[str, t.Any] = {name: values.pop(name) for name in ("renewable", "not_renewable_because") if name in values}
    one = {**record("apiserver", days), "findings": [DIFFERS] if differing else [], **ours}
    return rotation_plan([one, authority(ca_days)], rotate_policy(**values))[0]


def test_other_names_make_it_due_whatever_its_age() -> None:
    entry = planned(refresh_sans="true")
    assert (entry["action"], entry["code"], entry["refresh_sans"]) == ("renew", "names_refreshed", True)
    assert entry["reason"] == MESSAGE[len("apiserver ") : -1]
    assert rotation_items([entry], entry["host"])[0]["refresh_sans"] is True


@pytest.mark.parametrize(
    ("values", "action", "code", "refreshed"),
    [
        ({}, "none", "not_due", False),
        ({"refresh_sans": "false"}, "none", "not_due", False),
        ({"refresh_sans": True, "differing": False}, "none", "not_due", False),
        ({"refresh_sans": True, "days": 3}, "renew", "due", True),
        ({"refresh_sans": True, "days": 3, "differing": False}, "renew", "due", False),
        ({"refresh_sans": True, "force": True}, "renew", "forced", True),
        ({"days": 3}, "renew", "due", False),
        ({"refresh_sans": True, "ca_days": 20}, "report", "ca_ends_first", False),
        ({"refresh_sans": True, "renewable": False, "not_renewable_because": "B"}, "report", "not_renewable", False),
    ],
)
def test_what_is_planned(values: dict[str, t.Any], action: str, code: str, refreshed: bool) -> None:
    entry = planned(**values)
    assert (entry["action"], entry["code"], entry["refresh_sans"]) == (action, code, refreshed)


def test_what_nobody_knows_of_is_renewed_as_it_is(node: FakeNode) -> None:
    """The items of other runs are as they were."""
    assert run(node, "apiserver")["certificates"][0]["after"]["sans"] == ["DNS:n1"]
