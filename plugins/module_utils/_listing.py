# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Every object of a list of the API, page after page: no answer is larger than the client reads, and no list without an end."""

from __future__ import annotations

import time
import typing as t
from urllib.parse import quote

from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiError, TooLarge
from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig, text

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient

MOST_OBJECTS = 5000  # of one kind
_LONGEST_TOKEN = 8192  # characters, more than a URL may have


def each_object(client: ApiClient, path: str, until: float, page: int = 100, fields: str = "") -> t.Iterator[t.Any]:
    """Each object of the list at `path`, as JSON has it; `fields` is a fieldSelector such as "type=kubernetes.io/tls".

    `page` objects are asked for at a time, and fewer when they are too large for one answer. Nothing more is asked after `until`
    (of the monotonic clock). Raises ApiError, also when there is more than was given: what came before it counts all the same.
    """
    token: str | None = None
    seen = 0
    while True:
        what = "GET https://%s%s" % (client.server, path)
        if time.monotonic() > until:
            raise ApiError("%s: the time that an inspection takes for this is over, and there is more" % what, status=200)
        if seen >= MOST_OBJECTS:
            raise ApiError("%s: there are more than %d, and the rest is not looked at" % (what, MOST_OBJECTS), status=200)
        try:
            answer = client.json("GET", "%s?%s" % (path, _query(page, fields, token)))
        except TooLarge:
            if page == 1:
                raise
            page //= 2
            continue
        found = answer.get("items") or []
        token = text(dig(answer, "metadata", "continue"))
        if not isinstance(found, list) or len(token or "") > _LONGEST_TOKEN:
            raise ApiError("%s: the answer is a garbled list" % what, status=200)
        yield from found
        seen += max(1, len(found))
        if token is None:
            return


def _query(page: int, fields: str, token: str | None) -> str:
    words = {"limit": str(page), "fieldSelector": fields, "continue": token}
    return "&".join("%s=%s" % (key, quote(value, safe="")) for key, value in words.items() if value)


__all__ = ("MOST_OBJECTS", "each_object")
