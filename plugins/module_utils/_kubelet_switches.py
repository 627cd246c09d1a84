# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Two settings of the kubelet's configuration that somebody may want on: that it renews its client certificate by itself, and that it
has its serving certificate signed by the cluster. How they are now, in which file they are changed, and the proof that they are on.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.certops.kubernetes.plugins.module_utils._files import final_target, read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import ROLLBACK, Item
from ansible_collections.certops.kubernetes.plugins.module_utils._kubelet_config import KubeletSettings, read_kubelet
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import KUBELET
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._proof import Proof
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import CONFIGURE, NewFile, Renewal
from ansible_collections.certops.kubernetes.plugins.module_utils._restarts import SETTING, process_of
from ansible_collections.certops.kubernetes.plugins.module_utils._yaml_switch import switched_on

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Journal
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node
    from ansible_collections.certops.kubernetes.plugins.module_utils._node_access import NodeAccess

ROTATION = SETTING + "rotateCertificates"
SERVING = SETTING + "serverTLSBootstrap"
FLAGS = {ROTATION: "rotate-certificates", SERVING: "rotate-server-certificates"}
_CLIENT_CREDENTIALS = ("kubelet-client", "kubelet.conf")
_NO_FACTS = dict.fromkeys(("subject", "serial", "not_before", "not_after", "fingerprint_sha256"))
_POLL_SECONDS = 0.5
_CONFIG_MAP = "kubectl -n kube-system edit configmap kubelet-config"


@dataclass(frozen=True)
class Switch:
    """A setting as it is: on, or off and in which file it is to be changed, or off and why it cannot be changed, as a sentence."""

    on: bool
    path: str | None = None
    obstacle: str | None = None


def is_setting(name: str) -> bool:
    """Whether an item of a run is a setting of the kubelet and no certificate."""
    return name.startswith(SETTING)


def settings_of(node: Node) -> KubeletSettings:
    """What this node's kubelet has in its flags and files now."""
    kubelet = node.components.get(KUBELET)
    return read_kubelet(kubelet.process if kubelet else None, node.kubernetes_dir)


def look_at_switches(settings: KubeletSettings) -> dict[str, Switch]:
    """Each switch by its name; empty where no kubelet is a client of a cluster. Changes nothing, never raises."""
    if not settings.present or settings.standalone:
        return {}
    found = {}
    for name in FLAGS:
        if _is_on(settings, name):
            found[name] = Switch(True)
            continue
        try:
            path = _place(settings, name)
            switched_on(read_bounded(path), _key(name), path)
            found[name] = Switch(False, path)
        except CertopsError as error:
            found[name] = Switch(False, None, str(error))
    return found


def changes_for(node: Node, names: t.Sequence[str], expired: t.Sequence[str] = ()) -> tuple[list[Renewal], list[str]]:
    """What to write to switch these on, and what is on already, as sentences. Raises CertopsError with every reason why not.

    `expired`: certificates of the node that have ended; a kubelet whose client certificate is among them does not start again.
    """
    settings, contents = settings_of(node), {}  # type: tuple[KubeletSettings, dict[str, bytes]]
    made, done, problems = [], [], []
    for name in names:
        if _is_on(settings, name):
            done.append("%s is on already on this node." % _key(name))
            continue
        try:
            path = _place(settings, name)
            target = final_target(path)
            contents[target] = switched_on(contents.get(target) or read_bounded(path), _key(name), path)
            made.append((name, path, target))
        except CertopsError as error:
            problems.append(str(error))
    ended = [name for name in expired if name in _CLIENT_CREDENTIALS]
    if made and ended:
        problems.append(
            "The kubelet is not restarted: %s has expired, and it would not start again. Remedy: renew it first." % ", ".join(ended)
        )
    if problems:
        raise CertopsError("The kubelet's configuration was not changed. " + " ".join(problems))
    # Both may be in one file: what is written is what has all of them.
    return [
        Renewal(Item(name, CONFIGURE, _facts(settings, name, path), _fact(name, path, "true")), (NewFile(target, contents[target]),))
        for name, path, target in made
    ], done


def kubeadm_warnings(node: Node, made: t.Sequence[Renewal]) -> list[str]:
    """That kubeadm writes the configuration anew, with the command to have it on there too; nothing for a drop-in, which it leaves."""
    files = settings_of(node).files
    keys = [_key(one.item.name) for one in made if files and one.item.after["path"] == files[0][0]]
    if not keys:
        return []
    return [
        "kubeadm upgrade writes %s anew from the cluster's ConfigMap kubelet-config, which was not changed: set %s there too "
        "(once for the cluster): %s" % (files[0][0], " and ".join("%s: true" % key for key in keys), _CONFIG_MAP)
    ]


def prove_settings(
    access: NodeAccess, journal: Journal, items: t.Sequence[Item], worked_before: t.Collection[str], seconds: float
) -> tuple[Proof, ...]:
    """That each setting is as wanted, that the kubelet that runs is another one than before, and that its API server still takes it.

    `worked_before`: those for which that was seen before the change. `seconds`: how long is waited for it. Raises CertopsError.
    """
    node = access.discover()
    settings, process = settings_of(node), process_of(node, KUBELET)
    before = next((touched for touched in journal.components if touched.name == KUBELET), None)
    proofs = []
    for item in items:
        if _is_on(settings, item.name) != (item.after["value"] == "true"):
            raise CertopsError(
                "%s is not %s after the change: see %s and the kubelet's flags."
                % (_key(item.name), item.after["value"], item.after["path"])
            )
        new = before is not None and process is not None and process != before.process
        in_use = "true" if new else "unknown"
        proofs.append(Proof(item.name, in_use, "process_age", ((KUBELET, "restart", in_use, "process_age"),)))
    deadline = access.monotonic() + seconds
    for item in items:
        _wait_until_taken(access, item, journal.kind == ROLLBACK, item.name in worked_before, deadline)
    return tuple(proofs)


def _wait_until_taken(access: NodeAccess, item: Item, is_rollback: bool, worked_before: bool, deadline: float) -> None:
    """With rotation a kubelet shows what lies in its own folder, whatever its kubeconfig names: a leftover there may be no good."""
    while True:
        way = access.client_proof(access.discover(), item.name, "")
        # Who goes back may do that because it does not work.
        if way.in_use == "true" or not (worked_before or (way.in_use == "false" and not is_rollback)):
            return
        if access.monotonic() > deadline:
            raise CertopsError(
                "The kubelet does not reach its API server with %s: %s (%s). Remedy: see journalctl -u kubelet, and what lies in its "
                "--cert-dir." % (_key(item.name), item.after["value"], way.message or "no reason given")
            )
        access.sleep(_POLL_SECONDS)


def restore_problem(journal: Journal, item: Item, holds: t.Callable[[t.Any], bool]) -> str | None:
    """Why a file with this setting cannot be put back: somebody has changed it since. `holds` says whether one is as the run left it."""
    path = final_target(str(item.after["path"]))
    file = next((one for one in journal.files if one.path == path), None)
    if file is None or holds(file):
        return None
    return "%s was changed since the run %s. Remedy: set %s in it by hand, and restart the kubelet." % (
        path,
        journal.run_id,
        "%s: false" % _key(item.name),
    )


def _is_on(settings: KubeletSettings, name: str) -> bool:
    return settings.enabled(FLAGS[name], _key(name))


def _key(name: str) -> str:
    return name[len(SETTING) :]


def _place(settings: KubeletSettings, name: str) -> str:
    """The file where the setting has to be changed. Raises CertopsError when that would do nothing, or is not known."""
    key, flag = _key(name), FLAGS[name]
    if name == SERVING and settings.serving_pair is not None:
        raise CertopsError(
            "The kubelet's serving certificate comes from the file %s (tlsCertFile). Remedy: take tlsCertFile and tlsPrivateKeyFile away, "
            "if the cluster is to sign it instead." % settings.serving_pair[0]
        )
    if settings.process is None:
        raise CertopsError("The kubelet does not run, so how it is configured is not known. Remedy: start it.")
    if flag in settings.flags:
        raise CertopsError(
            "--%s=%s on the kubelet's command line wins over %s in its configuration. Remedy: take the flag away (systemctl cat kubelet; "
            "kubeadm's are in /var/lib/kubelet/kubeadm-flags.env), and restart the kubelet." % (flag, settings.flags[flag][-1], key)
        )
    if settings.problems:
        raise CertopsError("The kubelet's configuration is not wholly known: %s" % settings.problems[0].message)
    if "config" not in settings.flags or not settings.files:
        raise CertopsError("The kubelet has no configuration file (--config) in which %s could be set. Remedy: give it one." % key)
    return next((path for path, config in reversed(settings.files) if key in config), settings.files[0][0])


def _facts(settings: KubeletSettings, name: str, path: str) -> dict[str, t.Any]:
    config = dict(settings.files)[path]
    return _fact(name, path, str(config[_key(name)]) if _key(name) in config else None)


def _fact(name: str, path: str, value: str | None) -> dict[str, t.Any]:
    return {**_NO_FACTS, "sans": [], "path": path, "setting": _key(name), "value": value}


__all__ = (
    "FLAGS",
    "ROTATION",
    "SERVING",
    "Switch",
    "changes_for",
    "is_setting",
    "kubeadm_warnings",
    "look_at_switches",
    "prove_settings",
    "restore_problem",
    "settings_of",
)
