# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real node in odd conditions. The last step of its scenario: the scheduler's user and some owners are not put back."""

from __future__ import annotations

import json
import time
import typing as t

import cluster
import pytest

PKI = "/etc/kubernetes/pki"
SCHEDULER_CONF = "/etc/kubernetes/scheduler.conf"
SELECT = "[?name=='apiserver' || name=='scheduler.conf']"
WANTED = {"items": [{"name": "apiserver"}, {"name": "scheduler.conf"}], "run_id": "conditions"}
FORCED = ("-e", json.dumps({"certs_rotate_force": True, "certs_rotate_select": SELECT}))
IMPATIENT = ("-e", json.dumps({"certs_rotate_health_timeout_seconds": 0}))
USER = 2001
LABEL = "system_u:object_r:kubernetes_file_t:s0"
LABELLED = (f"{PKI}/apiserver.crt", f"{PKI}/apiserver.key", SCHEDULER_CONF)

# Is stopped first, and takes its time, so that a reboot which has begun gets no further for a while.
HOLDER = """
[Unit]
After=kubelet.service containerd.service node-dns.service dbus.service systemd-journald.service multi-user.target local-fs.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sleep 600
TimeoutStopSec=900
"""
REBOOT = """
cat >/run/systemd/system/holder.service
systemctl daemon-reload
systemctl start holder.service
systemctl start --no-block reboot.target
"""
CALL_OFF = """
systemctl cancel
systemctl kill -s KILL holder.service
rm /run/systemd/system/holder.service
systemctl daemon-reload
systemctl start graphical.target timers.target
"""
RUN_AS_USER = """
import os, sys, yaml
path = "/etc/kubernetes/manifests/kube-scheduler.yaml"
with open(path) as stream:
    pod = yaml.safe_load(stream)
pod["spec"]["containers"][0]["securityContext"] = {"runAsUser": int(sys.argv[1]), "runAsGroup": int(sys.argv[1])}
with open("/etc/kubernetes/manifests/.new", "w") as stream:
    yaml.safe_dump(pod, stream)
os.rename("/etc/kubernetes/manifests/.new", path)
"""


def wait_for(condition: t.Callable[[], t.Any], seconds: float) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.5)


def files() -> dict[str, list[t.Any]]:
    """The node's files, but for Ansible's own and the lock, which is signed by whoever looks."""
    own = ("/root", "/var/lib/certops/lock")
    return {path: entry for path, entry in cluster.snapshot().items() if not path.startswith(own) and path != "/var/lib/certops"}


def assert_refused(sentence: str, *modes: tuple[str, ...]) -> None:
    """The module refuses with a sentence, and nothing at all is changed."""
    before = files()
    for mode in modes:
        result = cluster.module("certificate_rotation", WANTED, *mode)
        assert result["failed"], result
        assert sentence in result["msg"], result["msg"]
        assert "nothing was changed" in result["msg"]
    after = files()
    assert sorted(path for path in {*before, *after} if before.get(path) != after.get(path)) == []


def test_a_reboot_that_has_begun() -> None:
    """By systemd itself: its job for shutdown.target waits while a unit takes its time to stop."""
    cluster.on_node("sh", "-ec", REBOOT, stdin=HOLDER)
    try:
        wait_for(lambda: "Job=" in cluster.on_node("systemctl", "show", "--property=Job", "shutdown.target"), 30)
        assert_refused("the node is shutting down or rebooting (shutdown.target)", ("--check",), ())
    finally:
        cluster.on_node("sh", "-c", CALL_OFF)
    assert cluster.on_node("systemctl", "is-active", "kubelet", "containerd").split() == ["active", "active"]


def ready() -> str:
    """The node's condition Ready."""
    path = "{.status.conditions[?(@.type=='Ready')].status}"
    return cluster.kubectl("get", "node", cluster.NODE, "-o", f"jsonpath={path}").strip()


def test_a_node_that_is_not_ready() -> None:
    """Its network's configuration is gone, its kubelet says so, its components are well: nothing begins there, in check mode neither."""
    network = "/etc/cni/net.d/10-podnet.conflist"
    cluster.on_node("sh", "-ec", f"pkill -STOP -x podnet; mv {network} {network}.off")  # podnet would write it again
    try:
        wait_for(lambda: ready() == "False", 120)
        before = files()
        shown = cluster.playbook("rotate", *FORCED, *IMPATIENT, "--check", check=False)
        assert shown.returncode == 2
        assert f"Nothing was changed on {cluster.NODE}" in shown.stdout
        assert f"node {cluster.NODE} is not Ready: " in shown.stdout
        assert files() == before
        assert_refused(f"the node is not healthy (node {cluster.NODE} is not Ready: ", ())
    finally:
        cluster.on_node("sh", "-ec", f"mv {network}.off {network}; pkill -CONT -x podnet")
    wait_for(lambda: ready() == "True", 120)


def uid_of(process: str) -> int:
    """Whose process it is; -1 while there is none."""
    pid = cluster.on_node("pgrep", "-x", process[:15], check=False).strip()
    return int(cluster.on_node("stat", "-c", "%u", f"/proc/{pid}", check=False) or -1) if pid.isdigit() else -1


def label_of(path: str) -> str:
    """A file's SELinux label."""
    script = "import os, sys; print(os.getxattr(sys.argv[1], 'security.selinux').decode())"
    return cluster.on_node("python3", "-c", script, path).strip().rstrip("\0")


def served() -> str:
    """The serial number of the certificate on the API server's port."""
    script = "openssl s_client -connect localhost:6443 </dev/null 2>&- | openssl x509 -noout -serial"
    return cluster.on_node("sh", "-c", script).strip()


@pytest.fixture(scope="module", name="odd")
def fixture_odd() -> t.Iterator[dict[str, t.Any]]:
    """A rotation of a cordoned node whose scheduler is a user of its own (as kubeadm's rootless control plane has it), whose API server's
    key may be read by a group, whose files have SELinux labels, and whose pki folder was backed up with hard links."""
    cluster.on_node("python3", "-", str(USER), stdin=RUN_AS_USER)
    cluster.on_node("chown", f"{USER}:{USER}", SCHEDULER_CONF)
    cluster.on_node("sh", "-ec", f"chown 0:{USER} {PKI}/apiserver.key; chmod 0640 {PKI}/apiserver.key; cp -al {PKI} /etc/pki-backup")
    for path in LABELLED:
        script = "import os, sys; os.setxattr(sys.argv[1], 'security.selinux', sys.argv[2].encode())"
        cluster.on_node("python3", "-c", script, path, LABEL)
    wait_for(lambda: uid_of("kube-scheduler") == USER, 120)
    cluster.kubectl("cordon", cluster.NODE)
    before, serial = files(), served()
    try:
        done = cluster.playbook("rotate", *FORCED)
        yield {"before": before, "after": files(), "serials": (serial, served()), "said": " ".join((done.stdout + done.stderr).split())}
    finally:
        cluster.kubectl("uncordon", cluster.NODE)


def test_owners_and_modes_are_kept(odd: dict[str, t.Any]) -> None:
    """Of everything, the three files that were replaced among it."""
    before, after = odd["before"], odd["after"]
    kept = {path: entry[2:5] for path, entry in before.items() if path.startswith("/etc/kubernetes")}
    assert {path: after[path][2:5] for path in kept} == kept
    assert {path for path in kept if before[path][5] != after[path][5]} == set(LABELLED)


def test_a_component_of_its_own_user_reads_its_new_file(odd: dict[str, t.Any]) -> None:
    """The scheduler was restarted, as that user, and has the file that is there now."""
    assert odd
    assert uid_of("kube-scheduler") == USER
    pid = cluster.on_node("pgrep", "-x", "kube-scheduler").strip()
    host = cluster.on_node("stat", "-c", "%d:%i", SCHEDULER_CONF)
    assert cluster.on_node("stat", "-L", "-c", "%d:%i", f"/proc/{pid}/root{SCHEDULER_CONF}") == host


def test_a_component_of_its_own_user_may_own_its_file(odd: dict[str, t.Any]) -> None:
    """An inspection has nothing to say of whose the files are."""
    assert odd
    records = cluster.module("certificate_info", {"kubeconfigs": []})["certificates"]
    codes = {finding["code"] for record in records for finding in record["findings"]}
    assert not codes & {"owned_by_another_user", "writable_by_others"}
    assert {record["name"] for record in records} >= {"scheduler.conf", "apiserver"}


def test_selinux_labels_are_kept(odd: dict[str, t.Any]) -> None:
    """The file system has them although nobody enforces them here."""
    assert odd
    assert {path: label_of(path) for path in LABELLED} == dict.fromkeys(LABELLED, LABEL)


def test_a_cordoned_node_is_rotated_and_that_is_said(odd: dict[str, t.Any]) -> None:
    """Pods that run on it are none of a rotation's business."""
    assert f"node {cluster.NODE} is cordoned, which is no obstacle" in odd["said"]
    assert odd["serials"][0] != odd["serials"][1]


def test_a_watch_that_stayed_with_a_hard_link_is_noticed(odd: dict[str, t.Any]) -> None:
    """The API server saw the first replacement, and sees none after it while its old file has another name: it is shown not to have the
    new one, and restarted for that."""
    assert f"{PKI}/apiserver.crt had 2 names for one file" in odd["said"]
    again = cluster.playbook("rotate", *FORCED)
    assert "was shown not to have apiserver" in again.stdout
    on_disk = cluster.on_node("openssl", "x509", "-noout", "-serial", "-in", f"{PKI}/apiserver.crt").strip()
    assert served() == on_disk
    assert on_disk not in odd["serials"]
    cluster.on_node("rm", "-r", "/etc/pki-backup")
