# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Whether kubelets of workers use the client certificates on their disks, by what they told a control-plane node. Pure functions.

Records and results are plain dictionaries here. A worker's own identity may not read its kubelet's metrics, so that only a control-plane
node of the same cluster can ask. A kubelet tells how long its certificate is valid by its own clock, and the end was counted with that of
who asked: what lies between these two is known within the bounds that `_clock.py` finds.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
from datetime import datetime, timedelta

from ansible_collections.certops.kubernetes.plugins.module_utils._elsewhere_records import status_by_findings
from ansible_collections.certops.kubernetes.plugins.module_utils._findings import About, process_has_older_file
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import API_SERVER, SELF

Record = t.Mapping[str, t.Any]
Result = t.Mapping[str, t.Any]
Results = t.Mapping[str, Result]

CODE = "kubelet_not_asked"

_NO_CONTROL_PLANE = "no control-plane node of its cluster answered in this run"
_WIDEST_SECONDS = 120  # between which two certificates of a kubelet are told apart
_RENEWED_FROM = 0.6  # of its time; a kubelet renews from 0.7 on, and the question comes a while after the look
_NAMED = 5  # hosts in a message
# A kubelet's, as an API server names it that does not reach it; with its own one and a port that is another each time.
_ADDRESS = re.compile(r"(?:[0-9a-f.:\[\]]+->)?(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[[0-9a-f:]+\]):10250\b")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class _Unknown(Exception):
    """Why nothing is known."""


def kubelet_questions(results: Results, hosts: t.Collection[str], control_plane: t.Collection[str]) -> list[dict[str, t.Any]]:
    """Whom to ask where: {host, nodes}, one for each control-plane node that is to ask.

    `results` are those of `certificate_info` by host; of `hosts` the kubelets are asked, where it is needed. `control_plane` are the hosts
    that may ask: a worker that only says that it has an API server would answer for the others. `nodes` maps Kubernetes' name of a node
    to when it was looked at, more than once where hosts give the same name: the answer is about what was found then.
    """
    questions: dict[str, dict[str, list[str]]] = {}
    for host, record in _unproven(results):
        askers = [one for one in _askers(results, host, record) if one in control_plane] if host in hosts else []
        if askers:
            questions.setdefault(askers[0], {}).setdefault(record["node"], []).append(_looked(results[host]))
    return [{"host": asker, "nodes": nodes} for asker, nodes in questions.items()]


def with_answers(results: Results, answers: t.Sequence[Result] | None) -> Results:
    """The results; the records of workers tell what their kubelets told, and `problems` once each why others did not.

    `answers` are the results of `kubelet_info` for each of the questions (`item`), those of earlier looks among them; None where nobody was
    to be asked at all.
    """
    if answers is None:
        return results
    changed: dict[str, Result] = dict(results)
    told = _by_look(answers)
    unknown: dict[tuple[str, str | None], list[str]] = {}
    for host, record in _unproven(results):
        askers = _askers(results, host, record)
        keys = [(one, record["node"], _looked(results[host])) for one in askers]
        # Who asked then, whoever is the first now. Clusters may call their nodes alike.
        asker = next((key[0] for key in keys if key in told), askers[0] if askers else None)
        try:
            proven = _judged(results, host, record, asker, next((told[key] for key in keys if key in told), None))
        except _Unknown as cause:
            unknown.setdefault((str(cause), asker), []).append(host)
            continue
        records = [proven if one is record else one for one in results[host]["certificates"]]
        changed[host] = dict(changed[host], certificates=records)
    for (why, asker), hosts in unknown.items():
        problems = [*(changed[hosts[0]].get("problems") or ()), _not_asked(hosts, why, asker)]
        changed[hosts[0]] = dict(changed[hosts[0]], problems=problems)
    return changed


def _unproven(results: Results) -> t.Iterator[tuple[str, Record]]:
    """Each host whose kubelet has to be asked, with the record of the certificate that is in question."""
    for host, result in results.items():
        name = (result.get("node") or {}).get("kubelet_to_ask")
        for record in result.get("certificates") or () if name else ():
            if record["name"] == name and isinstance(record["node"], str) and record["node"] and record["not_after"]:
                yield host, record
                break  # there is one; a node that shows thousands keeps nobody from being asked


def _looked(result: Result) -> str:
    return str(result["node"].get("now"))


def _askers(results: Results, host: str, record: Record) -> list[str]:
    """The hosts with an API server that have the CA of this host's kubelet."""
    wanted = _authorities(results[host], record["ca"])
    with_api_server = [one for one, result in results.items() if API_SERVER in ((result.get("node") or {}).get("components") or ())]
    return [one for one in with_api_server if not wanted.isdisjoint(_authorities(results[one], "ca"))]


def _authorities(result: Result, name: str | None) -> set[str]:
    return {one["fingerprint_sha256"] for one in _records_of(result, name) if one["fingerprint_sha256"]}


def _records_of(result: Result, ca: str | None) -> list[Record]:
    """The records of a CA's file: the first certificate, and what follows it."""
    records = result.get("certificates") or ()
    return [one for one in records if one["usage"] == "ca" and ca is not None and (one["name"] == ca or one["name"].startswith(ca + "["))]


def _by_look(answers: t.Sequence[Result]) -> dict[tuple[str, str, str], Result]:
    """(who asked, node, when it was looked at) -> what its kubelet told, or why it was not asked."""
    found: dict[tuple[str, str, str], Result] = {}
    for answer in answers:
        failure = {"reason": " ".join(str(answer.get("msg") or "no answer").split())}
        told = {one["node"]: one for one in answer.get("kubelets") or ()}
        question = answer.get("item") or {}
        for node, looks in (question.get("nodes") or {}).items():
            found.update({(question["host"], node, looked): told.get(node, failure) for looked in looks})
    return found


def _judged(results: Results, host: str, record: Record, asker: str | None, told: Result | None) -> dict[str, t.Any]:
    """The record with what is certain. Raises _Unknown."""
    if asker is None:
        raise _Unknown(_NO_CONTROL_PLANE)
    if told is None:
        raise _Unknown("it was not asked")
    if told["reason"] is not None:
        raise _Unknown(_of_any(str(told["reason"]).rstrip("."), record["node"]))
    has_it = told["latest_end"] is not None and _is_between(results, host, record, asker, told)
    if has_it and record["not_after"] in [one["not_after"] for one in _records_of(results[host], record["ca"])]:
        raise _Unknown("its certificate ends with its CA, as those before it did")
    in_use = "true" if has_it else "false"
    readers = [dict(one, in_use=in_use, proof="metrics") if one["reload"] == SELF else one for one in record["readers"]]
    findings = list(record["findings"])
    if not has_it:
        about = About(record["name"], record["path"], record["node"], "")
        findings.append(dataclasses.asdict(process_has_older_file(about, record["component"], "metrics")))
    proven = dict(record, readers=readers, findings=findings)
    return dict(proven, status=status_by_findings(proven))


def _of_any(reason: str, node: str) -> str:
    """The same words for each node, so that they are said once."""
    named = (
        reason.replace("/nodes/%s/" % node, "/nodes/NAME/").replace('"%s"' % node, "NAME").replace(" lookup %s " % node, " lookup NAME ")
    )
    return _ADDRESS.sub("ADDRESS:10250", named)


def _is_between(results: Results, host: str, record: Record, asker: str, told: Result) -> bool:
    """Whether the certificate ends when the kubelet says so. Raises _Unknown."""
    own, others = results[host].get("clock"), results[asker].get("clock")
    if not own or not others:
        raise _Unknown("how its clock differs from that of %s is not known" % asker)
    try:
        earliest, latest, end = (datetime.strptime(text, _TIME) for text in (told["earliest_end"], told["latest_end"], record["not_after"]))
        earliest += timedelta(seconds=own["ahead_at_least"] - others["ahead_at_most"])
        latest += timedelta(seconds=own["ahead_at_most"] - others["ahead_at_least"])
        due = _due(results[host], record)
    except (OverflowError, TypeError, ValueError):
        raise _Unknown("the end that it tells is no time") from None
    if earliest > end and due:
        raise _Unknown("it tells a later end, as one that has renewed it since it was looked at")
    if not earliest <= end <= latest:
        return False
    if (latest - earliest).total_seconds() > _WIDEST_SECONDS:
        raise _Unknown("how its clock differs from that of %s is not known well enough, as the connections are slow" % asker)
    return True


def _due(result: Result, record: Record) -> bool:
    """Whether the kubelet may have renewed it between the look and the question. Raises TypeError or ValueError for what is no time."""
    start, end, looked = (datetime.strptime(text, _TIME) for text in (record["not_before"], record["not_after"], _looked(result)))
    return looked >= start + (end - start) * _RENEWED_FROM


def _not_asked(hosts: t.Sequence[str], why: str, asker: str | None) -> dict[str, str]:
    more = " and %d more" % (len(hosts) - _NAMED) if len(hosts) > _NAMED else ""
    return {
        "code": CODE,
        "severity": "info",
        "message": "Whether the kubelet of %s uses the client certificate on disk is not known: %s."
        % (", ".join(hosts[:_NAMED]) + more, why),
        "remedy": "Let the run cover a control-plane node of that cluster."
        if asker is None
        else "See on %s what kubectl get --raw /api/v1/nodes/NAME/proxy/metrics says." % asker,
    }


__all__ = ("kubelet_questions", "with_answers")
