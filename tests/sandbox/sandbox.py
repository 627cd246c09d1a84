# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A control-plane node without a cluster: a kubeadm-like tree and stand-in processes in namespaces of their own.

It needs no root, only Linux user namespaces, util-linux, a Go toolchain (once, to build the stand-ins) and a Python with cryptography
and PyYAML for the node. See README.md next to this file.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "certops" / "sandbox"
COMPONENTS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]
NAMES = [*COMPONENTS, "kubelet", "sandbox-init", "sandbox-container", "sandbox-wait", "systemctl"]
ENVIRONMENT = ["PATH=/opt/sandbox/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"]
NAMESPACES = ["--user", "--pid", "--mount", "--net", "--uts", "--ipc"]


class SandboxError(Exception):
    """A failure, told in words for the person who runs the command."""


class Sandbox:
    """One sandbox node: a directory, and a first process if it runs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.root = self.directory / "root"
        self.state_file = self.directory / "sandbox.json"

    def state(self) -> dict[str, object]:
        """What `up` wrote down: pid, ticks (start time of that process), name, address, python."""
        try:
            return dict(json.loads(self.state_file.read_text()))
        except FileNotFoundError:
            return {}

    def pid(self) -> int | None:
        """The host's number of the node's first process; None when the sandbox does not run."""
        state = self.state()
        pid = state.get("pid")
        if isinstance(pid, int) and _start_ticks(pid) == state.get("ticks"):
            return pid
        return None

    def up(self, args: argparse.Namespace) -> None:
        """Make the node if it is not there, start it if it does not run, and wait until it works."""
        if self.pid():
            print("sandbox: already up in %s" % self.directory)
            return
        _check_host()
        standin = build_standin()
        if not self.state_file.exists():
            self._make_tree(args)
        self._install(standin)
        state = self.state()
        self._start(state, visible_paths(str(state["python"])) + args.visible)
        wait = ["sandbox-wait", str(state["address"]), str(args.timeout)]
        if subprocess.run([*self.command(), *wait, *(["--kubelet-only"] if args.no_wait else [])], check=False).returncode:
            raise SandboxError("the node did not become ready; look at %s/root/var/log" % self.directory)

    def _make_tree(self, args: argparse.Namespace) -> None:
        if self.directory.exists() and any(self.directory.iterdir()):
            raise SandboxError("%s is not empty and not a sandbox: choose another --dir" % self.directory)
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory.chmod(0o700)
        command = [args.python, str(HERE / "node_tree.py"), str(self.root), args.name, args.address]
        if subprocess.run([*command, str(args.days_left), str(args.ca_days_left), args.keys], check=False).returncode:
            shutil.rmtree(self.directory)
            raise SandboxError(
                "%s could not make the node's files; it needs cryptography and PyYAML (choose another with --python)" % args.python
            )
        for name in ("root", "var/log", "var/tmp", "var/lib", "etc", "opt/sandbox/bin", "opt/sandbox/faults"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "root").chmod(0o700)
        files = {
            "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
            "group": "root:x:0:\nnogroup:x:65534:\n",
            "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
            "hosts": "127.0.0.1 localhost\n::1 localhost\n%s %s\n" % (args.address, args.name),
            "hostname": args.name + "\n",
        }
        for name, content in files.items():
            (self.root / "etc" / name).write_text(content)
        with contextlib.suppress(FileNotFoundError):
            shutil.copy("/etc/os-release", self.root / "etc/os-release")
        self._save({"name": args.name, "address": args.address, "python": args.python})

    def _install(self, standin: Path) -> None:
        target = self.root / "opt/sandbox/bin"
        shutil.copy2(standin, target / "standin")
        for name in NAMES:
            with contextlib.suppress(FileExistsError):
                (target / name).symlink_to("standin")

    def _start(self, state: dict[str, object], visible: list[str]) -> None:
        announced = self.directory / "pid.new"
        announced.unlink(missing_ok=True)
        log = (self.directory / "init.log").open("ab")
        command = ["unshare", *NAMESPACES, "--map-root-user", "--fork", "--kill-child", "/bin/sh", str(HERE / "root.sh")]
        unshare = subprocess.Popen(
            [*command, str(self.directory), str(state["name"]), str(state["address"]), *visible],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
        )  # fmt: skip
        end = time.monotonic() + 30
        while time.monotonic() < end and unshare.poll() is None:
            if announced.exists() and (pid := announced.read_text().strip()) and _command_name(int(pid)) == "sandbox-init":
                self._save({**state, "pid": int(pid), "ticks": _start_ticks(int(pid))})
                return
            time.sleep(0.01)
        raise SandboxError("the namespaces could not be made: %s" % (self.directory / "init.log").read_text().strip()[-600:])

    def _save(self, state: dict[str, object]) -> None:
        temporary = self.state_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(state))
        temporary.replace(self.state_file)

    def halt(self) -> None:
        """Switch the node off, as by pulling the plug; its files stay."""
        pid = self.pid()
        if pid:
            os.kill(pid, signal.SIGKILL)
            while self.pid():
                time.sleep(0.01)

    def down(self) -> None:
        """Switch the node off and delete it."""
        if not self.state_file.exists():
            print("sandbox: nothing in %s" % self.directory)
            return
        self.halt()
        shutil.rmtree(self.directory)

    def command(self) -> list[str]:
        """What to put before a command so that it runs on the node."""
        pid = self.pid()
        if not pid:
            raise SandboxError("no sandbox is up in %s: start one with `sandbox up --dir %s`" % (self.directory, self.directory))
        return ["nsenter", "--target", str(pid), "--preserve-credentials", *NAMESPACES, "/usr/bin/env", "-i", *ENVIRONMENT]

    def inventory(self) -> dict[str, object]:
        """An Ansible inventory of the node; the connection plugin is found through ANSIBLE_CONNECTION_PLUGINS, see README.md."""
        variables = {
            "ansible_connection": "certops_sandbox",
            "ansible_sandbox_dir": str(self.directory),
            "ansible_python_interpreter": self.state().get("python"),
            "ansible_become": False,
        }
        host = str(self.state().get("name", "sandbox"))
        return {"kube_control_plane": {"hosts": {host: variables}}, "etcd": {"hosts": {host: {}}}, "kube_node": {"hosts": {}}}


def build_standin() -> Path:
    """Build the stand-in program, unless the cache has it from the same sources and compiler."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    sources = sorted((HERE / "standin").glob("*.go")) + [HERE / "standin" / "go.mod"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    built = CACHE / ("standin-" + digest)
    if built.exists():
        return built
    if not go:
        raise SandboxError("the stand-ins must be built and no Go toolchain was found: install golang or put `go` into PATH")
    CACHE.mkdir(parents=True, exist_ok=True)
    temporary = CACHE / ("standin-%d.tmp" % os.getpid())
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-trimpath", "GOWORK": "off"}
    print("sandbox: building the stand-ins", flush=True)
    command = [go, "build", "-ldflags", "-s -w", "-o", str(temporary), "."]
    if subprocess.run(command, cwd=HERE / "standin", env=environment, check=False).returncode:
        raise SandboxError("`go build` failed in %s" % (HERE / "standin"))
    temporary.replace(built)
    for old in CACHE.glob("standin-*"):
        if old != built and not old.name.endswith(".tmp"):
            old.unlink(missing_ok=True)
    return built


def visible_paths(python: str) -> list[str]:
    """The directories that an interpreter needs and that are not below /usr: its environment, and each link on the way to its base."""
    found = []
    path = Path(shutil.which(python) or python).absolute()
    for _step in range(10):
        found.append(path.parent.parent)
        if not path.is_symlink():
            break
        path = Path(os.path.normpath(path.parent / os.readlink(path)))
    script = "import sys; print(sys.prefix); print(sys.base_prefix)"
    found += map(Path, subprocess.run([python, "-c", script], stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")[:2])
    found += [path.resolve() for path in found]
    wanted = sorted({str(path) for path in found if path.parts[1:2] not in (("usr",), ("bin",), ()) and path.is_dir()})
    return [path for path in wanted if not any(path.startswith(other + "/") for other in wanted)]


def _check_host() -> None:
    for tool in ("unshare", "nsenter", "mount", "pivot_root"):
        if not shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            raise SandboxError("%s is missing: install util-linux" % tool)
    probe = subprocess.run(
        ["unshare", *NAMESPACES, "--map-root-user", "--fork", "mount", "-t", "proc", "proc", "/proc"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if probe.returncode:
        raise SandboxError(
            "this machine does not allow it to make user, PID and mount namespaces with a /proc of their own (%s). "
            "Where they are switched off: sysctl kernel.unprivileged_userns_clone=1, "
            "kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces=10000; "
            "in a container: --security-opt systempaths=unconfined --security-opt seccomp=unconfined." % probe.stdout.strip()
        )


def _start_ticks(pid: int) -> int | None:
    try:
        fields = Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _command_name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/%d/comm" % pid).read_text().strip()
    return ""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sandbox", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument("--dir", type=Path, default=CACHE / "default", help="where the node lives (%(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", parents=[place], help="make and start a node, or start it again")
    up.add_argument("--days-left", type=float, default=10, help="until the certificates end; decimals and negative too (%(default)s)")
    up.add_argument("--ca-days-left", type=float, default=3640, help="until the CAs end (%(default)s)")
    up.add_argument("--keys", choices=["rsa", "ec"], default="rsa", help="what kind of keys it has, as kubeadm makes them (%(default)s)")
    up.add_argument("--name", default="sandbox", help="Kubernetes' name of the node (%(default)s)")
    up.add_argument("--address", default="10.0.0.1", help="its address, in its own network only (%(default)s)")
    up.add_argument("--python", default=sys.executable, help="the node's Python (%(default)s)")
    up.add_argument("--visible", action="append", default=[], metavar="PATH", help="show this path of the host too, read-only")
    up.add_argument("--timeout", type=int, default=120, help="seconds to wait until all components work (%(default)s)")
    up.add_argument("--no-wait", action="store_true", help="wait for the kubelet only (a node whose certificates have expired)")
    commands.add_parser("halt", parents=[place], help="switch the node off like a power cut; `up` starts it again")
    commands.add_parser("down", parents=[place], help="switch the node off and delete it")
    commands.add_parser("status", parents=[place], help="say whether the node is up; exit status 3 if not")
    commands.add_parser("inventory", parents=[place], help="print an Ansible inventory of the node, as JSON")
    execute = commands.add_parser("exec", parents=[place], help="run a command on the node (a shell without one)")
    execute.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    fault = commands.add_parser("fault", parents=[place], help="let a component misbehave from its next start on; no fault: behave")
    fault.add_argument("component", choices=COMPONENTS)
    fault.add_argument("faults", nargs="*", metavar="refuse|no-reload")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    sandbox = Sandbox(args.dir)
    if args.command == "up":
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", args.name):
            raise SandboxError("%r is no name for a node" % args.name)
        sandbox.up(args)
    elif args.command == "halt":
        sandbox.halt()
    elif args.command == "down":
        sandbox.down()
    elif args.command == "status":
        pid = sandbox.pid()
        print("sandbox: %s in %s" % ("up, first process %d" % pid if pid else "down", sandbox.directory))
        return 0 if pid else 3
    elif args.command == "inventory":
        print(json.dumps(sandbox.inventory(), indent=2))
    elif args.command == "fault":
        (sandbox.root / "opt/sandbox/faults" / args.component).write_text(",".join(args.faults))
    else:
        words = args.words[1:] if args.words[:1] == ["--"] else args.words
        terminal = ["TERM=" + os.environ.get("TERM", "dumb")]
        command = sandbox.command() + terminal + (words or ["/bin/sh", "-i"])
        os.execvp(command[0], command)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SandboxError as error:
        print("sandbox: %s" % error, file=sys.stderr)
        sys.exit(1)
