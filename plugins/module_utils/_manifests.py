# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Static-pod manifests: which component each one runs, with which command, and which host paths its container sees where."""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig, items, parse_document, text, texts
from ansible_collections.certops.kubernetes.plugins.module_utils._files import read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import STATIC_POD_COMPONENTS
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Finding


@dataclass(frozen=True)
class Manifest:
    """One component in one static-pod manifest."""

    path: str
    component: str
    argv: tuple[str, ...]  # from the component's own word on: what its process' argument vector is
    mounts: tuple[tuple[str, str], ...]  # (path in the container, path on the host)


def read_manifests(directory: str) -> tuple[list[Manifest], list[Finding]]:
    """The components' manifests in the kubelet's static-pod directory, and what is wrong with files there.

    As the kubelet does (Kubernetes `pkg/kubelet/config/file.go`): every file whose name does not begin with a dot, whatever its
    extension; directories are skipped. A directory that is not there has no manifests: that is a worker.
    """
    manifests: list[Manifest] = []
    problems: list[Finding] = []
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [_problem("Cannot list the static-pod manifests in %s: %s." % (directory, error.strerror or "unknown error"))]
    except ValueError:  # a NUL byte, or half of a surrogate pair
        return [], [_problem("Cannot list the static-pod manifests in %r: it cannot be a path." % directory)]
    for name in names:
        path = os.path.join(directory, name)
        if name.startswith(".") or os.path.isdir(path):
            continue
        try:
            manifests.extend(parse_manifest(read_bounded(path), path))
        except CertopsError as error:
            problems.append(_problem(str(error)))
    problems.extend(_duplicates(manifests))
    return manifests, problems


def parse_manifest(data: bytes, path: str) -> list[Manifest]:
    """The known components that a Pod manifest runs (other people's static pods give none). Raises CertopsError on garbage."""
    document = parse_document(data, path)
    if not isinstance(document, dict) or text(document.get("kind")) != "Pod":
        raise CertopsError("%s is not the manifest of a pod." % path)
    volumes = _host_paths(dig(document, "spec", "volumes"))
    found = []
    for container in items(dig(document, "spec", "containers")):
        words = texts(dig(container, "command")) + texts(dig(container, "args"))
        start = next((index for index, word in enumerate(words) if os.path.basename(word) in STATIC_POD_COMPONENTS), None)
        if start is not None:
            argv = tuple(words[start:])
            found.append(Manifest(path, os.path.basename(argv[0]), argv, _mounts(container, volumes)))
    return found


def host_path(path: str, mounts: t.Sequence[tuple[str, str]]) -> str:
    """A container's path as the host knows it: through the innermost of its mounts that holds it; the same path if none does."""
    path = os.path.normpath(path)
    best: tuple[str, str] | None = None
    for inside, outside in mounts:
        holds = inside in (path, "/") or path.startswith(inside + "/")
        if holds and (best is None or len(inside) > len(best[0])):
            best = (inside, outside)
    if best is None:
        return path
    return os.path.normpath(os.path.join(best[1], os.path.relpath(path, best[0])))


def _host_paths(volumes: t.Any) -> dict[str, str]:
    found = {}
    for volume in items(volumes):
        name, path = text(dig(volume, "name")), text(dig(volume, "hostPath", "path"))
        if name is not None and path is not None:
            found[name] = path
    return found


def _mounts(container: t.Any, volumes: t.Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    found = []
    for mount in items(dig(container, "volumeMounts")):
        name, inside, below = text(dig(mount, "name")), text(dig(mount, "mountPath")), text(dig(mount, "subPath"))
        if name is not None and name in volumes and inside is not None:
            outside = os.path.join(volumes[name], below) if below else volumes[name]
            found.append((os.path.normpath(inside), os.path.normpath(outside)))
    return tuple(found)


def _duplicates(manifests: t.Sequence[Manifest]) -> list[Finding]:
    by_component: dict[str, list[str]] = {}
    for manifest in manifests:
        by_component.setdefault(manifest.component, []).append(manifest.path)
    return [
        Finding(
            code="duplicate_manifest",
            severity="warning",
            message="%s has several static-pod manifests: %s. The kubelet runs whichever it reads last." % (component, ", ".join(paths)),
            remedy="Move copies out of that directory: the kubelet reads every file there whose name does not begin with a dot.",
        )
        for component, paths in by_component.items()
        if len(paths) > 1
    ]


def _problem(message: str) -> Finding:
    return Finding(
        code="unreadable",
        severity="warning",
        message=message,
        remedy="Repair that file, or move it away: the kubelet reads every file there whose name does not begin with a dot.",
    )


__all__ = ("Manifest", "host_path", "parse_manifest", "read_manifests")
