# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A certificate's facts, and what else is known of it → its record. Pure functions."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, fields

from ansible_collections.certops.kubernetes.plugins.module_utils._findings import Thresholds, status_of
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Record
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import CertificateFacts

_DAY = 86400


@dataclass(frozen=True)
class Setting:
    """What every record of one inspection needs. `node` is Kubernetes' name of the node, where it is known."""

    cluster: str | None
    host: str
    node: str | None
    now: datetime
    thresholds: Thresholds

    @property
    def node_name(self) -> str:
        """What messages call the node."""
        return self.node or self.host


def dated_record(setting: Setting, values: t.Mapping[str, t.Any], facts: CertificateFacts) -> Record:
    """The record of a certificate that could be read; `values` are the fields that its facts do not tell."""
    seconds_left = int((facts.not_after - setting.now).total_seconds())
    return record(
        setting,
        values,
        status=status_of(facts.not_before, facts.not_after, setting.now, values["findings"]),
        subject=facts.subject,
        issuer=facts.issuer,
        sans=facts.sans,
        serial=facts.serial,
        fingerprint_sha256=facts.fingerprint_sha256,
        key_algorithm=facts.key_algorithm,
        key_bits=facts.key_bits,
        signature_algorithm=facts.signature_algorithm,
        not_before=iso(facts.not_before),
        not_after=iso(facts.not_after),
        seconds_left=seconds_left,
        days_left=seconds_left // _DAY,
        lifetime_days=(facts.not_after - facts.not_before).days,
    )


def record(setting: Setting, values: t.Mapping[str, t.Any], **described: t.Any) -> Record:
    """A record; what is not described has no value."""
    known: dict[str, t.Any] = {"cluster": setting.cluster, "host": setting.host, "node": setting.node, **values, **described}
    complete: dict[str, t.Any] = {entry.name: known.get(entry.name) for entry in fields(Record) if entry.name != "schema_version"}
    return Record(**complete)


__all__ = ("Setting", "dated_record", "record")
