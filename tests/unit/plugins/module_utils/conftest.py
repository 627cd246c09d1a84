# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures that several files of this folder use, and how many examples properties get.

`CERTOPS_HYPOTHESIS=thorough` for many, and others each time; without it they are few and always the same.
"""

from __future__ import annotations

import os

import pytest
import yaml
from ansible_collections.certops.kubernetes.plugins.module_utils import _as_user
from hypothesis import HealthCheck, settings

# Hypothesis runs all examples of a test inside one use of a fixture such as `loader`: that is what we want.
SUPPRESSED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("gate", deadline=None, max_examples=30, derandomize=True, database=None, suppress_health_check=SUPPRESSED)
settings.register_profile("thorough", deadline=None, max_examples=3000, database=None, suppress_health_check=SUPPRESSED)
settings.load_profile(os.environ.get("CERTOPS_HYPOTHESIS", "gate"))


@pytest.fixture(autouse=True)
def fixture_nobody_has_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is a process of its own for what it knows of users."""
    monkeypatch.setattr(_as_user, "_HUNG", set())


@pytest.fixture(autouse=True)
def fixture_no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed does not lose what it wrote; only a power failure does, which no test here makes."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture(params=["libyaml", "pure"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test that asks for it, with the parser in C and with the one in Python, which a node may have instead."""
    if request.param == "libyaml" and not yaml.__with_libyaml__:
        pytest.skip("PyYAML without libyaml")
    if request.param == "pure":
        for name in ("CSafeLoader", "CBaseLoader"):
            monkeypatch.delattr(yaml, name, raising=False)
    return str(request.param)
