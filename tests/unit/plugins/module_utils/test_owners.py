# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose a credential's files are, and who else may write them: an alarm for strangers, none for what installers and components need.

Owners are values here, so that it does not matter who runs the tests.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._files import Attributes
from ansible_collections.certops.kubernetes.plugins.module_utils._findings import About
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import API_SERVER, CONTROLLER_MANAGER, ETCD, KUBELET, SCHEDULER
from ansible_collections.certops.kubernetes.plugins.module_utils._model import Finding
from ansible_collections.certops.kubernetes.plugins.module_utils._owners import group_name, owner_findings, user_name
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.etcd_host import EtcdHost
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.inspected import inspect, trouble
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils.kubeadm_tree import COMMANDS, KubeadmTree

# Numbers that belong to nobody who runs tests.
JANE, KAS, KCM, ETCDS, INSTALLER, NAMELESS = 44001, 44002, 44003, 44004, 44005, 44006
NAMES = {0: "root", JANE: "jane", KAS: "kubeadm-kas", KCM: "kubeadm-kcm", ETCDS: "kubeadm-etcd", INSTALLER: "etcd"}
ROOTLESS = {API_SERVER: (KAS, KAS), CONTROLLER_MANAGER: (KCM, KCM), SCHEDULER: (0, 0), ETCD: (ETCDS, ETCDS), KUBELET: (0, 0)}
AS_ROOT = dict.fromkeys(ROOTLESS, (0, 0))


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> KubeadmTree:
    return KubeadmTree(tmp_path)


def run(tree: KubeadmTree, ids: dict[str, tuple[int, int]], *without: str) -> None:
    """Each component as this user and group, but for those that do not run."""
    tree.ids = ids
    tree.run_kubelet()
    for pid, (name, command) in enumerate(COMMANDS.items(), start=99999001):
        if name not in without:
            tree.run(pid, command)


def found(tree: KubeadmTree, name: str, path: str, attributes: Attributes) -> list[Finding]:
    """What is found about a credential with this file, by the names of this machine's users."""
    node = tree.discover()
    about = About(name, path, "cp-1", "Renew it.")
    return list(owner_findings(about, node.credentials[name], node, {path: attributes}, NAMES.get, NAMES.get))


def found_codes(tree: KubeadmTree, name: str, mode: int, uid: int, gid: int = 0) -> list[str]:
    """The codes of that."""
    return [finding.code for finding in found(tree, name, "/f", Attributes(mode, uid, gid))]


@pytest.mark.parametrize("name", ["apiserver", "ca", "sa", "etcd/server", "etcd/healthcheck-client", "scheduler.conf", "kubelet-client"])
def test_a_stranger_owns_it(tree: KubeadmTree, name: str) -> None:
    """Everything runs as root, and the file is root's or somebody else's."""
    run(tree, AS_ROOT)
    assert found_codes(tree, name, 0o644, 0) == []
    (finding,) = found(tree, name, "/etc/f.key", Attributes(0o600, JANE, 0))
    assert (finding.code, finding.severity) == ("owned_by_another_user", "warning")
    for words in (name, "/etc/f.key", "on cp-1", "jane (uid %d, mode 0600)" % JANE):
        assert words in finding.message
    assert finding.remedy.startswith("chown root /etc/f.key;")


@pytest.mark.parametrize("name", ["admin.conf", "super-admin.conf"])
def test_what_no_process_reads_is_roots(tree: KubeadmTree, name: str) -> None:
    """Whatever runs there."""
    assert found_codes(tree, name, 0o600, 0) == []
    assert found_codes(tree, name, 0o600, JANE) == ["owned_by_another_user"]


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("apiserver", KAS),
        ("ca", KCM),
        ("ca", KAS),
        ("sa", KCM),
        ("etcd/server", ETCDS),
        ("etcd/ca", KAS),
        ("etcd/healthcheck-client", ETCDS),
    ],
)
def test_a_component_of_its_own_user_owns_what_it_reads(tree: KubeadmTree, name: str, owner: int) -> None:
    """As kubeadm's rootless control plane has it."""
    run(tree, ROOTLESS)
    assert found_codes(tree, name, 0o600, owner) == []
    assert found_codes(tree, name, 0o660, owner, owner) == []
    assert found_codes(tree, name, 0o600, 0) == []


@pytest.mark.parametrize(
    ("name", "mode", "owner"),
    [
        ("apiserver", 0o600, "kubeadm-kas"),  # root's alone, the API server could not start again
        ("apiserver", 0o644, "root"),
        ("ca", 0o640, "root"),  # of several, none is to have it alone
        ("scheduler.conf", 0o600, "root"),
    ],
)
def test_whose_it_should_be(tree: KubeadmTree, name: str, mode: int, owner: str) -> None:
    """The remedy takes it from no one who has to read it."""
    run(tree, ROOTLESS)
    (finding,) = found(tree, name, "/f", Attributes(mode, JANE, 0))
    assert finding.remedy.startswith("chown %s /f;" % owner)


@pytest.mark.parametrize(("name", "stopped"), [("apiserver", API_SERVER), ("ca", CONTROLLER_MANAGER), ("etcd/healthcheck-client", ETCD)])
def test_who_does_not_run_may_be_its_owner(tree: KubeadmTree, name: str, stopped: str) -> None:
    """One of all its readers is enough."""
    run(tree, AS_ROOT, stopped)
    assert found_codes(tree, name, 0o600, JANE) == []
    assert found_codes(tree, name, 0o660, 0, JANE) == []
    assert found_codes(tree, name, 0o606, JANE) == ["writable_by_others"]


def test_a_process_that_proc_does_not_tell_the_user_of(tree: KubeadmTree) -> None:
    run(tree, {})
    assert found_codes(tree, "apiserver", 0o600, JANE) == []


def test_an_installers_account(tree: KubeadmTree) -> None:
    """kubespray gives the API server's client pair for etcd to `etcd` also where no etcd runs."""
    run(tree, AS_ROOT)
    assert found_codes(tree, "apiserver-etcd-client", 0o660, INSTALLER, INSTALLER) == []


def test_an_etcd_of_its_own_user(tmp_path: Path) -> None:
    """A unit of systemd, as kubespray makes it, and a stranger's file on that host."""
    host = EtcdHost(tmp_path)
    host.run(ids=(KAS, KAS))
    node = host.discover()
    about = About("etcd/server", "/f", "e1", "Renew it.")
    codes = [
        [one.code for one in owner_findings(about, node.credentials["etcd/server"], node, {"/f": Attributes(0o600, uid, uid)}, NAMES.get)]
        for uid in (KAS, 0, JANE)
    ]
    assert codes == [[], [], ["owned_by_another_user"]]


def test_a_number_without_a_name(tree: KubeadmTree) -> None:
    run(tree, AS_ROOT)
    owned, writable = found(tree, "apiserver", "/f", Attributes(0o660, NAMELESS, NAMELESS))
    assert "without a name (uid %d, mode 0660)" % NAMELESS in owned.message
    assert "the group without a name (gid %d)" % NAMELESS in writable.message


@pytest.mark.parametrize(
    ("mode", "group", "expected"),
    [
        (0o644, JANE, False),
        (0o640, JANE, False),
        (0o664, 0, False),  # root's group is root
        (0o664, JANE, True),
        (0o620, JANE, True),
        (0o602, 0, True),
        (0o666, 0, True),
    ],
)
def test_others_may_write(tree: KubeadmTree, mode: int, group: int, expected: bool) -> None:
    run(tree, AS_ROOT)
    findings = found(tree, "ca", "/etc/ca.crt", Attributes(mode, 0, group))
    assert [(one.code, one.severity) for one in findings] == ([("writable_by_others", "warning")] if expected else [])
    for one in findings:
        assert ("the group jane (gid %d)" % JANE if group == JANE else "every user of the node") in one.message
        for words in ("/etc/ca.crt", "on cp-1", "root (uid 0, mode %04o)" % mode):
            assert words in one.message
        assert one.remedy.startswith("chmod go-w /etc/ca.crt;")


def test_names_of_this_machine() -> None:
    assert user_name(0) == "root"
    assert (user_name(4294967295), group_name(4294967295)) == (None, None)
    assert isinstance(group_name(0), str)


# --- files -----------------------------------------------------------------------------------------------------------


def test_each_kind_of_file(tree: KubeadmTree) -> None:
    """Certificate, key, CA, public key, kubeconfig; what follows a link is what counts, and a file that is gone is another finding's."""
    run(tree, AS_ROOT)
    assert trouble(inspect(tree)) == {}
    dated = tree.kubelet_dir / "pki" / "kubelet-client-1.pem"
    current = dated.with_name("kubelet-client-current.pem")
    current.rename(dated)
    current.symlink_to(dated.name)
    spoilt = [tree.cert("apiserver"), tree.cert("ca"), tree.pki_dir / "sa.pub", dated, tree.kubernetes_dir / "scheduler.conf"]
    for path in spoilt:
        os.chmod(path, path.stat().st_mode | 0o002)
    expected = {name: ["writable_by_others"] for name in ("apiserver", "ca", "sa")}
    expected.update((name, ["key_readable_by_others", "writable_by_others"]) for name in ("kubelet-client", "scheduler.conf"))
    records = inspect(tree)
    assert trouble(records) == expected
    assert str(current) in records["kubelet-client"].findings[1].message
    tree.key("front-proxy-client").unlink()
    assert trouble(inspect(tree)) == {**expected, "front-proxy-client": ["missing"]}


def test_a_kubeconfig_that_names_the_kubelets_certificate(tree: KubeadmTree) -> None:
    """It has no record of its own."""
    run(tree, AS_ROOT)
    path = tree.kubernetes_dir / "kubelet.conf"
    os.chmod(path, 0o602)
    records = inspect(tree)
    assert trouble(records) == {"kubelet-client": ["writable_by_others"]}
    assert str(path) in records["kubelet-client"].findings[0].message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_files_that_were_given_away(tree: KubeadmTree) -> None:
    """A whole folder, as `chown -R` does it; the kubelet's own lie elsewhere."""
    run(tree, {**AS_ROOT, SCHEDULER: (JANE, JANE)})
    for folder, _folders, names in os.walk(str(tree.kubernetes_dir)):
        for name in names:
            os.chown(os.path.join(folder, name), JANE, JANE)
    records = inspect(tree)
    given = {name for name in records if name != "scheduler.conf" and not name.startswith("kubelet-serving")}
    assert {name for name, codes in trouble(records).items() if set(codes) == {"owned_by_another_user"}} == given
