# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""People's kubeconfigs: a record for each user with a certificate, whatever else lies in them, and nothing by a hostile one."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import tempfile
import time
import typing as t
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils import _kubeconfig_records
from ansible_collections.certops.kubernetes.plugins.module_utils._findings import Thresholds
from ansible_collections.certops.kubernetes.plugins.module_utils._inspection import record_to_dict
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig_records import Found, inspect_kubeconfigs
from ansible_collections.certops.kubernetes.plugins.module_utils._records import Setting
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import fingerprint, load_private_key, parse_certificates
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import KubeadmTree, embedded, kubeconfig_of

NOW = datetime.now(timezone.utc)
DAY = 86400
JANE = 2001
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away and act as somebody else")


@pytest.fixture(name="tree", scope="module")
def fixture_tree(tmp_path_factory: pytest.TempPathFactory) -> KubeadmTree:
    return KubeadmTree(tmp_path_factory.mktemp("node").resolve())


@pytest.fixture(name="home")
def fixture_home() -> t.Iterator[Path]:
    """Somebody's .kube, root's own for now, on a way that others may go, too: pytest's folders are closed."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        home = Path(folder).resolve() / "jane" / ".kube"
        home.mkdir(parents=True)
        yield home


def look(tree: KubeadmTree, *patterns: t.Any) -> Found:
    """All that is found; it must not take long, whatever lies there."""
    began = time.monotonic()
    found = inspect_kubeconfigs(
        tree.discover(), [str(pattern) for pattern in patterns], Setting("c", "h", "cp-1", NOW, Thresholds(30 * DAY, 7 * DAY))
    )
    assert time.monotonic() - began < 15
    return found


def codes(found: Found, name: str) -> dict[str, str]:
    """Code and severity of the findings of a record."""
    (record,) = (record for record in found.records if record.name == name)
    return {finding.code: finding.severity for finding in record.findings}


def write(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_root_s_copy_on_a_fresh_node(tree: KubeadmTree, home: Path) -> None:
    path = write(home / "config", (tree.kubernetes_dir / "admin.conf").read_bytes())
    found = look(tree, path, home / "nothing")
    (record,) = found.records
    assert (record.name, record.component, record.usage, record.source) == ("%s#me" % path, "user", "client", "kubeconfig")
    assert (record.subject, record.status, record.ca, record.path) == (
        "O=kubeadm:cluster-admins,CN=kubernetes-admin",
        "ok",
        "ca",
        str(path),
    )
    assert record.findings == ()
    assert found.problems == ()
    assert "admin.conf" in str(record.not_renewable_because)
    (ca,) = parse_certificates(tree.cas["ca"].cert_pem, "ca")
    assert found.issued_by == {record.name: fingerprint(ca)}
    assert "PRIVATE" not in json.dumps(record_to_dict(record))


def test_the_node_s_own_files_have_records_already(tree: KubeadmTree, home: Path) -> None:
    (home / "config").symlink_to(tree.kubernetes_dir / "admin.conf")
    assert look(tree, tree.kubernetes_dir / "[as]*.conf", home / "config") == Found()


def test_who_has_no_certificate_is_left_alone(tree: KubeadmTree, home: Path) -> None:
    users: dict[str, t.Any] = {
        "robot": {"token": "abc"},
        "file": {"tokenFile": "/var/token"},
        "plugin": {"exec": {"command": "aws", "apiVersion": "client.authentication.k8s.io/v1"}},
        "old": {"auth-provider": {"name": "oidc"}},
        "basic": {"username": "x", "password": "y"},
        "nobody": {},
    }
    assert look(tree, write(home / "config", kubeconfig_of(users, "robot"))) == Found()


def test_files_that_a_kubeconfig_names(tree: KubeadmTree, home: Path) -> None:
    pair = pki.make_leaf(tree.cas["ca"], "jane", not_after=NOW + timedelta(days=3))
    (home / "pki").mkdir()
    write(home / "pki" / "jane.crt", pair.cert_pem)
    write(home / "pki" / "jane.key", pair.key_pem)
    users = {
        "jane": {"client-certificate": "pki/jane.crt", "client-key": "../.kube/pki/jane.key"},
        "gone": {"client-certificate": "pki/gone.crt", "client-key": "pki/jane.key"},
        "half": {"client-certificate": str(home / "pki" / "jane.crt")},
    }
    path = write(home / "config", kubeconfig_of(users, "jane"))
    found = look(tree, path)
    assert codes(found, "%s#jane" % path) == {"expiring": "critical"}
    assert codes(found, "%s#half" % path) == {"expiring": "critical", "missing": "critical"}
    assert codes(found, "%s#gone" % path) == {"missing": "critical"}
    assert {record.status for record in found.records} == {"critical", "missing"}


def test_stale_and_foreign_copies(tree: KubeadmTree, home: Path) -> None:
    old = pki.make_leaf(tree.cas["ca"], "kubernetes-admin", organization="kubeadm:cluster-admins", not_after=NOW + timedelta(days=60))
    ended = pki.make_leaf(
        tree.cas["ca"],
        "kubernetes-admin",
        organization="kubeadm:cluster-admins",
        not_before=NOW - timedelta(days=60),
        not_after=NOW - timedelta(days=1),
    )
    foreign = pki.make_leaf(
        pki.make_ca("kubernetes"), "kubernetes-admin", not_before=NOW - timedelta(days=60), not_after=NOW - timedelta(days=1)
    )
    other = pki.make_leaf(tree.cas["ca"], "jane")
    users = {"old": embedded(old), "ended": embedded(ended), "foreign": embedded(foreign), "jane": embedded(other)}
    path = write(home / "config", kubeconfig_of(users, "old"))
    found = look(tree, path)
    assert codes(found, "%s#old" % path) == {"stale_copy": "warning"}
    assert codes(found, "%s#ended" % path) == {"stale_copy": "warning", "expired": "critical"}
    assert codes(found, "%s#foreign" % path) == {"foreign_copy": "info", "expired": "warning"}
    assert codes(found, "%s#jane" % path) == {}
    (stale,) = (finding for record in found.records if record.name.endswith("#old") for finding in record.findings)
    assert all(word in stale.message for word in (str(path), "admin.conf", "cp-1"))
    assert "certs_rotate_kubeconfig_copies" in stale.remedy


def test_what_others_renew_has_no_copies(tree: KubeadmTree, home: Path) -> None:
    """A rotation leaves copies of it alone, so that they must not be due in each run."""
    node = tree.discover()
    theirs = dataclasses.replace(node.credentials["admin.conf"], managed_by="kubelet")
    node = dataclasses.replace(node, credentials={**node.credentials, "admin.conf": theirs})
    old = pki.make_leaf(tree.cas["ca"], "kubernetes-admin", organization="kubeadm:cluster-admins", not_after=NOW + timedelta(days=60))
    path = write(home / "config", kubeconfig_of({"me": embedded(old)}, "me"))
    found = inspect_kubeconfigs(node, [str(path)], Setting("c", "h", "cp-1", NOW, Thresholds(2, 1)))
    assert codes(found, "%s#me" % path) == {}


def test_the_same_key_is_a_copy_too(tree: KubeadmTree, home: Path) -> None:
    """Even under another subject, such as before a group was added."""
    user = json.loads((tree.kubernetes_dir / "admin.conf").read_bytes())["users"][0]["user"]
    key = load_private_key(base64.b64decode(user["client-key-data"]), "admin.conf")
    old = pki.make_leaf(tree.cas["ca"], "kubernetes-admin", not_after=NOW + timedelta(days=60), key=key)
    path = write(home / "config", kubeconfig_of({"me": embedded(old)}, "me"))
    assert codes(look(tree, path), "%s#me" % path) == {"stale_copy": "warning"}


def on_worker(tree: KubeadmTree, path: Path) -> t.Any:
    """The only record there: a worker has the cluster's CA, and no original."""
    node = tree.discover()
    own = {name: one for name, one in node.credentials.items() if name in ("ca", "kubelet-client", "kubelet.conf")}
    node = dataclasses.replace(node, credentials=own, components={"kubelet": node.components["kubelet"]})
    setting = Setting("c", "h", "worker-1", NOW, Thresholds(30 * DAY, DAY))
    found = inspect_kubeconfigs(node, [str(path)], setting)
    assert list(found.issued_by) == [record.name for record in found.records]
    (record,) = found.records
    return record


def test_what_a_worker_says_of_a_copy(tree: KubeadmTree, home: Path) -> None:
    """Whether it is a stale one, others know; whether it can be renewed by a request, the file tells."""
    ends = pki.make_leaf(tree.cas["ca"], "kubernetes-admin", organization="kubeadm:cluster-admins", not_after=NOW + timedelta(days=3))
    document = json.loads(kubeconfig_of({"me": embedded(ends)}, "me"))
    bare = on_worker(tree, write(home / "config", json.dumps(document).encode()))
    assert not bare.externally_managed, "an answer could not be verified"
    document["clusters"][0]["cluster"]["certificate-authority-data"] = embedded(tree.cas["ca"])["client-certificate-data"]
    record = on_worker(tree, write(home / "config", json.dumps(document).encode()))
    assert record.not_renewable_because == "this node has no kubeconfig that it can be a copy of"
    assert [("control-plane nodes" in str(finding.remedy), finding.code) for finding in record.findings] == [(True, "expiring")]
    assert (record.ca, record.renewable, record.externally_managed) == ("ca", False, True)


def test_a_host_without_kubernetes(tree: KubeadmTree, home: Path) -> None:
    """A bastion: whose CA it is, the kubeconfig says."""
    node = dataclasses.replace(tree.discover(), components={}, credentials={})
    document = json.loads(kubeconfig_of({"me": embedded(pki.make_leaf(tree.cas["ca"], "kubernetes-admin"))}, "me"))
    document["clusters"][0]["cluster"]["certificate-authority-data"] = embedded(tree.cas["ca"])["client-certificate-data"]
    path = write(home / "config", json.dumps(document).encode())
    found = inspect_kubeconfigs(node, [str(path)], Setting("c", "h", None, NOW, Thresholds(1, 1)))
    (record,) = found.records
    (ca,) = parse_certificates(tree.cas["ca"].cert_pem, "ca")
    assert (record.findings, record.ca, record.externally_managed) == ((), None, True)
    assert found.issued_by == {record.name: fingerprint(ca)}


def test_a_key_of_somebody_else_and_one_for_everybody(tree: KubeadmTree, home: Path) -> None:
    pair, other = pki.make_leaf(tree.cas["ca"], "jane"), pki.make_leaf(tree.cas["ca"], "joe")
    users = {"mixed": {**embedded(pair), "client-key-data": embedded(other)["client-key-data"]}, "garbage": {**embedded(pair)}}
    users["garbage"]["client-key-data"] = "YWJj"
    path = write(home / "config", kubeconfig_of(users, "mixed"), 0o644)
    found = look(tree, path)
    assert codes(found, "%s#mixed" % path) == {"key_mismatch": "critical", "key_readable_by_others": "warning"}
    assert codes(found, "%s#garbage" % path) == {"unreadable": "critical"}


def hostile(home: Path) -> None:
    os.mkfifo(home / "pipe")
    write(home / "huge", b"a: " + b"x" * (2 * 1024 * 1024))
    write(home / "garbage", os.urandom(5000))
    write(home / "deep", b"[" * 100000)
    write(home / "empty", b"")
    (home / "folder").mkdir()
    (home / "loop").symlink_to("loop")
    (home / "link").symlink_to("/etc/passwd")


def test_hostile_files_are_one_finding_each(tree: KubeadmTree, home: Path) -> None:
    hostile(home)
    found = look(tree, home / "*")
    assert found.records == ()
    assert {finding.code for finding in found.problems} == {"kubeconfig_unread"}
    assert {finding.severity for finding in found.problems} == {"info"}
    assert len(found.problems) == 7, [finding.message for finding in found.problems]
    assert {finding.severity for finding in look(tree, home / "garbage").problems} == {"warning"}, "it was named"


@as_root
def test_hostile_files_in_somebody_s_home(tree: KubeadmTree, home: Path) -> None:
    hostile(home)
    for path in (home.parent, home, *home.iterdir()):
        os.chown(path, JANE, JANE, follow_symlinks=False)
    found = look(tree, home / "*")
    assert (found.records, len(found.problems)) == ((), 7)


@as_root
def test_nothing_of_root_s_is_read_for_somebody(tree: KubeadmTree, home: Path) -> None:
    """By a link, by a reference, by a name for a file of root's: an answer would tell what only root may know."""
    secret = pki.make_leaf(tree.cas["ca"], "secret")
    folder = home.parent.parent / "roots"
    folder.mkdir(mode=0o700)
    certificate = write(folder / "secret.crt", secret.cert_pem)
    users = {"me": {"client-certificate": str(certificate), "client-key": str(certificate)}}
    write(home / "reference", kubeconfig_of(users, "me"))
    (home / "link").symlink_to(write(folder / "config", kubeconfig_of({"me": embedded(secret)}, "me")))
    os.link(folder / "config", home / "name")
    for path in (home.parent, home, home / "reference"):
        os.chown(path, JANE, JANE)
    found = look(tree, home / "*")
    (record,) = found.records
    assert (record.name, record.subject, record.status) == ("%s#me" % (home / "reference"), None, "unreadable")
    assert "EACCES" in record.findings[0].message
    assert len(found.problems) == 2
    assert "secret" not in "".join(finding.message for finding in found.problems).replace("secret.crt", "")


@as_root
def test_a_home_that_is_somebody_s(tree: KubeadmTree, home: Path) -> None:
    path = write(home / "config", (tree.kubernetes_dir / "admin.conf").read_bytes())
    for one in (home.parent, home, path):
        os.chown(one, JANE, JANE)
    (record,) = look(tree, home / "config").records
    assert (record.status, record.findings) == ("ok", ())


def test_not_longer_than_anybody_waits(tree: KubeadmTree, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        write(home / name, (tree.kubernetes_dir / "admin.conf").read_bytes())
    monkeypatch.setattr(_kubeconfig_records, "_LONGEST_SECONDS", -1.0)
    found = look(tree, home / "*")
    assert found.records == ()
    assert [finding.severity for finding in found.problems] == ["warning"]


def test_not_more_users_than_anybody_has(tree: KubeadmTree, home: Path) -> None:
    user = embedded(pki.make_leaf(tree.cas["ca"], "jane"))
    path = write(home / "config", kubeconfig_of({"u%d" % number: user for number in range(60)}, "u1"))
    found = look(tree, path)
    assert len(found.records) == 50
    assert "only 50 of its 60 users" in found.problems[0].message


def test_what_a_rotation_would_leave_alone_asks_for_none(tree: KubeadmTree, home: Path) -> None:
    """A stale copy without the key of its certificate: it would be due in each run."""
    old = pki.make_leaf(tree.cas["ca"], "kubernetes-admin", organization="kubeadm:cluster-admins", not_after=NOW + timedelta(days=60))
    user = {**embedded(old), "client-key-data": embedded(pki.make_leaf(tree.cas["ca"], "x"))["client-key-data"]}
    path = write(home / "config", kubeconfig_of({"me": user}, "me"), 0o640)
    assert codes(look(tree, path), "%s#me" % path) == {"key_mismatch": "critical"}
    path.chmod(0o600)
    assert codes(look(tree, path), "%s#me" % path) == {"key_mismatch": "critical", "stale_copy": "warning"}, "root's own is cured"


def test_what_cannot_be_renewed_elsewhere(tree: KubeadmTree, home: Path) -> None:
    """A key that is not the certificate's, and one of both in a file: a request for them would be refused, and fail its host's turn."""
    node = dataclasses.replace(tree.discover(), components={}, credentials={})
    leaf, other = pki.make_leaf(tree.cas["ca"], "joe"), pki.make_leaf(tree.cas["ca"], "x")
    write(home / "joe.crt", leaf.cert_pem)
    write(home / "joe.key", leaf.key_pem)
    users = {
        "mixed": {**embedded(leaf), "client-key-data": embedded(other)["client-key-data"]},
        "files": {"client-certificate": "joe.crt", "client-key": "joe.key"},
        "half": {"client-certificate-data": embedded(leaf)["client-certificate-data"], "client-key": "joe.key"},
    }
    document = json.loads(kubeconfig_of(users, "mixed"))
    document["clusters"][0]["cluster"]["certificate-authority-data"] = embedded(tree.cas["ca"])["client-certificate-data"]
    document["contexts"] += [{"name": user, "context": {**document["contexts"][0]["context"], "user": user}} for user in ("files", "half")]
    path = write(home / "config", json.dumps(document).encode())
    found = inspect_kubeconfigs(node, [str(path)], Setting("c", "h", None, NOW, Thresholds(1, 1)))
    assert [record.externally_managed for record in found.records] == [False, True, False]


def test_where_others_may_write_nothing_is_read(tree: KubeadmTree, home: Path) -> None:
    """They might have laid a link there to what only root may read."""
    secret = home / "secret"
    secret.mkdir(mode=0o700)
    write(secret / "config", (tree.kubernetes_dir / "admin.conf").read_bytes())
    shared = home / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "x").symlink_to(secret)
    found = look(tree, shared / "*" / "config")
    assert found.records == ()
    assert "others may write to" in found.problems[0].message


def test_nobody_forges_a_message(tree: KubeadmTree, home: Path) -> None:
    """By names of users, of files, or of paths in a kubeconfig: each finding is one line, of a length that people read."""
    pair = pki.make_leaf(tree.cas["ca"], "jane")
    forged = "x\nadmin.conf on cp-1 has expired\x1b[2J"
    users = {
        forged: {**embedded(pair), "client-key-data": embedded(pki.make_leaf(tree.cas["ca"], "x"))["client-key-data"]},
        "path": {"client-certificate": forged, "client-key": forged},
        "key": {"client-certificate-data": embedded(pair)["client-certificate-data"], "client-key": forged},
        "y" * 50000: {"client-certificate": "y" * 50000, "client-key": "z"},
    }
    write(home / "config\nforged", kubeconfig_of(users, "path"), 0o644)
    write(home / "twice\nforged", b"users: [{name: a, user: {}}, {name: a, user: {}}]")
    (home / "link\nforged").symlink_to("config")
    found = look(tree, home / "*forged")
    findings = [*found.problems, *(finding for record in found.records for finding in record.findings)]
    assert len(findings) >= 6
    for finding in findings:
        assert (finding.message + finding.remedy).isprintable(), finding
        assert len(finding.message) < 3000
    for record in found.records:
        assert str(record.not_renewable_because).isprintable()
