# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What else can be wrong besides dates, provoked in files of a real node that nothing breaks of; one inspection sees all of it."""

from __future__ import annotations

import json
import pathlib
import typing as t

import cluster
import pytest

KEPT, DRIFT = "/root/certops-kept", "/root/certops-drift"
COPY, GARBAGE, STRANGER = f"{DRIFT}/config", f"{DRIFT}/garbage", f"{DRIFT}/not-there.conf"
SPOIL = pathlib.Path(__file__).with_name("spoil_files.py")
# What nobody spoilt is left alone, and what was has its time again: a file newer than its process looks as if that had an older one.
MEND = f"""
back() {{
    cmp -s $1 $2 || {{ cat $1 >$2 && touch -r $1 $2; }}
    test "$(stat -c %u:%g:%a $1)" = "$(stat -c %u:%g:%a $2)" || {{ chown --reference=$1 $2 && chmod --reference=$1 $2; }}
}}
cd {KEPT}/kubernetes
cp -a pki/front-proxy-ca.key /etc/kubernetes/pki/
for file in $(find . -name manifests -prune -o -type f -print); do back $file /etc/kubernetes/$file; done
back ../config.yaml /var/lib/kubelet/config.yaml
cd / && rm -rf {KEPT} {DRIFT}
"""
EXPECTED = {
    "super-admin.conf": {"not_yet_valid", "weak_signature", "unexpected_subject", "other_users"},
    "admin.conf": {"owned_by_another_user"},
    "apiserver-kubelet-client": {"owned_by_another_user"},
    "scheduler.conf": {"writable_by_others"},
    "front-proxy-ca": {"ca_ends_soon", "writable_by_others"},
    "front-proxy-client": {"outlives_ca"},
    "etcd/healthcheck-client": {"chain_unordered", "key_readable_by_others", "identity_twice"},
    "apiserver-etcd-client": {"hard_linked"},
    "ca": {"expired_in_bundle"},
    f"{COPY}#old": {"stale_copy"},
    f"{COPY}#foreign": {"foreign_copy"},
    "kubelet.conf": {"rotation_off", "cannot_renew_itself"},
}


@pytest.fixture(scope="module", name="seen")
def fixture_seen() -> t.Iterator[dict[str, t.Any]]:
    """What the module finds on the spoilt node."""
    try:
        cluster.on_node("python3", "-", KEPT, DRIFT, stdin=SPOIL.read_text())
        yield cluster.module("certificate_info", {"kubeconfigs": [COPY, GARBAGE, STRANGER]})
    finally:
        cluster.on_node("sh", "-c", MEND)


def record(seen: dict[str, t.Any], name: str) -> dict[str, t.Any]:
    """The record of that name."""
    (found,) = [one for one in seen["certificates"] if one["name"] == name]
    return t.cast("dict[str, t.Any]", found)


@pytest.mark.parametrize("name", EXPECTED)
def test_it_is_found(seen: dict[str, t.Any], name: str) -> None:
    """With a severity and what to do about it."""
    findings = {one["code"]: one for one in record(seen, name)["findings"]}
    assert EXPECTED[name] - set(findings) == set(), json.dumps(record(seen, name), indent=1)
    for code in EXPECTED[name]:
        assert findings[code]["severity"] in ("info", "warning", "critical")
        assert findings[code]["remedy"]


def test_a_kubeconfig_that_is_none(seen: dict[str, t.Any]) -> None:
    """One that is not there is no finding."""
    unread = [problem["message"] for problem in seen["problems"] if problem["code"] == "kubeconfig_unread"]
    assert [GARBAGE in message for message in unread] == [True]


def test_a_ca_whose_key_is_elsewhere(seen: dict[str, t.Any]) -> None:
    """What it signs says why it will not be renewed."""
    client = record(seen, "front-proxy-client")
    assert (client["externally_managed"], client["renewable"]) == (True, False)
    assert "front-proxy-ca" in client["not_renewable_because"]
