# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the comparison does on the node itself: `python3 - FUNCTION [ARGUMENT…] < on_node.py`, the answer is JSON.

It needs what the collection needs on a node (Python 3.8, PyYAML, cryptography) and nothing of the collection.
"""

from __future__ import annotations

import base64
import datetime
import http.client
import json
import os
import re
import signal
import socket
import ssl
import sys
import tempfile
import time
import typing as t

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

KUBERNETES = "/etc/kubernetes"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/"
POD_COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def manifest_argv(component: str) -> list[str]:
    """Command and arguments of a static pod's container."""
    with open("%s/manifests/%s.yaml" % (KUBERNETES, component), encoding="utf-8") as stream:
        container = yaml.safe_load(stream)["spec"]["containers"][0]
    return [*container.get("command", []), *container.get("args", [])]


def process(component: str) -> tuple[int, list[str]] | None:
    """The running process whose argument vector is the manifest's (its first word by base name) and that is in no ordinary pod."""
    wanted = manifest_argv(component)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as stream:
                argv = stream.read().decode().split("\0")[:-1]
            with open("/proc/%s/cgroup" % pid, encoding="utf-8") as stream:
                in_ordinary_pod = re.search("pod[0-9a-f]{8}[-_]", stream.read())
        except OSError:
            continue
        if in_ordinary_pod:
            continue
        if argv and [os.path.basename(argv[0]), *argv[1:]] == wanted:
            return int(pid), argv
    return None


def pid_of(component: str) -> int:
    """The process ID of a component that must be running."""
    found = process(component)
    if not found:
        raise SystemExit("%s does not run" % component)
    return found[0]


def address() -> str:
    """Where the API server advertises itself."""
    flags = dict(flag.lstrip("-").partition("=")[::2] for flag in manifest_argv("kube-apiserver"))
    return flags["advertise-address"]


def components() -> dict[str, t.Any]:
    """Process IDs by component (None: does not run with the manifest's arguments)."""
    return {name: (process(name) or (None,))[0] for name in POD_COMPONENTS}


def served(host: str, port: int, server_name: str = "") -> x509.Certificate:
    """The certificate that a port serves; one that asks for a client certificate has sent its own before."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((host, port), timeout=2) as plain, context.wrap_socket(plain, server_hostname=server_name or None) as tls:
        return x509.load_der_x509_certificate(tls.getpeercert(True) or b"")


def serves(host: str, port: str, server_name: str = "") -> dict[str, t.Any]:
    """Serial, common name and start of the certificate that a port serves."""
    certificate = served(host, int(port), server_name)
    name = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    return {"serial": certificate.serial_number, "common_name": name, "not_before": _seconds(certificate)}


def _seconds(certificate: x509.Certificate) -> float:
    """When a certificate becomes valid, as seconds since 1970."""
    begin = getattr(certificate, "not_valid_before_utc", None) or certificate.not_valid_before.replace(tzinfo=datetime.timezone.utc)
    return t.cast("float", begin.timestamp())


def reload_seconds(pair: str, ca: str, *host_ports: str) -> list[float]:
    """Sign a pair's certificate again with its own key, replace the file by rename; how long until each port serves it.

    Afterwards the old file is put back, and is waited for as well.
    """
    path = "%s/pki/%s.crt" % (KUBERNETES, pair)
    with open(path, "rb") as stream:
        before = stream.read()
    after = _sign_again(x509.load_pem_x509_certificate(before), ca)
    taken = []
    for content in (after, before):
        wanted = x509.load_pem_x509_certificate(content).serial_number
        replace(path, content)
        begin = time.monotonic()
        for host_port in host_ports:
            host, _colon, port = host_port.rpartition(":")
            while served(host, int(port)).serial_number != wanted:
                if time.monotonic() - begin > 30:
                    raise SystemExit("%s does not serve the new certificate after 30 s" % host_port)
                time.sleep(0.005)
        taken.append(time.monotonic() - begin)
    return taken


def _sign_again(certificate: x509.Certificate, ca: str) -> bytes:
    with open("%s/pki/%s.crt" % (KUBERNETES, ca), "rb") as stream:
        issuer = x509.load_pem_x509_certificate(stream.read())
    with open("%s/pki/%s.key" % (KUBERNETES, ca), "rb") as stream:
        key: t.Any = serialization.load_pem_private_key(stream.read(), None)
    begin = datetime.datetime.fromtimestamp(_seconds(certificate), datetime.timezone.utc)
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    builder = x509.CertificateBuilder().subject_name(certificate.subject).issuer_name(issuer.subject).public_key(certificate.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)
    for extension in certificate.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def replace(path: str, content: bytes) -> None:
    """Exchange a file by rename, with the old one's mode."""
    temporary = "%s/.%s.compare" % os.path.split(path)
    mode = os.stat(path).st_mode & 0o777
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(content)
    os.chmod(temporary, mode)
    os.rename(temporary, path)


def identity(name: str) -> tuple[bytes, bytes] | None:
    """Certificate and key: of a kubeconfig ("admin.conf"), a pair ("pair:ca"), a file ("pem:/…"), a stranger ("foreign"), or "none"."""
    if name == "none":
        return None
    if name == "foreign":
        return _foreign_pair()
    if name.startswith("pem:"):
        with open(name[4:], "rb") as both:
            return both.read(), b""
    if name.startswith("pair:"):
        base = "%s/pki/%s" % (KUBERNETES, name[5:])
        with open(base + ".crt", "rb") as certificate, open(base + ".key", "rb") as key:
            return certificate.read(), key.read()
    with open("%s/%s" % (KUBERNETES, name), encoding="utf-8") as stream:
        user = yaml.safe_load(stream)["users"][0]["user"]
    return base64.b64decode(user["client-certificate-data"]), base64.b64decode(user["client-key-data"])


def _foreign_pair() -> tuple[bytes, bytes]:
    """The administrator's name, signed by nobody that the cluster knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    organization = x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "system:masters")
    name = x509.Name([organization, x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes-admin")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
    certificate = builder.not_valid_after(now + datetime.timedelta(hours=1)).sign(key, hashes.SHA256())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM), private


def fingerprint(name: str) -> str:
    """SHA-256 of an identity's certificate."""
    pair = identity(name)
    assert pair
    return x509.load_pem_x509_certificate(pair[0]).fingerprint(hashes.SHA256()).hex()


def ask(who: str, method: str, url: str, body: str = "") -> dict[str, t.Any]:
    """One request over a fresh connection, unverified: status and JSON or text."""
    scheme, _slashes, rest = url.partition("://")
    netloc, slash, path = rest.partition("/")
    if scheme == "http":
        connection: http.client.HTTPConnection = http.client.HTTPConnection(netloc, timeout=5)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        pair = identity(who)
        if pair:
            with tempfile.NamedTemporaryFile(dir="/dev/shm") as stream:
                stream.write(pair[0] + pair[1])
                stream.flush()
                context.load_cert_chain(stream.name)
        connection = http.client.HTTPSConnection(netloc, timeout=5, context=context)
    try:
        connection.request(method, slash + path, body or None, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode()
    except (OSError, http.client.HTTPException) as exc:
        return {"status": 0, "body": type(exc).__name__}
    finally:
        connection.close()
    try:
        return {"status": response.status, "body": json.loads(text)}
    except ValueError:
        return {"status": response.status, "body": text}


def statuses(questions: str) -> list[int]:
    """The statuses of several GETs; `questions` is a JSON list of [who, URL]."""
    return [ask(who, "GET", url)["status"] for who, url in json.loads(questions)]


def lease(component: str) -> dict[str, t.Any]:
    """A leader's Lease, as the administrator sees it."""
    answer = ask("admin.conf", "GET", "https://%s:6443%s%s" % (address(), LEASES, component))
    assert answer["status"] == 200, answer
    return t.cast("dict[str, t.Any]", answer["body"])


def deletions(name: str) -> dict[str, int]:
    """Statuses when a new Lease is deleted: with preconditions that do not hold, with those that do, and when it is read afterwards."""
    leases = "https://%s:6443%s" % (address(), LEASES)
    document = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": {"holderIdentity": "me"}}
    made = ask("admin.conf", "POST", leases.rstrip("/"), json.dumps(document))
    assert made["status"] == 201, made
    known = {key: made["body"]["metadata"][key] for key in ("uid", "resourceVersion")}
    wrong = {"another version": {**known, "resourceVersion": "1"}, "another uid": {**known, "uid": "5f5ba3c4-0000-4000-8000-000000000000"}}
    seen = {}
    for what, preconditions in {**wrong, "as it is": known}.items():
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        seen[what] = ask("admin.conf", "DELETE", leases + name, json.dumps(options))["status"]
    seen["afterwards"] = ask("admin.conf", "GET", leases + name)["status"]
    return seen


def inodes(component: str, path: str) -> dict[str, t.Any]:
    """Device and inode of a path on the node, and as the component's process sees it."""
    host, seen = os.stat(path), os.stat("/proc/%d/root%s" % (pid_of(component), path))
    return {"host": [host.st_dev, host.st_ino], "seen": [seen.st_dev, seen.st_ino]}


def replace_same(path: str) -> None:
    """Exchange a file for a copy of itself, by rename."""
    with open(path, "rb") as stream:
        content = stream.read()
    replace(path, content)


def stop_leader(component: str) -> dict[str, t.Any]:
    """SIGTERM to a leader: how long it takes to go, who held the lease before, and in the five seconds after."""
    pid, holder = pid_of(component), lease(component)["spec"]["holderIdentity"]
    begin = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    _wait(lambda: not _runs(pid), 15)
    gone, seen, acquired = time.monotonic() - begin, [], None
    while time.monotonic() - begin < 5 and acquired is None:
        now = lease(component)["spec"].get("holderIdentity") or ""
        seen.append(now)
        if now not in ("", holder):
            acquired = time.monotonic() - begin
        time.sleep(0.05)
    return {"holder": holder, "gone": gone, "seen": seen, "acquired": acquired}


def release(component: str, kubeconfig: str) -> float:
    """Empty a dead leader's lease with an update by its own identity; seconds until there is a new leader."""
    current = lease(component)
    current["spec"].update(holderIdentity="", leaseDurationSeconds=1)
    url = "https://%s:6443%s%s" % (address(), LEASES, component)
    answer = ask(kubeconfig, "PUT", url, json.dumps(current))
    assert answer["status"] == 200, answer
    stale = ask(kubeconfig, "PUT", url, json.dumps(current))
    assert stale["status"] == 409, stale
    begin = time.monotonic()
    _wait(lambda: lease(component)["spec"].get("holderIdentity"), 15)
    return time.monotonic() - begin


def stop_apiserver(kill_after: str) -> dict[str, t.Any]:
    """SIGTERM to the API server, SIGKILL some seconds later; what was seen of it from outside until it is ready again."""
    pid, host = pid_of("kube-apiserver"), address()
    begin = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    _wait(lambda: not _listens(host, 6443), 5)
    closed = time.monotonic() - begin
    time.sleep(max(0.0, float(kill_after) - closed))
    lingered = _runs(pid)
    if lingered:
        os.kill(pid, signal.SIGKILL)
    seen: list[int] = []
    while not seen or seen[-1] != 200:
        status = ask("super-admin.conf", "GET", "https://%s:6443/readyz" % host)["status"]
        if not seen or seen[-1] != status:
            seen.append(status)
        assert time.monotonic() - begin < 90, seen
        time.sleep(0.05)
    return {"closed": closed, "lingered": lingered, "statuses": seen, "ready": time.monotonic() - begin}


def restart_delays(component: str) -> list[float]:
    """Kill a component twice: seconds until it runs again, each time."""
    delays = []
    for _turn in range(2):
        pid = pid_of(component)
        os.kill(pid, signal.SIGKILL)
        begin = time.monotonic()
        _wait(lambda pid=pid: (process(component) or (pid,))[0] != pid, 60)  # type: ignore[misc]
        delays.append(time.monotonic() - begin)
        time.sleep(2)
    return delays


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _runs(pid: int) -> bool:
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8") as stream:
            return stream.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _wait(condition: t.Callable[[], t.Any], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("not within %s s" % seconds)
        time.sleep(0.02)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
