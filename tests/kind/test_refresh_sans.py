# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A name and an address of kubeadm's configuration come into the API server's certificate; old ones are found in it, and go."""

from __future__ import annotations

import json
import typing as t

import cluster
import pytest
from test_drift import ADDRESS, NAME, configuration, configure, with_names

# By age nothing is due: the cluster's certificates are made for ten days.
SELECT = {"certs_rotate_select": "[?name=='apiserver']", "certs_rotate_renew_before_days": 1}
VARIABLES = ("-e", json.dumps({"certs_rotate_refresh_sans": True, **SELECT}))
CERTIFICATE = "/etc/kubernetes/pki/apiserver.crt"
# The names in lines, as openssl shows them
SERVED = f"openssl s_client -connect {cluster.node_address()}:6443 </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName"
KUBEADM = r"""
kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system get configmap kubeadm-config -o jsonpath='{.data.ClusterConfiguration}' |
  sed 's,^certificatesDir:.*,certificatesDir: /run/certops-names,' >/run/certops-names.yaml
address=$(sed -n 's/.*--advertise-address=//p' /etc/kubernetes/manifests/kube-apiserver.yaml)
cat >>/run/certops-names.yaml <<END
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: "$address"}
END
mkdir -p /run/certops-names
cp /etc/kubernetes/pki/ca.* /run/certops-names
kubeadm init phase certs apiserver --config /run/certops-names.yaml >/dev/null
openssl x509 -in /run/certops-names/apiserver.crt -noout -ext subjectAltName
rm -rf /run/certops-names /run/certops-names.yaml
"""


def names(text: str) -> list[str]:
    """The names in the order in which the certificate has them."""
    return [name.strip() for name in text.splitlines()[1].split(",")]


def served() -> list[str]:
    """The names that the API server shows."""
    return names(cluster.on_node("sh", "-ec", SERVED))


def entry(run: str) -> dict[str, t.Any]:
    """The plan's entry of the API server's certificate in the newest report of a run."""
    (found,) = [one for one in cluster.newest_report(run)["plan"] if one["name"] == "apiserver"]
    return t.cast("dict[str, t.Any]", found)


@pytest.fixture(scope="module", name="seen")
def fixture_seen() -> t.Iterator[dict[str, t.Any]]:
    """What was planned, done and served with both in the configuration, and what after they were taken out again."""
    text, before = configuration(), served()
    configure(with_names(text))
    try:
        found: dict[str, t.Any] = {"before": before}
        cluster.playbook("rotate", "-e", json.dumps(SELECT))
        found["kept"] = entry("rotate")
        foreseen = cluster.playbook("rotate", "--check", "--diff", *VARIABLES)
        found["check"] = (foreseen.stdout, served())
        cluster.playbook("rotate", *VARIABLES)
        found["planned"], found["named"] = entry("rotate"), served()
        found["kubeadm"] = names(cluster.on_node("sh", "-ec", KUBEADM))
        cluster.playbook("rotate", *VARIABLES)
        found["again"] = entry("rotate")
    finally:
        configure(text)
        cluster.playbook("rotate", *VARIABLES)
    yield {**found, "cured": entry("rotate"), "restored": served()}


def test_without_the_variable_it_is_left_alone(seen: dict[str, t.Any]) -> None:
    """The finding says what there is to do."""
    assert (seen["kept"]["action"], seen["kept"]["refresh_sans"]) == ("none", False)


def test_check_mode_shows_the_names_and_changes_nothing(seen: dict[str, t.Any]) -> None:
    said, still_served = seen["check"]
    assert f"name: DNS:{NAME}" in said
    assert f"name: IP:{ADDRESS}" in said
    assert still_served == seen["before"]


def test_the_names_are_served(seen: dict[str, t.Any]) -> None:
    """Beside those that were there, in kubeadm's order."""
    assert seen["planned"]["code"] == "names_refreshed"
    assert f"lacks DNS:{NAME}, IP:{ADDRESS}" in seen["planned"]["reason"]
    assert set(seen["named"]) == {*seen["before"], f"DNS:{NAME}", f"IP Address:{ADDRESS}"}


def test_the_names_are_those_that_kubeadm_gives(seen: dict[str, t.Any]) -> None:
    assert seen["named"] == seen["kubeadm"]


def test_the_second_run_has_nothing_to_do(seen: dict[str, t.Any]) -> None:
    assert seen["again"]["action"] == "none"


def test_an_old_address_is_found_and_cured(seen: dict[str, t.Any]) -> None:
    """With the name; what is served is what was before."""
    assert seen["cured"]["code"] == "names_refreshed"
    assert f"has DNS:{NAME}, IP:{ADDRESS} beyond it" in seen["cured"]["reason"]
    assert sorted(seen["restored"]) == sorted(seen["before"])
