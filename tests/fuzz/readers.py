# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked of each reader of foreign bytes: it returns, whatever the bytes are. An exception is a defect, and so is taking long."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import ssl
import tempfile
import typing as t
from datetime import datetime, timedelta, timezone
from pathlib import Path

import yaml
from ansible_collections.certops.kubernetes.plugins.module_utils import (
    _discovery,
    _documents,
    _inspection,
    _journal,
    _kubeconfig,
    _kubelet_config,
    _layouts,
    _manifests,
    _other_tools,
    _policy,
    _processes,
    _public_part,
    _recovery,
    _tls_probe,
    _x509,
    _x509_renew,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Component, Process
from ansible_collections.certops.kubernetes.tests.fuzz import seeds
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import der, pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import KubeadmTree

NOW = datetime(2026, 11, 24, 1, 50, tzinfo=timezone.utc)
LONGEST_MESSAGE = 5000


@contextlib.contextmanager
def explained(secret: str | None = None) -> t.Iterator[None]:
    """Lets the error through that users are meant to see: short, and without the secret."""
    try:
        yield
    except CertopsError as error:
        message = str(error)
        assert message
        assert len(message) < LONGEST_MESSAGE
        assert secret is None or secret not in message


def without_libyaml() -> None:
    """From now on this process has PyYAML as a node without libyaml has it."""
    for name in ("CSafeLoader", "CBaseLoader"):
        delattr(yaml, name)


@functools.lru_cache(maxsize=None)
def workspace() -> Path:
    """A folder of this process."""
    folder = tempfile.TemporaryDirectory(prefix="certops-fuzz-")
    _keep.append(folder)
    return Path(folder.name)


_keep: list[t.Any] = []


# --- certificates and keys ---


@functools.lru_cache(maxsize=None)
def authority() -> pki.Pair:
    return pki.make_ca(not_before=NOW - timedelta(days=300), not_after=NOW + timedelta(days=3000))


def pem_file(data: bytes) -> None:
    with explained():
        for certificate in _x509.parse_certificates(data, "x.crt"):
            describe_and_verify(certificate)
    for read in (_x509.load_private_key, _x509.public_key_id, _public_part.public_key_of):
        with explained():
            read(data, "x.key")


def describe_and_verify(certificate: t.Any) -> None:
    ca = authority()
    with explained():
        facts = _x509.describe(certificate)
        assert facts.not_before.tzinfo is timezone.utc
        assert facts.subject.isprintable()
        assert all(name.isprintable() for name in facts.sans)
    assert isinstance(_x509.chain_problem(certificate, [ca.cert]), (str, type(None)))
    assert isinstance(_x509.chain_problem(ca.cert, [certificate]), (str, type(None)))
    assert _x509.chain_problem(certificate, [certificate]) != ""
    _x509.key_matches(certificate, ca.key)


def certificate_der(data: bytes) -> None:
    """A renewed certificate has the names and extensions of the old one, as a reader that is not ours sees it."""
    ca = authority()
    with explained():
        (certificate,) = _x509.parse_certificates(der.pem(data), "x.crt")
        describe_and_verify(certificate)
        renewed = _x509_renew.renew(certificate, ca.cert, ca.key, NOW, 86400, private_key=ca.key)
        (again,) = _x509.parse_certificates(renewed.certificate_pem, "x.crt")
        assert _x509.chain_problem(again, [ca.cert]) is None
        before, after = der.fields_of(_x509.der(certificate)), der.fields_of(_x509.der(again))
        assert (before.subject, ca.cert.subject.public_bytes()) == (after.subject, after.issuer)
        kept = [[(kind, critical) for kind, critical, _value in fields.outline()[3]] for fields in (before, after)]
        assert kept[0] == kept[1]


def rsa_key(data: bytes) -> None:
    for label in ("RSA PRIVATE KEY", "PRIVATE KEY"):
        with contextlib.suppress(ValueError):
            numbers = _public_part.rsa_public_numbers(data, pkcs8=label == "PRIVATE KEY")
            assert numbers is None or numbers[0].bit_length() >= 1024
        with explained():
            key = _public_part.public_key_of(der.pem(data, label), "x.key")
            _x509.public_bytes(key)


# --- YAML ---


def kubeconfig(data: bytes) -> None:
    """A user's credentials are exchanged and nothing else, or it is said why not."""
    # Where it is not a key any more, but part of a name, it may be shown.
    secret = seeds.SECRET if seeds.KEY_IN_ITS_PLACE.search(data) and data.count(seeds.SECRET.encode()) == 1 else None
    with explained(secret):
        config = _kubeconfig.parse_kubeconfig(data, "x.conf")
        with explained(secret):
            config.current_user(), config.current_cluster()
        for name, user in list(config.users.items())[:3]:
            with explained(secret):
                exchange(data, config, name, user)


def exchange(data: bytes, config: t.Any, name: str, user: t.Any) -> None:
    pair = (b"certificate", b"key")
    changed = _kubeconfig.parse_kubeconfig(_kubeconfig.replace_user_credentials(data, name, *pair, "x.conf"), "x.conf")
    found = changed.users[name]
    assert (found.client_certificate_data, found.client_key_data) == pair
    before = dataclasses.replace(user, client_certificate_data=None, client_key_data=None)
    assert dataclasses.replace(found, client_certificate_data=None, client_key_data=None) == before
    others = {other: entry for other, entry in changed.users.items() if other != name}
    assert others == {other: entry for other, entry in config.users.items() if other != name}
    assert (changed.clusters, changed.contexts, changed.current_context) == (config.clusters, config.contexts, config.current_context)


def document(data: bytes) -> None:
    with explained():
        assert size_of(_documents.parse_document(data, "x.yaml")) <= 100_000
    with explained():
        for manifest in _manifests.parse_manifest(data, "x.yaml"):
            for path in ("/etc/kubernetes/pki/ca.crt", "x", "/", ""):
                _manifests.host_path(path, manifest.mounts)


def size_of(value: t.Any) -> int:
    """How many values whoever goes through it meets; every scalar is text that a path can hold."""
    if isinstance(value, dict):
        return 1 + sum(size_of(key) + size_of(inner) for key, inner in value.items())
    if isinstance(value, list):
        return 1 + sum(map(size_of, value))
    assert value is None or "\0" not in value
    os.fsencode(value or "")
    return 1


def kubelet(data: bytes) -> None:
    """Flags, a configuration and a drop-in, each behind two bytes 0xff."""
    flags, config, drop_in = (*data.split(b"\xff\xff"), b"", b"")[:3]
    folder = workspace() / "kubelet"
    (folder / "drop-ins").mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_bytes(config)
    (folder / "drop-ins" / "1.conf").write_bytes(drop_in)
    words = flags.decode("utf-8", "surrogateescape").split("\0")
    argv = ("kubelet", *words, "--config=%s" % (folder / "config.yaml"), "--config-dir=%s" % (folder / "drop-ins"))
    settings = _kubelet_config.read_kubelet(Process(1, 1, argv, NOW), str(folder))
    properties = [name for name in dir(settings) if isinstance(getattr(type(settings), name, None), property)]
    assert len(properties) > 5
    for name in properties:
        getattr(settings, name)


@functools.lru_cache(maxsize=None)
def tree() -> KubeadmTree:
    return KubeadmTree(workspace() / "node")


def node(data: bytes) -> None:
    """A manifest on a node that is otherwise well: what is discovered is inspected, but for its addresses."""
    (tree().kubernetes_dir / "manifests" / "kube-apiserver.yaml").write_bytes(data)
    found = tree().discover()
    components = {name: dataclasses.replace(component, endpoints=()) for name, component in found.components.items()}
    limits = _inspection.Thresholds(86400, 3600)
    for record in _inspection.inspect_node(dataclasses.replace(found, components=components), "h", None, NOW, limits):
        _inspection.record_to_dict(record)
    _inspection.node_to_dict(found, None, NOW)


# --- the node ---


def journal(data: bytes) -> None:
    state = _journal.StateFolder(str(workspace() / "state"))
    run = workspace() / "state" / "runs" / "run"
    run.mkdir(parents=True, exist_ok=True)
    (run / "journal.json").write_bytes(data)
    assert state.unfinished_run_id() in ("run", None)
    with explained():
        loaded = state.load("run")
        _recovery.outlook(state)
        state.newest_rotation()
        state.save(loaded)
        assert state.load("run") == loaded


def flags(data: bytes) -> None:
    argv = data.decode("utf-8", "surrogateescape").split("\0")
    parsed = _layouts.parse_flags(argv)
    assert sum(map(len, parsed.values())) < len(argv)
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"):
        for endpoint in _discovery.component_endpoints(Component(name, parsed)):
            assert 0 < endpoint.port < 65536


def processes(data: bytes) -> None:
    """cmdline, stat, cgroup and status of a process, each behind two bytes 0xff."""
    parts = (*data.split(b"\xff\xff"), b"", b"", b"", b"")
    folder = workspace() / "proc" / "4711"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip(("cmdline", "stat", "cgroup", "status"), parts):
        (folder / name).write_bytes(content)
    running = _processes.list_processes(str(folder.parent))
    assert len(running) < 2
    for process in _processes.own_processes(running, str(folder.parent)):
        assert process.pod_uid is None or process.in_static_pod
        assert _processes.process_alive(process.process, str(folder.parent))
        _processes.choose(process.argv, running, exact=False)


def systemctl(data: bytes) -> None:
    found = _other_tools.obstacles_in(data.decode("utf-8", "replace"), NOW)
    assert len(found) <= 3


def handshake(data: bytes) -> None:
    certificate = _tls_probe.certificate_in_the_clear(data)
    if certificate is not None:
        assert 0 < len(certificate) < len(data)
        with explained():
            _x509.parse_certificates(ssl.DER_cert_to_PEM_cert(certificate).encode(), "x:1")


# --- the controller ---


def policy(data: bytes) -> None:
    """A variable by its number, and its value: a text, or what JSON makes of it."""
    names = sorted(_policy.OPTIONS)
    name = names[data[0] % len(names)] if data else "x"
    value: t.Any = data[1:].decode("utf-8", "surrogateescape")
    with explained():
        _policy.policy({name: value})
    with contextlib.suppress(CertopsError):
        value = _documents.parse_json(data[1:], "x")
        _policy.policy({name: value})
