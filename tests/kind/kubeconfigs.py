# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kubeconfigs that lie somewhere, as their own kubectl and the API server see them."""

from __future__ import annotations

import base64
import hashlib
import json
import pathlib
import re
import ssl

import cluster


def write(node: str, path: str, content: str, owner: str = "0") -> None:
    """A file that is for its owner alone."""
    cluster.on_node("install", "-d", "-m", "0700", "-o", owner, "-g", owner, str(pathlib.PurePath(path).parent), node=node)
    cluster.on_node("sh", "-c", f"umask 077; cat >{path}; chown {owner}:{owner} {path}", stdin=content, node=node)


def data_of(content: str, what: str) -> str:
    """PEM of a user's embedded certificate or key."""
    found = re.search(rf"client-{what}-data: (\S+)", content)
    assert found
    return base64.b64decode(found[1]).decode()


def credential_id(pem: str) -> str:
    """As the API server calls a client certificate."""
    return "X509SHA256=" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def seen_by_api(node: str, path: str) -> tuple[str, list[str]]:
    """User and credential behind a kubeconfig."""
    said = cluster.on_node("kubectl", "--kubeconfig", path, "auth", "whoami", "-o", "json", node=node)
    info = json.loads(said)["status"]["userInfo"]
    return info["username"], info["extra"]["authentication.kubernetes.io/credential-id"]
