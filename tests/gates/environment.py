# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the gates run in: Pythons that are found, virtual environments and the collections' tree in a cache."""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import typing as t

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
REQUIREMENTS = CHECKOUT / "tests" / "gates" / "requirements"
USER_CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
CACHE = pathlib.Path(os.environ.get("CERTOPS_CACHE") or USER_CACHE / "certops")
WORK = CACHE / "checkouts" / hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:12]
TREE = WORK / "tree"
COLLECTION = TREE / "ansible_collections" / "certops" / "kubernetes"
NODE_PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
CONTROLLER_PYTHONS = ("3.13", "3.12", "3.14")
BORROWED_COLLECTIONS = ("community/docker", "community/library_inventory_filtering_v1", "community/crypto")


class Missing(Exception):
    """Something that this machine lacks; the text says what, and how to get it."""


@functools.lru_cache(maxsize=None)
def find_python(version: str) -> pathlib.Path:
    """A Python of that minor version that really starts (a version manager's shim may not)."""
    manager = pathlib.Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
    folders = [*sorted(manager.glob(f"{version}.*/bin"), reverse=True), *map(pathlib.Path, os.environ["PATH"].split(os.pathsep))]
    for folder in folders:
        candidate = folder / f"python{version}"
        if candidate.is_file() and starts(candidate, version):
            return candidate
    raise Missing(f"no Python {version} on this machine: put python{version} into PATH")


def starts(python: pathlib.Path, version: str) -> bool:
    """Whether it runs, has that version, and can make virtual environments."""
    probe = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def find_controller_python() -> pathlib.Path:
    """The newest Python that ansible-core's newest release supports on a controller."""
    for version in CONTROLLER_PYTHONS:
        try:
            return find_python(version)
        except Missing:
            continue
    raise Missing("ansible-core 2.21 needs Python 3.12 or newer on the controller: put python3.12 or python3.13 into PATH")


def venv(name: str, python: pathlib.Path, *extra: str) -> pathlib.Path:
    """A virtual environment of `requirements/<name>.txt` (and `extra` requirements); made again when they change."""
    requirements = REQUIREMENTS / f"{name}.txt"
    version = subprocess.run([python, "-VV"], capture_output=True, text=True, check=True).stdout
    key = hashlib.sha256("\n".join([requirements.read_text(), version, str(python), *extra]).encode()).hexdigest()[:12]
    folder = CACHE / "venvs" / f"{name}-{python.name}-{key}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        call([python, "-m", "venv", folder])
        call([folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check", "-r", requirements, *extra])
        (folder / "complete").touch()
    return folder


def call(argv: t.Sequence[str | os.PathLike[str]], **options: t.Any) -> str:
    """Standard output of a command; its failure is an error with what it said."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def materialise_tree() -> None:
    """A physical copy of the checkout where Ansible looks for the collection; a symlink does not do for ansible-test."""
    wanted = set(filter(None, call(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=CHECKOUT).split("\0")))
    wanted = {name for name in wanted if os.path.lexists(CHECKOUT / name)}
    COLLECTION.mkdir(parents=True, exist_ok=True)
    if not (COLLECTION / ".git").exists():
        call(["git", "init", "-q", "-b", "main", "."], cwd=COLLECTION)
    for name in set(call(["git", "ls-files", "-z"], cwd=COLLECTION).split("\0")) - wanted - {""}:
        (COLLECTION / name).unlink(missing_ok=True)
    for name in wanted:
        copy_if_changed(CHECKOUT / name, COLLECTION / name)
    # ansible-test asks git which files there are
    call(["git", "add", "-A"], cwd=COLLECTION)


def copy_if_changed(source: pathlib.Path, target: pathlib.Path) -> None:
    """A copy with mode and times; untouched when it is one already, so that a run beside this one is not disturbed."""
    if target.exists() and (target.stat().st_mtime_ns, target.stat().st_size) == (source.stat().st_mtime_ns, source.stat().st_size):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.copy2(source, partial, follow_symlinks=False)
    partial.replace(target)


def borrow_collections(controller: pathlib.Path) -> None:
    """Collections that only the tests use, out of the `ansible` package: no Galaxy is needed."""
    requirement = (REQUIREMENTS / "collections.txt").read_text().splitlines()[-1]
    kept = CACHE / "collections" / requirement.replace("==", "-")
    if not kept.exists():
        import zipfile

        partial = kept.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        call([controller / "bin" / "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", partial, requirement])
        (wheel,) = partial.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            wanted = tuple(f"ansible_collections/{name}/" for name in BORROWED_COLLECTIONS)
            archive.extractall(partial, [member for member in archive.namelist() if member.startswith(wanted)])
        wheel.unlink()
        partial.rename(kept)
    for name in BORROWED_COLLECTIONS:
        link = TREE / "ansible_collections" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(kept / "ansible_collections" / name)


def controller_environment() -> dict[str, str]:
    """Environment variables with the controller's tools first in PATH and the tree as the place of collections."""
    controller = venv("controller", find_controller_python())
    borrow_collections(controller)
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(controller / "bin"), *real_path()]),
        "ANSIBLE_COLLECTIONS_PATH": str(TREE),
        "ANSIBLE_HOME": str(WORK / "ansible"),
        "MYPYPATH": str(TREE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
    }


def real_path() -> list[str]:
    """PATH with the real folders of all node Pythons first, and without a version manager's shims."""
    folders = []
    for version in reversed(NODE_PYTHONS):
        try:
            folders.append(str(find_python(version).parent))
        except Missing as missing:
            print(f"  note: {missing}", file=sys.stderr)
    return list(dict.fromkeys([*folders, *(folder for folder in os.environ["PATH"].split(os.pathsep) if not folder.endswith("/shims"))]))
