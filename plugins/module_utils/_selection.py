# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Which certificates `certs_rotate_select` means: a JMESPath expression over their records. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

try:
    import jmespath
except ImportError:
    jmespath = None  # type: ignore[assignment,unused-ignore]

Record = t.Mapping[str, t.Any]


def identity(record: Record) -> tuple[str, str]:
    """(host, name): what tells records and entries of a plan apart."""
    return record["host"], record["name"]


def selected_records(records: t.Sequence[Record], expression: str | None) -> set[tuple[str, str]] | None:
    """Identities of the records that a JMESPath expression yields; None without an expression.

    Raises CertopsError when it is no expression, or yields something else than records.
    """
    if not expression:
        return None
    found = _search(expression, [dict(record) for record in records])
    found = [found] if isinstance(found, dict) else found
    if not isinstance(found, list) or not all(isinstance(item, dict) and "host" in item and "name" in item for item in found):
        raise CertopsError(
            "certs_rotate_select is %r, but must yield certificate records, as [?component=='etcd'] does; it yields %s."
            % (expression, _kind(found))
        )
    return {identity(item) for item in found}


def _search(expression: str, records: list[dict[str, t.Any]]) -> t.Any:
    if jmespath is None:
        raise CertopsError("certs_rotate_select needs the Python library jmespath on the controller: install python3-jmespath.")
    try:
        return jmespath.search(expression, records)
    except jmespath.exceptions.JMESPathError as error:
        raise CertopsError(
            "certs_rotate_select is %r, but must be a JMESPath expression over the certificate records, such as [?component=='etcd']: %s"
            % (expression, error)
        ) from None


def _kind(found: t.Any) -> str:
    if isinstance(found, list):
        strange = next(item for item in found if not (isinstance(item, dict) and "host" in item and "name" in item))
        return "a list with %r in it" % (strange,)
    return "nothing" if found is None else repr(found)


__all__ = ("identity", "selected_records")
