# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A control-plane node for the tests of the transaction: real files in a folder, processes that only remember what they read."""

from __future__ import annotations

import base64
import dataclasses
import functools
import os
import stat
import typing as t
from datetime import datetime, timedelta, timezone

from ansible_collections.certops.kubernetes.plugins.module_utils._activation import Restart
from ansible_collections.certops.kubernetes.plugins.module_utils._files import read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._health import Check, Health
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Item, StateFolder
from ansible_collections.certops.kubernetes.plugins.module_utils._model import (
    CertopsError,
    Component,
    Credential,
    Node,
    Process,
    Reader,
    ReaderSpec,
    Record,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import UNKNOWN, ClientProof, NodeAccess
from ansible_collections.certops.kubernetes.plugins.module_utils._proof import disk_problem
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Wanted, look_at
from ansible_collections.certops.kubernetes.plugins.module_utils._rotation import Request, rotate
from ansible_collections.certops.kubernetes.plugins.module_utils._transaction import Limits
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import fingerprint
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki

if t.TYPE_CHECKING:
    from pathlib import Path

API_SERVER, CONTROLLER_MANAGER, SCHEDULER, ETCD = "kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"
KUBELET = "kubelet"
LIMITS = Limits(reload=1.0, proof=2.0, stability=0.5)
HOT_PAIRS = {"apiserver": (API_SERVER, "ca"), "etcd/server": (ETCD, "etcd/ca")}
KUBECONFIGS = {"admin.conf": None, "controller-manager.conf": CONTROLLER_MANAGER, "scheduler.conf": SCHEDULER}
NAMES = (*HOT_PAIRS, *KUBECONFIGS)

_KUBECONFIG = """\
# written by hand, keep this line
apiVersion: v1
kind: Config
clusters: [{name: kubernetes, cluster: {server: "https://10.0.0.1:6443"}}]
contexts: [{name: c, context: {cluster: kubernetes, user: u}}]
current-context: c
users:
- name: u
  user:
    client-certificate-data: %s
    client-key-data: %s
"""


_FINGERPRINTS: dict[tuple[str, bytes], str] = {}  # of what has been found on a disk


class Killed(BaseException):
    """SIGKILL at this very instruction: nothing after it happens."""


@functools.lru_cache(maxsize=None)
def _made_once(key: str) -> tuple[dict[str, pki.Pair], dict[str, tuple[bytes, int]]]:
    """The CAs, and content and mode of each file of the tree: the same for all nodes, for some tests make hundreds of them."""
    end = datetime.now(timezone.utc) + timedelta(days=3)
    authorities = {"ca": pki.make_ca(key=key), "etcd/ca": pki.make_ca("etcd-ca", key=key)}
    files = {}
    for name, authority in authorities.items():
        files["pki/%s.crt" % name] = authority.cert_pem, 0o644
        files["pki/%s.key" % name] = authority.key_pem, 0o600
    for name, (_component, authority_name) in HOT_PAIRS.items():
        pair = pki.make_leaf(authorities[authority_name], name, usages=("server", "client"), sans=["DNS:n1"], not_after=end, key=key)
        files["pki/%s.crt" % name] = pair.cert_pem, 0o644
        files["pki/%s.key" % name] = pair.key_pem, 0o640
    for name in KUBECONFIGS:
        pair = pki.make_leaf(authorities["ca"], name, not_after=end, key=key)
        encoded = tuple(base64.b64encode(data).decode() for data in (pair.cert_pem, pair.key_pem))
        files[name] = (_KUBECONFIG % encoded).encode(), 0o600
    return authorities, files


class FakeNode:
    """The node; its attributes say how it misbehaves."""

    def __init__(self, root: Path, key: str = "EC-256") -> None:
        """Write a kubeadm-like tree under `root` and start its processes."""
        self.root = root
        self.kubernetes = root / "kubernetes"
        self.state = StateFolder(str(root / "certops"))
        self.time = 0.0
        self.deaf: set[str] = set()  # components that do not reload by themselves although they should
        self.stubborn: set[str] = set()  # components that do not come back after a stop
        self.crashing: set[str] = set()  # components that end once more after a restart
        self.unhealthy: t.Callable[[FakeNode], str | None] = lambda _node: None
        self.other_tools: list[str] = []
        self.proofs: dict[str, t.Callable[[str], ClientProof]] = {}
        self.restarts: list[str] = []
        self.units: dict[str, str] = {}  # components that systemd runs; all others are a kubelet's
        self.kubelet_reads: dict[str, str] = {}  # how the kubelet, which is there for this, reloads a certificate
        self._ticks = 100
        authorities, files = _made_once(key)
        self.authorities = dict(authorities)
        (self.kubernetes / "pki" / "etcd").mkdir(parents=True)
        for name, (data, mode) in files.items():
            self._write(name, data, mode)
        self.processes: dict[str, Process] = {}
        self.loaded: dict[tuple[str, str], str] = {}
        for component in (API_SERVER, CONTROLLER_MANAGER, SCHEDULER, ETCD):
            self.start(component)

    def _write(self, name: str, data: bytes, mode: int) -> None:
        path = self.kubernetes / name
        path.write_bytes(data)
        path.chmod(mode)

    def path(self, name: str) -> Path:
        """Where a file of the tree lies."""
        return self.kubernetes / name

    def start(self, component: str) -> None:
        """A new process, which reads what is on disk now."""
        self._ticks += 1
        self.processes[component] = Process(1000 + self._ticks, self._ticks, (component,), datetime.now(timezone.utc))
        for name in NAMES:
            self.loaded[component, name] = self.on_disk(name)

    def on_disk(self, name: str) -> str:
        """The fingerprint of the certificate that lies on disk; "" when it cannot be read."""
        try:
            credential = self.credential(name)
            known = credential.kind, read_bounded(credential.cert_path)
            if known not in _FINGERPRINTS:  # each process reads all of them at each of its starts
                _FINGERPRINTS[known] = fingerprint(look_at(credential).leaf)
            return _FINGERPRINTS[known]
        except CertopsError:
            return ""

    def credential(self, name: str) -> Credential:
        """A credential as discovery finds it."""
        if name in KUBECONFIGS:
            component = KUBECONFIGS[name]
            readers = (ReaderSpec(component, "restart"),) if component else ()
            return Credential(name, "kubeconfig", str(self.path(name)), None, "client", component or "user", "ca", readers=readers)
        if name in HOT_PAIRS:
            component, authority = HOT_PAIRS[name]
            readers = (ReaderSpec(component, "hot"),)
            usage = "server"
            kind = "pair"
        else:
            component, authority, readers, usage, kind = "ca", None, (), "ca", "ca"
        base = str(self.path("pki/%s" % name))
        return Credential(name, kind, base + ".crt", base + ".key", usage, component, authority, readers=readers)

    def discover(self) -> Node:
        """The node as it is now."""
        names = (API_SERVER, CONTROLLER_MANAGER, SCHEDULER, ETCD, *((KUBELET,) if self.kubelet_reads else ()))
        components = {name: Component(name, {}, unit=self.units.get(name), process=self.processes.get(name)) for name in names}
        credentials = {name: self._with_kubelet(self.credential(name)) for name in (*NAMES, *self.authorities)}
        return Node("n1", "test", str(self.kubernetes), components, credentials)

    def _with_kubelet(self, credential: Credential) -> Credential:
        reload = self.kubelet_reads.get(credential.name)
        further = (ReaderSpec(KUBELET, reload),) if reload else ()
        return dataclasses.replace(credential, readers=(*credential.readers, *further))

    def run_kubelet(self, **reads: str) -> None:
        """A kubelet, which systemd runs, and how it reloads these certificates."""
        self.kubelet_reads, self.units[KUBELET] = reads, "kubelet.service"
        self.start(KUBELET)

    def inspect(self, node: Node) -> list[Record]:
        """Records that hold little more than readers."""
        return [self._record(name, node) for name in NAMES]

    def _record(self, name: str, node: Node) -> Record:
        values: dict[str, t.Any] = {field.name: None for field in dataclasses.fields(Record)}
        readers = tuple(self._reader(name, spec) for spec in node.credentials[name].readers)
        return Record(**dict(values, name=name, host="h", component="c", source="file", status="ok", readers=readers, findings=()))

    def _reader(self, name: str, spec: ReaderSpec) -> Reader:
        if spec.component not in self.processes or spec.reload == "self":
            return Reader(spec.component, spec.reload, "unknown", "none")
        on_disk = self.on_disk(name)
        hot = spec.reload == "hot" and spec.component not in self.deaf
        same = hot or self.loaded[spec.component, name] == on_disk
        return Reader(spec.component, spec.reload, "true" if same else "false", "handshake" if spec.reload == "hot" else "inode")

    def reader_states(self, name: str) -> list[str]:
        return [self._reader(name, spec).in_use for spec in self.credential(name).readers]

    def restart(self, _node: Node, component: str, meanwhile: t.Callable[[], object] | None = None) -> Restart:
        """Stop and start a component, unless it is stubborn."""
        self.restarts.append(component)
        before = self.processes.pop(component, None)
        if meanwhile:
            meanwhile()
        if component in self.stubborn:
            raise CertopsError("%s did not come back within 120 s." % component)
        self.start(component)
        after = self.processes[component].pid
        return Restart(component, before.pid if before else None, after, 1.5, None, False)

    def health(self, _node: Node, _planned: t.Sequence[str]) -> Health:
        """Healthy while every process runs and nobody says otherwise."""
        gone = [name for name in (API_SERVER, CONTROLLER_MANAGER, SCHEDULER, ETCD) if name not in self.processes]
        problem = self.unhealthy(self) or ("%s is not running" % ", ".join(gone) if gone else None)
        return Health("unhealthy" if problem else "healthy", (Check("all", problem is None, problem or "fine"),))

    def sleep(self, seconds: float) -> None:
        """Time passes at once; a component that crashes does so meanwhile."""
        self.time += seconds
        for component in list(self.crashing):
            if component in self.restarts:
                self.crashing.discard(component)
                self.start(component)

    def client_proof(self, _node: Node, name: str, fingerprint: str) -> ClientProof:
        """What the test says, or nothing."""
        return self.proofs[name](fingerprint) if name in self.proofs else UNKNOWN

    def access(self) -> NodeAccess:
        """This node for a transaction."""
        return NodeAccess(
            discover=self.discover,
            inspect=self.inspect,
            health=self.health,
            restart=self.restart,
            client_proof=self.client_proof,
            expired=lambda _node, _names: [],
            validity_seconds=lambda _node: None,
            ask_signer=lambda _node, _request, _usages, _seconds: b"",
            other_tools=lambda: self.other_tools,
            now=lambda: datetime.now(timezone.utc),
            monotonic=lambda: self.time,
            sleep=self.sleep,
            host="h",
            pid=os.getpid(),
        )

    def wanted(self, *names: str) -> tuple[Wanted, ...]:
        """Renew these (all without names), as they are now."""
        return tuple(Wanted(name, "renew", self.on_disk(name)) for name in names or NAMES)

    def tree(self) -> dict[str, tuple[bytes, int, int, int]]:
        """Content, mode and owner of every file of the Kubernetes folder; also of any that does not belong there."""
        found = {}
        for folder, _folders, files in os.walk(str(self.kubernetes)):
            for name in files:
                path = os.path.join(folder, name)
                status = os.stat(path)
                with open(path, "rb") as stream:
                    found[path] = (stream.read(), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
        return found

    def everything(self) -> dict[str, tuple[int, int, int]]:
        """Inode, mtime and size of all there is, folders too."""
        found = {}
        for folder, folders, files in os.walk(str(self.root)):
            for name in [*folders, *files]:
                status = os.lstat(os.path.join(folder, name))
                found[os.path.join(folder, name)] = (status.st_ino, status.st_mtime_ns, status.st_size)
        return found


def run(node: FakeNode, *names: str, **options: t.Any) -> dict[str, t.Any]:
    """Rotate these (all without names) on a node."""
    request = Request("run", options.pop("items", None) or node.wanted(*names), health_seconds=1.0, **options)
    return rotate(node.access(), node.state, request, LIMITS)


def assert_consistent(node: FakeNode) -> None:
    """Each certificate matches its key and its CA, and nothing was left lying about."""
    found = node.discover()
    for name in NAMES:
        assert disk_problem(found, Item(name, "renew", {}, {}), node.on_disk(name)) is None
    assert not [path for path in node.tree() if "certops" in path]
