# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gates, each a function that runs commands and raises when one fails."""

from __future__ import annotations

import contextlib
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
    find_controller_python,
    find_python,
    only_one,
    venv,
)

IN_CI = os.environ.get("CI", "").lower() in ("1", "true")
LONGEST = 45 * 60  # seconds that a command may take before it counts as hung
LAB = CHECKOUT / "lab" / "lab"
# Folders whose Python files import each other by their bare names
STANDALONE = (
    *("lab", "tests/bench", "tests/faults", "tests/gates", "tests/kind", "tests/unit/lab", "tests/unit/project"),
    *("tests/sandbox", "tests/sandbox/compare", "tests/sandbox/scenario"),
)
MANY_INVOCATIONS = ("test_invocations.py", "test_settings.py")
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
            said = [pathlib.Path(argv[0]).name, *(str(word) for word in argv[1:2] if not str(word).startswith("-"))]
            raise Failed(f"{' '.join(said)}: exit {code}")


@dataclasses.dataclass(frozen=True)
class Gate:
    """A gate: what it is called, and what raises Failed or Skipped."""

    name: str
    check: t.Callable[[Shell], None]


def ruff(shell: Shell) -> None:
    shell.run("ruff", "check", "--no-cache", ".")
    shell.run("ruff", "format", "--no-cache", "--check", ".")


def mypy(shell: Shell) -> None:
    config, ours = f"--config-file={COLLECTION}/.mypy.ini", "ansible_collections/certops/kubernetes"
    plugins = [f"{ours}/{name}" for name in ("plugins", "tests/unit/plugins", "tests/unit/stand_in", "tests/fuzz")]
    playbook_tests = [str(path.relative_to(TREE)) for path in (COLLECTION / "tests" / "unit").glob("test_*.py")]
    packages = ["--namespace-packages", "--explicit-package-bases", f"--cache-dir={WORK}/mypy"]
    shell.run("mypy", config, *packages, *plugins, *sorted(playbook_tests), cwd=TREE)
    for folder in STANDALONE:
        scripts = sorted(path.name for path in (COLLECTION / folder).glob("*.py"))
        shell.run("mypy", config, f"--cache-dir={WORK}/mypy-{folder.replace('/', '-')}", *scripts, cwd=COLLECTION / folder, MYPYPATH="")


def ansible_lint(shell: Shell) -> None:
    shell.run("ansible-lint", "--nocolor")


def antsibull_docs(shell: Shell) -> None:
    refs = ["--validate-collection-refs=dependent", "--check-extra-docs-refs", "--disallow-unknown-collection-refs"]
    shell.run("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--skip-rstcheck", *refs, ".")


def changelog(shell: Shell) -> None:
    shell.run("antsibull-changelog", "lint")


def licences(shell: Shell) -> None:
    shell.run("reuse", "lint", "--lines")


def sanity(shell: Shell, core: str = "newest", *options: str) -> None:
    """ansible-test sanity; the copy's own git tells it the files."""
    path = shell.environment["PATH"]
    if core == "oldest":
        path = f"{venv(find_controller_python(), 'oldest-core') / 'bin'}{os.pathsep}{path}"
    stand_in_for_get_pip(path)
    with only_one("ansible-test"):  # its environments and its output folder are the same for every release
        shell.run("ansible-test", "sanity", "--local", "--color", "no", *options, PATH=path)


def sanity_of_one_python(shell: Shell) -> None:
    """What compiles and imports on the controller's Python will mostly do so elsewhere."""
    sanity(shell, "newest", "--python", find_controller_python().name.removeprefix("python"))


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


def units(shell: Shell, version: str, cryptography: str, *options: str) -> None:
    """The plugins' unit tests on one node Python."""
    try:
        python = find_python(version)
    except Missing as missing:
        raise Skipped(str(missing)) from None
    program = venv(python, "units", f"cryptography-{cryptography}") / "bin" / "python"
    # Beside the tree, not in it: what is compiled once is there for the gates that follow, and for the next run
    kept = str(WORK / "bytecode")
    arguments = ("-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "tests/unit/plugins", *options)
    shell.run(program, *arguments, PYTHONPATH=str(TREE), PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=kept)


def units_but_for_recovery(shell: Shell, version: str, cryptography: str) -> None:
    """Half of the units' time goes into runs that end at each of their steps: enough on the oldest and the newest Python."""
    units(shell, version, cryptography, "--ignore=tests/unit/plugins/module_utils/test_recovery.py")


def units_of_the_project(shell: Shell) -> None:
    """What is not a plugin: the README's commands, defaults and specs, examples, the lab's messages."""
    pytest_of_the_controller(shell, "tests/unit/project", "tests/unit/lab")


def playbooks(shell: Shell) -> None:
    """Playbooks and AWX project, with modules that stand in for the node's side."""
    ignored = [f"--ignore=tests/unit/{name}" for name in ("plugins", "project", "lab", *MANY_INVOCATIONS)]
    pytest_of_the_controller(shell, "tests/unit", *ignored)


def many_invocations(shell: Shell) -> None:
    """Every variable from each source, and every way to leave something out: more than an hour of playbooks on a slow machine."""
    pytest_of_the_controller(shell, *(f"tests/unit/{name}" for name in MANY_INVOCATIONS))


def pytest_of_the_controller(shell: Shell, *arguments: str) -> None:
    """Tests that need the controller's ansible-core."""
    shell.run("python", "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", *arguments, PYTHONPATH=str(TREE))


def fuzz_python() -> pathlib.Path:
    """A Python with what tests/fuzz needs."""
    return venv(find_controller_python(), "fuzz", "cryptography-newest") / "bin" / "python"


def fuzzing(shell: Shell) -> None:
    """The readers of foreign bytes, for two minutes and a half."""
    shell.run(fuzz_python(), "tests/fuzz/run.py", PYTHONPATH=str(TREE), PYTHONHASHSEED="0")


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


def molecule(shell: Shell, scenario: str, **variables: str) -> None:
    """A scenario from its beginning to its end."""
    variables.update(MOLECULE_EPHEMERAL_DIRECTORY=str(WORK / "molecule" / scenario), ANSIBLE_NOCOLOR="1", NO_COLOR="1")
    shell.run("molecule", "test", "-s", scenario, cwd=COLLECTION, **variables)
    if "Missing playbook" in shell.log.read_text(errors="replace"):
        raise Failed("a step of the scenario has no playbook, so it did nothing: see 'Missing playbook' in the log")


def faults(shell: Shell, part: str = "test") -> None:
    """Kill runs at each call that changes a file; first, that those who judge notice what they should."""
    folder = COLLECTION / "tests" / "faults"
    try:
        shell.run("python", folder / "kernel.py")
    except Failed as failed:
        raise Skipped(last_line(shell.log)) from failed
    with contextlib.nullcontext() if IN_CI else contextlib.suppress(Failed):  # without it one comparison is left out, and it is said
        shell.run("bash", "-euc", ". lab/steps/common.sh; . lab/steps/docker.sh; install_missing strace:strace", cwd=CHECKOUT)
    shell.run("python", "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", ".", cwd=folder)
    shell.run("python", folder / "run.py", TREE, WORK / f"faults-{part}", "--part", part)


def lab(shell: Shell) -> None:
    """Docker, and all that a real cluster is made of."""
    try:
        shell.run(LAB, "docker-up", cwd=CHECKOUT)
    except Failed as failed:
        raise Skipped(f"no Docker daemon, and it cannot be installed: {last_line(shell.log)}") from failed
    if IN_CI:  # clusters of a run that was killed come back with the daemon, and would take the time of this one
        shell.run(LAB, "down", "all", cwd=CHECKOUT)
    shell.run(LAB, "build", cwd=CHECKOUT)


def last_line(log: pathlib.Path) -> str:
    """The last thing that a command said."""
    return (log.read_text().strip().splitlines() or ["?"])[-1]


# Seconds each, and what they say is what one wants to hear first
STATIC = (
    Gate("ruff", ruff),
    Gate("mypy", mypy),
    Gate("units project", units_of_the_project),
    Gate("ansible-lint", ansible_lint),
    Gate("antsibull-docs", antsibull_docs),
    Gate("changelog", changelog),
    Gate("licences", licences),
)
# The longest one first, beside which the others run
FAST = (
    Gate("molecule default", lambda shell: molecule(shell, "default")),
    *STATIC,
    Gate("units, fast", lambda shell: units_but_for_recovery(shell, "3.8", "oldest")),
    Gate("sanity, one Python", sanity_of_one_python),
)
# Beside the lab, which takes about as long to build
FIRST = (
    *STATIC,
    Gate("sanity, newest core", sanity),
    Gate("molecule default", lambda shell: molecule(shell, "default")),
    Gate("molecule faults", lambda shell: molecule(shell, "faults")),
    Gate("molecule conditions", lambda shell: molecule(shell, "conditions")),
)
# Beside the clusters; the longest first, so that both cores have work to the end
BESIDE = (
    Gate("playbooks", playbooks),
    Gate("faults", faults),
    Gate("units 3.8, oldest cryptography", lambda shell: units(shell, "3.8", "oldest")),
    Gate(f"units {NODE_PYTHONS[-1]}", functools.partial(units, version=NODE_PYTHONS[-1], cryptography="newest")),
    Gate("sanity, oldest core", lambda shell: sanity(shell, "oldest")),
    *(
        Gate(f"units {version}", functools.partial(units_but_for_recovery, version=version, cryptography="newest"))
        for version in NODE_PYTHONS[:-1]
    ),
    Gate("fuzzing", fuzzing),
    Gate("galaxy-importer", importer),
)
# What there is no time for in each run of the full ones
LONG = (
    Gate("playbooks, many invocations", many_invocations),
    *(Gate(f"faults, {part}", functools.partial(faults, part=part)) for part in ("errors", "always", "everything")),
    Gate("molecule kind-etcd, restart always", lambda shell: molecule(shell, "kind-etcd", CERTOPS_VERIFY="restart_always.yml")),
)
LAB_GATE = Gate("lab", lab)
REAL_CLUSTER = (
    Gate("molecule kind", lambda shell: molecule(shell, "kind")),
    Gate("molecule kind-expired", lambda shell: molecule(shell, "kind-expired")),
)
# Three members of etcd on two cores: beside anything else they may lose their leader, and no request may fail
ALONE = (
    Gate("molecule kind-etcd", lambda shell: molecule(shell, "kind-etcd")),
    Gate("molecule kind-ha", lambda shell: molecule(shell, "kind-ha")),
)
LOGS = WORK / "logs"

__all__ = (
    "ALONE",
    "BESIDE",
    "FAST",
    "FIRST",
    "IN_CI",
    "LAB",
    "LAB_GATE",
    "LOGS",
    "LONG",
    "REAL_CLUSTER",
    "Failed",
    "Gate",
    "Shell",
    "Skipped",
    "fuzz_python",
)
