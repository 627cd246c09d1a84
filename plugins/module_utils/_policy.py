# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What users may set, and the one place where it becomes values.

AWX surveys and `-e name=value` deliver strings, empty ones included, so each variable may come as a string: `"false"`, `"30"`,
`""`. An empty one means its default.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._documents import parse_document
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

TRUE_WORDS = ("true", "yes", "on", "1", "y", "t")
FALSE_WORDS = ("false", "no", "off", "0", "n", "f")
FAIL_ON = ("never", "warning", "critical", "expired")
RESTART = ("auto", "always", "never")
PRIVATE_KEY = ("regenerate", "keep")
# Days or seconds: what the modules take as well
_LARGEST = 1000000
_NUMBER = re.compile(r"[+-]?[0-9]{1,40}\Z")
ROLES = ("certs_inspect", "certs_rotate", "certs_report", "certs")


class _Bad(Exception):
    """A value that is not allowed; `allowed` says in words what is."""

    def __init__(self, allowed: str) -> None:
        super().__init__(allowed)
        self.allowed = allowed


@dataclass(frozen=True)
class Option:
    """A variable's default and how a value of it is understood."""

    default: t.Any
    convert: t.Callable[[t.Any], t.Any]


def policy(values: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Convert role variables to values; the keys of the result lack the role's name (`certs_rotate_force` → `force`).

    Raises CertopsError for a name that no role has, and for a value that is not allowed, naming variable, value and what is.
    """
    return {_short_name(name): _converted(name, value) for name, value in values.items()}


def setting_conflicts(values: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[str]:
    """Why these settings, of which a run has one, cannot be taken from its hosts, as sentences. `values` are by variable and host.

    Raises CertopsError as `policy` does.
    """
    found = []
    for name, by_host in values.items():
        hosts: dict[str, list[str]] = {}
        for host, value in by_host.items():
            hosts.setdefault(repr(_converted(name, value)), []).append(host)
        if len(hosts) > 1:
            listed = "; ".join("%s on %s" % (value, ", ".join(names)) for value, names in hosts.items())
            found.append("%s differs between the hosts of this run (%s), and a run has one: set it alike for all of them." % (name, listed))
    return found


def _converted(name: str, value: t.Any) -> t.Any:
    option = OPTIONS.get(name)
    if option is None:
        raise CertopsError("There is no variable %s; the roles know: %s." % (name, ", ".join(sorted(OPTIONS))))
    if value is None or (isinstance(value, str) and not value.strip()):
        return option.default
    try:
        return option.convert(value)
    except _Bad as bad:
        raise CertopsError("%s is %.200r, but must be %s." % (name, value, bad.allowed)) from None


def _short_name(name: str) -> str:
    for role in ROLES:
        if name.startswith(role + "_"):
            return name[len(role) + 1 :]
    return name


def _whole_number(minimum: int) -> t.Callable[[t.Any], int]:
    allowed = "a whole number, %d or more" % minimum

    def convert(value: t.Any) -> int:
        number = _as_int(value)
        if number is None or number < minimum:
            raise _Bad(allowed)
        if number > _LARGEST:
            raise _Bad("%s, and no more than %d" % (allowed, _LARGEST))
        return number

    return convert


def _as_int(value: t.Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    text = str(value).strip()
    return int(text) if _NUMBER.match(text) else None


def _serial(value: t.Any) -> t.Any:
    """How many hosts at a time: a number, or a percentage as Ansible's `serial` takes it."""
    allowed = "a whole number, 1 or more, or a percentage such as 25%"
    text = str(value).strip()
    percentage = _as_int(text[:-1]) if text.endswith("%") and not isinstance(value, bool) else None
    if percentage is not None and 1 <= percentage <= 100:
        return "%d%%" % percentage
    try:
        return _whole_number(1)(value)
    except _Bad:
        raise _Bad(allowed) from None


def _number_or(word: str, minimum: int) -> t.Callable[[t.Any], t.Any]:
    number = _whole_number(minimum)

    def convert(value: t.Any) -> t.Any:
        if isinstance(value, str) and value.strip().lower() == word:
            return word
        try:
            return number(value)
        except _Bad as bad:
            raise _Bad("%s or %s" % (word, bad.allowed)) from None

    return convert


def _truth(value: t.Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in TRUE_WORDS or word in FALSE_WORDS:
        return word in TRUE_WORDS
    raise _Bad("true or false (or yes, no, on, off, 1, 0)")


def _choice(choices: t.Sequence[str]) -> t.Callable[[t.Any], str]:
    def convert(value: t.Any) -> str:
        word = str(value).strip().lower()
        if word not in choices:
            raise _Bad("one of %s" % ", ".join(choices))
        return word

    return convert


def _seconds_by_name(value: t.Any) -> dict[str, int]:
    """A mapping, or a text that is one in YAML."""
    problem = _Bad("a mapping of names to seconds, such as {etcd: 120}")
    if isinstance(value, str):
        try:
            value = parse_document(value.encode("utf-8", "surrogatepass"), "it")
        except CertopsError:
            raise problem from None
    if not isinstance(value, dict):
        raise problem
    seconds = {str(name): _as_int(limit) for name, limit in value.items()}
    if any(limit is None or not 0 <= limit <= _LARGEST for limit in seconds.values()):
        raise problem
    return t.cast("dict[str, int]", seconds)


def _paths(value: t.Any) -> list[str]:
    """A list, a text that is one in YAML, or a text with a path in each line."""
    problem = _Bad("a list of paths, such as [/root/.kube/config]")
    words = value
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            words = parse_document(value.encode("utf-8", "surrogatepass"), "it")
        except CertopsError:
            raise problem from None
    elif isinstance(value, str):
        words = value.splitlines()
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise problem
    return [str(word).strip() for word in words if word.strip()]


def _text(value: t.Any) -> str:
    if not isinstance(value, str):
        raise _Bad("a text")
    return str(value).strip()


OPTIONS: dict[str, Option] = {
    "certs_cluster": Option(None, _text),
    "certs_control_plane_group": Option("kube_control_plane", _text),
    "certs_etcd_group": Option("etcd", _text),
    "certs_worker_group": Option("kube_node", _text),
    "certs_kubeconfig_group": Option("kubeconfig_hosts", _text),
    "certs_inspect_warn_days": Option(30, _whole_number(0)),
    "certs_inspect_critical_days": Option(7, _whole_number(0)),
    "certs_inspect_fail_on": Option("never", _choice(FAIL_ON)),
    "certs_inspect_cluster_objects": Option(False, _truth),
    "certs_rotate_renew_before_days": Option(30, _whole_number(0)),
    "certs_rotate_select": Option(None, _text),
    "certs_rotate_force": Option(False, _truth),
    "certs_rotate_refresh_sans": Option(False, _truth),
    "certs_rotate_restart": Option("auto", _choice(RESTART)),
    "certs_rotate_stop_timeout_seconds": Option("auto", _number_or("auto", 0)),
    "certs_rotate_start_timeout_seconds": Option(120, _whole_number(10)),
    "certs_rotate_health_timeout_seconds": Option(60, _whole_number(0)),
    "certs_rotate_health_timeouts": Option({}, _seconds_by_name),
    "certs_rotate_validity_days": Option(None, _whole_number(1)),
    "certs_rotate_private_key": Option("regenerate", _choice(PRIVATE_KEY)),
    "certs_rotate_keep_backups": Option(10, _whole_number(1)),
    "certs_rotate_kubeconfig_copies": Option(None, _paths),  # root's own where there is reason to expect it
    "certs_rotate_rollback_run_id": Option(None, _text),
    "certs_rotate_take_over_lock": Option(False, _truth),
    "certs_rotate_worker_serial": Option(1, _serial),
    "certs_rotate_approve_serving_requests": Option(True, _truth),
    "certs_rotate_enable_kubelet_rotation": Option(False, _truth),
    "certs_rotate_cluster_signed_kubelet_serving": Option(False, _truth),
    "certs_report_dir": Option(None, _text),
    "certs_report_host": Option("localhost", _text),
}


__all__ = ("FAIL_ON", "OPTIONS", "Option", "policy", "setting_conflicts")
