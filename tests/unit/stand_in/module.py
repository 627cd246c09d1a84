# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for the collection's modules where only the controller's side is looked at.

A node is a JSON file, named by the host's remote_tmp: {certificates, cluster_objects, validity, health, rotation, clock_ahead, calls}. Each
call is written down in it. The Lease of the cluster is the file lease.json beside it; a node with `api: down` keeps it for itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

YEAR = 365 * 86400
PATIENCE = 600  # seconds
AFTER = {"not_after": "2027-11-24T00:00:00Z", "serial": "2", "fingerprint_sha256": "b" * 64}
HOLDER = {key: {"type": "str", "default": ""} for key in ("run_id", "since", "playbook", "user", "controller", "job_id", "process")}
LOCK = {"lock": {"type": "dict", "options": HOLDER}}
KUBERNETES_DIR = {"kubernetes_dir": {"type": "path", "default": "/etc/kubernetes"}}
RESTART = {"restart": {"choices": ["auto", "always", "never"], "default": "auto"}}
TIMEOUTS = {"stop_timeout_seconds": {"type": "int", "default": 2}, "start_timeout_seconds": {"type": "int", "default": 120}}
FOLLOWED = {"reconnect_timeout_seconds": {"type": "int", "default": 60}}
SPECS: dict[str, dict[str, t.Any]] = {
    "certificate_info": {
        "cluster": {"type": "str"},
        "warn_days": {"type": "int", "default": 30},
        "critical_days": {"type": "int", "default": 7},
        "probe_timeout_seconds": {"type": "float", "default": 2},
        "etcd_unit": {"type": "bool", "default": True},
        "kubeconfigs": {"type": "list", "elements": "str", "default": []},
        "kubeconfigs_only": {"type": "bool", "default": False},
        "cluster_objects": {"choices": ["none", "called", "all"], "default": "none"},
    },
    "cluster_health_info": {
        "planned": {"type": "list", "elements": "str", "default": []},
        "planned_elsewhere": {"type": "list", "elements": "str", "default": []},
        "restarts": {"type": "list", "elements": "str", "default": []},
        "etcd_unit": {"type": "bool", "default": True},
    },
    "certificate_rotation": {
        "run_id": {"type": "str", "required": True},
        "items": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "action": {"choices": ["renew", "activate", "restart", "configure"], "default": "renew"},
                "fingerprint_sha256": {"type": "str"},
                "signed_by": {"type": "str"},
                "refresh_sans": {"type": "bool"},
                "certificate": {"type": "str"},
            },
        },
        "private_key": {"choices": ["regenerate", "keep"], "default": "regenerate", "no_log": False},
        "validity_days": {"type": "int"},
        "kubeconfig_copies": {"type": "list", "elements": "str", "default": []},
        "keep_backups": {"type": "int", "default": 10},
        **RESTART,
        **TIMEOUTS,
        **FOLLOWED,
        **LOCK,
    },
    "certificate_rollback": {
        "run_id": {"type": "str"},
        "new_run_id": {"type": "str"},
        "missing_run": {"choices": ["fail", "ignore"], "default": "fail"},
        "keep_backups": {"type": "int", "default": 10},
        **RESTART,
        **TIMEOUTS,
        **FOLLOWED,
        **LOCK,
    },
    "cluster_lock": {
        "state": {"choices": ["held", "released"], "default": "held"},
        "holder": {"type": "dict", "required": True, "options": HOLDER},
        "take_over": {"type": "str", "default": ""},
        "cluster_ca": {"type": "str"},
    },
    "kubelet_info": {
        "nodes": {"type": "list", "elements": "str", "required": True},
        "timeout_seconds": {"type": "float", "default": 5},
        "limit_seconds": {"type": "float", "default": 60},
    },
    "kubelet_serving_approval": {
        "nodes": {"type": "list", "elements": "str", "required": True},
        "wait_seconds": {"type": "int", "default": 30},
        "served_seconds": {"type": "int", "default": 0},
    },
    "certificate_request": {
        "run_id": {"type": "str", "required": True},
        "names": {"type": "list", "elements": "str", "required": True},
        "private_key": {"choices": ["regenerate", "keep"], "default": "regenerate", "no_log": False},
        "validity_days": {"type": "int"},
    },
    "certificate_signing": {
        "requests": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                **{name: {"type": "str", "required": True} for name in ("name", "request", "certificate")},
                "validity_seconds": {"type": "int", "required": True},
                "proof": {"type": "str"},
            },
        },
        "copies_only": {"type": "bool", "default": False},
    },
    "kubeconfig_renewal": {
        "run_id": {"type": "str", "required": True},
        "names": {"type": "list", "elements": "str", "default": []},
        "certificates": {
            "type": "list",
            "elements": "dict",
            "options": {"name": {"type": "str", "required": True}, "certificate": {"type": "str", "required": True}},
        },
        "validity_days": {"type": "int", "default": 365},
        "keep_backups": {"type": "int", "default": 10},
    },
}


def main() -> None:
    """Play the module that this file was installed as."""
    name = STAND_IN_NAME
    module = AnsibleModule(argument_spec={**SPECS[name], **KUBERNETES_DIR}, supports_check_mode=True)
    path = module._remote_tmp + ".json"  # type: ignore[attr-defined]  # set from the task's own arguments, hence unknown to mypy
    with open(path, encoding="utf-8") as stored:
        node = json.load(stored)
    call = {"module": name, "check_mode": module.check_mode, "params": dict(module.params)}
    plays = {
        "certificate_info": info,
        "cluster_health_info": health,
        "certificate_request": ask,
        "certificate_signing": sign,
        "certificate_rotation": rotate,
        "certificate_rollback": roll_back,
        "cluster_lock": lock,
        "kubelet_info": ask_kubelets,
        "kubelet_serving_approval": approve,
        "kubeconfig_renewal": renew_kubeconfigs,
    }
    if not module.check_mode:
        befalls(node, name, module._remote_tmp)  # type: ignore[attr-defined]  # as above
    result = plays[name](node, module)
    with open(path + ".lock", "w", encoding="utf-8") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)  # several hosts may delegate to this one at a time
        with open(path, encoding="utf-8") as stored:
            _write(path, {**node, "calls": [*json.load(stored)["calls"], call]})
    if node.get("goes_away") == name and not module.check_mode:
        with open(module._remote_tmp + ".gone", "w", encoding="utf-8"):  # type: ignore[attr-defined]  # as above
            pass
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)


def befalls(node: dict[str, t.Any], name: str, path: str) -> None:
    """What befalls the node while its background works: it takes long, is away for some attempts, or is killed, alone or with its group."""
    if name != node.get("at", "certificate_rotation"):
        return
    if node.get("outlasts_doubt"):
        wait_until(lambda: os.path.exists(path + ".told"))
    if node.get("away_attempts"):
        gone = path + ".gone"
        with open(gone, "w", encoding="utf-8"):
            pass
        wait_until(lambda: not os.path.exists(gone) or os.path.getsize(gone) >= node["away_attempts"])
        if os.path.exists(gone):
            os.unlink(gone)
    if node.get("killed") == "process":
        os.kill(os.getpid(), signal.SIGKILL)
    if node.get("killed") == "group":
        os.killpg(0, signal.SIGKILL)


def wait_until(met: t.Callable[[], bool]) -> None:
    """Wait for what a test is going to see to; for as long as the slowest machine may take, and not for ever."""
    end = time.monotonic() + PATIENCE
    while not met() and time.monotonic() < end:
        time.sleep(0.1)


def info(node: dict[str, t.Any], module: AnsibleModule) -> dict[str, t.Any]:
    """The records that the test gave the node."""
    if node.get("broken"):
        return {"failed": True, "msg": node["broken"]}
    certificates = [dict(record, cluster=module.params["cluster"] or record["cluster"]) for record in node["certificates"]]
    certificates += node.get("cluster_objects", {}).get(module.params["cluster_objects"], [])
    described = {
        "certificate_validity_seconds": node.get("validity"),
        "kubelet_settings": node.get("kubelet_settings", {}),
        "kubelet_to_ask": node.get("kubelet_to_ask"),
        "components": node.get("components", {}),
        "leads": node.get("leads", []),
        "name": node.get("node_name"),
        "signs": node.get("signs", []),
        "issued_by": node.get("issued_by", {}),
        "now": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + node.get("clock_ahead", 0))),
        "seconds_taken": 0.0,
    }
    return {"changed": False, "certificates": certificates, "node": described, "problems": []}


def ask_kubelets(node: dict[str, t.Any], module: AnsibleModule) -> dict[str, t.Any]:
    """What the test lets each kubelet tell ({node: (earliest, latest)}, or a reason), or the failure `deaf`."""
    if node.get("deaf"):
        return {"failed": True, "msg": node["deaf"]}
    told = []
    for name in module.params["nodes"]:
        said = node.get("told", {}).get(name, "no answer within 5 s")
        earliest, latest, reason = (None, None, said) if isinstance(said, str) else (*said, None)
        told.append({"node": name, "earliest_end": earliest, "latest_end": latest, "reason": reason})
    return {"changed": False, "kubelets": told}


def health(node: dict[str, t.Any], _module: AnsibleModule) -> dict[str, t.Any]:
    """The verdicts that the test gave the node, one after the other; the last one stays. A list names checks that fail."""
    said = node["health"].pop(0) if len(node["health"]) > 1 else node["health"][0]
    failed = said if isinstance(said, list) else [] if said == "healthy" else ["etcd"]
    verdict = "unhealthy" if isinstance(said, list) else said
    checks: list[dict[str, t.Any]] = [{"name": name, "ok": False, "message": "no leader", "caused_by_expired": []} for name in failed]
    return {"changed": False, "verdict": verdict, "msg": "%s: etcd: no leader" % verdict, "checks": checks}


def ask(node: dict[str, t.Any], module: AnsibleModule) -> dict[str, t.Any]:
    """A request for each name; `claims` is for how many seconds."""
    names, seconds = module.params["names"], node.get("claims", YEAR)
    requests = [{"name": name, "request": "asks for %s" % name, "certificate": "old", "validity_seconds": seconds} for name in names]
    return {"changed": True, "requests": requests}


def sign(node: dict[str, t.Any], module: AnsibleModule) -> dict[str, t.Any]:
    """What was asked for, or a refusal: of everything, or of a request of that name."""
    requests = module.params["requests"]
    refusals = [node.get("unsigned", {})[one["name"]] for one in requests if one["name"] in node.get("unsigned", {})]
    if node.get("refuses") or refusals:
        return {"failed": True, "msg": node.get("refuses") or refusals[0]}
    return {"changed": False, "certificates": [{"name": one["name"], "certificate": "signed: %s" % one["request"]} for one in requests]}


def renew_kubeconfigs(node: dict[str, t.Any], module: AnsibleModule) -> dict[str, t.Any]:
    """Requests, or a year for what was signed; `refused` are those that are not renewed, with the reason."""
    given, refused = module.params["certificates"], node.get("refused", {})
    names = module.params["names"] if given is None else [one["name"] for one in given]
    result: dict[str, t.Any] = {"changed": bool(names), "requests": [], "certificates": [], "recovered": []}
    if given is None and not module.check_mode:
        return {**result, "requests": [{**one, "proof": "p"} for one in ask(node, module)["requests"]]}
    for name in names:
        record = next(record for record in node["certificates"] if record["name"] == name)
        after = {**AFTER, "subject": record["subject"]}
        done = {"before": {key: record[key] for key in after}, "after": after, "in_use": "true", "proof": "identity", "message": None}
        if name not in refused:
            result["certificates"].append({"name": name, "action": "renew", **done})
        if name not in refused and not module.check_mode:
            record.update(after, seconds_left=YEAR, days_left=365, status="ok", not_before="2026-11-24T00:00:00Z")
    problems = [refused[name] for name in names if name in refused]
    return {**result, "failed": True, "msg": " ".join(problems)} if problems else result


def approve(node: dict[str, t.Any], module: AnsibleModule) -> dict[str, t.Any]:
    """The node's `requests` ({name: node}) of those nodes that may be approved, or the failure `approval`; then whoever is `unserved`."""
    if node.get("approval"):
        return {"failed": True, "msg": node["approval"]}
    requests, nodes, why = node.get("requests", {}), module.params["nodes"], "it is of no node of this play"
    approved = [{"request": name, "node": by, "not_after": None} for name, by in requests.items() if by in nodes]
    left = [{"request": name, "requester": by, "reason": why} for name, by in requests.items() if by not in nodes]
    looked_at = {"unserved": [{"node": name, "reason": why} for name, why in node.get("unserved", {}).items()]}
    return {"changed": bool(approved), "approved": approved, "left_alone": left, **(looked_at if module.params["served_seconds"] else {})}


def rotate(node: dict[str, t.Any], module: AnsibleModule) -> dict[str, t.Any]:
    """Every item gets a year, or the node is put back."""
    done = []
    settings = [item["name"] for item in module.params["items"] if item["action"] == "configure"]
    for name in settings:
        facts = {**dict.fromkeys(("not_after", "serial", "subject", "fingerprint_sha256")), "setting": name, "path": "/config.yaml"}
        before, after = {**facts, "value": None}, {**facts, "value": "true"}
        done.append({"name": name, "action": "configure", "before": before, "after": after, "in_use": "true", "proof": "process_age"})
        if not module.check_mode:
            node["runs"] = {"%s-kubelet" % module.params["run_id"]: name}
    for item in module.params["items"]:
        if item["name"] in settings:
            continue
        record = next(record for record in node["certificates"] if record["name"] == item["name"])
        after = {**AFTER, "subject": record["subject"]}
        before = {key: record[key] for key in after}
        proof = {"in_use": "true", "proof": "handshake"}
        done.append({"name": item["name"], "action": item["action"], "before": before, "after": after, **proof})
        if not module.check_mode and not node.get("rotation"):
            record.update(after, seconds_left=YEAR, days_left=365, status="ok")
            record["readers"] = [dict(reader, in_use="true") for reader in record["readers"]]
    components = [{"name": "kube-scheduler", "action": "restarted", "because": "does not reload", "away_seconds": 1.94}]
    result = {"changed": bool(done), "run_id": module.params["run_id"], "certificates": done, "components": components}
    result.update(rolled_back=False, recovered=[], **({"settings_run_id": "%s-kubelet" % module.params["run_id"]} if settings else {}))
    if node.get("rotation"):
        result.update(failed=True, changed=False, rolled_back=True, msg=node["rotation"])
    return result


def roll_back(node: dict[str, t.Any], module: AnsibleModule) -> dict[str, t.Any]:
    """What the node's `runs` ({run id: certificate's name}) replaced is put back, once; the newest is the last one."""
    runs = node.get("runs", {"run-1": "apiserver"})
    chosen = module.params["run_id"] or next(reversed(list(runs)), None)
    result: dict[str, t.Any] = {"changed": False, "run_id": module.params["new_run_id"], "restored_run_id": None, "runs": list(runs)}
    result.update(certificates=[], components=[], rolled_back=False, recovered=[])
    if chosen not in runs:
        refused = module.params["missing_run"] == "fail" and chosen is not None
        return {**result, "failed": True, "msg": "There is no run %s" % chosen} if refused else result
    result["restored_run_id"] = chosen
    if chosen not in node.get("restored", []):
        facts = {"not_after": "2026-12-04T00:00:00Z", "serial": "1", "subject": "CN=x", "fingerprint_sha256": "a" * 64}
        proof = {"in_use": "true", "proof": "handshake"}
        result.update(changed=True, certificates=[{"name": runs[chosen], "action": "restore", "before": facts, "after": facts, **proof}])
        if not module.check_mode:
            node.setdefault("restored", []).append(chosen)
    return result


def lock(node: dict[str, t.Any], module: AnsibleModule) -> dict[str, t.Any]:
    """The cluster's lock, or the node's own while its API is down."""
    wanted = module.params["holder"]
    lease = os.path.join(os.path.dirname(module._remote_tmp), "lease.json")  # type: ignore[attr-defined]  # as above
    down = node.get("api") == "down"
    holder = node.get("lock") or (None if down else _read(lease))
    ours = holder is not None and holder["run_id"] == wanted["run_id"]
    if module.params["state"] == "released":
        if ours and not module.check_mode:
            node["lock"] = None
            if not down:
                with contextlib.suppress(FileNotFoundError):  # another node let it go
                    os.unlink(lease)
        return {"changed": ours}
    if holder is not None and not ours and module.params["take_over"] not in ("any", holder["run_id"]):
        return {"failed": True, "msg": "another run changes this cluster: %s" % holder["run_id"], "held_by": holder}
    if not module.check_mode:
        if down:
            node["lock"] = wanted
        else:
            _write(lease, wanted)
    return {"changed": True, "kept_in": "" if module.check_mode else "file" if down else "lease", "because": ""}


def _read(path: str) -> t.Any:
    try:
        with open(path, encoding="utf-8") as stored:
            return json.load(stored)
    except FileNotFoundError:
        return None


def _write(path: str, value: t.Any) -> None:
    """At once: another host's module may read it meanwhile."""
    whole = "%s.%d" % (path, os.getpid())
    with open(whole, "w", encoding="utf-8") as stored:
        json.dump(value, stored)
    os.replace(whole, path)


STAND_IN_NAME = ""

if __name__ == "__main__":
    main()
