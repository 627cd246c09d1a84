# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What stands between templates and the pure functions of module_utils."""

from __future__ import annotations

import functools
import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError


def as_filter(function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
    """A function for use in templates: takes plain values, and says a CertopsError as a template error."""

    @functools.wraps(function)
    def filtered(*args: t.Any, **kwargs: t.Any) -> t.Any:
        try:
            return function(*(plain(value) for value in args), **{name: plain(value) for name, value in kwargs.items()})
        except CertopsError as error:
            raise AnsibleFilterError(str(error)) from error

    return filtered


def plain(value: t.Any) -> t.Any:
    """The same value of Python's own types: Ansible's lazy containers and tagged strings stay behind.

    JMESPath tells types by their exact class.
    """
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return "".join(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, int) else float(value)
    return value


__all__ = ("as_filter", "plain")
