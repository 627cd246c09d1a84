# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is a node as it should be? Judged from its files with OpenSSL (Python's ssl), without any of the collection's code."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import os
import re
import ssl
import stat
import typing as t
from dataclasses import dataclass
from pathlib import Path

KUBERNETES, PKI, STATE = "/etc/kubernetes/", "/etc/kubernetes/pki/", "/var/lib/certops/"
# All of the node that a run might write to.
LOOKED_AT = ("etc/kubernetes", "var/lib/certops", "var/lib/kubelet", "var/tmp", "tmp", "root")
SERVER, CLIENT = "server", "client"
PAIRS: dict[str, tuple[str, tuple[str, ...]]] = {
    "apiserver": ("ca", (SERVER,)),
    "apiserver-kubelet-client": ("ca", (CLIENT,)),
    "front-proxy-client": ("front-proxy-ca", (CLIENT,)),
    "apiserver-etcd-client": ("etcd/ca", (CLIENT,)),
    "etcd/server": ("etcd/ca", (SERVER, CLIENT)),
    "etcd/peer": ("etcd/ca", (SERVER, CLIENT)),
    "etcd/healthcheck-client": ("etcd/ca", (CLIENT,)),
}
KUBECONFIGS = ("admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf")
NAMES = (*PAIRS, *KUBECONFIGS)
KUBELET, KUBELET_LINK = "kubelet-client", "/var/lib/kubelet/pki/kubelet-client-current.pem"
_DATED = re.compile(r"/var/lib/kubelet/pki/kubelet-client-\d[-\d]*\.pem\Z")
FINISHED = ("committed", "rolled_back", "failed")
_SECRET = (b"PRIVATE KEY", b"client-key-data")


@dataclass(frozen=True)
class File:
    """A file or a directory (its data is None) of the node."""

    mode: int
    owner: tuple[int, int]
    data: bytes | None


Files = t.Dict[str, File]


def read_node(root: Path, known: dict[str, tuple[tuple[int, ...], File]] | None = None) -> Files:
    """Everything that a run might write to, by its path on the node. `known`: what was read before, and need not be read again."""
    known = {} if known is None else known
    found: Files = {}
    for place in LOOKED_AT:
        for folder, folders, names in os.walk(root / place):
            for name in (*folders, *names):
                path = os.path.join(folder, name)
                info = os.lstat(path)
                looks = (info.st_ino, info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_mode)
                if known.get(path, (None,))[0] != looks:
                    known[path] = (looks, _read(path, info))
                found[path[len(str(root)) :]] = known[path][1]
    return _as_the_kubelet_sees_it(found)


def _as_the_kubelet_sees_it(found: Files) -> Files:
    """With what its link leads to in the link's place. Files that were there before the last one stay, and do no harm."""
    dated = {path: file for path, file in found.items() if _DATED.match(path)}
    link = found.get(KUBELET_LINK)
    seen = {path: file for path, file in found.items() if path not in dated}
    if link is not None:
        leads = (link.data or b"").decode()
        seen[KUBELET_LINK] = dated.get(leads, File(link.mode, link.owner, None))
    return seen


def _read(path: str, info: os.stat_result) -> File:
    data = None
    if stat.S_ISREG(info.st_mode):
        with open(path, "rb") as stream:
            data = stream.read()
    elif stat.S_ISLNK(info.st_mode):
        data = os.readlink(path).encode()
    return File(stat.S_IMODE(info.st_mode), (info.st_uid, info.st_gid), data)


@dataclass(frozen=True)
class Identity:
    """A certificate, its key, and the CA that it is under, as PEM."""

    certificate: bytes
    key: bytes
    authority: bytes


def files_of(name: str) -> tuple[str, ...]:
    """The files of a credential, as a run replaces them: the key first."""
    if name == KUBELET:
        return (KUBELET_LINK,)
    return (PKI + name + ".key", PKI + name + ".crt") if name in PAIRS else (KUBERNETES + name,)


def identity_of(files: Files, name: str) -> Identity:
    """A credential as it lies on the node. Raises ValueError or KeyError when it is not whole."""
    if name in PAIRS:
        key, certificate, authority = (_data(files, path) for path in (*files_of(name), PKI + PAIRS[name][0] + ".crt"))
        return Identity(certificate, key, authority)
    if name == KUBELET:
        both = _data(files, KUBELET_LINK)
        certificate, begin, key = both.partition(b"-----BEGIN EC PRIVATE KEY")
        return Identity(certificate, begin + key, _data(files, PKI + "ca.crt"))
    text = _data(files, KUBERNETES + name)
    return Identity(*(_embedded(text, field) for field in (b"client-certificate-data", b"client-key-data", b"certificate-authority-data")))


def _data(files: Files, path: str) -> bytes:
    data = files[path].data
    if data is None:
        raise ValueError("%s is a directory" % path)
    return data


def _embedded(text: bytes, field: bytes) -> bytes:
    found = re.findall(rb"^ *%s: (\S+)$" % field, text, re.MULTILINE)
    if len(found) != 1:
        raise ValueError("%d times %s" % (len(found), field.decode()))
    return base64.b64decode(found[0], validate=True)


def fingerprint(files: Files, name: str) -> str:
    """SHA-256 of a credential's certificate."""
    pem = identity_of(files, name).certificate.decode("ascii")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def inconsistent(files: Files, server: Identity) -> list[str]:
    """What could not start, or would not be let in. `server` is what kubeconfigs authenticate against."""
    problems = []
    for name in (*NAMES, KUBELET):
        try:
            identity = identity_of(files, name)
        except (KeyError, ValueError) as error:
            problems.append("%s is not whole (%s)" % (name, error))
            continue
        for usage in PAIRS[name][1] if name in PAIRS else (CLIENT,):
            of_a_pair = name in PAIRS
            problem = serving_problem(identity) if usage == SERVER else client_problem(identity, None if of_a_pair else server)
            if problem:
                problems.append("%s: %s" % (name, problem))
    return problems


@functools.lru_cache(maxsize=None)
def serving_problem(identity: Identity) -> str | None:
    """Why a TLS server does not start with this pair, or is not believed by a client of its CA."""
    try:
        _shake_hands(_server(identity), _client(identity.authority))
    except (ssl.SSLError, ValueError) as error:
        return str(error)
    return None


@functools.lru_cache(maxsize=None)
def client_problem(identity: Identity, server: Identity | None) -> str | None:
    """Why a TLS server that asks for certificates of the CA does not let this one in. Without a server: the pair itself serves."""
    try:
        listening = _server(server or identity)
        listening.verify_mode = ssl.CERT_REQUIRED
        listening.load_verify_locations(cadata=identity.authority.decode("ascii"))
        calling = _client(identity.authority)
        if server is None:
            calling.verify_mode = ssl.CERT_NONE  # a client's pair is no server's: what it serves here is not judged
        _load(calling, identity)
        _shake_hands(listening, calling)
    except (ssl.SSLError, ValueError) as error:
        return str(error)
    return None


def _server(identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, identity)
    return context


def _client(authority: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # which names are in it is another test's business; these are the old ones' names
    context.load_verify_locations(cadata=authority.decode("ascii"))
    return context


def _load(context: ssl.SSLContext, identity: Identity) -> None:
    """OpenSSL refuses a key that does not belong to the certificate. It wants files."""
    with contextlib.ExitStack() as stack:
        names = []
        for data in (identity.certificate, identity.key):
            stream = stack.enter_context(os.fdopen(os.memfd_create("pem"), "wb"))
            stream.write(data)
            stream.flush()
            names.append("/proc/self/fd/%d" % stream.fileno())
        context.load_cert_chain(*names)


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """A handshake in memory, both sides to their ends."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    left = [server.wrap_bio(to_server, to_client, server_side=True), client.wrap_bio(to_client, to_server)]
    for _turn in range(10):
        for side in list(left):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
                left.remove(side)
        if not left:
            return
    raise ValueError("the handshake does not come to an end")


def exposed(files: Files) -> list[str]:
    """Keys, backups and journals that others may read."""
    return [
        "%s has mode %o" % (path, file.mode)
        for path, file in files.items()
        if file.mode & 0o077 and (path.startswith(STATE) or (file.data is not None and any(mark in file.data for mark in _SECRET)))
    ]


def leftovers(files: Files, before: Files) -> list[str]:
    """What was not there before and is no part of a finished run's folder."""
    part = re.compile(re.escape(STATE) + r"(lock|runs|runs/[^/]+|runs/[^/]+/(journal\.json|backup(/.*)?))\Z")
    return [path for path in files if path not in before and (not part.match(path) or "certops-new" in path)]


def differences(files: Files, before: Files, but: t.Collection[str] = ()) -> list[str]:
    """Paths, outside the folder of the runs, that are not as before."""
    paths = {path for path in (*files, *before) if not path.startswith(STATE)} - set(but)
    return sorted(path for path in paths if files.get(path) != before.get(path))


def same(files: Files, before: Files) -> bool:
    """Whether everything is as before, the folder of the runs too, but for who signed the lock."""
    return all(files.get(path) == before.get(path) for path in {*files, *before} - {STATE + "lock"})


def other_modes(files: Files, before: Files) -> list[str]:
    """Files that are still there, but with another mode or owner."""
    both = [path for path in before if path in files]
    return [path for path in both if (files[path].mode, files[path].owner) != (before[path].mode, before[path].owner)]


def journals(files: Files) -> list[dict[str, t.Any]]:
    """The journals, the newest first."""
    found = [
        json.loads(file.data or b"") for path, file in files.items() if re.match(re.escape(STATE) + r"runs/[^/]+/journal\.json\Z", path)
    ]
    return sorted(found, key=lambda journal: (journal["started_at"], journal["run_id"]), reverse=True)


def unfinished(files: Files) -> list[str]:
    """Runs that were stopped half-way."""
    return [journal["run_id"] for journal in journals(files) if journal["state"] not in FINISHED]


def lost_backups(files: Files) -> list[str]:
    """Backups that a journal names and that are not what the journal says."""
    wanted = [file for journal in journals(files) for file in journal["files"] if file["backup"] is not None]
    return [file["backup"] for file in wanted if _sha256(files.get(file["backup"])) != file["sha256_before"]]


def _sha256(file: File | None) -> str | None:
    return hashlib.sha256(file.data).hexdigest() if file is not None and file.data is not None else None
