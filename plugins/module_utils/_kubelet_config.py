# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The kubelet's own configuration: its flags, its configuration file and the drop-ins beside it."""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass, field

from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig, parse_document, text
from ansible_collections.certops.kubernetes.plugins.module_utils._files import MissingFile, read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import (
    DEFAULT_PORTS,
    KUBELET,
    KUBELET_DEFAULT_CERT_DIR,
    KUBELET_DEFAULT_CONFIG,
    as_port,
    parse_flags,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Finding, Process

_REMEDY = "Look at the kubelet's flags (systemctl cat kubelet) and repair that file."


@dataclass(frozen=True)
class KubeletSettings:
    """What of the kubelet's configuration concerns certificates; a flag wins over the file, as in the kubelet."""

    flags: dict[str, tuple[str, ...]] = field(default_factory=dict)
    config: dict[str, t.Any] = field(default_factory=dict)
    process: Process | None = None
    present: bool = False  # it runs here, or has a configuration
    kubernetes_dir: str = "/etc/kubernetes"
    problems: tuple[Finding, ...] = ()
    files: tuple[tuple[str, dict[str, t.Any]], ...] = ()  # what `config` was merged from, by path; a later one wins

    def value(self, flag: str, *keys: str) -> str | None:
        """A setting: the flag's last value, else what the configuration has at `keys`, else None."""
        values = self.flags.get(flag)
        return values[-1] if values else text(dig(self.config, *keys))

    def enabled(self, flag: str, *keys: str) -> bool:
        """A setting that is true or false; false when it is not there."""
        return (self.value(flag, *keys) or "").lower() in ("true", "t", "1", "yes", "on")

    @property
    def kubeconfig(self) -> str:
        """Path of the kubeconfig that it uses."""
        return self.value("kubeconfig") or os.path.join(self.kubernetes_dir, "kubelet.conf")

    @property
    def standalone(self) -> bool:
        """Whether it runs static pods only and is no client of an API server, as on hosts that kubeadm made for etcd alone."""
        return self.process is not None and not self.value("kubeconfig") and not self.value("bootstrap-kubeconfig")

    @property
    def static_pod_path(self) -> str:
        """Directory (or file) of the static-pod manifests; kubeadm's when nothing is configured."""
        return self.value("pod-manifest-path", "staticPodPath") or os.path.join(self.kubernetes_dir, "manifests")

    @property
    def client_ca_file(self) -> str | None:
        """Certificate authorities that it trusts for clients of its own API."""
        return self.value("client-ca-file", "authentication", "x509", "clientCAFile")

    @property
    def cert_dir(self) -> str:
        """Where it keeps the certificates that it gets by itself."""
        return self.value("cert-dir") or KUBELET_DEFAULT_CERT_DIR

    @property
    def serving_pair(self) -> tuple[str, str] | None:
        """The serving certificate and key that an administrator gave it, if any."""
        cert = self.value("tls-cert-file", "tlsCertFile")
        key = self.value("tls-private-key-file", "tlsPrivateKeyFile")
        return (cert, key) if cert and key else None

    @property
    def server_tls_bootstrap(self) -> bool:
        """Whether it asks the cluster to sign its serving certificate."""
        return self.enabled("rotate-server-certificates", "serverTLSBootstrap")

    @property
    def host(self) -> str:
        """An address of this node on which it serves."""
        for address in (self.value("address", "address"), (self.value("node-ip") or "").split(",")[0]):
            if address and address not in ("0.0.0.0", "::"):
                return address
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """The port on which it serves; 0 when its server is switched off."""
        if self.value("enable-server", "enableServer") == "false":
            return 0
        return as_port(self.value("port", "port"), 0) or DEFAULT_PORTS[KUBELET]


def read_kubelet(process: Process | None, kubernetes_dir: str, default_config: str = KUBELET_DEFAULT_CONFIG) -> KubeletSettings:
    """The kubelet's settings from its process' flags, `--config` and `--config-dir`; without a process, from kubeadm's default places.

    Garbage in a file is a problem of the result, never an error.
    """
    flags = parse_flags(process.argv) if process else {}
    problems: list[Finding] = []
    given = flags.get("config")
    path = given[-1] if given else default_config
    # Without a process nobody says that there is a configuration file at all; a running kubelet may use flags only.
    config = _read_config(path, problems, required=given is not None)
    files = [] if config is None else [(path, config)]
    folder = flags.get("config-dir")
    if folder:
        for drop_in in _drop_ins(folder[-1], problems):
            files.append((drop_in, _read_config(drop_in, problems, required=True) or {}))
            config = _merged(config or {}, files[-1][1])
    kubeconfig = os.path.join(kubernetes_dir, "kubelet.conf")
    return KubeletSettings(
        flags=flags,
        config=config or {},
        process=process,
        present=process is not None or config is not None or os.path.exists(kubeconfig),
        kubernetes_dir=kubernetes_dir,
        problems=tuple(problems),
        files=tuple(files),
    )


def _read_config(path: str, problems: list[Finding], *, required: bool) -> dict[str, t.Any] | None:
    try:
        document = parse_document(read_bounded(path), path)
    except MissingFile as error:
        if required:
            problems.append(Finding("missing", "warning", str(error), _REMEDY))
        return None
    except CertopsError as error:
        problems.append(Finding("unreadable", "warning", str(error), _REMEDY))
        return {}
    if not isinstance(document, dict):
        problems.append(Finding("unreadable", "warning", "%s is not a kubelet configuration: it is no mapping." % path, _REMEDY))
        return {}
    return document


def _drop_ins(folder: str, problems: list[Finding]) -> list[str]:
    """The drop-in files in the order in which the kubelet merges them: `*.conf` below the directory, by path."""
    found: list[str] = []
    if not os.path.isdir(folder):
        message = "There is no directory %s, which the kubelet's --config-dir names." % folder
        problems.append(Finding("missing", "warning", message, _REMEDY))
    for parent, folders, names in os.walk(folder):
        folders.sort()
        found.extend(os.path.join(parent, name) for name in names if name.endswith(".conf"))
    return sorted(found)


def _merged(base: dict[str, t.Any], over: dict[str, t.Any]) -> dict[str, t.Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


__all__ = ("KubeletSettings", "read_kubelet")
