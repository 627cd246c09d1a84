# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A renewed certificate equals what `kubeadm certs renew` makes of the same certificate."""

from __future__ import annotations

import re

import cluster
import pytest

# kubeadm works in a mount namespace of its own, on a copy: the cluster's files stay as they are.
KUBEADM_ON_A_COPY = """
rm -rf /run/as-kubeadm && cp -a /etc/kubernetes /run/as-kubeadm
unshare --mount sh -ec 'mount --bind /run/as-kubeadm /etc/kubernetes && kubeadm certs renew all' >&2
"""
PAIRS = (
    "apiserver",
    "apiserver-kubelet-client",
    "apiserver-etcd-client",
    "front-proxy-client",
    "etcd/server",
    "etcd/peer",
    "etcd/healthcheck-client",
)
KUBECONFIGS = ("admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf")
DIFFERS = re.compile(
    r"Serial Number:\n?.*\n|Not Before.*\n|Not After.*\n"
    r"|(?s:Public-Key: .*?Exponent: \d+ \(0x\w+\)\n)|(?s:pub:\n.*?ASN1)|(?s:Signature Value:\n.*)"
)


@pytest.fixture(scope="module", autouse=True)
def renewed_by_kubeadm() -> None:
    """The same certificates, renewed by kubeadm."""
    cluster.on_node("sh", "-ec", KUBEADM_ON_A_COPY)


def as_text(pem: str) -> tuple[str, str]:
    """openssl's text of a certificate, whole, and without what must differ (key, serial, dates, signature)."""
    text = cluster.on_node("openssl", "x509", "-noout", "-text", stdin=pem)
    return text, DIFFERS.sub("", text)


def embedded(path: str) -> str:
    """The PEM of a kubeconfig's client certificate."""
    data = re.search(r"client-certificate-data: (\S+)", cluster.on_node("cat", path))
    assert data, path
    return cluster.on_node("base64", "-d", stdin=data[1])


@pytest.mark.parametrize("pair", PAIRS)
def test_pair(pair: str) -> None:
    """Every field of a pair's certificate but key, serial, dates and signature."""
    ours, theirs = (cluster.on_node("cat", f"{folder}/pki/{pair}.crt") for folder in ("/etc/kubernetes", "/run/as-kubeadm"))
    same_but_for_what_must_differ(ours, theirs)


@pytest.mark.parametrize("config", KUBECONFIGS)
def test_kubeconfig(config: str) -> None:
    """The same for a kubeconfig's client certificate, and every other byte of the file."""
    ours, theirs = (cluster.on_node("cat", f"{folder}/{config}") for folder in ("/etc/kubernetes", "/run/as-kubeadm"))
    same_but_for_what_must_differ(embedded(f"/etc/kubernetes/{config}"), embedded(f"/run/as-kubeadm/{config}"))
    secrets = re.compile(r"(client-(?:certificate|key)-data): \S+")
    assert secrets.sub(r"\1:", ours) == secrets.sub(r"\1:", theirs)


def same_but_for_what_must_differ(ours: str, theirs: str) -> None:
    """Two certificates whose texts differ as wholes, and not otherwise."""
    our_text, our_rest = as_text(ours)
    their_text, their_rest = as_text(theirs)
    assert our_text != their_text, "kubeadm renewed nothing: the comparison would prove nothing"
    assert "Public Key Algorithm" in our_rest and "X509v3 Key Usage" in our_rest
    assert our_rest == their_rest


def test_the_same_kind_of_key_file() -> None:
    """kubeadm's and ours begin with the same words, so that whatever reads the one reads the other."""
    for pair in PAIRS:
        ours, theirs = (cluster.on_node("head", "-1", f"{folder}/pki/{pair}.key") for folder in ("/etc/kubernetes", "/run/as-kubeadm"))
        assert ours == theirs
