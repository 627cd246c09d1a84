# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of plugins/module_utils/_deps.py, each in an interpreter of its own, whose libraries are missing, old or strange."""

from __future__ import annotations

import os
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _deps

if t.TYPE_CHECKING:
    from pathlib import Path

MODULE = "ansible_collections.certops.kubernetes.plugins.module_utils."

SAY = """
import sys
sys.path.insert(0, %r)
from %s_deps import missing_requirements, x509, yaml
import %s_x509, %s_x509_renew, %s_kubeconfig
print("\\n".join(missing_requirements()))
print("names", x509 is not None, yaml is not None)
""".replace("%s", MODULE)


def said(fakes: Path) -> list[str]:
    """What missing_requirements() says, and which libraries are there, where `fakes` comes first on the path of modules."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", SAY % str(fakes)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def fake(folder: Path, name: str, code: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code)


def test_nothing_is_missing_here(tmp_path: Path) -> None:
    assert _deps.missing_requirements() == []
    assert said(tmp_path) == ["", "names True True"]


def test_both_missing(tmp_path: Path) -> None:
    for name in ("cryptography", "yaml"):
        fake(tmp_path, name, "raise ImportError('No module named %s')" % name)
    lines = said(tmp_path)
    assert lines[0].startswith("cryptography >= 3.4 is missing on this node for %s" % sys.executable)
    assert lines[0].endswith("install python3-cryptography")
    assert lines[1].startswith("PyYAML is missing on this node for ")
    assert "python3-yaml" in lines[1]
    assert "python3-pyyaml" in lines[1]
    assert lines[2:] == ["names False False"]


def test_a_library_that_warns_is_silent(tmp_path: Path) -> None:
    fake(tmp_path, "yaml", "import warnings\nwarnings.warn('too old a Python')")
    assert said(tmp_path) == ["", "names True True"]


def test_a_library_that_is_broken_is_explained(tmp_path: Path) -> None:
    fake(tmp_path, "cryptography", "raise ImportError('libssl.so.1.1: cannot open shared object file')")
    lines = said(tmp_path)
    assert "libssl.so.1.1: cannot open shared object file" in lines[0]
    assert lines[1:] == ["names False True"]


@pytest.mark.parametrize(
    ("version", "good"), [("2.8", False), ("3.3.2", False), ("3.4", True), ("3.4.8", True), ("38.0.4", True), ("50.0.0.dev1", True)]
)
def test_versions(monkeypatch: pytest.MonkeyPatch, version: str, good: bool) -> None:
    monkeypatch.setattr(_deps._libraries, "cryptography_version", version)
    sentences = _deps.missing_requirements()
    assert bool(sentences) is not good
    if not good:
        assert "version %s at %s" % (version, _deps._libraries.cryptography_file) in sentences[0]
        assert "python3-cryptography" in sentences[0]


def test_every_name_is_there() -> None:
    for name in _deps.__all__:
        assert getattr(_deps, name) is not None
    assert ValueError in _deps.CRYPTO_ERRORS
