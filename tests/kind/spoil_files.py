# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on a node: files there get what an inspection is to find, and nothing breaks of. It is told where to keep what was before.

The node's cryptography makes what OpenSSL's command line cannot: any date, any digest, a CA's successor with the same key.
"""

from __future__ import annotations

import datetime
import os
import pathlib
import shutil
import subprocess
import sys
import typing as t

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KEPT, DRIFT = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
KUBERNETES, KUBELET = pathlib.Path("/etc/kubernetes"), pathlib.Path("/var/lib/kubelet/config.yaml")
PKI = KUBERNETES / "pki"
STRANGER = 4711  # nobody's number
NOW = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
DAY = datetime.timedelta(days=1)


def load(name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((PKI / f"{name}.crt").read_bytes())


def key_of(name: str) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key((PKI / f"{name}.key").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())


def named(common: str, *groups: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def sign(
    subject: x509.Name,
    key: rsa.RSAPrivateKey,
    by: tuple[x509.Certificate | None, rsa.RSAPrivateKey],
    begins: int = -1,
    ends: int = 365,
    digest: t.Any = None,  # the newest cryptography knows no SHA-1 any more; the node's does
) -> x509.Certificate:
    """A client's certificate by a CA and its key, or with only a key by itself, as a CA. Days from now."""
    issuer, issuer_key = by
    serial = x509.random_serial_number()
    builder = x509.CertificateBuilder(
        issuer.subject if issuer else subject, subject, key.public_key(), serial, NOW + begins * DAY, NOW + ends * DAY
    )
    if issuer is None:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    else:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    return builder.sign(issuer_key, digest or hashes.SHA256())


def embed(path: pathlib.Path, user: str, certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> None:
    files = {"client-certificate": pem(certificate), "client-key": key_pem(key)}
    for name, content in files.items():
        (KEPT / name).write_bytes(content)
    pair = [f"--{name}={KEPT / name}" for name in files]
    command = ["kubectl", "config", f"--kubeconfig={path}", "set-credentials", user, "--embed-certs", *pair]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


for folder in (KEPT, DRIFT):
    folder.mkdir(mode=0o700)
subprocess.run(["cp", "-a", KUBERNETES, KEPT / "kubernetes"], check=True)  # with owners
shutil.copy2(KUBELET, KEPT)
ca, key = (load("ca"), key_of("ca")), new_key()

# Of somebody else, from tomorrow on, with SHA-1; and a second user beside it.
someone = sign(named("somebody", "system:masters"), key, ca, 1, 365, hashes.SHA1())
embed(KUBERNETES / "super-admin.conf", "kubernetes-super-admin", someone, key)
embed(KUBERNETES / "super-admin.conf", "another", someone, key)

# A CA with a hundred days left, of the same key, so that all that it signed still verifies. Its own key goes elsewhere.
front_key = key_of("front-proxy-ca")
front = sign(load("front-proxy-ca").subject, front_key, (None, front_key), ends=100)
(PKI / "front-proxy-ca.crt").write_bytes(pem(front))
(PKI / "front-proxy-ca.key").unlink()
client = sign(load("front-proxy-client").subject, key_of("front-proxy-client"), (front, front_key))
(PKI / "front-proxy-client.crt").write_bytes(pem(client))

# An expired CA is left in the bundle. A pair that nobody uses has another's name, an unordered chain, and a key that everybody may read.
expired = sign(ca[0].subject, key, (None, key), -730, -365)
with (PKI / "ca.crt").open("ab") as bundle:
    bundle.write(pem(expired))
twin = sign(load("apiserver-etcd-client").subject, key, (load("etcd/ca"), key_of("etcd/ca")))
(PKI / "etcd" / "healthcheck-client.crt").write_bytes(pem(twin) + pem(front) + pem(ca[0]))
(PKI / "etcd" / "healthcheck-client.key").write_bytes(key_pem(key))
(PKI / "etcd" / "healthcheck-client.key").chmod(0o644)
os.link(PKI / "apiserver-etcd-client.crt", DRIFT / "second-name.crt")

# Whose files are somebody else's, or may be changed by others. Root reads them all the same, and the scheduler's user stays its owner.
for path in (KUBERNETES / "admin.conf", PKI / "apiserver-kubelet-client.key"):
    os.chown(path, STRANGER, -1)
(PKI / "front-proxy-ca.crt").chmod(0o666)
os.chown(KUBERNETES / "scheduler.conf", -1, STRANGER)
(KUBERNETES / "scheduler.conf").chmod(0o620)

# The administrator once more, from before; somebody of another cluster; and what is no kubeconfig.
embed(DRIFT / "config", "old", sign(named("kubernetes-admin", "kubeadm:cluster-admins"), key, ca, -365, 5), key)
embed(DRIFT / "config", "foreign", sign(named("other"), key, (sign(named("other-ca"), key, (None, key)), key)), key)
(DRIFT / "garbage").write_bytes(b"\xff\x00{")

# The kubelet read these when it started, and goes on with that.
node = f"system:node:{os.uname().nodename}"
embed(KUBERNETES / "kubelet.conf", node, sign(named(node, "system:nodes"), key, ca), key)
text = KUBELET.read_text()
assert "rotateCertificates: true" in text
KUBELET.write_text(text.replace("rotateCertificates: true", "rotateCertificates: false"))
