# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of certificate_rollback's options; a whole rollback is in test_certificate_rotation.py."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

pytest.importorskip("ansible.module_utils.basic", reason="ansible-core is not there for this Python")

from ansible_collections.certops.kubernetes.plugins.modules import certificate_rollback

NOW = datetime(2026, 11, 24, 1, 50, tzinfo=timezone.utc)
PARAMS = {name: option.get("default") for name, option in certificate_rollback.argument_spec().items()}


def test_the_run_has_a_name_of_its_own() -> None:
    request = certificate_rollback.request_from(PARAMS, NOW)
    assert (request.run_id, request.new_run_id) == (None, "rollback-20261124T015000Z")
    assert certificate_rollback.request_from({**PARAMS, "new_run_id": "mine"}, NOW).new_run_id == "mine"
    assert certificate_rollback.request_from({**PARAMS, "run_id": ""}, NOW).run_id is None


@pytest.mark.parametrize(
    ("option", "value", "good"),
    [
        ("keep_backups", 0, False),
        ("start_timeout_seconds", 9, False),
        ("stop_timeout_seconds", 0, True),
        ("stop_timeout_seconds", -1, False),
        ("stop_timeout_seconds", 1000000, True),
        ("stop_timeout_seconds", 1000001, False),
        ("start_timeout_seconds", 10**30, False),
        ("keep_backups", 10**30, False),
    ],
)
def test_numbers_have_bounds(option: str, value: int, good: bool) -> None:
    problem = certificate_rollback.check({**PARAMS, option: value})
    assert (problem is None) == good
    if problem:
        assert option in problem
