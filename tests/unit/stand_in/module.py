# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for the collection's modules where only the controller's side is looked at.

A node is a JSON file, named by the host's remote_tmp: {certificates, validity, health, rotation, calls}. Each call is written down in it.
"""

from __future__ import annotations

import json
import typing as t

from ansible.module_utils.basic import AnsibleModule

YEAR = 365 * 86400
KUBERNETES_DIR = {"kubernetes_dir": {"type": "path", "default": "/etc/kubernetes"}}
RESTART = {"restart": {"choices": ["auto", "always", "never"], "default": "auto"}}
TIMEOUTS = {"stop_timeout_seconds": {"type": "int", "default": 2}, "start_timeout_seconds": {"type": "int", "default": 120}}
SPECS: dict[str, dict[str, t.Any]] = {
    "certificate_info": {
        "cluster": {"type": "str"},
        "warn_days": {"type": "int", "default": 30},
        "critical_days": {"type": "int", "default": 7},
        "probe_timeout_seconds": {"type": "float", "default": 2},
        "etcd_unit": {"type": "bool", "default": True},
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
                "action": {"choices": ["renew", "activate"], "default": "renew"},
                "fingerprint_sha256": {"type": "str"},
                "signed_by": {"type": "str"},
                "certificate": {"type": "str"},
            },
        },
        "private_key": {"choices": ["regenerate", "keep"], "default": "regenerate", "no_log": False},
        "validity_days": {"type": "int"},
        "keep_backups": {"type": "int", "default": 10},
        **RESTART,
        **TIMEOUTS,
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
            },
        },
    },
    "certificate_rollback": {"run_id": {"type": "str"}, **RESTART, **TIMEOUTS},
}


def main() -> None:
    """Play the module that this file was installed as."""
    name = STAND_IN_NAME
    module = AnsibleModule(argument_spec={**SPECS[name], **KUBERNETES_DIR}, supports_check_mode=True)
    path = module._remote_tmp + ".json"  # type: ignore[attr-defined]  # set from the task's own arguments, hence unknown to mypy
    with open(path, encoding="utf-8") as stored:
        node = json.load(stored)
    node["calls"].append({"module": name, "check_mode": module.check_mode, "params": dict(module.params)})
    plays = {
        "certificate_info": info,
        "cluster_health_info": health,
        "certificate_request": ask,
        "certificate_signing": sign,
        "certificate_rotation": rotate,
        "certificate_rollback": roll_back,
    }
    result = plays[name](node, module)
    with open(path, "w", encoding="utf-8") as stored:
        json.dump(node, stored)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)


def info(node: dict[str, t.Any], module: AnsibleModule) -> dict[str, t.Any]:
    """The records that the test gave the node."""
    if node.get("broken"):
        return {"failed": True, "msg": node["broken"]}
    certificates = [dict(record, cluster=module.params["cluster"] or record["cluster"]) for record in node["certificates"]]
    described = {"certificate_validity_seconds": node.get("validity"), "leads": node.get("leads", []), "signs": node.get("signs", [])}
    return {"changed": False, "certificates": certificates, "node": described, "problems": []}


def health(node: dict[str, t.Any], _module: AnsibleModule) -> dict[str, t.Any]:
    """The verdicts that the test gave the node, one after the other; the last one stays."""
    verdict = node["health"].pop(0) if len(node["health"]) > 1 else node["health"][0]
    checks = [] if verdict == "healthy" else [{"name": "etcd", "ok": False, "message": "no leader", "caused_by_expired": []}]
    return {"changed": False, "verdict": verdict, "msg": "%s: etcd: no leader" % verdict, "checks": checks}


def ask(_node: dict[str, t.Any], module: AnsibleModule) -> dict[str, t.Any]:
    """A request for each name."""
    names = module.params["names"]
    requests = [{"name": name, "request": "asks for %s" % name, "certificate": "old", "validity_seconds": YEAR} for name in names]
    return {"changed": True, "requests": requests}


def sign(node: dict[str, t.Any], module: AnsibleModule) -> dict[str, t.Any]:
    """What was asked for, or a refusal."""
    if node.get("refuses"):
        return {"failed": True, "msg": node["refuses"]}
    requests = module.params["requests"]
    return {"changed": False, "certificates": [{"name": one["name"], "certificate": "signed: %s" % one["request"]} for one in requests]}


def rotate(node: dict[str, t.Any], module: AnsibleModule) -> dict[str, t.Any]:
    """Every item gets a year, or the node is put back."""
    done = []
    for item in module.params["items"]:
        record = next(record for record in node["certificates"] if record["name"] == item["name"])
        after = {"not_after": "2027-11-24T00:00:00Z", "serial": "2", "subject": record["subject"], "fingerprint_sha256": "b" * 64}
        before = {key: record[key] for key in after}
        proof = {"in_use": "true", "proof": "handshake"}
        done.append({"name": item["name"], "action": item["action"], "before": before, "after": after, **proof})
        if not module.check_mode and not node.get("rotation"):
            record.update(after, seconds_left=YEAR, days_left=365, status="ok")
            record["readers"] = [dict(reader, in_use="true") for reader in record["readers"]]
    components = [{"name": "kube-scheduler", "action": "restarted", "because": "does not reload", "away_seconds": 1.94}]
    result = {"changed": bool(done), "run_id": module.params["run_id"], "certificates": done, "components": components}
    result.update(rolled_back=False, recovered=[])
    if node.get("rotation"):
        result.update(failed=True, changed=False, rolled_back=True, msg=node["rotation"])
    return result


def roll_back(node: dict[str, t.Any], module: AnsibleModule) -> dict[str, t.Any]:
    """Nothing was there to be put back."""
    return {"changed": False, "run_id": module.params["run_id"], "certificates": [], "components": [], "rolled_back": True, "recovered": []}


STAND_IN_NAME = ""

if __name__ == "__main__":
    main()
