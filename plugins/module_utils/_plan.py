# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What a rotation will do, as a pure function of certificate records and policy.

Records and plan entries are plain dictionaries here: they come from `certificate_info` and go into reports. Times are those of
the nodes: `seconds_left` was counted on the node that has the certificate, so the controller's clock does not matter.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._elsewhere_records import Elsewhere, under_one_name
from ansible_collections.certops.kubernetes.plugins.module_utils._selection import identity, selected_records
from ansible_collections.certops.kubernetes.plugins.module_utils._switch_plan import CONFIGURE, switch_entries

DAY = 86400
DEFAULT_VALIDITY_DAYS = 365  # kubeadm's own (kubeadm.k8s.io/v1beta4, certificateValidityPeriod)
ACTIONS = ("renew", "activate", "restart", CONFIGURE)  # what `certificate_rotation` does; `report` and `none` change nothing
REPAIR = "repair"  # what is done to a node where a run did not end
RESTORE = "restore"  # what a rollback does to a certificate
_BEHIND_THE_FIRST = re.compile(r"\[\d+\]\Z")
COPY = "copy"  # what is done to a copy of a kubeconfig that is older than its original on the same node

_EMBEDDED = "kubelet.conf"
_CONVERTED = "; it is embedded, and will be in kubelet-client-current.pem, which the kubelet can renew"

Record = t.Mapping[str, t.Any]
Entry = t.Dict[str, t.Any]


def rotation_plan(
    records: t.Sequence[Record],
    policy: t.Mapping[str, t.Any],
    nodes: t.Mapping[str, t.Mapping[str, t.Any]] | None = None,
) -> list[Entry]:
    """One entry for each record: what will be done about it (`renew`, `activate`, `restart`, `copy`, `report`, `none`), and why.

    `policy` has renew_before_days, select, force, refresh_sans, restart, validity_days as `_policy.policy` makes them. `nodes` maps a
    host to what `certificate_info` says of its node: certificate_validity_seconds, signs, kubelet_settings, for which `configure`
    switches on what policy wants on, and unfinished_run, for which there is an entry `repair`. `ends_after` and `days_left` are days;
    `signed_by` is the other host that has the key of the CA, if this one has not; `apart` says that it is a user in a kubeconfig there,
    renewed by a request after all nodes; `refresh_sans` says that it gets the names of the cluster's configuration.
    Raises CertopsError when `select` is not an expression that yields records.
    """
    selected = selected_records(records, policy.get("select"))
    ca_seconds = {(record["host"], record["name"]): record["seconds_left"] for record in records if record["usage"] == "ca"}
    signers = _signers(records, nodes or {})
    signers_grant = [node["signing_seconds"] for node in (nodes or {}).values() if node.get("signing_seconds")]
    known = Elsewhere(records, nodes or {})
    entries: list[Entry] = []
    for record in sorted(records, key=known.covers):  # what is due there depends on what is renewed on nodes
        node = (nodes or {}).get(record["host"]) or {}
        chosen = selected is None or identity(record) in selected
        if known.covers(record):
            signer = known.signer(record) if _signable_elsewhere(record) else None
            entry = _entry(record, policy, _limits_elsewhere(record, policy, known, signer, entries), chosen, signer)
            entries.append(dict(entry, apart=entry["signed_by"] is not None))
            continue
        limits = _Limits(
            threshold=policy["renew_before_days"] * DAY,
            # A kubelet's self-signed one has no CA, and no part in what the cluster says of validity.
            validity=min([_validity_seconds(policy, node if record["ca"] else {}), *_granted(record, signers_grant)]),
            ca_left=ca_seconds.get((record["host"], record["ca"])),
        )
        signer = signers.get((record["host"], record["ca"])) if _signable_elsewhere(record) else None
        entries.append(_entry(record, policy, limits, chosen, signer))
    entries = under_one_name(entries, known)
    entries += switch_entries(policy, nodes or {}, selected)
    return entries + [_repair(host, node) for host, node in (nodes or {}).items() if node.get("unfinished_run")]


def _limits_elsewhere(
    record: Record, policy: t.Mapping[str, t.Any], known: Elsewhere, signer: str | None, entries: t.Sequence[Entry]
) -> _Limits:
    """Of a kubeconfig on a host outside of the cluster; `entries` are those of the nodes."""
    return _Limits(
        threshold=policy["renew_before_days"] * DAY,
        validity=_validity_seconds(policy, known.nodes.get(signer or "") or {}),
        ca_left=(known.authority(record) or {}).get("seconds_left"),
        outdated=known.why_outdated(record, {identity(entry) for entry in entries if entry["action"] == "renew"}),
    )


def _granted(record: Record, signers_grant: t.Sequence[int]) -> list[int]:
    """For how many seconds at most the cluster's signer signs this; empty where it signs nothing, as when it has expired.

    Where no host of the run knows, it is taken to give what it gave last time.
    """
    if record["name"] not in ("kubelet-client", _EMBEDDED) or (record["seconds_left"] or 0) <= 0:
        return []
    return list(signers_grant) or [record["lifetime_days"] * DAY]


def _signers(records: t.Sequence[Record], nodes: t.Mapping[str, t.Mapping[str, t.Any]]) -> dict[tuple[str, str], str]:
    """(host, its name of a CA) -> the first host that has the key of this very CA."""
    authorities = [record for record in records if record["usage"] == "ca" and record["fingerprint_sha256"]]
    with_key: dict[str, str] = {}
    for record in authorities:
        if record["name"] in ((nodes.get(record["host"]) or {}).get("signs") or ()):
            with_key.setdefault(record["fingerprint_sha256"], record["host"])
    found = {(record["host"], record["name"]): with_key.get(record["fingerprint_sha256"]) for record in authorities}
    return {key: host for key, host in found.items() if host is not None}


def _signable_elsewhere(record: Record) -> bool:
    """Whether nothing but the CA's key is wanting: what the CA did not sign is not renewed with it."""
    refuted = any(finding["code"] == "chain_invalid" for finding in record["findings"])
    return not record["renewable"] and bool(record["externally_managed"]) and record["usage"] != "ca" and not refuted


def rotation_items(plan: t.Sequence[Entry], host: str, signed: t.Sequence[Record] = ()) -> list[dict[str, t.Any]]:
    """What `certificate_rotation` is to do on a host, as it takes it; `signed` is what `certificate_signing` returned for it."""
    keys = ("name", "action", "fingerprint_sha256", "signed_by", "refresh_sans")
    certificates = {entry["name"]: entry["certificate"] for entry in signed}
    own = [entry for entry in plan if entry["host"] == host and entry["action"] in ACTIONS and not entry["apart"]]
    items = [{key: entry[key] for key in keys} for entry in own]
    return [dict(item, certificate=certificates.get(item["name"])) for item in items]


def rollback_plan(foreseen: t.Mapping[str, t.Any], host: str, records: t.Sequence[Record]) -> list[Entry]:
    """What a rollback will do on a host: one entry for each certificate that `certificate_rollback` foresees to put back.

    `foreseen` is its result in check mode, `records` are the node's. Empty for a node that was not reached.
    """
    known = {record["name"]: record for record in records}
    restarts = [component["name"] for component in foreseen.get("components") or () if component["action"] == "restarted"]
    entries = [
        _restoration(host, item, known.get(item["name"], {}), str(foreseen.get("restored_run_id")))
        for item in foreseen.get("certificates") or ()
    ]
    for entry in entries:
        if entry["name"].startswith("kubelet:"):
            continue
        readers = [reader["component"] for reader in known.get(entry["name"], {}).get("readers") or ()]
        entry["restarts"] = sorted(set(restarts).intersection(readers))
    unfinished = [recovered["run_id"] for recovered in foreseen.get("recovered") or ()]
    return entries + [_repair(host, {"unfinished_run": run_id}) for run_id in unfinished]


def _restoration(host: str, item: t.Mapping[str, t.Any], record: Record, run_id: str) -> Entry:
    now, then = item["before"], item["after"]
    return {
        "host": host,
        "node": record.get("node"),
        "name": item["name"],
        "component": "kubelet" if "setting" in then else record.get("component"),
        "action": RESTORE,
        "code": "rollback",
        "reason": "run %s switched it on" % run_id
        if "setting" in then
        else "run %s replaced it; the earlier one is valid until %s" % (run_id, then["not_after"]),
        "not_after": now["not_after"],
        "days_left": record.get("days_left"),
        "ends_after": None,
        "restarts": ["kubelet"] if "setting" in then else [],
        "signed_by": None,
        "apart": False,
        "refresh_sans": False,
        "fingerprint_sha256": now["fingerprint_sha256"],
    }


class _Limits(t.NamedTuple):
    """Seconds that decide whether a renewal is worth it."""

    threshold: int  # renewed when less is left
    validity: int  # of a new certificate
    ca_left: int | None  # None: the CA's certificate is not known
    outdated: str | None = None  # of a kubeconfig elsewhere: why it is due whatever its age

    @property
    def ends_after(self) -> int:
        return self.validity if self.ca_left is None else min(self.validity, self.ca_left)


def _entry(record: Record, policy: t.Mapping[str, t.Any], limits: _Limits, selected: bool, signer: str | None) -> Entry:
    action, code, reason = _decision(record, policy, limits, selected, signer)
    if action == "renew" and record["name"] == _EMBEDDED:
        reason += _CONVERTED
    return {
        "host": record["host"],
        "node": record["node"],
        "name": record["name"],
        "component": record["component"],
        "action": action,
        "code": code,
        "reason": reason,
        "not_after": record["not_after"],
        "days_left": record["days_left"],
        "ends_after": limits.ends_after // DAY if action == "renew" else None,
        "signed_by": signer if action == "renew" else None,
        "apart": False,
        "refresh_sans": action == "renew" and signer is None and _other_names(record, policy) is not None,
        "restarts": _restarts(record, policy["restart"], action),
        "fingerprint_sha256": record["fingerprint_sha256"],
    }


def _repair(host: str, node: t.Mapping[str, t.Any]) -> Entry:
    entry: Entry = dict.fromkeys(("node", "component", "not_after", "days_left", "ends_after", "signed_by", "fingerprint_sha256"))
    reason = "it did not end; what it left is finished or undone first"
    entry.update(host=host, name="run %s" % node["unfinished_run"], action=REPAIR, code="unfinished_run", reason=reason)
    entry.update(restarts=[], apart=False, refresh_sans=False)
    return entry


def _decision(record: Record, policy: t.Mapping[str, t.Any], limits: _Limits, selected: bool, signer: str | None) -> tuple[str, str, str]:
    """Action, code and reason; the first that applies."""
    if record["ca"] is not None and not limits.outdated and any(finding["code"] == "stale_copy" for finding in record["findings"]):
        why = "its original was renewed since it was made"
        return (COPY, "stale_copy", why) if selected else ("none", "not_selected", "%s, but certs_rotate_select leaves it out" % why)
    due, names = _due(record, limits.threshold) or limits.outdated, _other_names(record, policy)
    if record["renewable"] and record["source"] == "served":
        return _in_memory(record, policy["restart"], limits, selected)
    if not record["renewable"] and signer is None:
        return _not_renewable(record, limits.threshold, names or limits.outdated)
    pending = stale_readers(record)
    if not selected:
        if due or names or pending:
            return "none", "not_selected", "%s, but certs_rotate_select leaves it out" % (due or names or _pending_text(pending))
        return "none", "not_due", _left(record)
    if policy["force"]:
        return _forced(limits)
    if due:
        return _renewal_worth_it(due, limits, "stale_copy" if due == limits.outdated else "due")
    if names and signer is not None:
        return "report", "names_differ", "%s; not renewed: the key of its CA is not on this node" % names
    if names:
        return _renewal_worth_it(names, limits, "names_refreshed")
    if pending:
        return _activation(pending, policy["restart"])
    return "none", "not_due", _left(record)


def _due(record: Record, threshold: int) -> str | None:
    """Why the certificate must be renewed, or None."""
    left = record["seconds_left"]
    if left is None:
        return None
    if left <= 0:
        return "expired %s ago" % duration(-left)
    if left < threshold:
        return "%s left, less than %s" % (duration(left), duration(threshold))
    return None


def _in_memory(record: Record, restart: str, limits: _Limits, selected: bool) -> tuple[str, str, str]:
    """What a component made when it started. To force files is no reason to restart it."""
    due = _due(record, limits.threshold)
    if due is None:
        return "none", "not_due", _left(record)
    if not selected:
        return "none", "not_selected", "%s, but certs_rotate_select leaves it out" % due
    lifetime = (record["lifetime_days"] or 0) * DAY
    if lifetime <= limits.threshold:
        return (
            *("report", "validity_below_threshold"),
            "%s, but %s makes one for %s only, which would be due again at once: lower certs_rotate_renew_before_days"
            % (due, record["component"], duration(lifetime)),
        )
    if restart == "never":
        return "report", "activation_pending", "%s, and only a restart makes another one; certs_rotate_restart is never" % due
    return "restart", "due", "%s; %s made it in memory when it started" % (due, record["component"])


def _other_names(record: Record, policy: t.Mapping[str, t.Any]) -> str | None:
    """How its names differ from the cluster's configuration, if they are to be refreshed."""
    messages = [finding["message"] for finding in record["findings"] if finding["code"] == "sans_differ"]
    if not messages or not policy.get("refresh_sans"):
        return None
    own_name = record["name"] + " "
    return str(messages[0])[len(own_name) if messages[0].startswith(own_name) else 0 :].rstrip(".")


def _not_renewable(record: Record, threshold: int, names: str | None) -> tuple[str, str, str]:
    why = record["not_renewable_because"] or "nothing on this node can renew it"
    problem = _due(record, threshold) or names
    if problem is None and record["status"] in ("missing", "unreadable", "unreachable", "not_yet_valid"):
        problem = str(record["status"]).replace("_", " ")
    if problem is None or record["source"] == "served" or _BEHIND_THE_FIRST.search(record["name"]):
        # What is served follows from a file, and what stands behind a file's first certificate from that one: it has an entry of its own.
        return "none", "not_renewable", why
    return "report", "not_renewable", "%s; not renewed: %s" % (problem, why)


def _forced(limits: _Limits) -> tuple[str, str, str]:
    if limits.ca_left is not None and limits.ca_left <= 0:
        return "report", "ca_ends_first", "forced, but its CA expired %s ago: the CA must be renewed first" % duration(-limits.ca_left)
    return "renew", "forced", "certs_rotate_force renews it whatever its age"


def _renewal_worth_it(due: str, limits: _Limits, code: str = "due") -> tuple[str, str, str]:
    """A renewal whose result would be due again at once is reported instead."""
    if limits.ends_after > limits.threshold:
        return "renew", code, due
    if limits.ca_left is not None and limits.ca_left < limits.validity:
        cause = "its CA has %s left" % duration(limits.ca_left) if limits.ca_left > 0 else "its CA has expired"
        return "report", "ca_ends_first", "%s, but %s, so a new certificate would be due again at once: renew the CA" % (due, cause)
    return (
        "report",
        "validity_below_threshold",
        "%s, but a new certificate would be valid for %s and due again at once: raise certs_rotate_validity_days or the cluster's "
        "certificateValidityPeriod (of a kubelet's: the kube-controller-manager's --cluster-signing-duration), or lower "
        "certs_rotate_renew_before_days" % (due, duration(limits.validity)),
    )


def stale_readers(record: Record) -> list[str]:
    """Components that are shown to have an older certificate than the one on disk."""
    return [reader["component"] for reader in record["readers"] if reader["in_use"] == "false"]


def _activation(pending: list[str], restart: str) -> tuple[str, str, str]:
    text = _pending_text(pending)
    if restart == "never":
        return "report", "activation_pending", "%s; certs_rotate_restart is never" % text
    return "activate", "activation_pending", text


def _pending_text(pending: list[str]) -> str:
    return "renewed on disk, but %s still %s the old one" % (" and ".join(pending), "has" if len(pending) == 1 else "have")


def _restarts(record: Record, restart: str, action: str) -> list[str]:
    """The components that are going to be restarted for this certificate."""
    if action not in ACTIONS or restart == "never":
        return []
    if action == "restart":
        return [record["component"]]
    readers = record["readers"]
    if restart == "auto" and action == "renew":
        readers = [reader for reader in readers if reader["reload"] in ("restart", "self")]
    elif restart == "auto":
        readers = [reader for reader in readers if reader["in_use"] == "false"]
    return sorted({reader["component"] for reader in readers})


def _validity_seconds(policy: t.Mapping[str, t.Any], node: t.Mapping[str, t.Any]) -> int:
    if policy.get("validity_days"):
        return int(policy["validity_days"]) * DAY
    return int(node.get("certificate_validity_seconds") or DEFAULT_VALIDITY_DAYS * DAY)


def _left(record: Record) -> str:
    left = record["seconds_left"]
    return "no end date" if left is None else "%s left" % duration(left)


def duration(seconds: int) -> str:
    """Seconds in words, as coarse as a person would say it: `364 days`, `5 hours`, `40 seconds`."""
    for unit, size in (("day", DAY), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size or (unit == "day" and seconds == size):
            return "%d %s%s" % (seconds // size, unit, "" if seconds // size == 1 else "s")
    return "%d seconds" % seconds


__all__ = (
    "ACTIONS",
    "duration",
    "rollback_plan",
    "rotation_items",
    "rotation_plan",
    "stale_readers",
)
