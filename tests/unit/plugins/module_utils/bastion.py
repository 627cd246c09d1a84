# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host outside of the cluster with a kubeconfig of it, and the control-plane node that signs for it."""

from __future__ import annotations

import json
import os
import typing as t
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ansible_collections.certops.kubernetes.plugins.module_utils._elsewhere import Outcome, Run, ask_for, put_into
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import StateFolder
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._requests import sign_requests
from ansible_collections.certops.kubernetes.plugins.module_utils._tls_credentials import Identity
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import describe, load_private_key, parse_certificates
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.fake_node import FakeNode
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import embedded, kubeconfig_of

NOW = datetime.now(timezone.utc)
ADMIN = "admin.conf"  # whom the cluster's admin.conf is for
YEAR = 365 * 86400


class Bastion:
    """A host with a kubeconfig of the cluster, and the control-plane node that has the CA's key."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.cluster = FakeNode(folder / "cluster")
        self.state = StateFolder(str(folder / "certops"))
        self.run = Run("run-1", "bastion", os.getpid(), NOW)
        self.old = pki.make_leaf(self.cluster.authorities["ca"], ADMIN, not_after=NOW + timedelta(days=3))
        self.other = pki.make_leaf(self.cluster.authorities["ca"], "joe", not_after=NOW + timedelta(days=3))
        users: dict[str, t.Any] = {"admin": embedded(self.old), "joe#2": embedded(self.other), "robot": {"token": "abc"}}
        document = json.loads(kubeconfig_of(users, "admin"))
        ca = embedded(self.cluster.authorities["ca"])["client-certificate-data"]
        document["clusters"][0]["cluster"]["certificate-authority-data"] = ca
        document["contexts"].append({"name": "d", "context": {"cluster": "green", "user": "joe#2"}})
        self.path = root / "config"
        self.path.write_text(json.dumps(document, indent=1) + "\n")
        self.path.chmod(0o640)
        self.name = "%s#admin" % self.path
        self.asked: list[Identity] = []
        self.answers: dict[str, t.Any] = {}  # by the user's name, what the API server says

    def ask(self, *names: str) -> list[t.Any]:
        outcome = ask_for(self.state, self.run, names or [self.name], YEAR)
        assert outcome.problems == []
        return outcome.requests

    def sign(self, requests: t.Sequence[t.Any], copies_only: bool = False) -> dict[str, bytes]:
        return sign_requests(self.cluster.discover(), requests, NOW, copies_only=copies_only)

    def api(self, identity: Identity) -> str:
        """The API server: it knows whom it has been shown."""
        self.asked.append(identity)
        name = describe(parse_certificates(identity.certificate_pem, "x")[0], "x").subject.rpartition("CN=")[2]
        answer = self.answers.get(name, name)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    def put(self, signed: t.Mapping[str, bytes]) -> Outcome:
        return put_into(self.state, self.run, signed, self.api)

    def journal(self, run_id: str = "run-1") -> t.Any:
        return self.state.load(run_id)

    def name_files(self) -> None:
        """The kubeconfig's first user has certificate and key in files beside it."""
        for name, content in (("me.crt", self.old.cert_pem), ("me.key", self.old.key_pem)):
            (self.path.parent / name).write_bytes(content)
        document = json.loads(self.path.read_text())
        document["users"][0]["user"] = {"client-certificate": "me.crt", "client-key": "me.key"}
        self.path.write_text(json.dumps(document))

    def user(self, name: str = "admin") -> tuple[t.Any, t.Any]:
        user = parse_kubeconfig(self.path.read_bytes(), "x").users[name]
        return parse_certificates(user.client_certificate_data or b"", "x")[0], load_private_key(user.client_key_data or b"", "x")
