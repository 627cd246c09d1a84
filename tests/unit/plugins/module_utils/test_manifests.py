# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Static-pod manifests: the directory that the kubelet names."""

from __future__ import annotations

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._manifests import read_manifests


@pytest.mark.parametrize("directory", ["/a\0b", "/\ud800"])
def test_a_directory_that_cannot_be_a_path_is_a_problem(directory: str) -> None:
    manifests, problems = read_manifests(directory)
    assert manifests == []
    assert "cannot be a path" in problems[0].message
    assert problems[0].message.isprintable()
