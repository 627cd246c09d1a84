# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A kubeconfig on a bastion that cannot be renewed, and what is said of it."""

from __future__ import annotations

import json
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _elsewhere
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiError
from ansible_collections.certops.kubernetes.plugins.module_utils._elsewhere import ask_for, look_for
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_renew import new_key_like
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.bastion import ADMIN, NOW, YEAR, Bastion


@pytest.fixture(name="bastion")
def fixture_bastion(tmp_path: Path) -> Bastion:
    home = tmp_path / "home"
    home.mkdir()
    return Bastion(home, tmp_path)


def test_what_could_not_be_put_in_is_not_asked_for(bastion: Bastion) -> None:
    """An inspection in check mode says so, and no certificate is signed in vain."""
    (bastion.path.parent / "pair").write_bytes(bastion.old.cert_pem + bastion.old.key_pem)
    document = json.loads(bastion.path.read_text())
    document["users"][0]["user"] = {"client-certificate": "pair", "client-key": "pair"}
    bastion.path.write_text(json.dumps(document))
    for outcome in (look_for([bastion.name], YEAR, NOW), ask_for(bastion.state, bastion.run, [bastion.name], YEAR)):
        assert "has certificate and key in one file" in outcome.problems[0]
        assert outcome.requests + outcome.renewed == []


def test_a_key_that_cannot_be_made_is_its_own_user_s_problem(bastion: Bastion, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are asked for."""

    def made(leaf: t.Any) -> t.Any:
        if leaf == bastion.other.cert:
            raise CertopsError("No key of that kind is made.")
        return new_key_like(leaf)

    monkeypatch.setattr(_elsewhere, "new_key_like", made)
    outcome = ask_for(bastion.state, bastion.run, ["%s#joe#2" % bastion.path, bastion.name], YEAR)
    assert [request.name for request in outcome.requests] == [bastion.name]
    assert outcome.problems == ["Nothing was asked for %s#joe#2. No key of that kind is made." % bastion.path]


def test_a_name_forges_no_message(bastion: Bastion) -> None:
    """It is as somebody wants it who is not root, and so is what an API server says that he names."""
    name = "x\nok: [bastion] => all is well"
    document = json.loads(bastion.path.read_text())
    document["users"].append({"name": name, "user": {"client-certificate": "a", "client-key": "b"}})
    bastion.path.write_text(json.dumps(document))
    signed = bastion.sign(bastion.ask())
    bastion.answers = {ADMIN: "a\nb" * 10000}
    refused = bastion.put(signed)
    bastion.answers = {ADMIN: ApiError("a\nb")}
    unknown = bastion.put(bastion.sign(bastion.ask()))
    problems = [*look_for(["%s#%s" % (bastion.path, name)], YEAR, NOW).problems, *refused.problems]
    assert len(problems) == 2
    for text in (*problems, unknown.renewed[0]["message"]):
        assert "\n" not in text
        assert len(text) < 2000


def test_servers_that_do_not_answer_hold_nobody_up_for_ever(bastion: Bastion, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has many users in his file chooses their servers, too."""
    signed = bastion.sign(bastion.ask(bastion.name, "%s#joe#2" % bastion.path))
    seconds = iter(range(0, 10**6, 100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    outcome = bastion.put(signed)
    assert len(bastion.asked) == 1
    assert [one["in_use"] for one in outcome.renewed] == ["true", "unknown"]
    assert "the servers before it took longer than 120 s" in outcome.renewed[1]["message"]
