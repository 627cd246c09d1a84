# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""End what an earlier run was stopped in: put back what was half written, carry forward what was written."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils import _journal as journaling
from ansible_collections.certops.kubernetes.plugins.module_utils._replacement import holds

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Journal, ReplacedFile, StateFolder
    from ansible_collections.certops.kubernetes.plugins.module_utils._transaction import Transaction

_FORWARD = (journaling.APPLIED, journaling.ACTIVATING, journaling.PROVING)


@dataclass(frozen=True)
class Recovered:
    """What was done about one unfinished run. `current`: name -> fingerprint that its certificate has since."""

    run_id: str
    found: str  # the state that it was left in
    state: str  # committed | rolled_back
    message: str
    current: dict[str, str]
    known: dict[str, tuple[str, str]]  # name -> fingerprints before and after that run
    taken_back: tuple[str, ...] = ()  # what it had renewed, as everybody could see, and has not any more
    failed: bool = False  # it should have been carried forward, and had to be put back

    def report(self) -> dict[str, t.Any]:
        """What the result shows."""
        return {"run_id": self.run_id, "found": self.found, "state": self.state, "message": self.message}


def outlook(state: StateFolder) -> list[dict[str, t.Any]]:
    """What a run would do about unfinished ones; changes nothing."""
    return [
        {
            "run_id": journal.run_id,
            "found": journal.state,
            "state": None,
            "message": "Run %s was stopped while it was %s; it will be %s first."
            % (journal.run_id, journal.state, "carried forward" if _goes_forward(journal) else "put back"),
        }
        for journal in state.unfinished()
    ]


def recover(state: StateFolder, transaction: Transaction) -> list[Recovered]:
    """End every unfinished run. Raises CertopsError when one can be ended neither way."""
    state.discard_unborn()
    return [_end(journal, transaction) for journal in state.unfinished()]


def _end(journal: Journal, transaction: Transaction) -> Recovered:
    found = journal.state
    if journal.kind == journaling.COPIES:
        journal = dataclasses.replace(journal, items=())  # users of kubeconfigs, of whom nothing on the node can be proven
    goes_forward = _goes_forward(journal)
    renewed = transaction.renewed_on_disk(journal)
    if goes_forward:
        outcome = transaction.carry_forward(_without_foreign(journal))
    else:
        outcome = transaction.put_back(journal, "The run was stopped while it was %s." % found)
    ended = outcome.journal
    forward = ended.state == journaling.COMMITTED
    what = "carried forward and proven" if forward else "rolled back and proven (%s)" % outcome.cause
    both = {item.name: (str(item.before["fingerprint_sha256"]), str(item.after["fingerprint_sha256"])) for item in journal.items}
    return Recovered(
        journal.run_id,
        found,
        ended.state,
        "Run %s had been stopped while it was %s; it was %s." % (journal.run_id, found, what),
        {name: after if forward else before for name, (before, after) in both.items()},
        both,
        taken_back=() if forward else renewed,
        failed=goes_forward and not forward,
    )


def _goes_forward(journal: Journal) -> bool:
    """Forward if everything was written, and nothing of it has been put back since."""
    if journal.state == journaling.APPLYING:  # killed before it could say that all was written
        return all(holds(file, file.sha256_after) for file in _of_root(journal))
    return journal.state in _FORWARD and not any(holds(file, file.sha256_before) for file in _of_root(journal))


def _of_root(journal: Journal) -> list[ReplacedFile]:
    """What others may change at any moment says nothing of how far the run came."""
    return [file for file in journal.files if file.by is None]


def _without_foreign(journal: Journal) -> Journal:
    """Leave out what somebody else has replaced since: that is theirs."""
    ours = tuple(file for file in journal.files if file.by is not None or holds(file, file.sha256_after))
    if len(ours) == len(journal.files):
        return journal
    # Which file belongs to which item is not in the journal; whoever replaced one has replaced the certificate too.
    return dataclasses.replace(journal, files=ours, items=tuple(item for item in journal.items if item.action == "activate"))


__all__ = ("Recovered", "outlook", "recover")
