# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Dates, severities, states and words."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _findings
from ansible_collections.certops.kubernetes.plugins.module_utils._findings import (
    About,
    Thresholds,
    date_findings,
    duration,
    status_by_severity,
    status_of,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Finding
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
LIMITS = Thresholds(30 * 86400, 7 * 86400)
ABOUT = About("apiserver", "/pki/apiserver.crt", "cp-1", "Renew it.")


@pytest.mark.parametrize(
    ("start", "end", "code", "severity", "status"),
    [
        (-DAY, 31 * DAY, None, None, "ok"),
        (-DAY, 30 * DAY + timedelta(seconds=1), None, None, "ok"),
        (-DAY, 30 * DAY, "expiring", "warning", "warning"),
        (-DAY, 7 * DAY + timedelta(seconds=1), "expiring", "warning", "warning"),
        (-DAY, 7 * DAY, "expiring", "critical", "critical"),
        (-DAY, timedelta(seconds=1), "expiring", "critical", "critical"),
        (-DAY, timedelta(0), "expired", "critical", "expired"),
        (-DAY, -40 * DAY, "expired", "critical", "expired"),
        (timedelta(seconds=1), 99 * DAY, "not_yet_valid", "critical", "not_yet_valid"),
        (timedelta(0), 99 * DAY, None, None, "ok"),
        (2 * DAY, -DAY, "expired", "critical", "expired"),
    ],
)
def test_dates(start: timedelta, end: timedelta, code: str | None, severity: str | None, status: str) -> None:
    found = date_findings(ABOUT, NOW + start, NOW + end, NOW, LIMITS)
    assert [(finding.code, finding.severity) for finding in found] == ([(code, severity)] if code else [])
    assert status_of(NOW + start, NOW + end, NOW, found) == status


@pytest.mark.parametrize(("end", "severity", "status"), [(3 * DAY, "info", "ok"), (-DAY, "warning", "expired")])
def test_what_nobody_verifies_alarms_nobody(end: timedelta, severity: str, status: str) -> None:
    about = About("served:127.0.0.1:10257", "127.0.0.1:10257", "cp-1", "Restart it.", cosmetic=True)
    found = date_findings(about, NOW - DAY, NOW + end, NOW, LIMITS)
    assert [finding.severity for finding in found] == [severity]
    assert status_of(NOW - DAY, NOW + end, NOW, found) == status


def test_critical_beyond_warning_still_counts() -> None:
    found = date_findings(ABOUT, NOW - DAY, NOW + 9 * DAY, NOW, Thresholds(86400, 10 * 86400))
    assert [finding.severity for finding in found] == ["critical"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (1.4, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7199, "119 minutes"),
        (7200, "2 hours"),
        (172800, "2 days"),
        (31536000, "365 days"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (NOW, "2026-11-24T12:00:00Z"),
        (NOW.astimezone(timezone(timedelta(hours=5, minutes=30))), "2026-11-24T12:00:00Z"),
        (NOW.replace(microsecond=999999), "2026-11-24T12:00:00Z"),
        (datetime(1, 1, 1, tzinfo=timezone.utc), "0001-01-01T00:00:00Z"),
        (datetime(950, 12, 31, 23, 59, 59, tzinfo=timezone.utc), "0950-12-31T23:59:59Z"),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc), "9999-12-31T23:59:59Z"),
    ],
)
def test_iso(moment: datetime, text: str) -> None:
    assert iso(moment) == text


def test_the_worst_finding_is_the_status() -> None:
    findings = [Finding("a", severity, "", "") for severity in ("info", "critical", "warning")]
    assert status_by_severity(findings) == "critical"
    assert status_by_severity(findings[:1]) == "ok"
    assert status_by_severity([]) == "ok"


@pytest.mark.parametrize(
    "finding",
    [
        _findings.key_mismatch(ABOUT, "/k"),
        _findings.chain_invalid(ABOUT, "/ca", "why."),
        _findings.outlives_ca(ABOUT, "/ca", NOW, NOW - DAY),
        _findings.served_differs(ABOUT, "/f"),
        _findings.process_has_older_file(ABOUT, "etcd", "inode"),
        _findings.key_readable_by_others(ABOUT, "/k", 0o644),
        _findings.missing(ABOUT, "There is no file."),
        _findings.unreadable(ABOUT, "Noise."),
        _findings.unreachable(ABOUT, "refused."),
        _findings.other_users(ABOUT, 1),
        _findings.hard_linked(ABOUT, "/pki/apiserver.key", 2, "kube-apiserver"),
    ],
    ids=lambda finding: finding.code,
)
def test_a_message_names_certificate_file_and_node(finding: Finding) -> None:
    assert finding.message.startswith("apiserver ")
    assert "/pki/apiserver.crt on cp-1" in finding.message
    assert finding.message.endswith(".")
    assert ".." not in finding.message
    assert finding.remedy.endswith(".")
