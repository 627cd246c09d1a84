# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The records of what follows the first certificate in a file: the other CAs of a bundle, the rest of a chain."""

from __future__ import annotations

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._findings import About, date_findings
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._records import dated_record
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import Certificate, CertificateFacts, describe

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential, Record
    from ansible_collections.certops.kubernetes.plugins.module_utils._records import Setting


def further_records(setting: Setting, credential: Credential, certificates: t.Sequence[Certificate]) -> list[Record]:
    """One record for each certificate behind the first, named `NAME[2]`, `NAME[3]` and so on. What cannot be described is left out.

    That one of them has expired is a finding of the first one's record already (expired_in_bundle).
    """
    records = []
    for number, certificate in enumerate(certificates[1:], start=2):
        try:
            facts = describe(certificate, credential.cert_path)
        except CertopsError:
            continue
        records.append(_record(setting, credential, "%s[%d]" % (credential.name, number), facts))
    return records


def _record(setting: Setting, credential: Credential, name: str, facts: CertificateFacts) -> Record:
    is_authority = credential.kind == "ca"
    remedy = "It follows %s in %s, and is replaced or taken out together with it." % (credential.name, credential.cert_path)
    about = About(name, credential.cert_path, setting.node_name, remedy, cosmetic=not is_authority)
    findings = date_findings(about, facts.not_before, facts.not_after, setting.now, setting.thresholds)
    findings = [finding for finding in findings if finding.code != "expired"]
    values = {
        "name": name,
        "component": credential.component,
        "presented_by": None if is_authority else credential.presented_by,
        "presented_to": None if is_authority else credential.presented_to,
        "usage": "ca" if facts.is_ca else credential.usage,
        "source": "kubeconfig" if credential.kind == "kubeconfig" else "file",
        "path": credential.cert_path,
        "address": None,
        "ca": None,
        "renewable": False,
        "not_renewable_because": "it follows %s in the same file, and is replaced together with it" % credential.name,
        "externally_managed": False,
        "readers": (),
        "findings": tuple(findings),
    }
    return dated_record(setting, values, facts)


__all__ = ("further_records",)
