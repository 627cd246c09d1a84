# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster whose API is a stand-in, an administrator's kubeconfig, and the folder of somebody who gets one. Files and TLS are real."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _issuing
from ansible_collections.certops.kubernetes.plugins.module_utils._issuing import Order
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import Kubeconfig, parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_api import (
    FakeServer,
    client_pair,
    server_pair,
    write_kubeconfig,
    write_pair,
)
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_signer import FakeSigner, review

both = pytest.mark.parametrize("signer", ["api", "ca"])


class Cluster:
    """A cluster's API, its administrator's kubeconfig, and the folder of somebody who gets one."""

    def __init__(self, folder: Path, server: FakeServer, ca: pki.Pair) -> None:
        self.server, self.ca = server, ca
        self.signer = FakeSigner(server, ca)
        self.kubernetes_dir = folder / "kubernetes"
        self.path = folder / "home" / "config"
        write_pair(self.kubernetes_dir / "pki", "ca", ca)
        self.admin = self.kubernetes_dir / "admin.conf"
        write_kubeconfig(self.admin, ca, client_pair(ca, "kubernetes-admin"), server.address)
        self.path.parent.mkdir(mode=0o700)
        self.order = Order(
            path=str(self.path),
            user="jane",
            groups=("developers", "on-call"),
            signer="api",
            validity_hours=720,
            renew_before_hours=None,
            algorithm="ECDSA-P256",
            kubernetes_dir=str(self.kubernetes_dir),
            kubeconfig=None,
            server=None,
            cluster=None,
            context=None,
            owner=None,
            group=None,
            mode="0600",
            allow_masters=False,
            force=False,
            wait_seconds=60,
        )

    def issue(self, check_mode: bool = False, later: timedelta = timedelta(0), **changes: t.Any) -> dict[str, t.Any]:
        now = datetime.now(timezone.utc) + later
        return _issuing.issue(dataclasses.replace(self.order, **changes), now, check_mode, sleep=lambda _seconds: None)

    def refused(self, sentence: str, check_mode: bool = False, **changes: t.Any) -> str:
        """The module's sentence; nothing was written."""
        before = {path.name: path.read_bytes() for path in self.path.parent.iterdir()}
        with pytest.raises(CertopsError, match=sentence) as caught:
            self.issue(check_mode, **changes)
        assert {path.name: path.read_bytes() for path in self.path.parent.iterdir()} == before
        assert self.signer.objects == {}
        return str(caught.value)

    def config(self) -> Kubeconfig:
        return parse_kubeconfig(self.path.read_bytes(), "config")

    def asked(self) -> list[str]:
        return ["%s %s" % (method, path) for method, path, _body in self.server.requests]


@contextlib.contextmanager
def fake_cluster(tmp_path: Path) -> t.Iterator[Cluster]:
    ca = pki.make_ca()
    with FakeServer(tmp_path, {}, server_pair(ca), client_ca=ca) as server:
        yield Cluster(tmp_path.resolve(), server, ca)


def signers(cluster: Cluster, signer: str) -> None:
    """What the API server sees behind a certificate that it did not sign."""
    if signer == "ca":
        cluster.signer.seen = review("jane", "developers", "on-call")
