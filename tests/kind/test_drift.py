# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong besides dates, provoked on a real node; a node that nobody has touched has nothing of it (test_rotated.py)."""

from __future__ import annotations

import json
import typing as t

import cluster
import pytest

NAME, ADDRESS = "lb.certops.example", "192.0.2.10"
KEPT = "/run/certops-drift"
# admin.conf becomes a copy of super-admin.conf; super-admin.conf gets a weak key for twenty years that cannot be used as a client's;
# a certificate is left that nobody reads.
SPOIL = f"""
mkdir -p {KEPT}
cd /etc/kubernetes
cp -a admin.conf super-admin.conf {KEPT}
cat super-admin.conf >admin.conf
weak={KEPT}/weak user=kubernetes-super-admin
openssl req -new -newkey rsa:1024 -nodes -keyout $weak.key -subj /O=system:masters/CN=$user -out $weak.csr
echo extendedKeyUsage=serverAuth >$weak.ext
openssl x509 -req -in $weak.csr -CA pki/ca.crt -CAkey pki/ca.key -set_serial 1 -days 7300 -extfile $weak.ext -out $weak.crt
kubectl config --kubeconfig super-admin.conf set-credentials $user --embed-certs --client-certificate $weak.crt --client-key $weak.key
cp pki/apiserver.crt pki/left-over.crt
"""
MEND = f"""
cd /etc/kubernetes
for name in admin.conf super-admin.conf; do cat {KEPT}/$name >$name; done
rm -rf {KEPT} pki/left-over.crt
"""
CONFIGURATION = ("configmap", "kubeadm-config", "-n", "kube-system")


def configuration() -> str:
    """kubeadm's ClusterConfiguration."""
    return t.cast("str", json.loads(cluster.kubectl("get", *CONFIGURATION, "-o", "json"))["data"]["ClusterConfiguration"])


def with_names(text: str) -> str:
    """That configuration, with a load balancer's name and address among those that the API server's certificate is to have."""
    names = "certSANs:\n  - "
    assert names in text
    return text.replace(names, f"{names}{NAME}\n  - {ADDRESS}\n  - ")


def configure(text: str) -> None:
    """Write kubeadm's ClusterConfiguration."""
    patch = json.dumps({"data": {"ClusterConfiguration": text}})
    cluster.kubectl("patch", *CONFIGURATION, "--type", "merge", "-p", patch)


@pytest.fixture(scope="module", name="seen")
def fixture_seen() -> t.Iterator[dict[str, t.Any]]:
    """The report of an inspection of the spoilt node."""
    before = configuration()
    configure(with_names(before))
    try:
        cluster.on_node("sh", "-ec", SPOIL)
        cluster.playbook("inspect")
        yield cluster.newest_report("inspect")
    finally:
        cluster.on_node("sh", "-c", MEND)
        configure(before)


def findings(seen: dict[str, t.Any], name: str) -> dict[str, str]:
    """Code and message of each finding about a certificate."""
    (record,) = [record for record in seen["records"] if record["name"] == name]
    return {finding["code"]: finding["message"] for finding in record["findings"]}


def test_names_that_the_configuration_wants(seen: dict[str, t.Any]) -> None:
    """The load balancer's, which somebody has added and never made a certificate for."""
    assert f"lacks DNS:{NAME}, IP:{ADDRESS} " in findings(seen, "apiserver")["sans_differ"]


def test_an_administrator_who_is_more_than_that(seen: dict[str, t.Any]) -> None:
    """Its group passes over RBAC."""
    assert "system:masters" in findings(seen, "admin.conf")["unexpected_group"]


def test_a_certificate_that_is_weak_long_and_of_no_use(seen: dict[str, t.Any]) -> None:
    """Three findings about one."""
    assert {"weak_key", "long_validity", "usage_missing"} <= set(findings(seen, "super-admin.conf"))


def test_a_file_that_nobody_reads(seen: dict[str, t.Any]) -> None:
    """Found among the node's problems."""
    assert any(problem["code"] == "unused_file" and "left-over.crt" in problem["message"] for problem in seen["problems"])


def test_nothing_else_is_found(seen: dict[str, t.Any]) -> None:
    """No false alarm beside them; that the kubelet's own certificate ends soon is none."""
    found = {record["name"] for record in seen["records"] for finding in record["findings"] if finding["code"] != "expiring"}
    assert found == {"apiserver", "admin.conf", "super-admin.conf"}
