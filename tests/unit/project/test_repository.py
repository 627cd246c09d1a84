# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules that every file of the repository keeps."""

from __future__ import annotations

import re

from repository import ROOT, load, sources

LONGEST_PYTHON_FILE = 400  # lines
LICENCE = "SPDX-License-Identifier" + ": GPL-3.0-or-later"  # apart, for the tool that reads it in this file too
WITHOUT_HEADER = {".json", ".mod", ".sum", ".txt", ".toml", ".license"}


def test_no_python_file_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources() if path.suffix == ".py"}
    assert {str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > LONGEST_PYTHON_FILE} == {}


def test_each_file_says_its_licence() -> None:
    unsaid = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.suffix not in WITHOUT_HEADER
        and not path.is_relative_to(ROOT / "changelogs")
        and not path.name.startswith("CHANGELOG")
        and LICENCE not in path.read_text()[:1500]
    ]
    assert unsaid == []


def test_private_utils_say_that_they_are_private() -> None:
    utils = [path for path in (ROOT / "plugins" / "module_utils").glob("*.py") if path.name != "__init__.py"]
    assert utils
    assert [path.name for path in utils if not path.name.startswith("_") or "**PRIVATE**" not in path.read_text()] == []


def test_the_built_collection_leaves_out_what_users_do_not_need() -> None:
    ignored = set(load(ROOT / "galaxy.yml")["build_ignore"])
    assert {"lab", "awx", "molecule", "tests", ".ci"} <= ignored


def test_every_command_of_the_readme_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = set(re.findall(r"(?:`|^ {4})make ([a-z][a-z-]*)", readme, re.MULTILINE))
    assert {"demo", "test"} <= used
    assert used - targets == set()
    playbooks = set(re.findall(r"\bcertops\.kubernetes\.([a-z_]+)\b", readme))
    known = {path.stem for folder in ("playbooks", "plugins/modules", "roles") for path in (ROOT / folder).iterdir()}
    assert playbooks - known == set()
    named = re.findall(r"\]\(((?!http)[^)#]+)\)", readme) + re.findall(r"`((?:playbooks|docs|lab|awx|tests|molecule)/[\w./-]+)`", readme)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_variable_of_the_readme_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    defaults = {name for role in (ROOT / "roles").iterdir() for name in load(role / "defaults" / "main.yml") or {}}
    assert set(re.findall(r"`(certs_\w+)`", readme)) - defaults == set()


def test_the_architecture_names_every_util_and_no_other() -> None:
    named = set(re.findall(r"`(_\w+\.py)`", (ROOT / "docs" / "architecture.md").read_text()))
    assert named == {path.name for path in (ROOT / "plugins" / "module_utils").glob("_*.py") if path.name != "__init__.py"}
