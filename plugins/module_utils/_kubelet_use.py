# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Whether the running kubelet has the client certificate that lies on disk. Only what is certain is called true or false.

A kubelet that rotates its client certificate reads `kubelet-client-current.pem` in its `--cert-dir` once, when it starts, whatever its
kubeconfig says; what it gets later it writes there itself (client-go, util/certificate/certificate_manager.go). It tells how long the one
in its memory is still valid, counted at each request (`kubelet_certificate_manager_client_ttl_seconds`). One that does not rotate follows
the files that its kubeconfig names.
"""

from __future__ import annotations

import contextlib
import os
import re
import typing as t
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

from ansible_collections.certops.kubernetes.plugins.module_utils._access import api_client
from ansible_collections.certops.kubernetes.plugins.module_utils._files import final_target, read_bounded, sha256
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import StateFolder
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_api import KUBELET_CONF, KUBELET_CREDENTIAL, kubelet_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import (
    API_SERVER,
    KUBELET,
    KUBELET_DEFAULT_CERT_DIR,
    KUBELET_DEFAULT_CONFIG,
    SELF,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Reader
from ansible_collections.certops.kubernetes.plugins.module_utils._readers import CLOCK_TOLERANCE
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import not_after

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient
    from ansible_collections.certops.kubernetes.plugins.module_utils._material import Material
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Component, Credential, Node, Record

CURRENT = KUBELET_CREDENTIAL + "-current.pem"

_UNKNOWN = ("unknown", "none")
_TIMEOUT_SECONDS = 5.0
_TTL = re.compile(rb"^kubelet_certificate_manager_client_ttl_seconds ([-+.\w]+)\s*$", re.MULTILINE)
_TOLERANCE = timedelta(seconds=2)  # the answer is in whole seconds

# Between which two times the certificate in the kubelet's memory ends; None: it says that it has none.
End = t.Optional[t.Tuple[datetime, datetime]]


def current_path(kubelet: Component | None) -> str:
    """The path of the link to the certificate that a kubelet with rotation uses."""
    return os.path.join((kubelet.flag("cert-dir") if kubelet else None) or KUBELET_DEFAULT_CERT_DIR, CURRENT)


def kubelet_readers(
    readers: t.Sequence[Reader],
    credential: Credential,
    node: Node,
    materials: t.Mapping[str, Material],
    state: StateFolder | None = None,
    ask: t.Callable[[Node], End] | None = None,
) -> tuple[Reader, ...]:
    """The readers, with what is known of the kubelet as the reader of its client certificate; those of other credentials as they are.

    `materials`: what lies in the files of each credential, by name. `state`: where runs have left their journals. `ask` raises
    CertopsError where the kubelet cannot be asked. Never raises.
    """
    leaf, kubelet = materials[credential.name].leaf, node.components.get(KUBELET)
    if credential.name not in (KUBELET_CREDENTIAL, KUBELET_CONF) or leaf is None or kubelet is None or kubelet.process is None:
        return tuple(readers)
    in_use, proof = _UNKNOWN
    with contextlib.suppress(CertopsError, OSError, ValueError):
        started = kubelet.process.started_at.timestamp()
        in_use, proof = _by_age(kubelet, started, credential, node, not_after(leaf), state or StateFolder())
    if in_use == "unknown" and _is_followed(kubelet, credential):
        ca = materials.get(credential.ca or "")
        ends = [not_after(one) for one in (ca.certificates if ca is not None else ())]
        with contextlib.suppress(CertopsError):
            in_use, proof = _by_its_word((ask or asked_end)(node), not_after(leaf), ends)
    return tuple(Reader(one.component, one.reload, in_use, proof) if one.reload == SELF else one for one in readers)


def kubelet_to_ask(node: Node, records: t.Iterable[Record]) -> str | None:
    """The name of the certificate that the kubelet alone can tell of whether it uses it, on a node that cannot ask it. Never raises."""
    kubelet, credential = node.components.get(KUBELET), node.credentials.get(KUBELET_CREDENTIAL)
    if kubelet is None or kubelet.process is None or credential is None or API_SERVER in node.components:
        return None
    readers = [one for record in records if record.name == credential.name and record.not_after for one in record.readers]
    unproven = any(one.reload == SELF and one.in_use == "unknown" for one in readers)
    return credential.name if unproven and _is_followed(kubelet, credential) else None


def _is_followed(kubelet: Component, credential: Credential) -> bool:
    """Whether this is the file that a kubelet with rotation writes, and reads when it starts."""
    if not credential.rotated or credential.kind != "pair":
        return False
    return final_target(credential.cert_path) == final_target(current_path(kubelet))


def _by_age(kubelet: Component, started: float, credential: Credential, node: Node, end: datetime, state: StateFolder) -> tuple[str, str]:
    """By when its process started. Raises OSError or ValueError for files that cannot be looked at."""
    if _changed_since(_configuration(kubelet), started):
        return _UNKNOWN  # how it got its certificate then, what is configured now does not tell
    followed, embedded = _is_followed(kubelet, credential), credential.kind == "kubeconfig"
    if credential.rotated and not followed:
        return _UNKNOWN
    files = [credential.cert_path] if followed or embedded else [credential.cert_path, str(credential.key_path), kubelet_kubeconfig(node)]
    if not _changed_since(files, started):
        # A kubelet with rotation does not take one that has expired.
        return ("true", "process_age") if not followed or end.timestamp() > started + CLOCK_TOLERANCE else _UNKNOWN
    target = final_target(credential.cert_path)
    if (followed or embedded) and os.stat(target).st_mtime > started + CLOCK_TOLERANCE and _is_ours(target, state):
        return "false", "process_age"
    return _UNKNOWN


def _configuration(kubelet: Component) -> list[str]:
    """The files that configure it, as far as there are any."""
    found = [kubelet.flag("config") or KUBELET_DEFAULT_CONFIG]
    folder = kubelet.flag("config-dir")
    for parent, _folders, names in os.walk(folder) if folder else ():
        found += [parent, *(os.path.join(parent, name) for name in names)]
    return [path for path in found if os.path.lexists(path)]


def _changed_since(paths: t.Sequence[str], started: float) -> bool:
    """Whether one of the files, or a link to it, may have changed since then. Raises OSError or ValueError."""
    times = [found for path in paths for found in (os.lstat(path), os.stat(path))]
    return any(max(found.st_mtime, found.st_ctime) >= started - CLOCK_TOLERANCE for found in times)


def _is_ours(target: str, state: StateFolder) -> bool:
    """Whether a run of ours wrote what is in the file, as its journal says. Raises CertopsError."""
    content = sha256(read_bounded(target))
    return any(file.path == target and file.sha256_after == content for journal in state.journals() for file in journal.files)


def asked_end(node: Node) -> End:
    """Ask the kubelet, through the API server on this node, when the certificate in its memory ends. Raises CertopsError.

    The kubelet lets nobody look who may not read `nodes/metrics`: a node's own identity may not, so that a worker's kubelet is asked from
    a control-plane node (`_kubelet_told.py`).
    """
    if API_SERVER not in node.components or node.name is None:
        raise CertopsError("there is no API server on this node to ask the kubelet through")
    return told_end(api_client(node, _now(), _TIMEOUT_SECONDS, ignore_dates=True), node.name)


def told_end(client: ApiClient, name: str) -> End:
    """Ask the kubelet of the Node of this name through an API server; its end by the clock of who asks. Raises CertopsError."""
    path = "/api/v1/nodes/%s/proxy/metrics" % quote(name, safe="")
    before = _now()
    answer = client.succeed(client.request("GET", path), "GET", path)
    return parsed_end(answer.body, before, _now())


def parsed_end(metrics: bytes, before: datetime, after: datetime) -> End:
    """Between which times the certificate ends, by metrics that were asked for between these two. Raises CertopsError."""
    found = _TTL.search(metrics)
    try:
        seconds = float(found.group(1)) if found else float("nan")
        if seconds == float("inf"):
            return None
        return before + timedelta(seconds=seconds) - _TOLERANCE, after + timedelta(seconds=seconds) + _TOLERANCE
    except (ValueError, OverflowError):
        raise CertopsError("the kubelet's metrics do not tell the end of its client certificate") from None


def _by_its_word(told: End, end: datetime, ends_of_ca: t.Sequence[datetime]) -> tuple[str, str]:
    if told is None:
        return "false", "metrics"
    if not told[0] <= end <= told[1]:
        return "false", "metrics"
    # What ends with its CA ends when its predecessor does.
    return _UNKNOWN if end in ends_of_ca else ("true", "metrics")


def _now() -> datetime:
    return datetime.now(timezone.utc)


__all__ = ("CURRENT", "asked_end", "current_path", "kubelet_readers", "kubelet_to_ask", "parsed_end", "told_end")
