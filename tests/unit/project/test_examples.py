# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The examples in the modules' documentation are accepted by the modules' argument specs: no tool checks that."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from repository import MODULES, ROOT, documentation_of, load

PLAYBOOK_KEYWORDS = ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always")


def spec_of(options: dict[str, t.Any]) -> dict[str, t.Any]:
    """An argument spec from documented options; validate-modules proves that the module's own is the same."""
    wanted = ("type", "elements", "choices", "required", "default", "aliases")
    spec = {}
    for name, option in options.items():
        spec[name] = {key: option[key] for key in wanted if key in option}
        if "suboptions" in option:
            spec[name]["options"] = spec_of(option["suboptions"])
    return spec


def tasks_in(node: t.Any) -> t.Iterator[dict[str, t.Any]]:
    """Each task of a document, plays and blocks looked through."""
    if isinstance(node, list):
        for entry in node:
            yield from tasks_in(entry)
    elif isinstance(node, dict):
        nested = [node[keyword] for keyword in PLAYBOOK_KEYWORDS if keyword in node]
        yield from (task for entry in nested for task in tasks_in(entry))
        if not nested:
            yield node


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_examples_are_accepted(module: pathlib.Path) -> None:
    documented = documentation_of(module)
    validator = ArgumentSpecValidator(spec_of(documented["DOCUMENTATION"].get("options", {})))
    name = f"certops.kubernetes.{module.stem}"
    examples = [task for task in tasks_in(documented["EXAMPLES"]) if name in task]
    assert examples, f"no example of {name}"
    for task in examples:
        # what a template will say is not known here: a string stands for it, as it does until it is rendered
        plain = {key: value for key, value in (task[name] or {}).items() if not (isinstance(value, str) and "{{" in value)}
        unknown = set(task[name] or {}) - set(documented["DOCUMENTATION"].get("options", {}))
        assert unknown == set(), task
        errors = [error for error in validator.validate(plain).error_messages if "missing required arguments" not in error]
        assert errors == [], task


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_each_task_of_the_examples_has_a_name_and_a_full_module_name(module: pathlib.Path) -> None:
    for task in tasks_in(documentation_of(module)["EXAMPLES"]):
        assert task.get("name"), task
        assert any("." in key for key in task), task


def test_the_action_group_holds_every_module() -> None:
    assert load(ROOT / "meta" / "runtime.yml")["action_groups"]["all"] == [module.stem for module in MODULES]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_every_module_documents_its_attributes(module: pathlib.Path) -> None:
    documented = documentation_of(module)["DOCUMENTATION"]
    fragments = set(documented["extends_documentation_fragment"])
    assert {"certops.kubernetes._attributes", "certops.kubernetes._attributes.action_group"} <= fragments
    for value in documentation_of(module)["RETURN"].values():
        assert {"description", "returned", "type"} <= set(value)
