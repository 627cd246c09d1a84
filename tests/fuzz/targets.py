# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The readers of foreign bytes, each with what it is begun with and how much of it is tried."""

from __future__ import annotations

import dataclasses
import sys
import typing as t

from ansible_collections.certops.kubernetes.tests.fuzz import answers, readers, seeds


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader.

    `seeds` are good inputs, `words` are what occurs in them. `runs` is how many inputs the gate gives it, `share` weighs its part of the
    time: about the seconds that these take. `longest` bounds an input's bytes, `seconds` (of the processor) what one input may take.
    """

    name: str
    check: t.Callable[[bytes], None]
    seeds: t.Callable[[], t.Iterable[bytes]]
    runs: int = 1000
    share: int = 1
    longest: int = 8192
    prepare: t.Callable[[], None] = lambda: None
    words: tuple[str, ...] = ()
    seconds: float = 5.0


# --- what the harness must find ---


def raises(data: bytes) -> None:
    assert not data


def hangs(data: bytes) -> None:
    while data:
        pass


def grows(data: bytes) -> None:
    assert len(bytearray(len(data) << 40)) == 0


PLANTED = tuple(Target(check.__name__, check, lambda: (b"x",), seconds=0.5) for check in (raises, hangs, grows))

ODD = (
    "\0",
    "\\0",
    "²",
    "٣",
    "9" * 20,
    "-1",
    "1e999",
    "NaN",
    "\x0b",
    "\x85",
    "\u2028",
    "..",
    "//",
    "%",
    "\\ud800",
    "\\UFFFFFFFF",
    "true",
    "null",
)
YAML = (
    ": ",
    "- ",
    "? ",
    "\n  ",
    "&a ",
    "*a",
    "!!str ",
    "!!binary ",
    "|-\n",
    ">+\n",
    "<<: ",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "# ",
    '"',
    *ODD,
)
CONFIG_WORDS = (
    *YAML,
    "clusters:",
    "contexts:",
    "users:",
    "name:",
    "user:",
    "client-certificate-data:",
    "client-key-data:",
    "current-context:",
)
POD_WORDS = (
    *YAML,
    "kind: Pod",
    "spec:",
    "containers:",
    "command:",
    "args:",
    "volumeMounts:",
    "mountPath:",
    "subPath:",
    "hostPath:",
    "volumes:",
)
PURE_BYTES = 2048  # PyYAML's parser in Python takes its time

TARGETS = (
    Target(
        "pem",
        readers.pem_file,
        seeds.pem_files,
        15000,
        4,
        words=("-----BEGIN ", "-----END ", "CERTIFICATE-----\n", "PRIVATE KEY-----\n"),
    ),
    Target("certificate", readers.certificate_der, seeds.certificates, 30000, 9),
    Target("rsa-key", readers.rsa_key, seeds.rsa_keys, 1200, 5),
    Target("kubeconfig", readers.kubeconfig, seeds.kubeconfigs, 15000, 7, words=CONFIG_WORDS),
    Target(
        "kubeconfig-pure",
        readers.kubeconfig,
        seeds.kubeconfigs,
        1000,
        8,
        words=CONFIG_WORDS,
        longest=PURE_BYTES,
        prepare=readers.without_libyaml,
    ),
    Target("document", readers.document, seeds.documents, 15000, 7, words=POD_WORDS),
    Target(
        "document-pure", readers.document, seeds.documents, 800, 10, words=POD_WORDS, longest=PURE_BYTES, prepare=readers.without_libyaml
    ),
    Target("kubelet", readers.kubelet, seeds.kubelets, 3000, 5, words=YAML),
    Target("node", readers.node, seeds.manifests, 300, 11, words=POD_WORDS),
    Target("journal", readers.journal, seeds.journals, 4000, 5, words=('": ', *ODD)),
    Target(
        "flags",
        readers.flags,
        seeds.flags,
        20000,
        5,
        words=("--", "=", "https://", "[::]", "listen-client-urls", "secure-port", "bind-address", *ODD),
    ),
    Target("processes", readers.processes, seeds.processes, 4000, 5, words=("NSpid:", "/kubepods", "/pod", *ODD)),
    Target(
        "systemctl",
        readers.systemctl,
        seeds.systemctl,
        20000,
        2,
        words=("Id=", "ActiveState=", "Job=", "NextElapseUSecRealtime=", " UTC", *ODD),
    ),
    Target("handshake", readers.handshake, seeds.handshakes, 50000, 2),
    Target("answers", answers.answer, seeds.answers, 10000, 11, words=(*('"%s"' % key for key in answers.KEYS), *ODD)),
    Target(
        "http",
        answers.http_stream,
        seeds.http_streams,
        15000,
        3,
        words=("HTTP/1.1 ", "Transfer-Encoding: chunked", "Content-Length: ", "\r\n"),
    ),
    Target("words", answers.words, seeds.words, 50000, 2, words=("h", "ms", "µs", ":", "://", "[", "]", *ODD)),
    Target("policy", readers.policy, seeds.policies, 20000, 3, words=YAML),
)


def by_name(name: str) -> Target:
    """The target of that name."""
    found = {target.name: target for target in (*TARGETS, *PLANTED)}
    if name not in found:
        sys.exit("no such target: %s; there are: %s" % (name, ", ".join(found)))
    return found[name]
