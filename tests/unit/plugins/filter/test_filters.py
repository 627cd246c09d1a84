# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters: every one is there, documented, takes Ansible's values and says errors as template errors."""

from __future__ import annotations

import importlib
import typing as t

import pytest

pytest.importorskip("ansible.errors", reason="filters run on a controller; this Python has no ansible-core")

from ansible.errors import AnsibleFilterError
from ansible_collections.certops.kubernetes.plugins.plugin_utils._filters import plain
from ansible_collections.certops.kubernetes.tests.unit.stand_in.controller import COLLECTION, record

NAMES = sorted(path.stem for path in (COLLECTION / "plugins" / "filter").glob("*.py"))


def load(name: str) -> t.Any:
    """A filter by name."""
    module = importlib.import_module("ansible_collections.certops.kubernetes.plugins.filter.%s" % name)
    filters = module.FilterModule().filters()
    assert list(filters) == [name]
    return filters[name]


@pytest.mark.parametrize("name", NAMES)
def test_each_file_holds_the_filter_of_its_name(name: str) -> None:
    """Ansible finds a collection's filter by its file."""
    assert callable(load(name))


def test_an_error_is_a_template_error_with_the_same_words() -> None:
    """Ansible shows it without a traceback."""
    with pytest.raises(AnsibleFilterError, match="certs_rotate_force is 'perhaps', but must be true or false"):
        load("policy")({"certs_rotate_force": "perhaps"})


class Text(str):
    """As Ansible's strings, which carry a tag."""

    __slots__ = ()


def test_strings_with_tags_are_plain_for_jmespath() -> None:
    """JMESPath's functions tell types by their exact class."""
    tagged = {Text(key): Text(value) if isinstance(value, str) else value for key, value in record("apiserver", 10).items()}
    policy = load("policy")({"certs_rotate_" + name: "" for name in ("renew_before_days", "force", "restart", "validity_days")})
    plan = load("rotation_plan")([tagged], {**policy, "select": Text("[?contains(name, 'api')]")})
    assert plan[0]["action"] == "renew"


def test_plain_keeps_values() -> None:
    """Of each kind."""
    value = {"a": [1, 2.5, True, None, "x"], "b": {"c": ()}}
    assert plain(value) == {"a": [1, 2.5, True, None, "x"], "b": {"c": []}}
    assert plain(Text("x")).__class__ is str
