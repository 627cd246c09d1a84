# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of what is said of a kubelet that does not, or cannot, renew its client certificate."""

from __future__ import annotations

import typing as t
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._findings import About
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_findings import rotation_findings
from ansible_collections.certops.kubernetes.plugins.module_utils._material import Material
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Component, Credential, Finding, Node, Process
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import parse_certificates
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki

if t.TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(timezone.utc)
CA = pki.make_ca()


def found(
    path: Path, material: Material, name: str = "kubelet-client", rotated: bool = True, runs: bool = True, **flags: str
) -> list[Finding]:
    """What is said of that certificate of a kubelet with these flags."""
    process = Process(7, 7, ("kubelet",), NOW) if runs else None
    kubelet = Component("kubelet", {key.replace("_", "-"): (value,) for key, value in flags.items()}, process=process)
    credential = Credential(name, "pair", str(path), str(path), "client", "kubelet", "ca", managed_by="kubelet", rotated=rotated)
    node = Node("n1", None, "/k", {"kubelet": kubelet})
    return rotation_findings(About(name, str(path), "n1", "Renew it."), credential, material, node, NOW)


def findings(path: Path, material: Material, **how: t.Any) -> list[tuple[str, str, str]]:
    """Codes, severities and messages."""
    said = found(path, material, **how)
    assert all(finding.remedy for finding in said)
    return [(finding.code, finding.severity, finding.message) for finding in said]


def valid(days: int) -> Material:
    end = NOW + timedelta(days=days)
    pair = pki.make_leaf(CA, "system:node:n1", organization="system:nodes", not_before=end - timedelta(days=99), not_after=end)
    return Material(tuple(parse_certificates(pair.cert_pem, "it")))


def test_nothing_is_wrong_with_one_that_is_rotated(tmp_path: Path) -> None:
    assert findings(tmp_path / "a.pem", valid(9)) == []
    assert findings(tmp_path / "a.pem", valid(-9), name="apiserver", rotated=False) == []


def test_rotation_that_is_off(tmp_path: Path) -> None:
    ((code, severity, message),) = findings(tmp_path / "a.pem", valid(9), rotated=False)
    assert (code, severity) == ("rotation_off", "warning")
    assert "rotateCertificates (--rotate-certificates) is off" in message


@pytest.mark.parametrize(
    ("there", "said"), [(None, "it has no --bootstrap-kubeconfig"), (False, "there is no "), (True, "only with a valid token in ")]
)
def test_one_that_has_expired_with_and_without_a_bootstrap_kubeconfig(tmp_path: Path, there: bool | None, said: str) -> None:
    path = tmp_path / "bootstrap-kubelet.conf"
    if there:
        path.write_text("")
    flags: dict[str, t.Any] = {} if there is None else {"bootstrap_kubeconfig": str(path)}
    ((code, severity, message),) = findings(tmp_path / "a.pem", valid(-9), **flags)
    assert (code, severity) == ("cannot_renew_itself", "critical")
    assert "it has expired" in message
    assert said in message


def test_one_that_has_expired_while_its_kubelet_does_not_run(tmp_path: Path) -> None:
    """Nothing is said of flags that nobody has seen; the way out names the cluster's endpoint, by the cluster's configuration."""
    (finding,) = found(tmp_path / "a.pem", valid(-9), runs=False)
    assert "as it does not run, nothing tells of a --bootstrap-kubeconfig" in finding.message
    assert "it has no --bootstrap-kubeconfig" not in finding.message
    assert (
        "(kubectl -n kube-system get configmap kubeadm-config -o jsonpath='{.data.ClusterConfiguration}' | kubeadm kubeconfig user "
        "--config /dev/stdin --org system:nodes --client-name system:node:n1) and restart the kubelet."
    ) in str(finding.remedy)


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    link = tmp_path / "kubelet-client-current.pem"
    link.symlink_to(tmp_path / "gone.pem")
    ((code, severity, message),) = findings(link, Material(problem_code="missing", problem="There is no file."))
    assert (code, severity) == ("cannot_renew_itself", "critical")
    assert "the link leads to %s, which is not there" % (tmp_path / "gone.pem") in message


def test_one_that_is_embedded(tmp_path: Path) -> None:
    ((code, severity, message),) = findings(tmp_path / "kubelet.conf", valid(9), name="kubelet.conf")
    assert (code, severity) == ("cannot_renew_itself", "warning")
    assert "embedded" in message
