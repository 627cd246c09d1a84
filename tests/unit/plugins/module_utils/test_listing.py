# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists of the API: page after page, each small enough, and never without an end."""

from __future__ import annotations

import json
import time
import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _listing
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, ApiError, ApiResponse
from ansible_collections.certops.kubernetes.plugins.module_utils._cluster_objects import CONFIG_MAPS, SECRETS
from ansible_collections.certops.kubernetes.plugins.module_utils._listing import each_object
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.api_objects import ObjectsApi, config_map, secret

SOON = time.monotonic() + 3600


class Endless(ApiClient):
    """A server that always has one more page."""

    def __init__(self, page: object) -> None:
        super().__init__("127.0.0.1:1")
        self._page = page
        self.questions = 0

    def request(self, *_args: t.Any, **_kwargs: t.Any) -> ApiResponse:
        self.questions += 1
        return ApiResponse(200, json.dumps(self._page).encode())


def names(found: t.Iterable[t.Any]) -> list[str]:
    return [one["metadata"]["name"] for one in found]


def test_every_page_is_asked_for() -> None:
    api = ObjectsApi().having(CONFIG_MAPS, *(config_map("c%d" % number, "default") for number in range(7)))
    assert names(each_object(api, CONFIG_MAPS, SOON, page=3)) == ["c%d" % number for number in range(7)]
    assert api.asked == [CONFIG_MAPS + query for query in ("?limit=3", "?limit=3&continue=3", "?limit=3&continue=6")]


def test_a_list_of_nothing_is_null_in_go() -> None:
    assert list(each_object(ObjectsApi(), CONFIG_MAPS, SOON)) == []


def test_only_those_with_a_field() -> None:
    api = ObjectsApi().having(SECRETS, secret("a"), secret("b", kind="Opaque"), secret("c"))
    assert names(each_object(api, SECRETS, SOON, page=1, fields="type=kubernetes.io/tls")) == ["a", "c"]
    assert api.asked[0] == SECRETS + "?limit=1&fieldSelector=type%3Dkubernetes.io%2Ftls"


def test_fewer_at_a_time_when_they_are_large() -> None:
    """Each is seen once."""
    api = ObjectsApi().having(CONFIG_MAPS, *(config_map("c%d" % number, "default", text="x" * 1000) for number in range(9)))
    api.largest = 3000
    assert names(each_object(api, CONFIG_MAPS, SOON, page=8)) == ["c%d" % number for number in range(9)]


def test_an_object_that_is_too_large_alone() -> None:
    api = ObjectsApi().having(CONFIG_MAPS, config_map("c", "default", text="x" * 1000))
    api.largest = 500
    with pytest.raises(ApiError, match="too many bytes"):
        list(each_object(api, CONFIG_MAPS, SOON))


@pytest.mark.parametrize("page", [{"metadata": {"continue": "x"}}, {"metadata": {"continue": "x"}, "items": [{}] * 100}])
def test_a_list_without_an_end(page: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose pages are empty. What came before counts."""
    monkeypatch.setattr(_listing, "MOST_OBJECTS", 300)
    api, seen = Endless(page), 0
    with pytest.raises(ApiError, match="there are more than 300, and the rest is not looked at"):
        for _one in each_object(api, SECRETS, SOON):
            seen += 1
    assert seen in (0, 300)
    assert api.questions <= 300


def test_the_time_is_over() -> None:
    with pytest.raises(ApiError, match="time that an inspection takes for this is over") as caught:
        list(each_object(Endless({}), SECRETS, time.monotonic() - 1))
    assert caught.value.status == 200, "the API server is there"


@pytest.mark.parametrize("page", [{"items": 5}, {"items": {"a": 1}}, {"items": "x"}, {"metadata": {"continue": "x" * 9000}}])
def test_a_garbled_list(page: object) -> None:
    with pytest.raises(ApiError, match="garbled list"):
        list(each_object(Endless(page), SECRETS, SOON))


def test_an_answer_does_not_show_when_it_is_printed() -> None:
    """It may hold a Secret's key."""
    assert "PRIVATE" not in repr(ApiResponse(200, b"PRIVATE KEY"))
