# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A kubeconfig for Jane, signed by either signer, as kubectl and the API server see it."""

from __future__ import annotations

import base64
import json
import re
import typing as t

import cluster
import pytest

HOME = "/run/certops-issued"
JANE = 2001
CSRS = ("get", "csr", "--field-selector", "spec.signerName=kubernetes.io/kube-apiserver-client", "-o", "name")


@pytest.fixture(scope="module", autouse=True)
def home() -> t.Iterator[None]:
    """A folder of somebody who is not root."""
    cluster.on_node("install", "-d", "-m", "0700", "-o", str(JANE), "-g", str(JANE), HOME)
    yield
    cluster.on_node("rm", "-rf", HOME)


def wanted(signer: str, **more: t.Any) -> dict[str, t.Any]:
    """The module's arguments."""
    return {"path": f"{HOME}/{signer}", "user": "jane", "groups": ["developers"], "signer": signer, "owner": str(JANE), **more}


def issue(signer: str, *argv: str, **more: t.Any) -> dict[str, t.Any]:
    """The module's result, which is a success."""
    result = cluster.module("issue_kubeconfig", wanted(signer, **more), *argv)
    assert not result["failed"], result
    return result


def look(path: str) -> str:
    """Owner, mode, inode and time of a file."""
    return cluster.on_node("stat", "-c", "%a %u %i %Y", path).strip()


@pytest.mark.parametrize("signer", ["api", "ca"])
def test_jane(signer: str) -> None:
    """Check mode writes nothing; then the API server sees Jane; the second call changes nothing; no request is left."""
    path = f"{HOME}/{signer}"
    foreseen = issue(signer, "--check")
    assert foreseen["changed"]
    assert cluster.on_node("ls", HOME).split() == ([] if signer == "api" else ["api"])

    made = issue(signer)
    assert (made["changed"], made["action"], made["proof"]) == (True, "issued", "identity"), made
    assert made["certificate"]["subject"] == foreseen["certificate"]["subject"] == "O=developers,CN=jane"
    assert look(path).startswith(f"600 {JANE} ")
    seen = json.loads(cluster.kubectl("auth", "whoami", "-o", "json", config=path))["status"]["userInfo"]
    assert (seen["username"], sorted(seen["groups"])) == ("jane", ["developers", "system:authenticated"])
    assert cluster.kubectl("config", "current-context", config=path).strip() == made["context"]
    assert cluster.kubectl("auth", "can-i", "get", "secrets", "-A", config=path, check=False).strip() == "no"
    assert cluster.kubectl(*CSRS) == ""

    before = look(path)
    again = issue(signer)
    assert (again["changed"], again["certificate"]) == (False, made["certificate"])
    assert look(path) == before


@pytest.mark.parametrize("signer", ["api", "ca"])
def test_openssl_verifies_it(signer: str) -> None:
    """The certificate is one for clients, under the cluster's CA, and belongs to the key beside it."""
    content = cluster.on_node("cat", f"{HOME}/{signer}")
    certificate, key = (
        base64.b64decode(found[1]).decode()
        for word in ("certificate", "key")
        if (found := re.search(rf"client-{word}-data: (\S+)", content))
    )
    verify = ("openssl", "verify", "-purpose", "sslclient", "-CAfile", "/etc/kubernetes/pki/ca.crt")
    assert "OK" in cluster.on_node(*verify, stdin=certificate)
    public = cluster.on_node("openssl", "x509", "-noout", "-pubkey", stdin=certificate)
    assert cluster.on_node("openssl", "pkey", "-pubout", stdin=key) == public


def test_renewed_for_an_hour_each() -> None:
    """A renewal by force keeps what kubectl wrote, and the signer gives what was asked for."""
    path = f"{HOME}/api"
    cluster.kubectl("config", "set-context", "--current", "--namespace=shop", config=path)
    made = issue("api", "--diff", force=True, validity_hours=1)
    assert made["changed"], made
    assert cluster.kubectl("config", "view", "--minify", "-o", "jsonpath={..namespace}", config=path) == "shop"
    assert cluster.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", config=path) == "jane"
    assert look(path).startswith(f"600 {JANE} ")
    assert cluster.kubectl(*CSRS) == ""


def test_the_servers_refusal_is_told() -> None:
    """Jane may not ask for certificates: the sentence names the permission, and nothing is written."""
    result = cluster.module("issue_kubeconfig", {**wanted("api"), "path": f"{HOME}/by-jane", "kubeconfig": f"{HOME}/ca"})
    assert result["failed"]
    assert "lacks the permission create on certificatesigningrequests" in result["msg"]
    assert cluster.on_node("ls", HOME).split() == ["api", "ca"]
