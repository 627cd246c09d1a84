# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names in servers' certificates beside those that kubeadm's configuration of the cluster wants."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Finding
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.inspected import codes, inspect, trouble
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import COMMANDS, LEAVES, KubeadmTree

SERVICE = "kubernetes.default.svc"
OWN = LEAVES["apiserver"][3]


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> KubeadmTree:
    tree = KubeadmTree(tmp_path)
    tree.run_kubelet()  # it says where its certificates are
    return tree


def differing(tree: KubeadmTree, name: str = "apiserver", **configuration: t.Any) -> Finding:
    """The only finding of the node, which is about that certificate's names."""
    found = inspect(tree, configuration={**tree.configuration(), **configuration})
    assert trouble(found) == {name: ["sans_differ"]}
    return found[name].findings[0]


def test_a_node_as_its_configuration_wants_it(tree: KubeadmTree) -> None:
    assert trouble(inspect(tree, configuration=tree.configuration())) == {}


WANTED: dict[str, tuple[dict[str, t.Any], str]] = {
    "a name for clients": ({"apiServer": {"certSANs": ["api.example.org", "192.0.2.7"]}}, "DNS:api.example.org"),
    "an address for clients": ({"apiServer": {"certSANs": ["2001:DB8::1"]}}, "IP:2001:db8::1"),
    "a star": ({"apiServer": {"certSANs": ["*.example.org"]}}, "DNS:*.example.org"),
    "the endpoint's name": ({"controlPlaneEndpoint": "lb.example.org:6443"}, "DNS:lb.example.org"),
    "the endpoint's name without a port": ({"controlPlaneEndpoint": "lb"}, "DNS:lb"),
    "the endpoint's address": ({"controlPlaneEndpoint": "192.0.2.100:8443"}, "IP:192.0.2.100"),
    "the endpoint's new address": ({"controlPlaneEndpoint": "[2001:db8::9]:8443"}, "IP:2001:db8::9"),
    "an address without a port": ({"controlPlaneEndpoint": "2001:db8::9"}, "IP:2001:db8::9"),
}


@pytest.mark.parametrize(("configuration", "missing"), WANTED.values(), ids=WANTED)
def test_a_name_that_is_missing(tree: KubeadmTree, configuration: dict[str, t.Any], missing: str) -> None:
    finding = differing(tree, **configuration)
    assert finding.severity == "warning"
    assert (
        "than kubeadm's configuration of the cluster wants: it lacks %s (%s on cp-1)." % (missing, tree.cert("apiserver"))
        in finding.message
    )
    assert "kubeadm init phase certs apiserver" in finding.remedy


@pytest.mark.parametrize(
    ("networking", "missing", "further"),
    [
        (
            {"dnsDomain": "k8s.lan", "serviceSubnet": "10.96.0.0/12"},
            "DNS:kubernetes.default.svc.k8s.lan",
            "DNS:kubernetes.default.svc.cluster.local",
        ),
        ({"dnsDomain": "cluster.local", "serviceSubnet": "10.200.0.0/16,2001:db8::/108"}, "IP:10.200.0.1", "IP:10.96.0.1"),
    ],
)
def test_another_network(tree: KubeadmTree, networking: dict[str, str], missing: str, further: str) -> None:
    finding = differing(tree, networking=networking)
    assert finding.severity == "warning"
    assert "it lacks %s and has %s beyond it (" % (missing, further) in finding.message


def test_another_address_of_this_node(tree: KubeadmTree) -> None:
    command = [word.replace("--advertise-address=192.0.2.7", "--advertise-address=192.0.2.8") for word in COMMANDS["kube-apiserver"]]
    tree.write_manifest("kube-apiserver", command)
    found = inspect(tree, configuration=tree.configuration())
    assert trouble(found) == {name: ["sans_differ"] for name in ("apiserver", "etcd/server", "etcd/peer")}
    assert "it lacks IP:192.0.2.8 and has IP:192.0.2.7 beyond it" in found["etcd/peer"].findings[0].message


def test_names_beyond_it_are_for_information(tree: KubeadmTree) -> None:
    tree.write_pair("apiserver", tree.leaf("apiserver", sans=(*OWN, *("DNS:old-%d" % number for number in range(7)))))
    finding = differing(tree)
    assert finding.severity == "info"
    assert "it has DNS:old-0, DNS:old-1, DNS:old-2, DNS:old-3, DNS:old-4 and 2 more beyond it" in finding.message
    assert "lacks" not in finding.message


def test_a_node_that_its_certificate_does_not_name_is_for_information(tree: KubeadmTree) -> None:
    """A cloud's provider may call it otherwise than kubeadm did."""
    tree.write_pair("apiserver", tree.leaf("apiserver", sans=("DNS:host.cloud", *OWN[1:])))
    finding = differing(tree)
    assert finding.severity == "info"
    assert "it lacks DNS:cp-1 and has DNS:host.cloud beyond it" in finding.message


def test_names_for_etcd(tree: KubeadmTree) -> None:
    etcd = {"local": {"serverCertSANs": ["etcd.example.org"], "peerCertSANs": ["192.0.2.7"]}}
    assert "it lacks DNS:etcd.example.org (" in differing(tree, "etcd/server", etcd=etcd).message


def test_upper_case_makes_no_difference(tree: KubeadmTree) -> None:
    tree.write_pair("apiserver", tree.leaf("apiserver", sans=("DNS:CP-1", *OWN[1:])))
    assert trouble(inspect(tree, configuration=tree.configuration())) == {}


NOTHING_TO_SAY: dict[str, t.Any] = {
    "not known": None,
    "no mapping": ["x"],
    "of another folder": {"certificatesDir": "/etc/kubernetes/ssl", "apiServer": {"certSANs": ["x"]}},
    "names that kubeadm leaves out": {"apiServer": {"certSANs": ["UPPER", "a b", "", "-x", "fe80::1%eth0", "a..b", "x" * 20000 + "!"]}},
    "no list": {"apiServer": {"certSANs": "x"}},
    "no texts": {"apiServer": {"certSANs": [["x"], {"x": "y"}]}, "controlPlaneEndpoint": {"x": "y"}},
    "no mappings": {"apiServer": "x", "etcd": "x"},
    "etcd outside": {"etcd": {"external": {"endpoints": ["https://192.0.2.9:2379"]}}},
}


@pytest.mark.parametrize("configuration", NOTHING_TO_SAY.values(), ids=NOTHING_TO_SAY)
def test_configurations_that_want_nothing_else(tree: KubeadmTree, configuration: t.Any) -> None:
    given = {**tree.configuration(), **configuration} if isinstance(configuration, dict) else configuration
    assert trouble(inspect(tree, configuration=given)) == {}


@pytest.mark.parametrize("subnet", ["", "x", "10.96.0.1", "10.96.0.0/99", "\u0661/8"])
def test_subnets_that_are_none(tree: KubeadmTree, subnet: str) -> None:
    """Then its first address is not known, and the one in the certificate is beyond what is."""
    finding = differing(tree, networking={"dnsDomain": "cluster.local", "serviceSubnet": subnet})
    assert (finding.severity, "it has IP:10.96.0.1 beyond it" in finding.message) == ("info", True)


def test_without_a_folder_it_is_kubeadm_s_own(tree: KubeadmTree) -> None:
    configuration = {**tree.configuration(), "controlPlaneEndpoint": "lb"}
    del configuration["certificatesDir"]
    assert codes(inspect(tree, configuration=configuration)["apiserver"]) == [("sans_differ", "warning")]
