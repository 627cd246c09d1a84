# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role defaults equal their argument specs, every variable carries its role's name: no tool checks that."""

from __future__ import annotations

import pathlib

import pytest
from repository import ROLES, load


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_equal_the_argument_specs(role: pathlib.Path) -> None:
    defaults = load(role / "defaults" / "main.yml") or {}
    specs = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    options = {name: option for spec in specs.values() for name, option in (spec.get("options") or {}).items()}
    documented = {name: option["default"] for name, option in options.items() if "default" in option}
    assert {name: value for name, value in defaults.items() if name.startswith(f"{role.name}_")} == {
        name: value for name, value in documented.items() if name.startswith(f"{role.name}_")
    }


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_same_variable_is_described_alike_in_every_entry_point(role: pathlib.Path) -> None:
    described: dict[str, object] = {}
    for spec in load(role / "meta" / "argument_specs.yml")["argument_specs"].values():
        for name, option in (spec.get("options") or {}).items():
            assert described.setdefault(name, option) == option, name


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_carry_the_role_s_name(role: pathlib.Path) -> None:
    assert [name for name in load(role / "defaults" / "main.yml") or {} if not name.startswith("certs_")] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_each_role_has_a_readme_of_one_screen(role: pathlib.Path) -> None:
    lines = (role / "README.md").read_text().splitlines()
    assert 5 < len(lines) <= 70
