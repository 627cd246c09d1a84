# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every certificate of a cluster, found without knowing where certificates are kept: all files, all ports, all objects."""

from __future__ import annotations

import base64
import collections
import hashlib
import json
import re
import typing as t

import cluster

# What is not the cluster's: the system's own trust store and programs, images of containers, what only lives in memory (of tests, too);
# and what are copies: backups of a run, and volumes of pods, which are made of the API's objects.
NOT_THE_CLUSTERS = (
    *("/proc", "/sys", "/dev", "/run", "/usr", "/lib", "/etc/ssl", "/var/lib/containerd"),
    *("/var/lib/certops", "/var/lib/kubelet/pods"),
)

# Runs on the node with the standard library alone; prints [place, SHA-256 of the certificate] of each. It knows two things: what a
# certificate looks like as text (in PEM, and in PEM that was encoded once more, as kubeconfigs have it), and how to begin a TLS session.
SCAN = r"""
import base64, hashlib, json, os, re, socket, ssl, stat, sys
BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----\s+(MI[A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
TWICE = re.compile(rb"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t[A-Za-z0-9+/=]*")
LOOPBACK = "apiserver-loopback-client"

def certificates(text):
    for block in BLOCK.findall(text):
        yield hashlib.sha256(base64.b64decode(b"".join(block.split()))).hexdigest()
    for word in TWICE.findall(text):
        yield from certificates(base64.b64decode(word))

PKI = "/var/lib/kubelet/pki"
# A kubelet keeps what its link led to before: nobody uses these files any more, and they are not mistaken for what is in use.
KEPT = re.compile(PKI + r"/kubelet-(client|server)-\d{4}-[0-9-]+\.pem")

def is_put_aside(path):
    current = [os.path.realpath("%s/kubelet-%s-current.pem" % (PKI, what)) for what in ("client", "server")]
    return KEPT.match(path) and path not in current

def files(left_out):
    for folder, below, names in os.walk("/"):
        below[:] = [name for name in below if os.path.join(folder, name) not in left_out]
        for path in (os.path.join(folder, name) for name in names):
            info = os.lstat(path)
            if stat.S_ISREG(info.st_mode) and info.st_size < 4 << 20 and not is_put_aside(path):
                for found in certificates(content(path)):
                    yield path, found

def content(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        sys.exit("%s: %s" % (path, error))

def listening():
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in open(table).read().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A":
                words, port = local.split(":")
                raw = b"".join(bytes.fromhex(words[at:at + 8])[::-1] for at in range(0, len(words), 8))
                host = socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
                yield {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(host, host), int(port, 16)

def shown(host, port, name=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), 3) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
            return hashlib.sha256(tls.getpeercert(True)).hexdigest()
    except (OSError, ValueError):
        return None

found = sorted(set(files(sys.argv[1:])))
for host, port in sorted(set(listening())):
    for name in (None, LOOPBACK):
        certificate = shown(host, port, name)
        if certificate:
            found.append(("%s:%d" % (host, port), certificate))
print(json.dumps(found))
"""
BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----\s+(MI[A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
OBJECTS = "apiservices,validatingwebhookconfigurations,mutatingwebhookconfigurations,customresourcedefinitions,configmaps,secrets"

Found = t.Dict[str, t.Set[str]]  # SHA-256 of a certificate -> where it was found


def nodes() -> tuple[str, ...]:
    """Every node of the cluster, workers too; a load balancer has no certificate."""
    listed = cluster.kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}")
    return tuple(sorted(listed.split()))


def on(node: str) -> Found:
    """The certificates in a node's files and behind its ports."""
    places: Found = collections.defaultdict(set)
    for place, fingerprint in json.loads(cluster.on_node("python3", "-", *NOT_THE_CLUSTERS, stdin=SCAN, node=node)):
        places[fingerprint].add(place)
    return dict(places)


def in_objects() -> Found:
    """The certificates in what the API server calls, in Secrets of type kubernetes.io/tls, and in the well-known ConfigMaps."""
    places: Found = collections.defaultdict(set)
    for item in json.loads(cluster.kubectl("get", OBJECTS, "--all-namespaces", "-o", "json"))["items"]:
        name = f"{item['kind']}/{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"
        if is_promised(item):
            for text in texts(item):
                for block in BLOCK.findall(text):
                    places[hashlib.sha256(base64.b64decode(block)).hexdigest()].add(name)
    return dict(places)


def is_promised(item: dict[str, t.Any]) -> bool:
    """Whether inspect says that it looks into this object."""
    if item["kind"] == "Secret":
        return bool(item["type"] == "kubernetes.io/tls")
    if item["kind"] == "ConfigMap":
        return item["metadata"]["name"] in ("kube-root-ca.crt", "cluster-info", "extension-apiserver-authentication")
    return True


def texts(value: t.Any) -> t.Iterator[str]:
    """Every string in an object, as it is and decoded, and what is encoded in that once more."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value
        for word in re.findall(r"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t[A-Za-z0-9+/=]*", value):
            yield base64.b64decode(word).decode()
