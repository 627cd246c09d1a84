# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Make new files out of old ones, in memory: what a rotation is going to write, and why it will not.

Only reads; whoever calls this may still decide against it.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.certops.kubernetes.plugins.module_utils._files import MissingFile, final_target, read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._journal import Item
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig, replace_user_credentials
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._self_signed import SELF_SIGNED_DAYS, foreign_signer, one_off_authority
from ansible_collections.certops.kubernetes.plugins.module_utils._signers import Authority, Signer, load_authority, load_signer
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import (
    describe,
    fingerprint,
    key_matches,
    load_private_key,
    parse_certificates,
    pem,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_renew import new_end, renew
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_request import answer_problem
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso

if t.TYPE_CHECKING:
    from datetime import datetime

    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Credential, Node

RENEW = "renew"
ACTIVATE = "activate"
RESTART = "restart"
RESTORE = "restore"
CONFIGURE = "configure"  # a setting of the kubelet is switched on

_END_OF_CERTIFICATE = re.compile(rb"-----END CERTIFICATE-----[ \t]*\r?\n?")


@dataclass(frozen=True)
class Wanted:
    """What the plan asks for: a certificate by name, what to do with it, and the fingerprint that it had when the plan was made.

    `signed_by`: the other host that has its CA's key; `certificate` is then what was signed there, and `pending_key` the key that
    waits for it here (None where the old key is kept). `refresh_sans`: it gets `names` (`DNS:…`, `IP:…`) instead of its own.
    """

    name: str
    action: str  # renew | activate | restart | configure
    fingerprint_sha256: str | None = None
    signed_by: str | None = None
    certificate: bytes | None = None
    pending_key: bytes | None = field(default=None, repr=False)
    refresh_sans: bool = False
    names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Policy:
    """How new certificates are made. `validity_seconds` counts from now; `self_signed_seconds` are those of a kubelet's self-signed one."""

    now: datetime
    validity_seconds: int
    keep_private_key: bool = False
    self_signed_seconds: int = SELF_SIGNED_DAYS * 86400


@dataclass(frozen=True)
class NewFile:
    """What a file will hold. `path` has its symbolic links followed. The content may be a private key: never shown.

    `link`: it is a symbolic link itself, and its content is where it leads.
    `gone`: there will be none.
    `by`: the user who is not root and in whose folder it is; it is written with that user's rights, and if it cannot be, that is a note.
    `made_from`: of a copy of a kubeconfig, the SHA-256 of the content of which `data` was made; if it has another one, that is a note, too.
    """

    path: str
    data: bytes = field(repr=False)
    link: bool = False
    by: int | None = None
    made_from: str | None = None
    gone: bool = False

    @property
    def may_be_left(self) -> bool:
        """Whether a run goes on, with a note, when it cannot be written: nothing of the node depends on it."""
        return self.by is not None or self.made_from is not None


@dataclass(frozen=True)
class Renewal:
    """A certificate before and after, and the files to write for it, the key first; `note` is a sentence for the user, or empty."""

    item: Item
    files: tuple[NewFile, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Present:
    """A credential as it lies on disk: its leaf, what follows the leaf in the file, and how to write a successor."""

    credential: Credential
    leaf: t.Any
    tail: bytes
    user: str | None  # of a kubeconfig
    data: bytes = field(repr=False)
    key_data: bytes = field(repr=False)


def renewals(node: Node, wanted: t.Sequence[Wanted], policy: Policy, predict: bool = False) -> list[Renewal]:
    """What to write for each item, in the plan's order; with `predict` nothing is made, only what would be is described.

    Raises CertopsError with every reason why not, before anything is made.
    """
    found, problems = _look_at_all(node, wanted, policy)
    if problems:
        raise CertopsError("Refused, nothing was changed. " + " ".join(problems))
    made: dict[str, Renewal] = {}
    result = []
    for item, present, signer in found:
        before = facts(present.leaf)
        if signer is None:
            result.append(Renewal(Item(item.name, ACTIVATE, before, before)))
            continue
        # Two names may stand for one file (a pair that is both server and client): it is renewed once.
        path = final_target(present.credential.cert_path)
        if path not in made:
            made[path] = _predict_or_make(item, present, signer, policy, predict)
        result.append(Renewal(Item(item.name, RENEW, before, made[path].item.after), made[path].files))
    return result


def _predict_or_make(item: Wanted, present: Present, signer: Signer | Authority, policy: Policy, predict: bool) -> Renewal:
    if present.credential.self_signed_is_normal:
        policy = replace(policy, validity_seconds=policy.self_signed_seconds)
    if predict:
        return _prediction(item, present, signer, policy)
    return _make(item, present, signer, policy) if isinstance(signer, Signer) else _accept(item, present, signer, policy)


_Found = t.Tuple[Wanted, Present, t.Union[Signer, Authority, None]]


def _look_at_all(node: Node, wanted: t.Sequence[Wanted], policy: Policy) -> tuple[list[_Found], list[str]]:
    found: list[_Found] = []
    problems: list[str] = []
    for item in wanted:
        try:
            credential = _credential(node, item)
            present = look_at(credential)
            check_fingerprint(item, present)
            signer: Signer | Authority | None = None
            if item.action == RENEW:
                _check_key_is_its_own(node, credential)
                if credential.self_signed_is_normal:
                    present, signer = _self_signer(present, policy)
                else:
                    signer = (
                        load_authority(node, present.credential, present.leaf)
                        if item.signed_by
                        else load_signer(node, credential, policy.now)
                    )
            found.append((item, present, signer))
        except CertopsError as error:
            problems.append("%s: %s" % (item.name, error))
    return found, problems


def _self_signer(present: Present, policy: Policy) -> tuple[Present, Signer]:
    """A CA for this one certificate, whose own certificate follows it in the file, as in the kubelet's own."""
    stranger = foreign_signer(parse_certificates(present.data, present.credential.cert_path))
    if stranger is not None:
        raise CertopsError("%s was signed by %s, not by the kubelet. Remedy: renew it there." % (present.credential.cert_path, stranger))
    certificate, key = one_off_authority(present.leaf, policy.now, policy.self_signed_seconds)
    return replace(present, tail=pem(certificate)), Signer(certificate, key)


def _credential(node: Node, item: Wanted) -> Credential:
    credential = node.credentials.get(item.name)
    if credential is None:
        raise CertopsError(
            "this node has no certificate of that name; it has %s. Remedy: make the plan again." % ", ".join(sorted(node.credentials)),
        )
    if item.action != RENEW:
        return credential
    if credential.managed_by is not None:
        raise CertopsError("it is renewed by %s itself. Remedy: leave it out of the plan." % credential.managed_by)
    if credential.kind not in ("pair", "kubeconfig") or (credential.ca is None and not credential.self_signed_is_normal):
        raise CertopsError("a %s is not renewed by this module. Remedy: leave it out of the plan." % credential.kind)
    if in_one_file(credential):
        raise CertopsError(
            "its key is not in a file of its own beside %s, which is not supported. Remedy: renew it with the tool that made it."
            % credential.cert_path,
        )
    return credential


def in_one_file(credential: Credential) -> bool:
    """Whether a pair's certificate and key are in the same file, as kubelets write them."""
    if credential.kind != "pair" or credential.key_path is None:
        return False
    return final_target(credential.key_path) == final_target(credential.cert_path)


def look_at(credential: Credential) -> Present:
    """Read a pair or a kubeconfig. Raises CertopsError."""
    data = read_bounded(credential.cert_path)
    if credential.kind == "kubeconfig":
        return _look_at_kubeconfig(credential, data)
    leaf = parse_certificates(data, credential.cert_path)[0]
    if credential.key_path is None:
        raise CertopsError("where its key is, is not known. Remedy: renew it with the tool that made it.")
    if in_one_file(credential):
        return Present(credential, leaf, b"", None, data, data)
    end = _END_OF_CERTIFICATE.search(data)
    tail = data[end.end() :] if end else b""
    try:
        key_data = read_bounded(credential.key_path)
    except MissingFile:
        key_data = b""  # a new one will be made; to keep it is refused where it is needed
    return Present(credential, leaf, tail, None, data, key_data)


def _look_at_kubeconfig(credential: Credential, data: bytes) -> Present:
    path = credential.cert_path
    user = parse_kubeconfig(data, path).current_user()
    if user.client_certificate_data is None or user.client_key_data is None:
        raise CertopsError(
            "the user %r in %s has no embedded client certificate and key. Remedy: renew the files that it points to." % (user.name, path),
        )
    leaf = parse_certificates(user.client_certificate_data, path)[0]
    end = _END_OF_CERTIFICATE.search(user.client_certificate_data)
    tail = user.client_certificate_data[end.end() :] if end else b""
    return Present(credential, leaf, tail, user.name, data, user.client_key_data)


def check_fingerprint(item: Wanted, present: Present) -> None:
    """Refuse (CertopsError) what is not the certificate that the plan saw."""
    actual = fingerprint(present.leaf)
    if item.fingerprint_sha256 and item.fingerprint_sha256.lower() != actual:
        raise CertopsError(
            "the certificate in %s is not the one that the plan saw (planned %s, found %s): somebody changed it meanwhile."
            " Remedy: make the plan again." % (present.credential.cert_path, item.fingerprint_sha256, actual),
        )


def _check_key_is_its_own(node: Node, credential: Credential) -> None:
    if credential.key_path is None or credential.kind != "pair":
        return
    key, certificate = final_target(credential.key_path), final_target(credential.cert_path)
    for other in node.credentials.values():
        if other.key_path is None or other.kind not in ("pair", "ca", "signing-key"):
            continue
        if final_target(other.key_path) == key and final_target(other.cert_path) != certificate:
            raise CertopsError(
                "its key %s is also the key of %s. Remedy: give it a key of its own first." % (credential.key_path, other.name),
            )


def _make(item: Wanted, present: Present, signer: Signer, policy: Policy) -> Renewal:
    key = kept_key(present) if policy.keep_private_key else None
    renewed = renew(
        *(present.leaf, signer.certificate, signer.key, policy.now, policy.validity_seconds, key, present.key_data or None), sans=item.names
    )
    return _renewal(item.name, present, renewed.certificate_pem, renewed.private_key_pem, new_key=key is None)


def _accept(item: Wanted, present: Present, authority: Authority, policy: Policy) -> Renewal:
    """Take what another node has signed for the key that waits here. Raises CertopsError when that is not what was asked for."""
    if item.certificate is None:
        raise CertopsError("%s is signed on %s, and nothing came from there. Nothing was changed." % (item.name, item.signed_by))
    if policy.keep_private_key:
        key, key_pem = kept_key(present), present.key_data
    elif item.pending_key is not None:
        key, key_pem = load_private_key(item.pending_key, "the key that waits for %s" % item.name), item.pending_key
    else:
        raise CertopsError(
            "No key waits on this node for the certificate of %s that %s signed. Nothing was changed. Remedy: run the playbook again."
            % (item.name, item.signed_by)
        )
    certificate, problem = None, ""
    try:
        certificate = parse_certificates(item.certificate, "what came from there")[0]
        problem = answer_problem(certificate, present.leaf, key, authority.certificates, policy.now) or ""
    except CertopsError as error:
        problem = str(error).rstrip(".")
    if problem:
        raise CertopsError(
            "The certificate that %s signed for %s is not taken: %s. Nothing was changed." % (item.signed_by, item.name, problem)
        )
    return _renewal(item.name, present, pem(certificate), key_pem, new_key=not policy.keep_private_key)


def _renewal(name: str, present: Present, certificate_pem: bytes, key_pem: bytes, new_key: bool) -> Renewal:
    credential, certificate = present.credential, certificate_pem + present.tail
    if present.user is not None:
        data = replace_user_credentials(present.data, present.user, certificate, key_pem, credential.cert_path)
        files: tuple[NewFile, ...] = (NewFile(final_target(credential.cert_path), data),)
    else:
        files = (NewFile(final_target(credential.cert_path), certificate),)
        if new_key:
            files = (NewFile(final_target(str(credential.key_path)), key_pem), *files)
    after = facts(parse_certificates(certificate_pem, credential.cert_path)[0])
    return Renewal(Item(name, RENEW, facts(present.leaf), after), files)


def kept_key(present: Present) -> t.Any:
    """The key that is there, if it belongs to the certificate. Raises CertopsError."""
    source = present.credential.key_path or present.credential.cert_path
    if not present.key_data:
        raise CertopsError("Its key %s is missing, so it cannot be kept. Remedy: let a new one be made (private_key: regenerate)." % source)
    key = load_private_key(present.key_data, source)
    if not key_matches(present.leaf, key):
        raise CertopsError(
            "The key %s does not belong to the certificate of %s, so it is not kept. Remedy: let a new one be made (private_key:"
            " regenerate)." % (source, present.credential.name),
        )
    return key


def _prediction(item: Wanted, present: Present, signer: Signer | Authority, policy: Policy) -> Renewal:
    if policy.keep_private_key:
        kept_key(present)
    before = facts(present.leaf)
    end = new_end(signer.certificate, policy.now, policy.validity_seconds)
    after = dict(before, serial=None, fingerprint_sha256=None, not_before=None, not_after=iso(end))
    if item.names is not None:
        after["sans"] = list(item.names)
    # What would be written where, and how much of it: for the checks before a change.
    blank: tuple[NewFile, ...] = (NewFile(final_target(present.credential.cert_path), b"\0" * len(present.data)),)
    if present.user is None and not policy.keep_private_key:
        blank = (NewFile(final_target(str(present.credential.key_path)), b"\0" * len(present.key_data)), *blank)
    return Renewal(Item(item.name, RENEW, before, after), blank)


def facts(certificate: t.Any) -> dict[str, t.Any]:
    """What a result, a diff and the journal say about a certificate."""
    described = describe(certificate)
    return {
        "subject": described.subject,
        "sans": list(described.sans),
        "serial": described.serial,
        "not_before": iso(described.not_before),
        "not_after": iso(described.not_after),
        "fingerprint_sha256": described.fingerprint_sha256,
    }


__all__ = (
    "ACTIVATE",
    "CONFIGURE",
    "RENEW",
    "RESTART",
    "RESTORE",
    "NewFile",
    "Policy",
    "Present",
    "Renewal",
    "Wanted",
    "check_fingerprint",
    "facts",
    "in_one_file",
    "kept_key",
    "look_at",
    "renewals",
)
