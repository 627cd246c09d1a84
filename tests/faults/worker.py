# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the collection's modules on the node, each in a process of its own, and strikes at the system calls that it is told to.

One line of JSON comes in for each run, one goes out. The interpreter and all imports are there once; each run is a fork of it.
"""

from __future__ import annotations

import array
import contextlib
import errno
import importlib
import json
import os
import re
import select
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
import traceback
import typing as t
import urllib.request
from dataclasses import dataclass, field

import ansible.module_utils.basic as ansible_basic
from kernel import SIGNALS, Call, Listener, hand_over_calls
from strace import ARGUMENTS as STRACE_ARGUMENTS

STATE = "/var/lib/certops"
KEY_MARKS = (b"PRIVATE KEY", b"client-key-data")
# A full disk refuses none of these.
NEEDS_NO_ROOM = ("unlink", "unlinkat", "rmdir", "ftruncate", "fsync", "fchmod", "chmod")
TRACE = "/run/strace.log"
LONGEST_SECONDS = 300  # of one run; then it hangs
MODULES = ("certificate_rotation", "certificate_rollback")
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
KUBECONFIGS = {"kube-controller-manager": "controller-manager.conf", "kube-scheduler": "scheduler.conf"}
DATE = re.compile(r"(?<=kubelet-client-)\d[-\d]*(?=\.pem)")  # is another one in each run
PORTS = {"apiserver": ("10.0.0.1", 6443), "etcd/server": ("10.0.0.1", 2379)}


@dataclass
class Strike:
    """What happens at the nth call of this kind (its name and paths): an error, a lasting one, or, without an error, the end."""

    call: str
    nth: int
    error: int | None = None
    lasting: bool = False


@dataclass
class Watch:
    """What a run did step by step, and what others could have read meanwhile."""

    strikes: list[Strike]
    calls: list[str] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    exposed: list[str] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)
    _touched: tuple[str, ...] = ()
    _lasting: int | None = None

    def judge(self, call: Call) -> int | None:
        """What becomes of a call: 0 it goes on, an error number, or None: the process ends here."""
        self.look()
        self._touched = call.paths
        text = DATE.sub("DATE", str(call))
        nth = self._seen[text] = self._seen.get(text, 0) + 1
        self.calls.append("%s#%d" % (text, nth))
        mode = call.creation_mode
        if mode is not None and mode & 0o077:
            self.exposed.append("%s with mode %o" % (text, mode))
        for strike in self.strikes:
            if (strike.call, strike.nth) == (text, nth):
                self.struck.append("%s#%d" % (text, nth))
                if strike.error is None:
                    return None
                self._lasting = strike.error if strike.lasting else None
                return strike.error
        if call.name in SIGNALS or (self._lasting == errno.ENOSPC and call.name in NEEDS_NO_ROOM):
            return 0
        return self._lasting or 0

    def look(self) -> None:
        """Between two calls that change something nothing changes: what the last one touched is looked at before the next."""
        for path in self._touched:
            problem = exposure(path)
            if problem:
                self.exposed.append("%s after %s" % (problem, self.calls[-1]))


def exposure(path: str) -> str | None:
    """How others may come at a key, a backup or a journal here; None when they may not."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    if not stat.S_IMODE(found.st_mode) & 0o077 or stat.S_ISLNK(found.st_mode):
        return None
    ours = path == STATE or path.startswith(STATE + "/")
    if ours or (stat.S_ISREG(found.st_mode) and _holds_key(path)):
        return "%s has mode %o" % (path, stat.S_IMODE(found.st_mode))
    return None


def _holds_key(path: str) -> bool:
    with open(path, "rb") as stream:
        data = stream.read()
    return any(mark in data for mark in KEY_MARKS)


def run(request: dict[str, t.Any]) -> dict[str, t.Any]:
    """One run of a module: its result, its output, how it ended, and, when it was supervised, what was seen."""
    output, its_output = os.pipe()
    ours, its = socket.socketpair()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _become_module(request, its_output, its)
    os.close(its_output)
    its.close()
    watch = Watch([Strike(**strike) for strike in request["strikes"]])
    listener = Listener(_received(ours)) if request["supervised"] else None
    ours.close()
    tracer = _trace(pid) if request["traced"] else None
    text = _follow(pid, output, listener, watch)
    os.close(output)
    if listener is not None:
        os.close(listener.descriptor)
    _pid, status, used = os.wait4(pid, 0)
    watch.look()
    return {
        "output": text,
        "result": _result_in(text),
        "killed": os.WIFSIGNALED(status),
        "calls": watch.calls,
        "struck": watch.struck,
        "exposed": watch.exposed,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "log": _log_of(tracer) if tracer else "",
    }


def _trace(pid: int) -> subprocess.Popen[str]:
    """Let strace follow a process that waits for it."""
    os.waitpid(pid, os.WUNTRACED)
    tracer = subprocess.Popen(["strace", *STRACE_ARGUMENTS, "-o", TRACE, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    while "attached" not in (tracer.stderr.readline() or "attached"):
        pass
    os.kill(pid, signal.SIGCONT)
    return tracer


def _log_of(tracer: subprocess.Popen[str]) -> str:
    tracer.communicate(timeout=60)
    with open(TRACE, errors="replace") as stream:
        log = stream.read()
    os.unlink(TRACE)
    return log


def _become_module(request: dict[str, t.Any], output: int, parent: socket.socket) -> None:
    """The forked process: the module as Ansible starts it, with a umask that hides nothing."""
    code = 97
    try:
        os.umask(0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        ansible_basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": request["args"]}).encode()
        ansible_basic._ANSIBLE_PROFILE = "legacy"
        module = importlib.import_module(_full_name(request["module"]))
        if request["supervised"]:
            listener = hand_over_calls()
            parent.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))])
            os.close(listener)
        parent.close()
        if request["traced"]:
            os.kill(os.getpid(), signal.SIGSTOP)
        module.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)


def _full_name(module: str) -> str:
    return "ansible_collections.certops.kubernetes.plugins.modules." + module


def _received(channel: socket.socket) -> int:
    descriptors = array.array("i")
    _data, ancillary, _flags, _address = channel.recvmsg(1, socket.CMSG_LEN(descriptors.itemsize))
    descriptors.frombytes(ancillary[0][2][: descriptors.itemsize])
    return descriptors[0]


def _follow(pid: int, output: int, listener: Listener | None, watch: Watch) -> str:
    """Answer a run's calls and gather what it says, until it has ended."""
    end = time.monotonic() + LONGEST_SECONDS
    poll = select.poll()
    poll.register(output, select.POLLIN)
    if listener is not None:
        poll.register(listener.descriptor, select.POLLIN)
    text = b""
    while True:
        ready = dict(poll.poll(1000))
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            return "%s\nno end after %d s" % (text.decode(errors="replace"), LONGEST_SECONDS)
        if listener is not None and ready.get(listener.descriptor):
            if not ready[listener.descriptor] & select.POLLIN:
                poll.unregister(listener.descriptor)  # nobody is left whose calls could arrive
            else:
                _answer(pid, listener, watch)
        if ready.get(output):
            part = os.read(output, 65536)
            if not part:
                return text.decode(errors="replace")
            text += part


def _answer(pid: int, listener: Listener, watch: Watch) -> None:
    received = listener.receive()
    if received is None:
        return
    identifier, call = received
    verdict = watch.judge(call) if call.on_disk or call.name in SIGNALS else 0
    if verdict is None:
        os.kill(pid, signal.SIGKILL)  # it waits in the call, which is not carried out any more
    elif verdict:
        listener.refuse(identifier, verdict)
    else:
        listener.let_go_on(identifier)


def _result_in(text: str) -> dict[str, t.Any] | None:
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            with contextlib.suppress(ValueError):
                return dict(json.loads(line))
    return None


def observe(_request: dict[str, t.Any]) -> dict[str, t.Any]:
    """Which process runs for each component, whether it sees the kubeconfig that is on disk, and which certificates are served."""
    processes = _processes()
    stale = [
        name
        for component, name in KUBECONFIGS.items()
        if component in processes
        and not os.path.samefile("/proc/%d/root/etc/kubernetes/%s" % (processes[component], name), "/etc/kubernetes/" + name)
    ]
    served = {}
    for name, address in PORTS.items():
        with contextlib.suppress(OSError):
            served[name] = ssl.get_server_certificate(address, timeout=5).strip()
    return {"processes": processes, "stale": stale, "served": served}


def _processes() -> dict[str, int]:
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open("/proc/%s/cmdline" % pid, "rb") as stream:
            name = os.path.basename(stream.read().split(b"\0")[0].decode())
            if name in COMPONENTS:
                found[name] = int(pid)
    return found


def forget_back_off(_request: dict[str, t.Any]) -> dict[str, t.Any]:
    """Restart the kubelet, so that the next stop of a component does not have to wait because of an earlier run's."""
    subprocess.run(["systemctl", "restart", "kubelet"], check=True)
    end = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen("http://127.0.0.1:10248/healthz", timeout=1):
            return {}
        if time.monotonic() > end:
            raise RuntimeError("the kubelet did not come back")
        time.sleep(0.02)


DEEDS: dict[str, t.Callable[[dict[str, t.Any]], dict[str, t.Any]]] = {
    "run": run,
    "observe": observe,
    "forget_back_off": forget_back_off,
}


def main() -> None:
    """Answer until the other side has no more to ask."""
    for module in MODULES:
        importlib.import_module(_full_name(module))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(DEEDS[request["do"]](request)), flush=True)


if __name__ == "__main__":
    main()
