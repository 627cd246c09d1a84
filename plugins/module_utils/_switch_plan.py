# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What a rotation will do about settings of kubelets that the user wants on, as entries of its plan. Pure."""

from __future__ import annotations

import typing as t

CONFIGURE = "configure"
# What policy calls it, the setting's name, and the certificates that it is about.
_WANTED = (
    ("enable_kubelet_rotation", "kubelet:rotateCertificates", ("kubelet-client", "kubelet.conf")),
    ("cluster_signed_kubelet_serving", "kubelet:serverTLSBootstrap", ("kubelet-serving",)),
)


def switch_entries(
    policy: t.Mapping[str, t.Any], nodes: t.Mapping[str, t.Mapping[str, t.Any]], selected: t.Collection[tuple[str, str]] | None
) -> list[dict[str, t.Any]]:
    """An entry `configure` for each setting that is wanted and is off on a node; `report` where it cannot be switched on.

    `nodes` maps a host to what `certificate_info` says of its node. `selected` are (host, certificate) of `certs_rotate_select`.
    """
    entries = []
    for host, node in nodes.items():
        for key, name, certificates in _WANTED:
            switch = (node.get("kubelet_settings") or {}).get(name)
            if not policy.get(key) or switch is None or switch["on"]:
                continue
            chosen = selected is None or any((host, certificate) in selected for certificate in certificates)
            action, code, reason = _decision(policy, name, switch, "certs_rotate_%s" % key, chosen)
            entries.append(_entry(host, node, name, action, code, reason))
    return entries


def _decision(policy: t.Mapping[str, t.Any], name: str, switch: t.Mapping[str, t.Any], variable: str, chosen: bool) -> tuple[str, str, str]:
    wanted = "it is off, and %s wants it on" % variable
    if not chosen:
        return "none", "not_selected", "%s, but certs_rotate_select leaves it out" % wanted
    if switch["obstacle"]:
        return "report", "not_switched", "%s; not switched: %s" % (wanted, switch["obstacle"])
    if policy["restart"] == "never":
        return "report", "activation_pending", "%s, for which the kubelet must be restarted; certs_rotate_restart is never" % wanted
    if name.endswith("serverTLSBootstrap") and not policy.get("approve_serving_requests"):
        return (
            *("report", "not_switched"),
            "%s; not switched: nobody would approve its request, because certs_rotate_approve_serving_requests is false" % wanted,
        )
    if name.endswith("serverTLSBootstrap") and not policy.get("approver", True):
        return "report", "not_switched", "%s; not switched: there is no control-plane node to approve its request on" % wanted
    return CONFIGURE, "switched_on", "%s (in %s)" % (wanted, switch["path"])


def _entry(host: str, node: t.Mapping[str, t.Any], name: str, action: str, code: str, reason: str) -> dict[str, t.Any]:
    keys = ("not_after", "days_left", "ends_after", "signed_by", "fingerprint_sha256")
    return {
        **dict.fromkeys(keys),
        "host": host,
        "node": node.get("name"),
        "name": name,
        "component": "kubelet",
        "action": action,
        "code": code,
        "reason": reason,
        "apart": False,
        "refresh_sans": False,
        "restarts": ["kubelet"] if action == CONFIGURE else [],
    }


__all__ = ("CONFIGURE", "switch_entries")
