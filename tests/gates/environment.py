# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the gates run in: Pythons that are found, virtual environments and the collections' tree in a cache."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import typing as t
import zipfile

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


@contextlib.contextmanager
def only_one(purpose: str) -> t.Iterator[None]:
    """Two runs at once, or a run's two lanes, do not make the same thing twice."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{purpose}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@functools.lru_cache(maxsize=None)
def find_python(version: str) -> pathlib.Path:
    """A Python of that minor version that really starts (a version manager's shim may not)."""
    for folder in folders_with_pythons(version):
        candidate = folder / f"python{version}"
        if candidate.is_file() and starts(candidate, version):
            return candidate
    raise Missing(f"no Python {version} that can make virtual environments: put python{version} into PATH (Debian: python{version}-venv)")


def folders_with_pythons(version: str) -> t.Iterator[pathlib.Path]:
    """Where Pythons lie: what pyenv and uv installed, PATH, and the usual places that may not be in it."""
    home = pathlib.Path.home()
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT") or home / ".pyenv") / "versions"
    uv = pathlib.Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local" / "share" / "uv" / "python")
    for folder, pattern in ((pyenv, f"{version}.*/bin"), (uv, f"cpython-{version}.*/bin"), (pathlib.Path("/opt"), "python*/bin")):
        yield from sorted(folder.glob(pattern), reverse=True)
    yield from map(pathlib.Path, [*os.environ["PATH"].split(os.pathsep), "/usr/local/bin", "/usr/bin"])


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


def venv(python: pathlib.Path, *names: str) -> pathlib.Path:
    """A virtual environment of `requirements/<name>.txt` of each name; made again when one of them changes."""
    requirements = [REQUIREMENTS / f"{name}.txt" for name in names]
    version = call([python, "-VV"])
    key = hashlib.sha256("\n".join([version, str(python), *(path.read_text() for path in requirements)]).encode()).hexdigest()[:12]
    folder = CACHE / "venvs" / f"{'-'.join(names)}-{python.name}-{key}"
    with only_one(folder.name):
        if not (folder / "complete").exists():
            print(f"  making {folder}", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            call([python, "-m", "venv", folder])
            options = [part for path in requirements for part in ("-r", path)]
            call([folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check", "--no-input", *options])
            (folder / "complete").touch()
    return folder


def call(argv: t.Sequence[str | os.PathLike[str]], **options: t.Any) -> str:
    """Standard output of a command; its failure is an error with what it said."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def materialise_tree() -> None:
    """A physical copy of the checkout where Ansible looks for the collection; a symlink does not do for ansible-test."""
    with only_one(WORK.name):
        wanted = set(filter(None, call(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=CHECKOUT).split("\0")))
        wanted = {name for name in wanted if os.path.lexists(CHECKOUT / name)}
        COLLECTION.mkdir(parents=True, exist_ok=True)
        if not (COLLECTION / ".git").exists():
            call(["git", "init", "-q", "-b", "main", "."], cwd=COLLECTION)
        for name in set(call(["git", "ls-files", "-z"], cwd=COLLECTION).split("\0")) - wanted - {""}:
            remove(COLLECTION / name)
        for name in wanted:
            copy_if_changed(CHECKOUT / name, COLLECTION / name)
        # ansible-test asks git which files there are
        call(["git", "add", "-A"], cwd=COLLECTION)


def remove(path: pathlib.Path) -> None:
    """A file, and the folders that are empty without it: a role's or a scenario's folder counts even when it is."""
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()
        path.parent.parent.rmdir()


def copy_if_changed(source: pathlib.Path, target: pathlib.Path) -> None:
    """A copy with mode and times; untouched when it is one already, so that a run beside this one is not disturbed."""
    if os.path.lexists(target) and looks(target) == looks(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    shutil.copy2(source, partial, follow_symlinks=False)
    partial.replace(target)


def looks(path: pathlib.Path) -> tuple[int, ...]:
    """What tells a changed file; of a link, what tells a changed link."""
    status = path.lstat()
    return status.st_mtime_ns, status.st_size, status.st_mode


def borrow_collections(controller: pathlib.Path) -> None:
    """Collections that only the tests use, out of the `ansible` package: no Galaxy is needed."""
    requirement = (REQUIREMENTS / "collections.txt").read_text().splitlines()[-1]
    kept = CACHE / "collections" / requirement.replace("==", "-")
    with only_one("collections"):
        if not kept.exists():
            download_collections(controller, requirement, kept)
        for name in BORROWED_COLLECTIONS:
            link = TREE / "ansible_collections" / name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not (link.is_symlink() and link.exists()):
                link.unlink(missing_ok=True)
                link.symlink_to(kept / "ansible_collections" / name)


def download_collections(controller: pathlib.Path, requirement: str, kept: pathlib.Path) -> None:
    """Unpack those few of the many that the package holds."""
    partial = kept.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    call([controller / "bin" / "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", partial, requirement])
    (wheel,) = partial.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        wanted = tuple(f"ansible_collections/{name}/" for name in BORROWED_COLLECTIONS)
        archive.extractall(partial, [member for member in archive.namelist() if member.startswith(wanted)])
    wheel.unlink()
    partial.rename(kept)


def controller_environment() -> dict[str, str]:
    """Environment variables with the controller's tools first in PATH and the tree as the place of collections."""
    controller = venv(find_controller_python(), "controller")
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
        with contextlib.suppress(Missing):
            folders.append(str(find_python(version).parent))
    return list(dict.fromkeys([*folders, *(folder for folder in os.environ["PATH"].split(os.pathsep) if not folder.endswith("/shims"))]))
