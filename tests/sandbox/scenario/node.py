# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sandbox node under test, reached without the collection: mostly through its files, which lie in a directory of this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import time
import typing as t
from pathlib import Path

DIRECTORY = Path(os.environ["CERTOPS_SANDBOX"])
EXPIRED = Path(os.environ["CERTOPS_EXPIRED_SANDBOX"])
STATE = Path(os.environ["CERTOPS_STATE"])
REPORTS = Path(os.environ["CERTOPS_REPORTS"])
INVENTORY = os.environ["CERTOPS_INVENTORY"]
TESTS = Path(__file__).resolve().parents[1]
ADDRESS = "10.0.0.1"
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
PAIRS = {
    "apiserver": "ca",
    "apiserver-kubelet-client": "ca",
    "front-proxy-client": "front-proxy-ca",
    "apiserver-etcd-client": "etcd/ca",
    "etcd/server": "etcd/ca",
    "etcd/peer": "etcd/ca",
    "etcd/healthcheck-client": "etcd/ca",
}
KUBELET_CLIENT = "/var/lib/kubelet/pki/kubelet-client"  # -current.pem, a link to the dated file behind it
KUBECONFIGS = ("admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf")
# What changes by itself: logs, etcd's data, temporary files; and Ansible's own folder on a node.
ALIVE = ("var/log", "var/lib/etcd", "var/tmp", "tmp", "root")
ON_ONE_STREAM = {"ANSIBLE_DISPLAY_FAILED_STDERR": "false"}  # whatever molecule sets
KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----\n?", re.DOTALL)


def run(*argv: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command here, with variables besides ours; the output of a failed one is in the exception."""
    env = {**os.environ, **environment}
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=env)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(argv[:8])} …: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def sandbox(command: str, *argv: str, directory: Path = DIRECTORY) -> str:
    """Standard output of `sandbox COMMAND --dir …`."""
    return run(sys.executable, str(TESTS / "sandbox.py"), command, "--dir", str(directory), *argv).stdout


def on_node(*argv: str, directory: Path = DIRECTORY) -> str:
    """Standard output of a command on the node."""
    return sandbox("exec", "--", *argv, directory=directory)


def path(name: str) -> Path:
    """Where a file of the node lies on this machine: path("/etc/kubernetes/admin.conf")."""
    return DIRECTORY / "root" / name.lstrip("/")


def snapshot_of(name: str) -> list[t.Any]:
    """Inode, modification time, mode, owner, group, content's SHA-256 and link target of one path."""
    entry = path(name)
    info = entry.lstat()
    content = hashlib.sha256(entry.read_bytes()).hexdigest() if stat.S_ISREG(info.st_mode) else None
    link = str(entry.readlink()) if entry.is_symlink() else None
    return [info.st_ino, info.st_mtime_ns, info.st_mode, info.st_uid, info.st_gid, content, link]


def snapshot() -> dict[str, list[t.Any]]:
    """The same for every file and directory of the node that does not change by itself."""
    root = DIRECTORY / "root"
    seen = {}
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = [name for name in folders if str((here / name).relative_to(root)) not in ALIVE]
        links = [name for name in folders if (here / name).is_symlink()]
        for entry in [here, *(here / name for name in [*files, *links])]:
            name = "/" if entry == root else "/" + str(entry.relative_to(root))
            seen[name] = snapshot_of(name)
    return seen


# Runs on the node, which alone sees what is mounted there; the answer is JSON.
SNAPSHOT = """
import hashlib, json, os, stat, sys
seen = {}
for tree in sys.argv[1:]:
    for folder, folders, files in os.walk(tree):
        for path in [folder] + [os.path.join(folder, name) for name in files]:
            info = os.lstat(path)
            content = hashlib.sha256(open(path, "rb").read()).hexdigest() if stat.S_ISREG(info.st_mode) else None
            link = os.readlink(path) if stat.S_ISLNK(info.st_mode) else None
            seen[path] = [info.st_ino, info.st_mtime_ns, info.st_mode, info.st_uid, info.st_gid, content, link]
print(json.dumps(seen))
"""


def snapshot_as_mounted(*trees: str) -> dict[str, list[t.Any]]:
    """The same for trees of the node as its own processes see them."""
    python = json.loads((DIRECTORY / "sandbox.json").read_text())["python"]
    return t.cast("dict[str, list[t.Any]]", json.loads(on_node(python, "-c", SNAPSHOT, *trees)))


def module(name: str, arguments: dict[str, t.Any], *argv: str) -> dict[str, t.Any]:
    """The result of one of the collection's modules on the node; `failed` is always there."""
    ansible = str(Path(sys.executable).with_name("ansible"))
    called = [ansible, "-i", INVENTORY, "kube_control_plane", "-m", f"certops.kubernetes.{name}", "-a", json.dumps(arguments), *argv]
    said = run(*called, check=False, ANSIBLE_CALLBACK_RESULT_FORMAT="json", **ON_ONE_STREAM)
    header, arrow, answer = said.stdout.partition(" => ")
    assert arrow, said.stdout + said.stderr
    return {"failed": "FAILED" in header, **json.JSONDecoder().raw_decode(answer)[0]}


def processes() -> dict[str, int]:
    """Process IDs on the node by component, found by the first word of their arguments, the decoy's left out."""
    found = {}
    for line in on_node("ps", "-e", "-o", "pid=,args=").splitlines():
        pid, argv = line.split(maxsplit=1)
        name = argv.split()[0].rpartition("/")[2]
        if name in COMPONENTS and int(pid) != recall("decoy.json", 0):
            found[name] = int(pid)
    return found


def remember(name: str, value: t.Any) -> None:
    """Keep a value for a later step."""
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    (STATE / name).write_text(json.dumps(value))


def recall(name: str, default: t.Any = None) -> t.Any:
    """The value that was kept, or the default."""
    kept = STATE / name
    return json.loads(kept.read_text()) if kept.exists() else default


def playbook(name: str, *argv: str, check: bool = True, inventory: str = INVENTORY) -> subprocess.CompletedProcess[str]:
    """Run a playbook (the collection's by its name, or a file) on the node, as a user does."""
    return run(*playbook_command(name, *argv, inventory=inventory), check=check, **ON_ONE_STREAM)


def playbook_command(name: str, *argv: str, inventory: str = INVENTORY) -> list[str]:
    """The command line of `playbook`."""
    ansible_playbook = str(Path(sys.executable).with_name("ansible-playbook"))
    return [ansible_playbook, "-i", inventory, name if name.endswith(".yml") else f"certops.kubernetes.{name}", *argv]


def extra(**variables: t.Any) -> list[str]:
    """Extra variables as arguments."""
    return ["-e", json.dumps(variables)]


def newest_report(name: str) -> dict[str, t.Any]:
    """The newest JSON report of a playbook."""
    files = sorted(REPORTS.rglob(f"{name}-*.json"), key=lambda file: file.stat().st_mtime)
    assert files, f"no report of {name} in {REPORTS}"
    return t.cast("dict[str, t.Any]", json.loads(files[-1].read_text()))


def newest_journal() -> dict[str, t.Any]:
    """The journal of the node's newest run."""
    journals = sorted(path("/var/lib/certops/runs").glob("*/journal.json"), key=lambda file: file.stat().st_mtime)
    return t.cast("dict[str, t.Any]", json.loads(journals[-1].read_text()))


def private_keys() -> set[str]:
    """Every private key of the node, old and new, as PEM."""
    found: set[str] = set()
    for tree in ("/etc/kubernetes", "/var/lib/kubelet/pki", "/var/lib/certops"):
        for file in filter(Path.is_file, path(tree).rglob("*")):
            content = file.read_text()
            embedded = [base64.b64decode(data).decode() for data in re.findall(r"client-key-data: (\S+)", content)]
            found.update(KEY.findall("\n".join([content, *embedded])))
    return found


def ask(who: str, url: str, directory: Path = DIRECTORY) -> int:
    """Status of a verified GET with curl as the user of a kubeconfig of the node; 0 if there was no answer."""
    script = """
        f=/etc/kubernetes/$0; umask 077
        field() { sed -n "s/^ *$1: //p" $f | base64 -d; }
        field client-certificate-data >/run/ask.crt; field client-key-data >/run/ask.key; field certificate-authority-data >/run/ask.ca
        curl -s -o /dev/null -w '%{http_code}' --max-time 5 --cacert /run/ask.ca --cert /run/ask.crt --key /run/ask.key "$1"; true
    """
    return int(on_node("sh", "-c", script, who, url, directory=directory))


def patch_node(change: dict[str, t.Any]) -> None:
    """Change the cluster's Node object with curl, as its kubelet or an administrator would."""
    script = """
        field() { sed -n "s/^ *$1: //p" /etc/kubernetes/admin.conf | base64 -d; }
        umask 077; field client-certificate-data >/run/patch.crt; field client-key-data >/run/patch.key
        curl -sSf -o /dev/null -k --cert /run/patch.crt --key /run/patch.key -X PATCH -H 'Content-Type: application/merge-patch+json' \
          -d "$1" https://$0:6443/api/v1/nodes/sandbox
    """
    on_node("sh", "-ec", script, ADDRESS, json.dumps(change))


def wait_for(condition: t.Callable[[], t.Any], seconds: float) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)
