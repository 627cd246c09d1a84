# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON that others wrote: read, or explained; never slow, never out of stack."""

from __future__ import annotations

import json

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._documents import parse_json
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

NO_JSON = {
    "empty": b"",
    "no UTF-8": b'"\xff"',
    "not closed": b"[",
    "two values": b"1 2",
    "NaN": b"[NaN]",
    "infinity": b"-Infinity",
    "too large a number": b"1e999",
    "many digits": b"9" * 1_000_000,
    "many negative digits": b"[-" + b"9" * 1_000_000 + b"]",
    "half of a surrogate pair": b'{"a": ["\\ud800"]}',
    "half of a surrogate pair as a key": b'{"\\udfff": 1}',
    "deep": b"[" * 70 + b"]" * 70,
    "deeper": b"[" * 100_000 + b"]" * 100_000,
    "deep mappings": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a byte order mark": b"\xef\xbb\xbf{}",
}


@pytest.mark.parametrize("data", list(NO_JSON.values()), ids=list(NO_JSON))
def test_what_is_no_json_is_explained(data: bytes) -> None:
    with pytest.raises(CertopsError) as caught:
        parse_json(data, "the answer")
    assert str(caught.value).startswith("Cannot read the answer: ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_json_has_numbers() -> None:
    data = b'{"a": [1, -2, 1.5, 1e3, true, null, "x\\u0000", "\\ud83d\\udd11"], "b": %s}' % (b"9" * 40)
    assert parse_json(data, "x") == {"a": [1, -2, 1.5, 1000.0, True, None, "x\0", "\U0001f511"], "b": int("9" * 40)}
    nested = b"[" * 60 + b"]" * 60
    assert json.dumps(parse_json(nested, "x")).encode() == nested
