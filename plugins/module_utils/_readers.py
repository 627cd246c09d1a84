# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Whether each process that reads a credential has what lies on disk, and by which proof that is known.

What cannot be proven is called unknown: nobody restarts anything because of that.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import RESTART
from ansible_collections.certops.kubernetes.plugins.module_utils._manifests import host_path
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Reader
from ansible_collections.certops.kubernetes.plugins.module_utils._processes import seen_inode

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Component, Credential, Endpoint, Node, ReaderSpec

# A process' start is known to a hundredth of a second, the clock's steps are not: nearer than this, nothing is claimed.
CLOCK_TOLERANCE = 1.0  # seconds

# What each address of the node was found to serve: SHA-256 of the certificate, None where it could not be seen.
Served = t.Mapping["Endpoint", t.Optional[str]]


def readers_of(credential: Credential, node: Node, fingerprint: str | None, served: Served) -> tuple[Reader, ...]:
    """One Reader for each component that reads the credential. `fingerprint` is that of the certificate on disk, if there is one."""
    return tuple(_reader(spec, credential, node, fingerprint, served) for spec in credential.readers)


def _reader(spec: ReaderSpec, credential: Credential, node: Node, fingerprint: str | None, served: Served) -> Reader:
    component = node.components.get(spec.component)
    if component is None:
        return Reader(spec.component, spec.reload, "unknown", "none")
    shown = [served.get(endpoint) for endpoint in component.endpoints if endpoint.credential == credential.name]
    if fingerprint is not None and any(shown):
        # One address that shows another certificate is evidence enough.
        in_use = all(one in (None, fingerprint) for one in shown)
        return Reader(spec.component, spec.reload, "true" if in_use else "false", "handshake")
    if spec.reload == RESTART and spec.container_path is not None:
        in_use_text, proof = restart_evidence(component, spec.container_path)
        return Reader(spec.component, spec.reload, in_use_text, proof)
    return Reader(spec.component, spec.reload, "unknown", "none")


def restart_evidence(component: Component, container_path: str, proc: str = "/proc") -> tuple[str, str]:
    """(in_use, proof) for a file that its process read only once, when it started.

    A single-file mount keeps showing the inode that was there when the container was made, so that needs no clock; a file that was
    written in place keeps its inode, so its age is looked at as well.
    """
    if component.process is None:
        return "unknown", "none"
    path = host_path(container_path, component.mounts)
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return "unknown", "none"
    proof = "process_age"
    if any(inside == os.path.normpath(container_path) for inside, _outside in component.mounts):
        seen = seen_inode(component.process.pid, container_path, proc)
        if seen is None:
            return "unknown", "none"
        if seen != (found.st_dev, found.st_ino):
            return "false", "inode"
        proof = "inode"
    in_use = _older_than_process(component.process.started_at.timestamp(), found.st_mtime, found.st_ctime, trust_inode=proof == "inode")
    return in_use, "none" if in_use == "unknown" else "process_age" if in_use == "false" else proof


def _older_than_process(started_at: float, mtime: float, ctime: float, *, trust_inode: bool) -> str:
    """Whether a process that started then has read what is in the file now: true, false or unknown. Unix times, which never run over."""
    if mtime > started_at + CLOCK_TOLERANCE:
        return "false"
    if trust_inode:
        return "true"
    # A copy that keeps its times (cp -p, tar) looks old: the inode's own change time gives it away, but chmod changes that one too.
    return "true" if max(mtime, ctime) < started_at - CLOCK_TOLERANCE else "unknown"


__all__ = ("CLOCK_TOLERANCE", "Served", "readers_of", "restart_evidence")
