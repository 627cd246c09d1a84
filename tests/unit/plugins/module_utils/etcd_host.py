# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host that runs nothing but etcd as a unit of systemd, in a temporary folder: files and names as kubespray makes them."""

from __future__ import annotations

import typing as t
from datetime import datetime, timezone
from pathlib import Path

from ansible_collections.certops.kubernetes.plugins.module_utils._discovery import discover
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import write, write_process

IN_UNIT = "0::/system.slice/etcd.service\n"
UNIT = """\
[Unit]
Description=etcd

[Service]
Type=notify
EnvironmentFile=%s
ExecStart=/usr/local/bin/etcd
Restart=always

[Install]
WantedBy=multi-user.target
"""


class EtcdHost:
    """The host. `environment` is what /etc/etcd.env says; `ca` signs everything, and its key lies beside it."""

    def __init__(self, root: Path, name: str = "e1") -> None:
        self.root = root
        self.ssl = root / "etc" / "ssl" / "etcd" / "ssl"
        self.proc = root / "proc"
        self.unit_folder = root / "etc" / "systemd" / "system"
        for folder in (self.ssl, self.proc, self.unit_folder / "multi-user.target.wants"):
            folder.mkdir(parents=True)
        self.ca = pki.make_ca("etcd-ca")
        self.write_pair("ca", self.ca)
        for kind in ("member", "admin"):
            for host in (name, "e2"):  # the first host of the group has everybody's
                self.write_pair("%s-%s" % (kind, host), self.leaf("etcd-%s-%s" % (kind, host)))
        member = str(self.ssl / ("member-%s" % name))
        self.environment = {
            "ETCD_NAME": name,
            "ETCD_LISTEN_CLIENT_URLS": "https://192.0.2.9:2379,https://127.0.0.1:2379",
            "ETCD_ADVERTISE_CLIENT_URLS": "https://192.0.2.9:2379",
            "ETCD_LISTEN_PEER_URLS": "https://192.0.2.9:2380",
            "ETCD_INITIAL_CLUSTER": "e1=https://192.0.2.9:2380,e2=https://192.0.2.10:2380,e3=https://192.0.2.11:2380",
            "ETCD_TRUSTED_CA_FILE": str(self.ssl / "ca.pem"),
            "ETCD_CERT_FILE": member + ".pem",
            "ETCD_KEY_FILE": member + "-key.pem",
            "ETCD_PEER_TRUSTED_CA_FILE": str(self.ssl / "ca.pem"),
            "ETCD_PEER_CERT_FILE": member + ".pem",
            "ETCD_PEER_KEY_FILE": member + "-key.pem",
        }

    def leaf(self, cn: str, **values: t.Any) -> pki.Pair:
        """A pair under the host's CA, good for servers and clients."""
        return pki.make_leaf(self.ca, cn, usages=("server", "client"), sans=["IP:192.0.2.9", "IP:127.0.0.1", "DNS:localhost"], **values)

    def write_pair(self, name: str, pair: pki.Pair) -> None:
        """A pair as kubespray calls it: NAME.pem and NAME-key.pem."""
        write(self.ssl / (name + ".pem"), pair.cert_pem, 0o640)
        write(self.ssl / (name + "-key.pem"), pair.key_pem, 0o640)

    def run(self, argv: t.Sequence[str] = ("/usr/local/bin/etcd",), cgroup: str = IN_UNIT, pid: int = 99999200, **values: t.Any) -> None:
        """etcd's process in `/proc`; the unit's unless told otherwise."""
        write_process(self.proc, pid, argv, cgroup, **{"environment": self.environment, **values})

    def enable(self, unit: str = UNIT, name: str = "etcd.service") -> None:
        """The unit's file, with the environment in a file of its own, started at boot."""
        file = self.root / "etc" / "etcd.env"
        file.write_text("# settings\n\n" + "".join("%s=%s\n" % pair for pair in self.environment.items()))
        (self.unit_folder / name).write_text(unit % file if "%s" in unit else unit)
        (self.unit_folder / "multi-user.target.wants" / name).symlink_to(self.unit_folder / name)

    def discover(self, etcd_unit: bool = True) -> Node:
        """What discovery finds here."""
        return discover(
            datetime.now(timezone.utc),
            str(self.root / "etc" / "kubernetes"),
            proc=str(self.proc),
            kubelet_config=str(self.root / "kubelet.yaml"),
            unit_folders=[str(self.unit_folder)],
            etcd_unit=etcd_unit,
        )
