# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of the repository itself share: where things lie, and how a module's documentation is read."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import typing as t

import yaml

ROOT = pathlib.Path(__file__).parents[3]
MODULES = sorted(path for path in (ROOT / "plugins" / "modules").glob("*.py") if path.name != "__init__.py")
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())


def documentation_of(module: pathlib.Path) -> dict[str, t.Any]:
    """DOCUMENTATION, EXAMPLES and RETURN of a module, parsed."""
    strings = {
        target.id: ast.literal_eval(statement.value)
        for statement in ast.parse(module.read_text()).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name) and target.id in ("DOCUMENTATION", "EXAMPLES", "RETURN")
    }
    return {name: yaml.safe_load(text) for name, text in strings.items()}


def load(path: pathlib.Path) -> t.Any:
    """A YAML file."""
    return yaml.safe_load(path.read_text())


def sources() -> list[pathlib.Path]:
    """Each file of the repository in which a person wrote something."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name and not name.startswith(("LICENSES/", "COPYING"))]
    return [path for path in paths if path.exists() and path.stat().st_size]
