# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What the module that issues kubeconfigs calls: read what is there, have a certificate signed, try it out, write the file.

The private key is made here, and is in no value that leaves this file but the content that is written.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import time
import typing as t
from dataclasses import dataclass, field
from datetime import timedelta

from ansible_collections.certops.kubernetes.plugins.module_utils import _issue as issuing
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient, ApiError, address_of_url, whoami
from ansible_collections.certops.kubernetes.plugins.module_utils._csr import CLIENT, Application, obtain_certificate
from ansible_collections.certops.kubernetes.plugins.module_utils._discovery import discover
from ansible_collections.certops.kubernetes.plugins.module_utils._files import Attributes, MissingFile, final_target, read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._guarded_folder import guarded_file
from ansible_collections.certops.kubernetes.plugins.module_utils._issue import Standing, Wanted
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Credential, Node
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import facts
from ansible_collections.certops.kubernetes.plugins.module_utils._result import facts_text
from ansible_collections.certops.kubernetes.plugins.module_utils._signers import Signer, load_signer
from ansible_collections.certops.kubernetes.plugins.module_utils._tls_credentials import (
    Identity,
    embedded_or_file,
    identity_from_kubeconfig,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import Certificate, PrivateKey, not_after, parse_certificates, pem
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_renew import BACKDATE, key_to_pem
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_request import make_request
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso, render_name

if t.TYPE_CHECKING:
    from datetime import datetime

BY_API = "api"
BY_CA = "ca"
_API_TIMEOUT_SECONDS = 10.0
_USAGES = ("digital signature", "client auth")
_MODES = 0o640  # whatever of it


@dataclass(frozen=True)
class Order:
    """What is asked for, as the module's options have it."""

    path: str
    user: str
    groups: tuple[str, ...]
    signer: str
    validity_hours: int
    renew_before_hours: int | None
    algorithm: str
    kubernetes_dir: str
    kubeconfig: str | None
    server: str | None
    cluster: str | None
    context: str | None
    owner: str | None
    group: str | None
    mode: t.Any  # octal text or a number
    allow_masters: bool
    force: bool
    wait_seconds: int


@dataclass(frozen=True)
class _Entry:
    """A cluster as the administrator's kubeconfig has it."""

    cluster: str
    server: str | None
    ca_pem: bytes | None


@dataclass
class _Result:
    """What the module returns."""

    changed: bool = False
    action: str = "none"  # none | attributes | issued
    because: str | None = None
    certificate: dict[str, t.Any] = field(default_factory=dict)
    proof: str = "none"
    warnings: list[str] = field(default_factory=list)


def issue(order: Order, now: datetime, check_mode: bool, sleep: t.Callable[[float], None] = time.sleep) -> dict[str, t.Any]:
    """Make the kubeconfig, or find that the one that is there will do. Raises CertopsError; nothing was written then."""
    issuing.check_names(order.user, order.groups, by_api=order.signer == BY_API, allow_masters=order.allow_masters)
    issuing.check_times(order.validity_hours, order.renew_before_hours)
    attributes = _attributes(order)
    signer = _signer(order, now) if order.signer == BY_CA else None
    wanted = _wanted(order, signer)
    by = signer or _admin_client(order)
    result = _Result()
    with guarded_file(order.path, attributes.uid) as file:
        _check_place(order)
        found = file.read()
        standing = Standing(None, "there is no such file")
        if found is not None:
            standing = issuing.judge(found[0], order.path, wanted, now, order.renew_before_hours)
        before = facts(standing.certificate) if standing.certificate is not None else {}
        result.because, result.certificate = standing.because or ("force" if order.force else None), before
        if result.because is not None:
            _check_foreign(order, standing)
            issuing.check_end(wanted.authorities if signer is None else [signer.certificate], now, order.validity_hours)
            _warn_of_masters(order, result)
            result.changed, result.action = True, "issued"
            if check_mode:
                result.certificate = _prediction(wanted, order, now)
            else:
                certificate, key_pem = _made(order, wanted, by, now, result, sleep)
                if file.read() != found:
                    raise CertopsError("%s was changed by somebody else meanwhile, and is left so. Remedy: run again." % order.path)
                old = found[0] if found is not None and standing.keeps else None
                file.replace(issuing.kubeconfig_for(wanted, certificate, key_pem, old, order.path), attributes)
                result.certificate = facts(certificate)
        elif found is not None and found[1] != attributes:
            result.changed, result.action, result.because = True, "attributes", "its owner, group or mode is another"
            if not check_mode:
                file.replace(found[0], attributes)
    return _plain(result, order, wanted, before)


def _made(
    order: Order, wanted: Wanted, by: Signer | ApiClient, now: datetime, result: _Result, sleep: t.Callable[[float], None]
) -> tuple[Certificate, bytes]:
    """A certificate that was tried out, and its key as PEM."""
    key = issuing.new_key(order.algorithm)
    if isinstance(by, ApiClient):
        certificate = _signed_by_api(order, by, key, result, sleep)
    else:
        subject, seconds = issuing.subject_of(order.user, order.groups), order.validity_hours * 3600
        certificate = issuing.sign_client(subject, key.public_key(), by.certificate, by.key, now, seconds)
    # The API's clock gave the dates, and this host's may be a little behind.
    problem = issuing.certificate_problem(certificate, key.public_key(), wanted, now + BACKDATE)
    if problem is not None:
        raise CertopsError("What was signed for %s is not taken: %s. Nothing was written to %s." % (order.user, problem, order.path))
    key_pem = key_to_pem(key, None)
    _prove(order, wanted, Identity(order.path, pem(certificate), key_pem, wanted.ca_pem), result)
    if not_after(certificate) < now + timedelta(hours=order.validity_hours) - 2 * BACKDATE:
        result.warnings.append(
            "The certificate ends at %s, before the %d hours that were asked for: the cluster's signer gives no more "
            "(--cluster-signing-duration of its kube-controller-manager)." % (iso(not_after(certificate)), order.validity_hours)
        )
    return certificate, key_pem


def _admin_client(order: Order) -> ApiClient:
    """Whoever asks for the certificate, and grants it."""
    identity = identity_from_kubeconfig(_admin_kubeconfig(order))
    return ApiClient(address_of_url(identity.server or ""), identity, timeout=_API_TIMEOUT_SECONDS)


def _signed_by_api(order: Order, client: ApiClient, key: PrivateKey, result: _Result, sleep: t.Callable[[float], None]) -> Certificate:
    """Have it signed by the cluster."""
    application = Application(
        prefix="certops-kubeconfig-",
        signer=CLIENT,
        usages=_USAGES,
        request_pem=make_request(issuing.subject_of(order.user, order.groups), key),
        seconds=order.validity_hours * 3600,
        reason="CertopsIssueKubeconfig",
        message="A kubeconfig for %s, asked for with %s." % (order.user, _admin_kubeconfig(order)),
    )
    try:
        certificate_pem, left = obtain_certificate(client, application, order.wait_seconds, sleep)
    except ApiError as error:
        raise CertopsError("No certificate was issued for %s: %s. Nothing was written to %s." % (order.user, error, order.path)) from error
    if left is not None:
        result.warnings.append("The CertificateSigningRequest is still in the cluster, which removes it within an hour: %s." % left)
    return parse_certificates(certificate_pem, "what the cluster signed")[0]


def _prove(order: Order, wanted: Wanted, identity: Identity, result: _Result) -> None:
    """Ask the API server whom it sees. Raises CertopsError when it is somebody else, or nobody."""
    try:
        client = ApiClient(address_of_url(wanted.server), identity, timeout=_API_TIMEOUT_SECONDS)
        user, groups, _credential = whoami(client)
    except CertopsError as error:
        if isinstance(error, ApiError) and error.status == 401:
            raise CertopsError(
                "The API server does not take the new certificate: %s. Nothing was written to %s. "
                "Remedy: is the CA that signed it in the API server's --client-ca-file?" % (error, order.path)
            ) from error
        result.warnings.append("Whether the API server takes the new certificate is not known: %s." % error)
        return
    if user != wanted.user or not set(wanted.groups) <= set(groups):
        raise CertopsError(
            "The API server sees %r in %s behind the new certificate. Nothing was written to %s." % (user, list(groups), order.path)
        )
    result.proof = "identity"


def _check_place(order: Order) -> None:
    """Raises CertopsError where the cluster keeps its own: a component would be somebody else from then on. No link is in the path."""
    own = (final_target(order.kubernetes_dir), final_target(_admin_kubeconfig(order)))
    if order.path in own or order.path.startswith(own[0] + "/"):
        raise CertopsError(
            "%s is where the cluster keeps its own credentials, which this must not replace. Remedy: choose a path that is neither in %s "
            "nor the administrator's kubeconfig." % (order.path, order.kubernetes_dir)
        )


def _check_foreign(order: Order, standing: Standing) -> None:
    if standing.foreign is not None and not standing.keeps and not order.force:
        clauses = standing.foreign if standing.because in (None, standing.foreign) else "%s, and %s" % (standing.because, standing.foreign)
        raise CertopsError(
            "%s is not overwritten: %s. Remedy: choose another path, move the file away, or say force: true." % (order.path, clauses)
        )


def _warn_of_masters(order: Order, result: _Result) -> None:
    if issuing.MASTERS in order.groups:
        result.warnings.append(
            "%s gets a certificate of system:masters. It bypasses RBAC, and nothing but a new cluster CA takes it back before it ends."
            % order.user
        )


def _attributes(order: Order) -> Attributes:
    """Owner, group and mode that the file is to have. Raises CertopsError."""
    uid = os.geteuid() if order.owner is None else _id_of("owner", order.owner, lambda name: pwd.getpwnam(name).pw_uid)
    if order.group is not None:
        gid = _id_of("group", order.group, lambda name: grp.getgrnam(name).gr_gid)
    else:
        try:
            gid = pwd.getpwuid(uid).pw_gid
        except KeyError:
            gid = os.getegid()
    mode = order.mode
    if isinstance(mode, str):
        if not re.match(r"0?[0-7]{3}\Z", mode):
            raise CertopsError("mode is %r. Remedy: write it in octal and in quotes, such as '0600'." % mode)
        mode = int(mode, 8)
    if not isinstance(mode, int) or mode & ~_MODES or not mode & 0o400:
        raise CertopsError(
            "mode is %s, and a private key is for its owner, at most for a group to read. Remedy: '0600', '0400', '0640' or '0440'."
            % ("%04o" % mode if isinstance(mode, int) else mode)
        )
    return Attributes(mode, uid, gid)


def _id_of(what: str, name: str, look_up: t.Callable[[str], int]) -> int:
    try:
        return look_up(name)
    except (KeyError, ValueError, UnicodeError):
        if re.match(r"[0-9]{1,9}\Z", name):
            return int(name)
        raise CertopsError("This host knows no %s %r. Remedy: create it first, or give its number." % (what, name)) from None


def _admin_kubeconfig(order: Order) -> str:
    return order.kubeconfig or os.path.join(order.kubernetes_dir, "admin.conf")


def _entry(order: Order) -> _Entry | None:
    """The cluster of the administrator's kubeconfig; None where there is none and none is needed."""
    path = _admin_kubeconfig(order)
    try:
        cluster = parse_kubeconfig(read_bounded(path), path).current_cluster()
    except MissingFile as error:
        if order.signer == BY_CA and order.kubeconfig is None:
            return None
        raise CertopsError(
            "%s Remedy: give the path of an administrator's kubeconfig on this host (kubeconfig), or run where there is one." % error
        ) from error
    return _Entry(cluster.name, cluster.server, embedded_or_file(cluster.ca_data, cluster.ca_file, path))


def _signer(order: Order, now: datetime) -> Signer:
    """The cluster's CA, whose key must be here. Raises CertopsError."""
    node = _node(order, now)
    asked = Credential(order.path, "kubeconfig", order.path, None, "client", "user", "ca")
    try:
        return load_signer(node, asked, now)
    except CertopsError as error:
        raise CertopsError("%s cannot be signed on this host: %s Or take signer=api." % (order.path, error)) from error


def _node(order: Order, now: datetime) -> Node:
    """This node with its CA; a host that runs nothing has it where kubeadm puts it."""
    node = discover(now, order.kubernetes_dir)
    if "ca" in node.credentials:
        return node
    stem = os.path.join(order.kubernetes_dir, "pki", "ca")
    return Node(None, None, order.kubernetes_dir, {}, {"ca": Credential("ca", "ca", stem + ".crt", stem + ".key", "ca", "kube-apiserver")})


def _wanted(order: Order, signer: Signer | None) -> Wanted:
    entry = _entry(order)
    ca_pem = entry.ca_pem if entry is not None else None
    if ca_pem is None and signer is not None:
        ca_pem = pem(signer.certificate)
    if ca_pem is None:
        raise CertopsError("%s holds no CA of its cluster. Remedy: give a kubeconfig that does." % _admin_kubeconfig(order))
    server = order.server or (entry.server if entry is not None else None)
    if server is None:
        raise CertopsError("Where the API server is, is not known: there is no %s. Remedy: say server." % _admin_kubeconfig(order))
    address_of_url(server)
    cluster = order.cluster or (entry.cluster if entry is not None else "kubernetes")
    wanted = Wanted(
        user=order.user,
        groups=order.groups,
        server=server,
        ca_pem=ca_pem,
        cluster=cluster,
        context=order.context or "%s@%s" % (order.user, cluster),
        algorithm=order.algorithm,
        authorities=(signer.certificate,) if signer is not None else tuple(parse_certificates(ca_pem, _admin_kubeconfig(order))),
    )
    for what in ("cluster", "context"):
        if not getattr(wanted, what).isprintable():
            raise CertopsError("%r is no name of a %s. Remedy: use printable characters." % (getattr(wanted, what), what))
    return wanted


def _prediction(wanted: Wanted, order: Order, now: datetime) -> dict[str, t.Any]:
    end = iso(now + timedelta(hours=order.validity_hours))
    subject = render_name(issuing.subject_of(wanted.user, wanted.groups))
    return {"subject": subject, "serial": None, "not_before": None, "not_after": end, "fingerprint_sha256": None}


def _plain(result: _Result, order: Order, wanted: Wanted, before: dict[str, t.Any]) -> dict[str, t.Any]:
    after = facts_text(result.certificate) if result.certificate else ""
    difference = {
        "before_header": order.path,
        "after_header": order.path,
        "before": facts_text(before) if before else "",
        "after": after,
    }
    return {
        "changed": result.changed,
        "path": order.path,
        "action": result.action,
        "because": result.because,
        "certificate": result.certificate,
        "server": wanted.server,
        "cluster": wanted.cluster,
        "context": wanted.context,
        "proof": result.proof,
        "warnings": result.warnings,
        "diff": [difference] if result.action == "issued" else [],
    }


__all__ = ("BY_API", "BY_CA", "Order", "issue")
