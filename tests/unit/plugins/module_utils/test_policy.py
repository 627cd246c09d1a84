# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variables as users and AWX deliver them."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._policy import OPTIONS, policy, setting_conflicts


def one(name: str, value: t.Any) -> t.Any:
    """What a value of one variable becomes."""
    return next(iter(policy({name: value}).values()))


@pytest.mark.parametrize("empty", ["", "  ", None])
@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_an_empty_value_is_the_default(name: str, empty: str | None) -> None:
    """Survey questions without an answer arrive as empty strings."""
    assert one(name, empty) == OPTIONS[name].default


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("certs_rotate_force", "false", False),
        ("certs_rotate_force", "No", False),
        ("certs_rotate_force", "0", False),
        ("certs_rotate_force", "TRUE", True),
        ("certs_rotate_force", 1, True),
        ("certs_rotate_force", True, True),
        ("certs_rotate_renew_before_days", "30", 30),
        ("certs_rotate_renew_before_days", " 7 ", 7),
        ("certs_rotate_renew_before_days", 7.0, 7),
        ("certs_rotate_renew_before_days", 0, 0),
        ("certs_rotate_stop_timeout_seconds", "AUTO", "auto"),
        ("certs_rotate_stop_timeout_seconds", "5", 5),
        ("certs_rotate_validity_days", "90", 90),
        ("certs_rotate_restart", "Always", "always"),
        ("certs_inspect_fail_on", "critical", "critical"),
        ("certs_inspect_cluster_objects", "true", True),
        ("certs_inspect_cluster_objects", "", False),
        ("certs_cluster", " blue ", "blue"),
    ],
)
def test_a_value_is_understood(name: str, given: t.Any, value: t.Any) -> None:
    """Strings and what they stand for."""
    converted = one(name, given)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("name", "given", "allowed"),
    [
        ("certs_rotate_force", "perhaps", "true or false"),
        ("certs_rotate_force", 2, "true or false"),
        ("certs_rotate_renew_before_days", "thirty", "a whole number, 0 or more"),
        ("certs_rotate_renew_before_days", "-1", "a whole number, 0 or more"),
        ("certs_rotate_renew_before_days", True, "a whole number, 0 or more"),
        ("certs_rotate_renew_before_days", 1.5, "a whole number, 0 or more"),
        ("certs_rotate_validity_days", "0", "a whole number, 1 or more"),
        ("certs_rotate_stop_timeout_seconds", "soon", "auto or a whole number, 0 or more"),
        ("certs_rotate_restart", "sometimes", "one of auto, always, never"),
        ("certs_inspect_fail_on", "error", "one of never, warning, critical, expired"),
        ("certs_rotate_renew_before_days", 10**30, "a whole number, 0 or more, and no more than 1000000"),
        ("certs_rotate_renew_before_days", 1e300, "a whole number, 0 or more, and no more than 1000000"),
        ("certs_rotate_renew_before_days", "9" * 30, "a whole number, 0 or more, and no more than 1000000"),
        ("certs_rotate_renew_before_days", "9" * 100000, "a whole number, 0 or more"),
        ("certs_rotate_renew_before_days", float("nan"), "a whole number, 0 or more"),
        ("certs_rotate_renew_before_days", "²", "a whole number, 0 or more"),
        ("certs_rotate_renew_before_days", [[]], "a whole number, 0 or more"),
        *(
            ("certs_rotate_health_timeouts", value, "a mapping of names to seconds")
            for value in ("[", "x", "[1]", "{etcd: x}", "{etcd: -1}", "{etcd: 2001-99-99}", "{etcd: !!int x}", "[" * 5000, "a: *b", 5, [1])
        ),
        ("certs_rotate_health_timeouts", '{"\\UFFFFFFFF": 1}', "a mapping of names to seconds"),
        ("certs_rotate_health_timeouts", "{\ud800: 1}", "a mapping of names to seconds"),
        ("certs_rotate_health_timeouts", "{etcd: 9999999}", "a mapping of names to seconds"),
        *(("certs_rotate_kubeconfig_copies", value, "a list of paths") for value in ("[", "[[a]]", "[" * 5000, 5, {"a": 1}, [None])),
        ("certs_cluster", 5, "a text"),
        ("certs_rotate_select", ["x"], "a text"),
    ],
)
def test_a_bad_value_is_named(name: str, given: t.Any, allowed: str) -> None:
    """The message has variable, value and what is allowed."""
    with pytest.raises(CertopsError) as caught:
        policy({name: given})
    assert str(caught.value).startswith("%s is %.200r, but must be %s" % (name, given, allowed))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", ["{etcd: 120, a b: '7'}", '{"etcd": 120, "a b": 7}', {"etcd": "120", "a b": 7.0}, "etcd: 120\na b: 7"])
def test_seconds_by_name(value: t.Any) -> None:
    assert one("certs_rotate_health_timeouts", value) == {"etcd": 120, "a b": 7}


@pytest.mark.parametrize("value", [["/a b", " /c "], "[/a b, /c]", "/a b\n\n/c\n", '["/a b", "/c"]'])
def test_paths(value: t.Any) -> None:
    assert one("certs_rotate_kubeconfig_copies", value) == ["/a b", "/c"]


@pytest.mark.parametrize("value", [[], "[]"])
def test_no_paths(value: t.Any) -> None:
    assert one("certs_rotate_kubeconfig_copies", value) == []


@pytest.mark.parametrize(("given", "value"), [(3, 3), ("3", 3), ("25%", "25%"), (" 100% ", "100%"), ("", 1)])
def test_so_many_at_a_time(given: t.Any, value: t.Any) -> None:
    assert one("certs_rotate_worker_serial", given) == value


@pytest.mark.parametrize("given", [0, "0%", "101%", "x%", "%", True, [1, 2], "-1"])
def test_not_so_many_at_a_time(given: t.Any) -> None:
    with pytest.raises(CertopsError, match="must be a whole number, 1 or more, or a percentage such as 25%"):
        one("certs_rotate_worker_serial", given)


def test_names_lose_the_role() -> None:
    """The longest role's name counts."""
    assert set(policy({"certs_cluster": "", "certs_report_dir": "", "certs_inspect_warn_days": 1})) == {"cluster", "dir", "warn_days"}


def test_an_unknown_variable_is_refused() -> None:
    """A role that passes one has a mistake."""
    with pytest.raises(CertopsError, match="no variable certs_rotate_forse"):
        policy({"certs_rotate_forse": True})


def test_a_run_has_one_of_some_settings() -> None:
    """Compared after conversion, each with the hosts that have it."""
    agreed: dict[str, dict[str, t.Any]] = {
        "certs_report_host": {"a": "", "b": "localhost"},
        "certs_inspect_fail_on": {"a": "NEVER", "b": None},
    }
    assert setting_conflicts(agreed) == []
    (sentence,) = setting_conflicts({**agreed, "certs_report_dir": {"a": "/x", "b": "/y", "c": "/x"}})
    assert sentence.startswith("certs_report_dir differs between the hosts of this run ('/x' on a, c; '/y' on b)")
    assert len(setting_conflicts({"certs_rotate_health_timeouts": {"a": "{etcd: 1}", "b": {"etcd": 2}}})) == 1
    with pytest.raises(CertopsError, match="must be one of never"):
        setting_conflicts({"certs_inspect_fail_on": {"a": "error"}})
