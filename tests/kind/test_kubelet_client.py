# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kubelet's client certificate is renewed by the cluster's signer and put back, and no pod notices."""

from __future__ import annotations

import json
import re
import typing as t

import cluster

CONF = "/etc/kubernetes/kubelet.conf"
CURRENT = "/var/lib/kubelet/pki/kubelet-client-current.pem"
ONLY_IT = {"certs_rotate_force": True, "certs_rotate_select": "[?name=='kubelet-client']"}


def fingerprint() -> str:
    """Of the certificate that the link leads to."""
    said = cluster.on_node("openssl", "x509", "-in", CURRENT, "-noout", "-fingerprint", "-sha256")
    return said.strip().partition("=")[2].replace(":", "").lower()


def seen_by_the_api() -> dict[str, t.Any]:
    """Whom the API server sees in who shows the kubelet's files."""
    said = cluster.kubectl("auth", "whoami", "-o", "json", config="/etc/kubernetes/kubelet.conf")
    return t.cast("dict[str, t.Any]", json.loads(said)["status"]["userInfo"])


def running() -> dict[str, str]:
    """Container id by pod and container, of all pods."""
    pods = json.loads(cluster.kubectl("get", "pods", "-A", "-o", "json"))["items"]
    states = [(pod["metadata"]["name"], state) for pod in pods for state in pod["status"].get("containerStatuses", ())]
    return {f"{name}/{state['name']}": state["containerID"] for name, state in states}


def kubelet() -> str:
    """The PID of the kubelet."""
    return cluster.on_node("pgrep", "-xo", "kubelet").strip()


def prove(rotation: dict[str, t.Any]) -> None:
    """The node is Ready, its API server knows the certificate that lies on disk, and so says the report."""
    assert seen_by_the_api()["username"] == f"system:node:{cluster.NODE}"
    assert seen_by_the_api()["extra"]["authentication.kubernetes.io/credential-id"] == [f"X509SHA256={fingerprint()}"]
    cluster.kubectl("wait", "--for=condition=Ready", f"node/{cluster.NODE}", "--timeout=30s")
    (certificate,) = rotation["certificates"]
    assert (certificate["name"], certificate["in_use"], certificate["proof"]) == ("kubelet-client", "true", "identity")
    assert certificate["after"]["fingerprint_sha256"] == fingerprint()
    assert [component["name"] for component in rotation["components"]] == ["kubelet"]
    print(f"kubelet: {rotation['components'][0]['away_seconds']} s away")


def test_renewed_by_the_clusters_signer_and_put_back() -> None:
    """A new file, a link that leads to it, another kubelet, the same containers; and all of it back again.

    The link looks as if the kubelet had made it: then what it says of its memory is asked for, and understood.
    """
    cluster.on_node("touch", "-h", CURRENT)
    before, containers, pid = fingerprint(), running(), kubelet()
    led = cluster.on_node("readlink", CURRENT)
    assert containers
    cluster.playbook("rotate", "-e", json.dumps(ONLY_IT))
    assert fingerprint() != before
    assert cluster.on_node("readlink", CURRENT) != led
    assert cluster.on_node("stat", "-Lc", "%a", CURRENT).strip() == "600"
    assert kubelet() != pid
    assert running() == containers
    report = cluster.newest_report("rotate")
    prove(report["results"][cluster.NODE])
    readers = [record["readers"][0] for record in report["records"] if record["name"] == "kubelet-client"]
    assert [(reader["in_use"], reader["proof"]) for reader in readers] == [("true", "metrics")]
    cluster.playbook("rollback")
    assert (fingerprint(), cluster.on_node("readlink", CURRENT)) == (before, led)
    assert running() == containers
    prove(cluster.newest_report("rollback")["results"][cluster.NODE])


# As kubeadm left it before its phase kubelet-finalize, and as people write it by hand.
EMBED = """
import base64, re, sys
path, pem = sys.argv[1], open(sys.argv[2]).read()
key = pem[pem.index("-----BEGIN EC PRIVATE") if "BEGIN EC PRIVATE" in pem else pem.index("-----BEGIN RSA PRIVATE"):]
text = open(path).read()
for name, data in (("certificate", pem.replace(key, "")), ("key", key)):
    text = re.sub("client-%s: .*" % name, "client-%s-data: %s" % (name, base64.b64encode(data.encode()).decode()), text)
open(path, "w").write(text)
"""


def user() -> str:
    """What kubelet.conf says of its user, without what it embeds."""
    text = cluster.on_node("cat", CONF)
    return re.sub("data: .*", "data: …", text[text.index("users:") :])


def test_what_is_embedded_is_converted_activated_later_and_put_back() -> None:
    """A run that may restart nothing leaves it to the next one, which notices it."""
    pid, was = kubelet(), user()
    cluster.on_node("python3", "-", CONF, CURRENT, stdin=EMBED)
    embedded, led = cluster.on_node("cat", CONF), cluster.on_node("readlink", CURRENT)
    assert user() != was
    only = {"certs_rotate_force": True, "certs_rotate_select": "[?name=='kubelet.conf']", "certs_rotate_restart": "never"}
    cluster.playbook("rotate", "-e", json.dumps(only))
    assert (user(), kubelet()) == (was, pid)
    renewed = fingerprint()
    assert [entry["action"] for entry in cluster.newest_report("rotate")["plan"] if entry["name"] == "kubelet.conf"] == ["renew"]
    cluster.playbook("rotate", "-e", json.dumps({"certs_rotate_select": "[?name=='kubelet-client']"}))
    assert kubelet() != pid
    assert fingerprint() == renewed
    report = cluster.newest_report("rotate")
    assert [entry["code"] for entry in report["plan"] if entry["name"] == "kubelet-client"] == ["activation_pending"]
    prove(report["results"][cluster.NODE])
    cluster.playbook("rollback")
    assert (cluster.on_node("cat", CONF), cluster.on_node("readlink", CURRENT)) == (embedded, led)
    assert seen_by_the_api()["username"] == f"system:node:{cluster.NODE}"
    cluster.on_node("kubeadm", "init", "phase", "kubelet-finalize", "enable-client-cert-rotation", "--config", "/kind/kubeadm.conf")
    assert user() == was


def test_a_request_that_nobody_approves_changes_nothing() -> None:
    """Without the ClusterRoleBinding the run says what is missing, and the node is as it was."""
    binding = "kubeadm:node-autoapprove-certificate-rotation"
    saved = cluster.kubectl("get", "clusterrolebinding", binding, "-o", "json")
    before = cluster.snapshot()[CURRENT]
    cluster.kubectl("delete", "clusterrolebinding", binding)
    try:
        said = cluster.playbook("rotate", "-e", json.dumps(ONLY_IT), check=False)
    finally:
        document = json.loads(saved)
        document["metadata"] = {"name": binding}
        cluster.apply(document)
    assert said.returncode
    assert "kubectl create clusterrolebinding" in said.stdout
    assert cluster.snapshot()[CURRENT] == before
    assert "Pending" not in cluster.kubectl("get", "csr")
