# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bastion with copies of admin.conf from before the rotation: renewed there, as its own kubectl and the API server see it."""

from __future__ import annotations

import base64
import json
import re
import typing as t

import cluster
import pytest
from kubeconfigs import credential_id, data_of, seen_by_api, write

BASTION = f"{cluster.CLUSTER}-bastion"
JANE = "2001"
HOME = "/home/jane/.kube"
EMBEDDED, NAMED = f"{HOME}/config", "/root/.kube/config"
SELECT = "[?contains(name, '#')]"  # nothing of the node
TOKEN = "  # written by hand\n- name: robot\n  user: {token: abc}\n- name: plugin\n  user: {exec: {apiVersion: v1, command: x}}\n"


def on_bastion(*argv: str, stdin: str | None = None) -> str:
    """Standard output of a command on the bastion."""
    return cluster.on_node(*argv, stdin=stdin, node=BASTION)


@pytest.fixture(name="old", scope="module")
def fixture_old() -> t.Iterator[str]:
    """A container beside the node, with two copies of admin.conf as it was before the rotation, if there was one; that content."""
    image = cluster.run("docker", "inspect", "-f", "{{.Config.Image}}", cluster.NODE).stdout.strip()
    cluster.run("docker", "run", "-d", "--rm", "--network", "kind", "--name", BASTION, "--entrypoint", "sleep", image, "infinity")
    try:
        before = cluster.STATE / "admin.conf"
        content = before.read_text() if before.exists() else cluster.on_node("cat", "/etc/kubernetes/admin.conf")
        write(BASTION, EMBEDDED, content.rstrip("\n") + "\n" + TOKEN, JANE)
        named = re.sub(r"-data: \S+\n", ": me.crt\n", content).replace("client-key: me.crt", "client-key: me.key")
        authority = re.search(r"certificate-authority-data: \S+\n", content)
        assert authority
        write(BASTION, NAMED, named.replace("certificate-authority: me.crt\n", authority[0]))
        write(BASTION, "/root/.kube/me.crt", data_of(content, "certificate"))
        write(BASTION, "/root/.kube/me.key", data_of(content, "key"))
        yield content
    finally:
        cluster.run("docker", "rm", "-f", BASTION)


@pytest.fixture(name="inventory", scope="module")
def fixture_inventory(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The bastion's own part of the inventory."""
    host = {"ansible_connection": "community.docker.docker", "certs_rotate_kubeconfig_copies": [EMBEDDED, NAMED]}
    path = tmp_path_factory.mktemp("inventory") / "bastion.json"
    path.write_text(json.dumps({"all": {"children": {"kubeconfig_hosts": {"hosts": {BASTION: host}}}}}))
    return str(path)


def rotate(inventory: str, *argv: str) -> str:
    """What the playbook says."""
    return cluster.playbook("rotate", "-i", inventory, "-e", json.dumps({"certs_rotate_select": SELECT}), *argv).stdout


def test_copies_on_a_bastion_become_valid_again(old: str, inventory: str) -> None:
    """Keys are made there and stay there; nothing else in the files changes, and nothing on the node."""
    names = [f"{EMBEDDED}#kubernetes-admin", f"{NAMED}#kubernetes-admin"]
    node = cluster.snapshot()
    before = on_bastion("cat", EMBEDDED), on_bastion("cat", NAMED)
    shown = rotate(inventory, "--check", "--diff")
    for name in names:
        assert f"{BASTION}: renew {name}: " in shown
    assert f"signed on {cluster.NODE}, which has the key of its CA" in shown
    assert (on_bastion("cat", EMBEDDED), on_bastion("cat", NAMED)) == before
    assert on_bastion("sh", "-c", "ls /var/lib/certops 2>/dev/null || true") == ""

    said = rotate(inventory, "--diff", "-vvv")
    embedded = on_bastion("cat", EMBEDDED)
    keys = [data_of(embedded, "key"), on_bastion("cat", "/root/.kube/me.key")]
    assert len({*keys, data_of(old, "key"), data_of(cluster.on_node("cat", "/etc/kubernetes/admin.conf"), "key")}) >= 3
    for path, certificate in ((EMBEDDED, data_of(embedded, "certificate")), (NAMED, on_bastion("cat", "/root/.kube/me.crt"))):
        assert seen_by_api(BASTION, path) == ("kubernetes-admin", [credential_id(certificate)])
        assert credential_id(certificate) != credential_id(data_of(old, "certificate"))
    hidden = [re.sub(r"(client-\w+-data): \S+", r"\1: x", content) for content in (before[0], embedded)]
    assert hidden[0] == hidden[1]
    assert TOKEN in embedded
    assert on_bastion("cat", NAMED) == before[1]
    assert on_bastion("stat", "-c", "%u:%g %a", EMBEDDED, "/root/.kube/me.key").split("\n") == [f"{JANE}:{JANE} 600", "0:0 600", ""]
    assert on_bastion("ls", "-A", HOME).split() == ["config"]

    report = cluster.newest_report("rotate")
    assert {name: state["state"] for name, state in report["run"]["nodes"].items()} == {BASTION: "done", cluster.NODE: "nothing_due"}
    made = report["results"][BASTION]["certificates"]
    assert [(one["name"], one["in_use"], one["proof"]) for one in made] == [(name, "true", "identity") for name in names]
    for key in keys:
        for secret in (key.split("\n")[1], base64.b64encode(key.encode()).decode()):
            assert secret not in said + json.dumps(report)
    assert {path: found for path, found in cluster.snapshot().items() if path.startswith("/etc/kubernetes")} == {
        path: found for path, found in node.items() if path.startswith("/etc/kubernetes")
    }

    ours = [record for record in report["records"] if record["host"] == BASTION]
    assert [(record["name"], record["days_left"], record["findings"]) for record in ours] == [(name, 364, []) for name in names], (
        "all is well"
    )
