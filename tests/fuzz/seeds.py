# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What fuzzing begins with: real material, made when it is needed, and what was wrong once."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import re
import tempfile
import typing as t
from datetime import datetime, timezone
from pathlib import Path

from ansible_collections.certops.kubernetes.plugins.module_utils import _journal, _x509
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import der, pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import COMMANDS, KubeadmTree
from cryptography import x509

SECRET = "c2VjcmV0IGtleQ"  # base64 of a private key, as far as kubeconfigs here go
KEY_IN_ITS_PLACE = re.compile(rb"client-key-data['\"]?\s*:[^:{},]{0,20}" + SECRET.encode())
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
END = datetime(2027, 1, 1, tzinfo=timezone.utc)
BETWEEN = b"\xff\xff"


@functools.lru_cache(maxsize=None)
def authority() -> pki.Pair:
    return pki.make_ca(not_before=START, not_after=datetime(2036, 1, 1, tzinfo=timezone.utc))


def certificates() -> t.Iterator[bytes]:
    ca = authority()
    sans = ["DNS:a", "DNS:*.b", "IP:10.0.0.1", "IP:fd00::1", "URI:spiffe://x", "email:a@b"]
    for kind in ("EC-256", "Ed25519", "RSA-2048"):
        leaf = pki.make_leaf(
            ca, "kube-apiserver", organization="o", usages=("server", "client"), sans=sans, key=kind, not_before=START, not_after=END
        )
        yield _x509.der(leaf.cert)
    yield _x509.der(ca.cert)
    key = pki.new_key()
    odd: list[dict[str, t.Any]] = [
        {"not_after": der.time("99991231235959Z"), "not_before": der.time("00000101000000Z")},
        {"serial": der.integer(-1)},
        {"version": b""},
        *({"subject": der.name((der.CN, tag, b"ab"))} for tag in (der.PRINTABLE, der.TELETEX, der.IA5, der.BMP, der.UTF8, 18, 26)),
        {"subject": der.tlv(der.SEQUENCE, der.tlv(der.SET))},
        *(
            {"extensions": (der.extension("2.5.29.%d" % number, b"\x30\x00", critical=True),)}
            for number in (14, 15, 17, 19, 30, 31, 32, 35, 37)
        ),
        {"extensions": (der.extension("1.2.3.4", b"any", critical=True),) * 2},
    ]
    for parts in odd:
        yield der.leaf_of(ca, key, **parts)
    names = [
        x509.DirectoryName(pki.make_name("x")),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.OtherName(x509.ObjectIdentifier("1.2"), b"\x05\x00"),
    ]
    yield _x509.der(pki.make_leaf(ca, "x", extensions=[(x509.SubjectAlternativeName(names), True)], not_before=START, not_after=END).cert)


def pem_files() -> t.Iterator[bytes]:
    leaf = pki.make_leaf(authority(), "x", sans=["DNS:a"], not_before=START, not_after=END)
    yield leaf.cert_pem + authority().cert_pem
    yield b"subject=x\r\n\r\n" + leaf.cert_pem.replace(b"\n", b"\r\n") + leaf.key_pem
    for kind in ("EC-256", "EC-384", "Ed25519"):
        key = pki.new_key(kind)
        yield pki.key_to_pem(key)
        yield pki.key_to_pem(key, pkcs8=True)
        yield pki.public_key_to_pem(key)
    yield der.pem(b"\x30\x00", "ENCRYPTED PRIVATE KEY") + der.pem(b"\x30\x00", "RSA PRIVATE KEY").replace(
        b"-----\n", b"-----\nProc-Type: 4,ENCRYPTED\n\n", 1
    )
    yield b"-----BEGIN CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"


def rsa_keys() -> t.Iterator[bytes]:
    key = pki.new_key("RSA-2048")
    for pkcs8 in (False, True):
        yield base64.b64decode(b"".join(pki.key_to_pem(key, pkcs8).splitlines()[1:-1]))
    numbers = key.private_numbers()
    p, q = numbers.p, numbers.q
    for e, d in ((1, 1), (65537, numbers.d)):
        values = (p * q, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))
        yield der.tlv(der.SEQUENCE, der.integer(0), *map(der.integer, values))
    yield der.tlv(der.SEQUENCE, *[der.integer(3)] * 9)


KUBECONFIG = """\
# comment
apiVersion: v1
kind: Config
clusters:
- {cluster: {certificate-authority-data: Y2E=, server: "https://10.0.0.1:6443"}, name: c}
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
users:
- name: u
  user:
    client-certificate-data: %s
    client-key-data: %s # end
- name: v
  user: {token: t, exec: {command: x}, client-certificate: a.crt, client-key: a.key}
"""
CERT_TEXT, KEY_TEXT = "Y2VydA==", SECRET + "=="


def kubeconfigs() -> t.Iterator[bytes]:
    styles = ("%s", "'%s'", '"%s"', "|\n      %s", ">-\n      %s", "&a %s", "!!str %s", "\n      %s", "|2\n      %s")
    for style in styles:
        yield (KUBECONFIG % (style % CERT_TEXT, (style % KEY_TEXT).replace("&a", "&b"))).encode()
    yield ("\ufeff" + KUBECONFIG % (CERT_TEXT, KEY_TEXT)).replace("\n", "\r\n").encode()
    user = {"client-certificate-data": CERT_TEXT, "client-key-data": KEY_TEXT}
    for indent in (None, "\t"):
        yield json.dumps({"users": [{"name": "u\U0001f511", "user": user}]}, indent=indent, ensure_ascii=False).encode()
    yield b"users: [{name: a, user: &u {client-certificate-data: Yw==, client-key-data: aw==}}, {name: b, user: *u}]\n--- x"
    yield b'%YAML 1.1\n%TAG !e! tag:e,2000:\n---\n? a\n: !e!x "\\U0001F511\\x41\\\n  b"\n<<: {users: []}\n...\n'
    yield b"users: \n- {? name : a, user : {client-key-data : ~}}\n"
    yield from (b'users: "%s"\n' % escape for escape in ODD_ESCAPES)
    yield b'users: [{name: a, user: {client-certificate: "a\\0b", client-key: "\\ud800"}}]\n'
    yield b"%YAML 1." + b"9" * 1000 + b"\n--- {users: []}\n"


ODD_ESCAPES = (b"\\UFFFFFFFF", b"\\U00110000", b"\\ud800", b"\\0", b"\\x85")


def manifests() -> t.Iterator[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        tree = KubeadmTree(Path(folder))
        for component in COMMANDS:
            yield tree.write_manifest(component).read_bytes().replace(folder.encode(), b"")
        for flag in (
            "--tls-private-key-file=/a\0b",
            "--etcd-cafile=/\0",
            "--secure-port=²",
            "--secure-port=" + "9" * 500,
            "--client-ca-file=.",
        ):
            yield tree.write_manifest("kube-apiserver", [*COMMANDS["kube-apiserver"], flag]).read_bytes().replace(folder.encode(), b"")


MANIFEST = """\
kind: Pod
metadata: {name: etcd}
spec:
  containers:
  - command: [etcd, --cert-file=/pki/server.crt, --key-file, /pki/server.key, '--listen-client-urls=https://127.0.0.1:2379,https://[::1]:2379']
    args: [--trusted-ca-file=/pki/ca.crt]
    volumeMounts:
    - &m {mountPath: /pki, name: pki, subPath: etcd}
    - *m
  volumes:
  - {name: pki, hostPath: {path: /etc/kubernetes/pki}}
"""


def documents() -> t.Iterator[bytes]:
    yield MANIFEST.encode()
    yield from (data for data in kubeconfigs())
    yield b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
    yield from (b'- "%s"\n' % escape for escape in ODD_ESCAPES)
    yield b"a: &a [%s]\nb: [%s]\n" % (b",".join([b"a"] * 500), b",".join([b"*a"] * 500))
    yield b"[" * 1000
    yield b"a: 1\n---\n- [\n"


def kubelets() -> t.Iterator[bytes]:
    config = b"staticPodPath: /m\nport: 10250\nrotateCertificates: true\nauthentication: {x509: {clientCAFile: /ca}}\n"
    drop_in = b"authentication: {x509: {clientCAFile: /other}, anonymous: {enabled: false}}\n"
    words = b"--kubeconfig=/k\0--hostname-override\0n\0--node-ip=10.0.0.1,fd00::1\0--tls-cert-file=/c\0--tls-private-key-file=/k\0--port=1"
    yield BETWEEN.join((words, config, drop_in))
    yield BETWEEN.join((b"--enable-server=false", config))
    yield BETWEEN.join((b"--port=%s" % "²".encode(), b'tlsCertFile: "/\\0"\ntlsPrivateKeyFile: "\\ud800"\nport: \xc2\xb2\n'))
    yield BETWEEN.join((b"--port=" + b"9" * 5000, b"a: &a {b: &b {c: d}}\ne: [*a, *b]\n", b"a: {b: {c: {}}}\ne: x\n"))


FACTS = {"subject": "CN=a", "serial": "1", "not_before": None, "not_after": "2027-11-24T01:50:00Z", "fingerprint_sha256": "ab"}


def journals() -> t.Iterator[bytes]:
    journal = _journal.Journal(
        run_id="run",
        host="h",
        started_at="2026-11-24T01:50:00Z",
        state=_journal.PREPARED,
        restart="auto",
        files=(
            _journal.ReplacedFile("/a", "/b", "0" * 64, "1" * 64, 0o644, 1, 2),
            _journal.ReplacedFile("/c", None, None, "1" * 64, 0o600, 0, 0),
        ),
        items=(_journal.Item("apiserver", "renew", FACTS, FACTS),),
        components=(_journal.Touched("etcd", "restarted", "always", 1.5, None, (1, 2)), _journal.Touched("kube-apiserver", "none", "")),
    )
    for state in _journal.FINISHED_STATES + (_journal.PREPARED, _journal.APPLIED):
        yield json.dumps(dataclasses.asdict(dataclasses.replace(journal, state=state))).encode()
    text = json.dumps(dataclasses.asdict(journal)).encode()
    yield from (text.replace(b"1.5", odd) for odd in (b"NaN", b"1e999", b"true", b"9" * 5000, b"[" * 2000))
    yield text.replace(b"/a", b"/\\ud800").replace(b"[1, 2]", b"[true, null]")


def flags() -> t.Iterator[bytes]:
    for command in COMMANDS.values():
        yield "\0".join(command).encode()
    yield b"etcd\0--listen-client-urls=https://[::1]:2379,http://a:1,https://a:x,,unix://x\0--listen-peer-urls\0https://*:2380"
    yield b"kube-apiserver\0-secure-port=0\0--\0--secure_port=1"
    yield from (b"kube-apiserver\0--secure-port=" + port for port in ("²".encode(), "٣".encode(), b"9" * 5000, b"-1", b"65536"))
    yield b"x" + b"\0a" * 2000


def processes() -> t.Iterator[bytes]:
    stat = b"4711 (a ) S b) S " + b"0 " * 18 + b"12345 0 0"
    for cgroup in (
        b"0::/kubepods/burstable/pod46a4dd371c5f841d78a9e629b84129ca/0123\n",
        b"0::/kubepods-pod0a4522ab_02cc_4406_8fd8_ff61764165d5.slice\n",
    ):
        yield BETWEEN.join((b"/usr/bin/etcd\0--x\0", stat, cgroup, b"Name:\tx\nNSpid:\t4711\t1\n"))
    for ticks in ("²".encode(), b"9" * 30, b"9" * 5000):
        yield BETWEEN.join((b"etcd\0", stat.replace(b"12345", ticks), b"0::/a\x0b0::/pod\n", b"Name:\t\x0bNSpid:\t1\nNSpid:\t1\t2\t3\n"))


def systemctl() -> t.Iterator[bytes]:
    timer = "Id=k8s-certs-renew.timer\nActiveState=active\nNextElapseUSecRealtime=Tue 2026-11-24 01:55:00 UTC\nJob=0"
    yield (
        "Id=k8s-certs-renew.service\nActiveState=activating\nJob=7\n\n%s\n\nId=shutdown.target\nActiveState=inactive\nJob=3\n" % timer
    ).encode()
    yield b"Id=k8s-certs-renew.timer\nActiveState=active\nNextElapseUSecRealtime=n/a\n"


def handshakes() -> t.Iterator[bytes]:
    certificate = _x509.der(authority().cert)
    entry = len(certificate).to_bytes(3, "big") + certificate
    body = len(entry).to_bytes(3, "big") + entry
    messages = b"\x02\x00\x00\x04abcd\x0b" + len(body).to_bytes(3, "big") + body
    for size in (16384, 100):
        pieces = [messages[start : start + size] for start in range(0, len(messages), size)]
        yield b"".join(b"\x16\x03\x03" + len(piece).to_bytes(2, "big") + piece for piece in pieces)
    yield b"\x16\x03\x03\0\0" * 800


def answers() -> t.Iterator[bytes]:
    credential = {"authentication.kubernetes.io/credential-id": ["X509SHA256=ab"]}
    ready = [{"type": "Ready", "status": "False", "message": "why"}]
    documents: list[t.Any] = [
        {"status": {"userInfo": {"username": "a", "groups": ["g"], "extra": credential}}},
        {"data": {"ClusterConfiguration": "certificateValidityPeriod: 8760h0m0s\n"}},
        {
            "spec": {
                "holderIdentity": "x_1",
                "leaseDurationSeconds": 15,
                "acquireTime": "2026-11-24T01:50:00Z",
                "renewTime": "2026-11-24T01:50:00.000001Z",
            }
        },
        {
            "members": [
                {"ID": "5", "name": "a", "peerURLs": ["https://10.0.0.1:2380"], "clientURLs": ["https://10.0.0.1:2379"], "isLearner": True}
            ]
        },
        {
            "header": {"member_id": "5", "revision": "7"},
            "leader": "5",
            "raftTerm": "2",
            "raftIndex": 3,
            "errors": ["NOSPACE"],
            "version": "3.6.8",
        },
        {
            "items": [
                {"metadata": {"name": "a"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}], "conditions": ready}}
            ]
        },
        {
            "items": [
                {
                    "spec": {"group": "g", "version": "v1", "service": {}},
                    "status": {"conditions": [{"type": "Available", "status": "True"}]},
                }
            ]
        },
        {"kind": "Status", "message": "no"},
        [1e99, -0.5, "\ud83d\udd11", "\\", None],
        {"header": [], "leader": "x", "raftTerm": [], "errors": 5, "members": [{"ID": "x", "peerURLs": 5, "clientURLs": "x"}, None]},
        {"items": [{"metadata": [], "status": {"addresses": [{"type": {}}], "conditions": "x"}}]},
        {"members": [{"ID": str(number)} for number in range(200)]},
        {"data": {"ClusterConfiguration": "certificateValidityPeriod: " + "9" * 400 + "h"}},
        {"spec": {"holderIdentity": [], "leaseDurationSeconds": True, "renewTime": {}}},
    ]
    yield from (b"\0" + body for body in (b"[" * 5000 + b"]" * 5000, b'{"a": ' * 2000, b"9" * 5000, b"NaN", b'{"a": "\\ud800"}', b"\xff"))
    for document in documents:
        yield b"\0" + json.dumps(document).encode()
    for number in range(40):
        yield bytes((255 - number, *(7 * number * step % 251 for step in range(60))))


def http_streams() -> t.Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    yield b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 403 Forbidden\r\nContent-Type: application/json\r\n\r\n{}"
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\na: b\r\n\r\n"


def words() -> t.Iterator[bytes]:
    yield from (
        b"8760h0m0s",
        b"1.5h",
        b".5ms",
        "1µs2ns".encode(),
        b"https://10.0.0.1:2379",
        b"[fd00::1]:6443",
        b"unix:///x",
        b"65535",
        "²".encode(),
    )
    yield b"0::/kubepods/burstable/pod46a4dd371c5f841d78a9e629b84129ca/0123"
    yield from (b"9" * 400 + b"h", b"9" * 4000, b"::" * 1000 + b":1", b"[" * 100 + b"]:1")


def policies() -> t.Iterator[bytes]:
    yield from (bytes([number]) + b"[" * 2000 for number in range(21))
    odd = (b"{etcd: 2001-99-99}", b"{etcd: !!int x}", b'{"\\UFFFFFFFF": 1}', b"9" * 5000, b"1" + b"0" * 30, "²".encode(), b"nan")
    values = (*odd, b"false", b"30", b"auto", b"{etcd: 120}", b'{"etcd": 1.5}', b"always", b"1e300", b'["x"]', b"null")
    for number in range(21):
        yield from (bytes([number]) + value for value in values)
