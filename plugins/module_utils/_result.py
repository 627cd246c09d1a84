# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What a rotation returns to Ansible: names, dates, fingerprints and times, never key material."""

from __future__ import annotations

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils import _journal as journaling
from ansible_collections.certops.kubernetes.plugins.module_utils import _restarts as restarting
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import ACTIVATE

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Item, Journal, Touched
    from ansible_collections.certops.kubernetes.plugins.module_utils._proof import Proof
    from ansible_collections.certops.kubernetes.plugins.module_utils._recovery import Recovered
    from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import Renewal


class RotationFailed(CertopsError):
    """A transaction that did not end well; `result` says what was done."""

    def __init__(self, message: str, result: dict[str, t.Any]) -> None:
        """Keep the result beside the message."""
        super().__init__(message)
        self.result = result


def empty_result(run_id: str) -> dict[str, t.Any]:
    """Nothing was done."""
    return {
        "changed": False,
        "run_id": run_id,
        "certificates": [],
        "components": [],
        "rolled_back": False,
        "recovered": [],
        "warnings": [],
        "diff": [],
    }


def result_of(journal: Journal, proofs: t.Sequence[Proof], recovered: t.Sequence[Recovered]) -> dict[str, t.Any]:
    """The result of a run that has ended, by its journal."""
    committed = journal.state == journaling.COMMITTED
    by_name = {proof.name: proof for proof in proofs}
    return dict(
        empty_result(journal.run_id),
        changed=bool(recovered) or (committed and _did_something(journal)),
        state=journal.state,
        certificates=[_certificate(item, by_name.get(item.name), committed) for item in journal.items],
        components=[_component(touched) for touched in journal.components],
        rolled_back=journal.state == journaling.ROLLED_BACK,
        recovered=[entry.report() for entry in recovered],
        diff=[_difference(item) for item in journal.items if committed and item.action != ACTIVATE],
    )


def _did_something(journal: Journal) -> bool:
    return bool(journal.files) or any(touched.action == restarting.RESTARTED for touched in journal.components)


def together(first: dict[str, t.Any], then: dict[str, t.Any]) -> dict[str, t.Any]:
    """The result of a run, and of one that followed it and has the last word; its name is the first one's, if that did anything."""
    lists = {key: [*first[key], *then[key]] for key in ("certificates", "components", "recovered", "warnings", "diff")}
    changed = first["changed"] or then["changed"]
    return {**first, **then, **lists, "changed": changed, "run_id": first["run_id"] if "state" in first else then["run_id"]}


def predicted_result(
    run_id: str,
    made: t.Sequence[Renewal],
    components: t.Sequence[Touched],
    unfinished: list[dict[str, t.Any]],
    restart: str,
) -> dict[str, t.Any]:
    """The result of a run that was not made."""
    return dict(
        empty_result(run_id),
        changed=bool(made or unfinished),
        certificates=[_certificate(one.item, None, True) for one in made],
        components=[_expected(touched, restart) for touched in components],
        recovered=unfinished,
        diff=[_difference(one.item) for one in made if one.item.action != ACTIVATE],
    )


def _certificate(item: Item, proof: Proof | None, changed: bool) -> dict[str, t.Any]:
    return {
        "name": item.name,
        "action": item.action,
        "before": item.before,
        "after": item.after if changed else item.before,
        "in_use": proof.in_use if proof else "unknown",
        "proof": proof.proof if proof else "none",
        "message": proof.message or None if proof else None,
        "readers": [
            {"component": component, "reload": reload, "in_use": in_use, "proof": way}
            for component, reload, in_use, way in (proof.readers if proof else ())
        ],
    }


def _component(touched: Touched) -> dict[str, t.Any]:
    return {
        "name": touched.name,
        "action": touched.action,
        "because": touched.because,
        "away_seconds": touched.away_seconds,
        "leaderless_seconds": touched.leaderless_seconds,
    }


def _expected(touched: Touched, restart: str) -> dict[str, t.Any]:
    """What the policy would do with a component; whether one fails to reload by itself is not known before."""
    if restart == restarting.ALWAYS:
        return dict(_component(touched), action=restarting.RESTARTED, because="restart: always")
    if restart == restarting.NEVER or touched.action == restarting.NONE:
        return _component(touched)
    return dict(_component(touched), action=restarting.RESTARTED)


def _difference(item: Item) -> dict[str, str]:
    where = item.after.get("path", item.name)
    return {
        "before_header": where,
        "after_header": where,
        "before": facts_text(item.before),
        "after": facts_text(item.after),
    }


def facts_text(facts: dict[str, t.Any]) -> str:
    """One fact a line; what is not known before it is made is said to be new. Of a setting the line that it has in its file."""
    if "setting" in facts:
        return "" if facts["value"] is None else "%s: %s\n" % (facts["setting"], facts["value"])
    if facts["fingerprint_sha256"] is None:
        end = "valid until %s" % facts["not_after"] if facts["not_after"] else "that its component makes when it starts"
        lines = ["subject: %s" % facts["subject"], "a new certificate %s" % end]
    else:
        lines = ["%s: %s" % (key, facts[key]) for key in ("subject", "serial", "not_before", "not_after", "fingerprint_sha256")]
    lines += ["name: %s" % san for san in facts.get("sans") or ()]
    lines += ["kept in: %s" % facts["kept_in"]] if facts.get("kept_in") else []
    return "".join(line + "\n" for line in lines)


__all__ = ("RotationFailed", "empty_result", "facts_text", "predicted_result", "result_of", "together")
