# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gates, each a function that runs commands and raises when one fails."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import re
import subprocess
import tarfile
import typing as t

from environment import (
    CHECKOUT,
    COLLECTION,
    NODE_PYTHONS,
    TREE,
    WORK,
    Missing,
    call,
    controller_environment,
    find_controller_python,
    find_python,
    venv,
)

LONGEST = 45 * 60  # seconds that a command may take before it counts as hung
LAB = CHECKOUT / "lab" / "lab"
BUILT = {"changelogs", "docs", "meta", "playbooks", "plugins", "roles", "LICENSES", "COPYING", "MANIFEST.json", "FILES.json"}
BUILT |= {"CHANGELOG.md", "CHANGELOG.rst", "CONTRIBUTING.md", "README.md", "REUSE.toml"}


class Failed(Exception):
    """A gate's command ended with an error; the log says more."""


class Skipped(Exception):
    """A gate could not run here; the text says why."""


@dataclasses.dataclass
class Shell:
    """Runs a gate's commands, with all that they say in the gate's log."""

    log: pathlib.Path
    environment: dict[str, str]

    def run(self, *argv: str | os.PathLike[str], cwd: pathlib.Path = COLLECTION, **variables: str) -> None:
        """Run a command in the tree's copy of the collection."""
        environment = {**self.environment, **variables}
        with self.log.open("a") as log:
            print(f"$ {' '.join(map(str, argv))}", file=log, flush=True)
            try:
                code = subprocess.run(
                    argv, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=LONGEST, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                raise Failed(f"{pathlib.Path(argv[0]).name}: no end after {LONGEST // 60} minutes") from None
        if code:
            raise Failed(f"{pathlib.Path(argv[0]).name} {' '.join(map(str, argv[1:3]))}: exit {code}")


@dataclasses.dataclass(frozen=True)
class Gate:
    """A gate: what it is called, and what raises Failed or Skipped."""

    name: str
    check: t.Callable[[Shell], None]


def ruff(shell: Shell) -> None:
    shell.run("ruff", "check", "--no-cache", ".")
    shell.run("ruff", "format", "--no-cache", "--check", ".")


def mypy(shell: Shell) -> None:
    config = f"--config-file={COLLECTION}/.mypy.ini"
    packages = ["--namespace-packages", "--explicit-package-bases", f"--cache-dir={WORK}/mypy"]
    sources = [f"ansible_collections/certops/kubernetes/{name}" for name in ("plugins", "tests/unit/plugins")]
    shell.run("mypy", config, *packages, *sources, cwd=TREE)
    for folder in ("tests/gates", "tests/kind", "tests/bench"):
        shell.run("mypy", config, f"--cache-dir={WORK}/mypy-{pathlib.Path(folder).name}", ".", cwd=COLLECTION / folder, MYPYPATH="")


def ansible_lint(shell: Shell) -> None:
    shell.run("ansible-lint", "--nocolor")


def antsibull_docs(shell: Shell) -> None:
    refs = ["--validate-collection-refs=dependent", "--check-extra-docs-refs", "--disallow-unknown-collection-refs"]
    shell.run("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--skip-rstcheck", *refs, ".")


def changelog(shell: Shell) -> None:
    shell.run("antsibull-changelog", "lint")


def licences(shell: Shell) -> None:
    shell.run("reuse", "lint", "--lines")


def sanity(shell: Shell, binaries: pathlib.Path | None) -> None:
    """ansible-test sanity on every Python that is here; the copy's own git tells it the files."""
    path = f"{binaries}{os.pathsep}{shell.environment['PATH']}" if binaries else shell.environment["PATH"]
    stand_in_for_get_pip(path)
    shell.run("ansible-test", "sanity", "--local", "--color", "no", PATH=path)


def sanity_newest_core(shell: Shell) -> None:
    sanity(shell, None)


def sanity_oldest_core(shell: Shell) -> None:
    sanity(shell, venv(find_controller_python(), "oldest-core") / "bin")


def stand_in_for_get_pip(path: str) -> None:
    """ansible-test wants get-pip.py from the web; the same pip's wheel from the package index does its work."""
    which = call(["python", "-c", "import ansible_test._internal.python_requirements as r; print(r.__file__)"], env={"PATH": path})
    versions = set(re.findall(r"'(\d+\.\d+(?:\.\d+)?)'", pathlib.Path(which.strip()).read_text()))
    cache = pathlib.Path("~/.ansible/test/cache").expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    for version in sorted(version for version in versions if version in ("24.2", "25.2")):
        script = cache / f"get_pip_{version.replace('.', '_')}.py"
        if not script.exists():
            call(["pip", "download", "-q", "--no-deps", "-d", cache, f"pip=={version}"], env={**os.environ, "PATH": path})
            script.write_text(GET_PIP.format(version=version))


GET_PIP = """\
import glob, os, sys
wheel = glob.glob(os.path.join(os.path.dirname(os.path.abspath(__file__)), "pip-{version}-*.whl"))[0]
sys.path.insert(0, wheel)
from pip._internal.cli.main import main
sys.exit(main(["install", "--force-reinstall", *(a for a in sys.argv[1:] if a not in ("--no-setuptools", "--no-wheel"))]))
"""


def units(shell: Shell, version: str, cryptography: str) -> None:
    """The plugins' unit tests on one node Python."""
    try:
        python = find_python(version)
    except Missing as missing:
        raise Skipped(str(missing)) from None
    folder = venv(python, "units", f"cryptography-{cryptography}")
    shell.run(folder / "bin" / "python", "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "tests/unit/plugins", PYTHONPATH=str(TREE))


def units_of_the_project(shell: Shell) -> None:
    """What is not a plugin: the README's commands, defaults and specs, examples, the lab's messages."""
    pytest_of_the_controller(shell, "tests/unit/project", "tests/unit/lab")


def playbooks(shell: Shell) -> None:
    """Playbooks and AWX project, with modules that stand in for the node's side."""
    pytest_of_the_controller(shell, "tests/unit", "--ignore=tests/unit/plugins", "--ignore=tests/unit/project", "--ignore=tests/unit/lab")


def pytest_of_the_controller(shell: Shell, *arguments: str) -> None:
    """Tests that need the controller's ansible-core."""
    shell.run("python", "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", *arguments, PYTHONPATH=str(TREE))


def importer(shell: Shell) -> None:
    """Build the collection as Galaxy gets it, and let Galaxy's importer judge it."""
    output = WORK / "build"
    shell.run("ansible-galaxy", "collection", "build", "--force", "--output-path", output)
    folder = venv(find_controller_python(), "importer")
    config = output / "importer.cfg"
    config.write_text("[galaxy-importer]\nCHECK_REQUIRED_TAGS=True\n")
    path = f"{folder / 'bin'}{os.pathsep}{shell.environment['PATH']}"
    (tarball,) = output.glob("certops-kubernetes-*.tar.gz")
    with tarfile.open(tarball) as archive:
        strangers = {name.split("/")[0] for name in archive.getnames()} - BUILT
    if strangers:
        raise Failed(f"the built collection holds what users do not need, see build_ignore in galaxy.yml: {', '.join(sorted(strangers))}")
    shell.run("python", "-m", "galaxy_importer.main", tarball, cwd=output, PATH=path, GALAXY_IMPORTER_CONFIG=str(config))


def molecule(shell: Shell, scenario: str) -> None:
    ephemeral = str(WORK / "molecule" / scenario)
    shell.run("molecule", "test", "-s", scenario, MOLECULE_EPHEMERAL_DIRECTORY=ephemeral, ANSIBLE_NOCOLOR="1", NO_COLOR="1")


def lab(shell: Shell) -> None:
    """Docker, and all that a real cluster is made of."""
    try:
        shell.run(LAB, "docker-up", cwd=CHECKOUT)
    except Failed as failed:
        raise Skipped(f"no Docker daemon, and it cannot be installed: {last_line(shell.log)}") from failed
    shell.run(LAB, "build", cwd=CHECKOUT)


def last_line(log: pathlib.Path) -> str:
    """The last thing that a command said."""
    return (log.read_text().strip().splitlines() or ["?"])[-1]


FAST = (
    Gate("ruff", ruff),
    Gate("mypy", mypy),
    Gate("units project", units_of_the_project),
    Gate("units 3.8, oldest cryptography", lambda shell: units(shell, "3.8", "oldest")),
    Gate("ansible-lint", ansible_lint),
    Gate("antsibull-docs", antsibull_docs),
    Gate("changelog", changelog),
    Gate("licences", licences),
    Gate("molecule default", lambda shell: molecule(shell, "default")),
)
FULL = (
    *FAST[:-1],
    *(Gate(f"units {version}", functools.partial(units, version=version, cryptography="newest")) for version in NODE_PYTHONS),
    Gate("sanity newest core", sanity_newest_core),
    Gate("sanity oldest core", sanity_oldest_core),
    Gate("galaxy-importer", importer),
    Gate("playbooks", playbooks),
    FAST[-1],
)
LAB_GATE = Gate("lab", lab)
REAL_CLUSTER = (
    Gate("molecule kind", lambda shell: molecule(shell, "kind")),
    Gate("molecule kind-expired", lambda shell: molecule(shell, "kind-expired")),
)
LOGS = WORK / "logs"

__all__ = ("FAST", "FULL", "LAB", "LAB_GATE", "LOGS", "REAL_CLUSTER", "Failed", "Gate", "Shell", "Skipped", "controller_environment")
