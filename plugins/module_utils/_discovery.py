# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The kubelet's configuration, the static-pod manifests, etcd's unit and the running processes → what is on a node.

Reads files and `/proc`, changes nothing. What cannot be read is a problem of the result, never an error.
"""

from __future__ import annotations

import os
import re
import typing as t
from dataclasses import replace

from ansible_collections.certops.kubernetes.plugins.module_utils._credentials import find_credentials, read_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._etcd_config import ENVIRONMENT_PREFIX, addresses, etcd_flags
from ansible_collections.certops.kubernetes.plugins.module_utils._etcd_units import find_etcd_unit
from ansible_collections.certops.kubernetes.plugins.module_utils._files import read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_config import KubeletSettings, read_kubelet
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import (
    API_SERVER,
    CONTROLLER_MANAGER,
    DEFAULT_PORTS,
    ETCD,
    KUBELET,
    KUBELET_DEFAULT_CONFIG,
    SCHEDULER,
    STATIC_POD_COMPONENTS,
    as_port,
    parse_flags,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._manifests import Manifest, read_manifests
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Component, Credential, Endpoint, Finding, Node
from ansible_collections.certops.kubernetes.plugins.module_utils._processes import (
    RunningProcess,
    choose,
    environment,
    list_processes,
    own_processes,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._systemd_units import UNIT_FOLDERS
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import describe, parse_certificates

if t.TYPE_CHECKING:
    from datetime import datetime

_EVERY_ADDRESS = ("", "0.0.0.0", "::", "*")
_NODE_USER = re.compile(r"^system:node:([^@]+)")
_NODE_SUBJECT = re.compile(r"(?:^|,)CN=system:node:([a-z0-9.-]+)(?:,|$)")
# What kubelets write for a kubeconfig that they got by TLS bootstrap: names of nothing.
_MEANINGLESS_CLUSTERS = ("default-cluster",)


def discover(
    now: datetime,
    kubernetes_dir: str = "/etc/kubernetes",
    *,
    proc: str = "/proc",
    kubelet_config: str = KUBELET_DEFAULT_CONFIG,
    unit_folders: t.Sequence[str] = UNIT_FOLDERS,
    etcd_unit: bool = True,
) -> Node:
    """What is on this node: components with their processes and addresses, and credentials.

    `now` is kept for callers that stamp their results with one time; nothing here depends on it. `proc`, `kubelet_config` and
    `unit_folders` are where to look for processes, and for the configuration of a kubelet and for an etcd that do not run. Not
    `etcd_unit`: an etcd that systemd runs here is known to be somebody else's.
    """
    del now
    running = own_processes(list_processes(proc, (*STATIC_POD_COMPONENTS, KUBELET)), proc)
    kubelet = read_kubelet(_kubelet_process(running), kubernetes_dir, kubelet_config)
    manifests, problems = read_manifests(kubelet.static_pod_path)
    components: dict[str, Component] = {}
    for manifest in manifests:
        component, config_problems = _component(manifest, running, proc)
        problems.extend(config_problems)
        known = components.get(manifest.component)
        if known is None or (known.process is None and component.process is not None):
            components[manifest.component] = component
    if ETCD not in components and etcd_unit:
        etcd, unit_problems = find_etcd_unit(running, components.get(API_SERVER), proc, unit_folders)
        problems.extend(unit_problems)
        if etcd is not None:
            components[ETCD] = _with_endpoints(etcd)
    if kubelet.present:
        components[KUBELET] = _kubelet_component(kubelet)
    credentials = find_credentials(components, kubelet, kubernetes_dir)
    return Node(
        name=_node_name(components, kubelet, credentials.get("kubelet-client")),
        cluster=_cluster_name(components, kubelet, kubernetes_dir),
        kubernetes_dir=kubernetes_dir,
        components=components,
        credentials=credentials,
        problems=(*kubelet.problems, *problems, *_nothing_here(components, kubelet, kubernetes_dir)),
    )


def _kubelet_process(running: t.Sequence[RunningProcess]) -> t.Any:
    """The node's own kubelet: in our PID namespace and in no pod."""
    kubelets = [one for one in running if os.path.basename(one.argv[0]) == KUBELET and one.nesting == 1 and not one.in_static_pod]
    return kubelets[-1].process if kubelets else None


def _component(manifest: Manifest, running: t.Sequence[RunningProcess], proc: str) -> tuple[Component, tuple[Finding, ...]]:
    chosen = choose(manifest.argv, running, exact=False)
    argv = chosen.argv if chosen else manifest.argv
    flags = parse_flags(argv)
    problems: tuple[Finding, ...] = ()
    if manifest.component == ETCD:
        given = environment(chosen.process.pid, ENVIRONMENT_PREFIX, proc) if chosen else {}
        flags, problems = etcd_flags(argv, given, manifest.mounts)
    bare = Component(manifest.component, flags, manifest.path, process=chosen.process if chosen else None, mounts=manifest.mounts)
    return _with_endpoints(bare), problems


def _with_endpoints(component: Component) -> Component:
    return replace(component, endpoints=tuple(component_endpoints(component)))


def _kubelet_component(kubelet: KubeletSettings) -> Component:
    endpoints = (Endpoint(KUBELET, kubelet.host, kubelet.port, "kubelet-serving"),) if kubelet.port else ()
    return Component(KUBELET, kubelet.flags, unit="kubelet.service", process=kubelet.process, endpoints=endpoints)


def component_endpoints(component: Component) -> list[Endpoint]:
    """Where a component of the control plane or etcd serves TLS, by its flags."""
    if component.name == ETCD:
        return [
            *_url_endpoints(component, "listen-client-urls", "advertise-client-urls", "etcd/server"),
            *_url_endpoints(component, "listen-peer-urls", "initial-advertise-peer-urls", "etcd/peer"),
        ]
    port = as_port(component.flag("secure-port"), DEFAULT_PORTS.get(component.name, 0))
    if not port:
        return []
    host = component.flag("bind-address") or ""
    if host in _EVERY_ADDRESS:
        host = (component.flag("advertise-address") or "") if component.name == API_SERVER else ""
    named = {API_SERVER: "apiserver", CONTROLLER_MANAGER: "controller-manager-serving", SCHEDULER: "scheduler-serving"}
    credential = named.get(component.name) if component.flag("tls-cert-file") else None
    return [Endpoint(component.name, host if host not in _EVERY_ADDRESS else "127.0.0.1", port, credential)]


def _url_endpoints(component: Component, flag: str, advertised: str, credential: str) -> t.Iterator[Endpoint]:
    """Where it listens for TLS; for one that listens everywhere the address that others are told, which its certificate has to name."""
    told = [host for _scheme, host, _port in addresses(component.flag(advertised)) if host not in _EVERY_ADDRESS]
    for scheme, host, port in addresses(component.flag(flag)):
        if scheme == "https":
            yield Endpoint(component.name, (told or ["127.0.0.1"])[0] if host in _EVERY_ADDRESS else host, port, credential)


def _node_name(components: t.Mapping[str, Component], kubelet: KubeletSettings, client: Credential | None) -> str | None:
    """Kubernetes' name of this node: the kubelet's flag, its certificate, its user in kubelet.conf, the host's name.

    Only the certificate says it on a node that was joined: the kubelet.conf that comes of a TLS bootstrap names no user. A host that runs
    nothing but etcd has none: no kubelet registers it.
    """
    override = kubelet.value("hostname-override")
    if override:
        return override
    certified = _certified_name(client) if client is not None else None
    if certified:
        return certified
    config = read_kubeconfig(kubelet.kubeconfig) if kubelet.present and not kubelet.standalone else None
    for user in config.users if config is not None else ():
        match = _NODE_USER.match(user)
        if match:
            return match.group(1)
    registered = kubelet.present and not kubelet.standalone
    return os.uname().nodename.lower() if registered or set(components) - {ETCD, KUBELET} else None


def _certified_name(client: Credential) -> str | None:
    try:
        subject = describe(parse_certificates(read_bounded(client.cert_path), client.cert_path)[0]).subject
    except CertopsError:
        return None
    match = _NODE_SUBJECT.search(subject)
    return match.group(1) if match else None


def _cluster_name(components: t.Mapping[str, Component], kubelet: KubeletSettings, kubernetes_dir: str) -> str | None:
    """The controller-manager's --cluster-name, which kubeadm sets; else what admin.conf or kubelet.conf call the cluster."""
    manager = components.get(CONTROLLER_MANAGER)
    flag = manager.flag("cluster-name") if manager else None
    if flag:
        return flag
    for path in (os.path.join(kubernetes_dir, "admin.conf"), None if kubelet.standalone else kubelet.kubeconfig):
        config = read_kubeconfig(path) if path else None
        context = config.contexts.get(config.current_context or "") if config is not None else None
        if context is not None and context.cluster and context.cluster not in _MEANINGLESS_CLUSTERS:
            return context.cluster
    return None


def _nothing_here(components: t.Mapping[str, Component], kubelet: KubeletSettings, kubernetes_dir: str) -> list[Finding]:
    if components:
        return []
    return [
        Finding(
            code="missing",
            severity="critical",
            message="There is no kubelet on this host, no static-pod manifest in %s and no unit that runs etcd." % kubelet.static_pod_path,
            remedy="Check that this host belongs to a Kubernetes cluster, that the task runs as root (become), and kubernetes_dir (%s)."
            % kubernetes_dir,
        )
    ]


__all__ = ("component_endpoints", "discover")
