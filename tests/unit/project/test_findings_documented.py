# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/findings.md names the codes that the source makes findings of, and no others."""

from __future__ import annotations

import ast
import re
import typing as t

from repository import ROOT

ROW = re.compile(r"^\| `(\w+)` \| ([a-z, ]+) \| (\S.*\S) \| (\S.*\S) \|$", re.MULTILINE)


def expressions_of(tree: ast.Module) -> t.Iterator[ast.expr]:
    """Each expression that becomes the code of a finding: of a Finding, or of a mapping that has a severity too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
            yield next((keyword.value for keyword in node.keywords if keyword.arg == "code"), None) or node.args[0]
        elif isinstance(node, ast.Dict):
            entries = {key.value: value for key, value in zip(node.keys, node.values) if isinstance(key, ast.Constant)}
            if {"code", "severity"} <= set(entries):
                yield entries["code"]


def codes_of_the_source() -> set[str]:
    """The codes of all findings; each is a string in the source, or a constant of its file."""
    codes = set()
    for path in (ROOT / "plugins").rglob("*.py"):
        tree = ast.parse(path.read_text())
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for found in expressions_of(tree):
            expression = constants.get(found.id) if isinstance(found, ast.Name) else found
            assert isinstance(expression, ast.Constant), f"{path.name}:{found.lineno}: a code that is not to be seen here"
            codes.add(str(expression.value))
    return codes


def documented_rows() -> list[tuple[str, str]]:
    """Code and severities of each row of the tables."""
    return [(row[0], row[1]) for row in ROW.findall((ROOT / "docs" / "findings.md").read_text())]


def test_each_code_is_documented_once_and_no_other() -> None:
    codes = codes_of_the_source()
    assert {"expired", "weak_key", "clock_skew", "inspection_failed"} <= codes
    assert sorted(code for code, _severities in documented_rows()) == sorted(codes)


def test_each_row_has_a_severity() -> None:
    assert [row for row in documented_rows() if not set(row[1].split(", ")) <= {"critical", "warning", "info"}] == []
