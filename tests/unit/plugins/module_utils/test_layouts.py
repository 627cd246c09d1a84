# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The flags of a command, and the tables that give them a meaning."""

from __future__ import annotations

import time

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import AUTHORITIES, PAIRS, as_port, parse_flags


@pytest.mark.parametrize(
    ("argv", "flags"),
    [
        (["x", "--a=b"], {"a": ("b",)}),
        (["x", "--a", "b"], {"a": ("b",)}),
        (["x", "-a=b"], {"a": ("b",)}),
        (["x", "--a=b=c", "--a="], {"a": ("b=c", "")}),
        (["x", "--yes", "--a=b"], {"yes": ("true",), "a": ("b",)}),
        (["x", "--yes"], {"yes": ("true",)}),
        (["x", "--tls_cert_file=/a_b"], {"tls-cert-file": ("/a_b",)}),
        (["x", "word", "-", "--a=1", "--", "--b=2"], {"a": ("1",)}),
        (["x"], {}),
        ([], {}),
    ],
)
def test_flags(argv: list[str], flags: dict[str, tuple[str, ...]]) -> None:
    assert parse_flags(argv) == flags


@pytest.mark.parametrize("word", ["a", "--a", "--a=b", "-"])
def test_very_many_words_cost_little(word: str) -> None:
    started = time.monotonic()
    parse_flags(["x", *[word] * 1_000_000])
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("6443", 6443),
        ("65535", 65535),
        ("0", 0),
        ("00443", 443),
        *((text, 7) for text in (None, "", "65536", "-1", "²", "٣", "9" * 5000, "x", " 1", "1.5")),
    ],
)
def test_ports(text: str | None, port: int) -> None:
    assert as_port(text, 7) == port


def test_a_flag_names_one_credential() -> None:
    pairs = [(rule.component, rule.cert_flag) for rule in PAIRS]
    authorities = [(rule.component, rule.flag) for rule in AUTHORITIES]
    assert len(set(pairs)) == len(pairs)
    assert len(set(authorities)) == len(authorities)


def test_every_ca_that_signs_is_found_by_a_flag() -> None:
    assert {rule.ca for rule in PAIRS} - {None} <= {rule.name for rule in AUTHORITIES}
