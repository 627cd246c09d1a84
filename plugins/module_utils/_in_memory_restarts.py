# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What is in a component's memory is renewed by a restart: which one is wanted, and the proof that something else is served then."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._in_memory import maker_of
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Item
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._proof import Proof
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import RESTART, Renewal

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node, Record
    from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import NodeAccess
    from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Wanted

_POLL_SECONDS = 0.25
_FACTS = ("subject", "serial", "not_before", "not_after", "fingerprint_sha256")


def restarts_for(node: Node, records: t.Sequence[Record], wanted: t.Sequence[Wanted]) -> tuple[list[Renewal], list[str]]:
    """What to restart for these items, and what was made anew since the plan and needs nothing, as sentences. Raises CertopsError."""
    made, done, problems = [], [], []
    for item in wanted:
        record = _record(records, item.name)
        if maker_of(node, item.name) is None:
            problems.append("%s: no component of this node makes it in memory. Remedy: make the plan again." % item.name)
        elif record is None or record.fingerprint_sha256 is None:
            problems.append("%s: it could not be seen at its address. Remedy: look whether that component runs." % item.name)
        elif item.fingerprint_sha256 and item.fingerprint_sha256.lower() != record.fingerprint_sha256:
            done.append("%s is another one than the plan saw: its component was restarted since, and is not restarted again." % item.name)
        else:
            before = _facts(record)
            after = {**dict.fromkeys(before), "subject": before["subject"], "sans": before["sans"]}
            made.append(Renewal(Item(item.name, RESTART, before, after)))
    if problems:
        raise CertopsError("Refused, nothing was changed. " + " ".join(problems))
    return made, done


def prove_restarts(access: NodeAccess, items: t.Sequence[Item], seconds: float) -> tuple[tuple[Item, ...], tuple[Proof, ...]]:
    """Wait until each of them is shown to be new; the items then say what is shown. Raises CertopsError when it is not in time."""
    deadline = access.monotonic() + seconds
    while items:
        node = access.discover()
        records = access.inspect(node)
        found = [_prove(node, records, item) for item in items]
        problems = [proof.message for proof, _item in found if proof.in_use != "true"]
        if not problems:
            return tuple(item for _proof, item in found), tuple(proof for proof, _item in found)
        if access.monotonic() > deadline:
            raise CertopsError("Not proven within %g s: %s." % (seconds, "; ".join(problems)))
        access.sleep(_POLL_SECONDS)
    return (), ()


def _prove(node: Node, records: t.Sequence[Record], item: Item) -> tuple[Proof, Item]:
    """Whether the address shows another certificate than before that ends later; the item then says which."""
    record = _record(records, item.name)
    component = maker_of(node, item.name)
    if record is None or record.fingerprint_sha256 is None or record.not_after is None or component is None:
        return Proof(item.name, "false", "handshake", (), "%s could not be seen at its address" % item.name), item
    if record.fingerprint_sha256 == item.before["fingerprint_sha256"]:
        return Proof(item.name, "false", "handshake", (), "%s is still the one from before the restart" % item.name), item
    if record.not_after <= str(item.before["not_after"]):  # both in UTC and of one form
        text = "%s ends at %s, not later than the one before" % (item.name, record.not_after)
        return Proof(item.name, "false", "handshake", (), text), item
    proof = Proof(item.name, "true", "handshake", ((component, "restart", "true", "handshake"),))
    return proof, dataclasses.replace(item, after=_facts(record))


def _record(records: t.Sequence[Record], name: str) -> Record | None:
    return next((record for record in records if record.name == name), None)


def _facts(record: Record) -> dict[str, t.Any]:
    return {**{name: getattr(record, name) for name in _FACTS}, "sans": list(record.sans or ())}


__all__ = ("prove_restarts", "restarts_for")
