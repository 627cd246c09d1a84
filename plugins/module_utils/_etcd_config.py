# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What an etcd is configured with, however that was said, under the names of its flags.

etcd (3.4 to 3.6, `etcdmain/config.go` and `embed/config.go`): a configuration file, named by flag or environment, makes it ignore
every other flag and variable; without one a flag wins over the variable of its name.
"""

from __future__ import annotations

import typing as t
from urllib.parse import urlsplit

from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig, parse_document, text
from ansible_collections.certops.kubernetes.plugins.module_utils._files import read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import parse_flags
from ansible_collections.certops.kubernetes.plugins.module_utils._manifests import host_path
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Finding

ENVIRONMENT_PREFIX = "ETCD_"

_Flags = t.Dict[str, t.Tuple[str, ...]]
# The sections of a configuration file, and what its keys are called as flags
_SECTIONS = {"client-transport-security": "", "peer-transport-security": "peer-"}


def etcd_flags(
    argv: t.Sequence[str], environment: t.Mapping[str, str], mounts: t.Sequence[tuple[str, str]] = ()
) -> tuple[_Flags, tuple[Finding, ...]]:
    """The flags that this command and environment amount to, and what is wrong with the configuration file if there is one."""
    flags = parse_flags(argv)
    file = flags.get("config-file", ("",))[-1] or environment.get(ENVIRONMENT_PREFIX + "CONFIG_FILE")
    if file:
        return _from_file(file, host_path(file, mounts))
    for variable, value in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX) and value:
            flags.setdefault(variable[len(ENVIRONMENT_PREFIX) :].lower().replace("_", "-"), (value,))
    return flags, ()


def addresses(urls: str | None) -> t.Iterator[tuple[str, str, int]]:
    """(scheme, host, port) of each of the URLs that one of etcd's lists holds; what is no URL with a port is left out."""
    for url in (urls or "").split(","):
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname, parts.port
        except ValueError:
            continue
        if host is not None and port:
            yield parts.scheme, host, port


def _from_file(named: str, path: str) -> tuple[_Flags, tuple[Finding, ...]]:
    flags: _Flags = {"config-file": (named,)}
    try:
        document = parse_document(read_bounded(path), path)
        if not isinstance(document, dict):
            raise CertopsError("%s is not a configuration of etcd: it is no mapping." % path)
    except CertopsError as error:
        remedy = "Look at etcd's command (its unit or manifest) and at that file; without it nobody knows which certificates etcd has."
        return flags, (Finding("unreadable", "warning", str(error), remedy),)
    for prefix, section in (("", document), *((prefix, dig(document, name)) for name, prefix in _SECTIONS.items())):
        for key, value in section.items() if isinstance(section, dict) else ():
            given = text(value)
            if given is not None and isinstance(key, str):
                flags[prefix + key] = (given,)
    return flags, ()


__all__ = ("ENVIRONMENT_PREFIX", "addresses", "etcd_flags")
