# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What systemd would start: the command and the environment of an enabled service, from its unit file and drop-ins.

Needed for a service that does not run at the moment; of one that runs, its process tells more.
"""

from __future__ import annotations

import os
import re
import shlex
import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._files import read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

# In systemd's own order (systemd.unit(5)): the first folder that has a unit file wins.
UNIT_FOLDERS = tuple(folder + "/systemd/system" for folder in ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"))

_PREFIXES = "@-:+!|"  # of a command in ExecStart=, systemd.service(5)
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_VARIABLE_WORD = re.compile(r"^\$(\w+)$")


@dataclass(frozen=True)
class Service:
    """A service's command, its program first, and the environment that its unit gives it."""

    unit: str
    argv: tuple[str, ...]
    environment: dict[str, str]


def enabled_services(program: str, folders: t.Sequence[str] = UNIT_FOLDERS) -> list[Service]:
    """The enabled services that run this program and have its name in theirs. What cannot be read is none."""
    names = {name for folder in folders for name in _wanted(folder) if program in name and name.endswith(".service")}
    found = [_service(name, folders) for name in sorted(names)]
    return [service for service in found if service is not None and os.path.basename(service.argv[0]) == program]


def _wanted(folder: str) -> t.Iterator[str]:
    for target in _listed(folder):
        if target.endswith((".wants", ".requires")):
            yield from _listed(os.path.join(folder, target))


def _service(name: str, folders: t.Sequence[str]) -> Service | None:
    settings = [setting for text in _texts(name, folders) for setting in _settings(text)]
    environment: dict[str, str] = {}
    for key, value in settings:
        if key == "EnvironmentFile" and value:
            environment.update(_environment_file(value.lstrip("-")))
    environment = {**_assignments(settings), **environment}
    command = _last(settings, "ExecStart")
    if command is None:
        return None
    argv = _expanded(_words(command.lstrip(_PREFIXES)), environment)
    return Service(name, tuple(argv), environment) if argv else None


def _texts(name: str, folders: t.Sequence[str]) -> list[str]:
    """The unit file and its drop-ins: a drop-in's name counts, not its folder, and of two with one name the first folder's."""
    unit = next((path for path in (os.path.join(folder, name) for folder in folders) if os.path.isfile(path)), None)
    drop_ins: dict[str, str] = {}
    for folder in folders:
        for drop_in in _listed(os.path.join(folder, name + ".d")):
            if drop_in.endswith(".conf"):
                drop_ins.setdefault(drop_in, os.path.join(folder, name + ".d", drop_in))
    paths = [unit] if unit else []
    return [_text(path) for path in (*paths, *(drop_ins[key] for key in sorted(drop_ins)))]


def _settings(text: str) -> t.Iterator[tuple[str, str]]:
    """(key, value) of a unit file's [Service] section, continued lines joined."""
    section = ""
    for line in text.replace("\\\n", " ").splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and line[0] not in "#;":
            key, _equals, value = line.partition("=")
            yield key.strip(), value.strip()


def _last(settings: t.Iterable[tuple[str, str]], key: str) -> str | None:
    """The command that counts: an empty assignment takes back what was before it."""
    value = None
    for name, given in settings:
        if name == key:
            value = given or None
    return value


def _assignments(settings: t.Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in settings:
        if key == "Environment":
            found = {**found, **_pairs(_words(value))} if value else {}
    return found


def _environment_file(path: str) -> dict[str, str]:
    lines = [line.strip() for line in _text(path).replace("\\\n", "").splitlines()]
    found = {}
    for key, value in _pairs(line for line in lines if line and line[0] not in "#;").items():
        value = value.strip()
        quoted = len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]
        found[key.strip()] = value[1:-1] if quoted else value
    return found


def _pairs(words: t.Iterable[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if "=" in word)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # an open quotation
        return text.split()


def _expanded(words: t.Iterable[str], environment: t.Mapping[str, str]) -> list[str]:
    """`${NAME}` stays in its word, `$NAME` as a word of its own becomes as many as its value has."""
    found: list[str] = []
    for word in words:
        alone = _VARIABLE_WORD.match(word)
        if alone:
            found.extend(_words(environment.get(alone.group(1), "")))
        else:
            found.append(_VARIABLE.sub(lambda name: environment.get(name.group(1), ""), word))
    return found


def _text(path: str) -> str:
    try:
        return read_bounded(path).decode("utf-8", "replace")
    except CertopsError:
        return ""


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (OSError, ValueError):
        return []


__all__ = ("UNIT_FOLDERS", "Service", "enabled_services")
