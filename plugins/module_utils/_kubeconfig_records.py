# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""People's and machines' kubeconfigs → a record for each user in them who has a client certificate, named `PATH#USER`.

They may be anybody's, so that nothing in them is trusted: each file is read with the rights of whoever decides what lies there, and what
cannot be read is a finding. Users with a token, a plugin or a password and no certificate are left alone.
"""

from __future__ import annotations

import os
import time
import typing as t
from dataclasses import dataclass, field

from ansible_collections.certops.kubernetes.plugins.module_utils._copied_user import why_left
from ansible_collections.certops.kubernetes.plugins.module_utils._deps import CRYPTO_ERRORS
from ansible_collections.certops.kubernetes.plugins.module_utils._drift import drift_findings
from ansible_collections.certops.kubernetes.plugins.module_utils._files import MissingFile, read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._findings import (
    INFO,
    WARNING,
    About,
    date_findings,
    key_mismatch,
    key_readable_by_others,
    missing,
    unreadable,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig_files import MOST_FILES, matching_files
from ansible_collections.certops.kubernetes.plugins.module_utils._layouts import API_SERVER
from ansible_collections.certops.kubernetes.plugins.module_utils._material import issuers_of
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Credential, Finding
from ansible_collections.certops.kubernetes.plugins.module_utils._places import place_of, read_as, read_place
from ansible_collections.certops.kubernetes.plugins.module_utils._public_part import public_key_of
from ansible_collections.certops.kubernetes.plugins.module_utils._records import dated_record, record
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import (
    describe,
    fingerprint,
    not_after,
    parse_certificates,
    public_bytes,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_request import proves_key
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import iso, shown, shown_sentence

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._files import Attributes
    from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import Kubeconfig, UserCredential
    from ansible_collections.certops.kubernetes.plugins.module_utils._model import Node, Record
    from ansible_collections.certops.kubernetes.plugins.module_utils._places import Place
    from ansible_collections.certops.kubernetes.plugins.module_utils._records import Setting
    from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import Certificate

_MOST_USERS = 50
_LONGEST_SECONDS = 60.0  # for all of them; a file in a file system of somebody's own may take its time
_OTHERS = 0o007


@dataclass(frozen=True)
class Original:
    """A kubeconfig of the node itself, of which there may be copies."""

    name: str
    path: str
    leaf: Certificate


@dataclass(frozen=True)
class Found:
    """What was found: the records, what is wrong with files, and of each record's certificate the CA's fingerprint, where it is known."""

    records: tuple[Record, ...] = ()
    problems: tuple[Finding, ...] = ()
    issued_by: t.Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class KubeconfigFile:
    """A kubeconfig that could be read, and where that is."""

    path: str
    place: Place
    config: Kubeconfig
    attributes: Attributes
    data: bytes = field(repr=False)

    @property
    def by(self) -> int | None:
        """The user who decides what lies there, None: root."""
        return self.place.by


@dataclass(frozen=True)
class _Known:
    """What the node has to compare with."""

    node: Node
    originals: tuple[Original, ...]
    authorities: tuple[Certificate, ...]


def inspect_kubeconfigs(node: Node, patterns: t.Sequence[str], setting: Setting) -> Found:
    """The records of all users with a certificate in the files that `patterns` (paths, `~` and wildcards) mean. Never raises for them."""
    listing = matching_files(patterns, node)
    paths = listing.files
    known = _Known(node, originals_of(node), tuple(_authorities(node)))
    records: list[Record] = []
    problems = [_not_read(pattern, why, setting, WARNING) for pattern, why in listing.unread.items()]
    issued_by: dict[str, str] = {}
    deadline = time.monotonic() + _LONGEST_SECONDS
    for path, named in paths[:MOST_FILES]:
        if time.monotonic() > deadline:
            problems.append(_not_read(path, "the files before it took longer than %g s" % _LONGEST_SECONDS, setting, WARNING))
            break
        try:
            file = read_kubeconfig(path)
        except MissingFile:  # what was there a moment ago need not be there any more
            continue
        except CertopsError as error:
            problems.append(_not_read(path, str(error), setting, WARNING if named else INFO))
            continue
        holders = [user for user in file.config.users.values() if user.client_certificate_data or user.client_certificate]
        for user in holders[:_MOST_USERS]:
            if time.monotonic() > deadline:
                problems.append(_not_read(path, "it took too long, with the files before it", setting, WARNING))
                break
            records.append(_record(file, user, known, setting, issued_by))
        if len(holders) > _MOST_USERS:
            problems.append(_not_read(path, "only %d of its %d users were looked at" % (_MOST_USERS, len(holders)), setting, INFO))
    if len(paths) > MOST_FILES:
        text = "%d files are meant, and only %d were looked at" % (len(paths), MOST_FILES)
        problems.append(_not_read(paths[MOST_FILES][0], text, setting, INFO))
    return Found(tuple(records), tuple(problems), issued_by)


def is_original(credential: Credential, node: Node) -> bool:
    """Whether a rotation makes copies of it valid: a kubeconfig of this node that it can renew, given the CA's key."""
    return credential.kind == "kubeconfig" and credential.ca in node.credentials and credential.managed_by is None


def originals_of(node: Node) -> tuple[Original, ...]:
    """The node's own kubeconfigs that hold a certificate."""
    found = []
    for credential in node.credentials.values():
        if not is_original(credential, node):
            continue
        try:
            user = parse_kubeconfig(read_bounded(credential.cert_path), credential.cert_path).current_user()
            leaf = parse_certificates(user.client_certificate_data or b"", credential.cert_path)[0]
        except CertopsError:
            continue  # it has a record of its own
        found.append(Original(credential.name, credential.cert_path, leaf))
    return tuple(found)


def _authorities(node: Node) -> t.Iterator[Certificate]:
    """The CAs of client certificates on this node; those that cannot be read have records of their own."""
    credential = node.credentials.get("ca")
    if credential is not None:
        try:
            yield from parse_certificates(read_bounded(credential.cert_path), credential.cert_path)
        except CertopsError:
            return


def read_kubeconfig(path: str) -> KubeconfigFile:
    """A kubeconfig, with the rights of whoever decides what lies there. Raises MissingFile or CertopsError."""
    place = place_of(path)
    if place.by is None and os.path.islink(path):
        raise CertopsError("%s is a symbolic link and was not looked into. Remedy: name the file itself." % path)
    if place.problem is not None:
        raise CertopsError("%s. Remedy: let nobody but root or the file's owner write there." % place.problem)
    seen = read_place(place)
    return KubeconfigFile(path, place, parse_kubeconfig(seen.data, path), seen.attributes, seen.data)


def _not_read(path: str, why: str, setting: Setting, severity: str) -> Finding:
    message = "The kubeconfig %s on %s was not looked into: %s." % (shown(path), setting.node_name, shown_sentence(why).rstrip("."))
    return Finding("kubeconfig_unread", severity, message, "Look at that file, or take it out of certs_rotate_kubeconfig_copies.")


def _record(file: KubeconfigFile, user: UserCredential, known: _Known, setting: Setting, issued_by: dict[str, str]) -> Record:
    name = "%s#%s" % (file.path, user.name)
    credential = Credential(
        name, "kubeconfig", file.path, file.path, "client", "user", "ca" if known.authorities else None, "user", API_SERVER
    )
    values: dict[str, t.Any] = {
        "name": name,
        "component": "user",
        "presented_by": credential.presented_by,
        "presented_to": credential.presented_to,
        "usage": "client",
        "source": "kubeconfig",
        "path": file.path,
        "address": None,
        "ca": None,
        "renewable": False,
        "not_renewable_because": "there is no certificate to renew",
        "externally_managed": False,
        "readers": (),
    }
    about = About(shown(name), shown(file.path), setting.node_name, "Copy a valid kubeconfig in its place.")
    try:
        certificates = parse_certificates(material(file, user.client_certificate_data, user.client_certificate), shown(name))
        facts = describe(certificates[0], shown(name))
    except MissingFile as error:
        return record(setting, {**values, "findings": (missing(about, shown_sentence(str(error))),)}, status="missing")
    except CertopsError as error:
        return record(setting, {**values, "findings": (unreadable(about, shown_sentence(str(error))),)}, status="unreadable")
    issuers = issuers_of(certificates[0], known.authorities) or issuers_of(certificates[0], authorities_of(file, user))
    if issuers:
        issued_by[name] = fingerprint(issuers[0])
    foreign = bool(known.authorities) and not issuers_of(certificates[0], known.authorities)
    original = None if foreign else original_of(certificates[0], bool(known.authorities), known.originals)
    left = why_left(file, user, certificates[0]) if original is not None else None
    because, remedy = _whose(foreign, original, left, known.node)
    about = About(about.name, about.where, about.node, remedy, cosmetic=foreign)
    keys = tuple(_key_findings(file, user, certificates[0], about))
    unproven = {finding.code for finding in keys} - {"key_readable_by_others"}
    findings = (
        *date_findings(about, facts.not_before, facts.not_after, setting.now, setting.thresholds),
        *drift_findings(about, credential, known.node, (facts, certificates), setting.now, setting.thresholds),
        *keys,
        *([_foreign_copy(about, facts.issuer)] if foreign else []),
        *(_stale_copy(about, original, left, told=bool(unproven)) if original and is_stale(certificates[0], original.leaf) else ()),
    )
    values.update(
        ca="ca" if known.authorities and not foreign else None,
        not_renewable_because=because,
        # Who has no key of that certificate, or one of both in a file, is refused by `_elsewhere`; so is who has no CA to verify by.
        externally_managed=not foreign
        and not _has_originals(known.node)
        and bool(issuers_of(certificates[0], authorities_of(file, user)))
        and not unproven
        and (user.client_certificate_data is None) == (user.client_key_data is None),
        findings=findings,
    )
    return dated_record(setting, values, facts)


def material(file: KubeconfigFile, data: bytes | None, path: str | None) -> bytes:
    """What is embedded, else what lies where the path leads to, from the kubeconfig's folder on, as client-go has it.

    Read with the rights of the kubeconfig's owner. Raises MissingFile or CertopsError.
    """
    if data is not None:
        return data
    if path is None:
        raise MissingFile("%s does not name it." % shown(file.path))
    return read_as(os.path.normpath(os.path.join(os.path.dirname(file.path), path)), file.by)


def authorities_of(file: KubeconfigFile, user: UserCredential) -> list[Certificate]:
    """The CAs of the clusters that this user has a context for, in the kubeconfig itself."""
    names = dict.fromkeys(context.cluster for context in file.config.contexts.values() if context.user == user.name)
    found = []
    for name in names:
        cluster = file.config.clusters.get(name or "")
        if cluster is None:
            continue
        try:
            found += parse_certificates(material(file, cluster.ca_data, cluster.ca_file), file.path)
        except CertopsError:
            continue
    return found


def original_of(leaf: Certificate, of_this_cluster: bool, originals: t.Sequence[Original]) -> Original | None:
    """Of which of the node's kubeconfigs this is a copy: the same key, or the same subject in a certificate of the same CA."""
    for original in originals:
        if same_key(leaf, original.leaf) or (of_this_cluster and leaf.subject == original.leaf.subject):
            return original
    return None


def is_stale(leaf: Certificate, original: Certificate) -> bool:
    """Whether the original has been renewed since this copy was made of it."""
    return fingerprint(leaf) != fingerprint(original) and not_after(leaf) < not_after(original)


def same_key(one: Certificate, other: Certificate) -> bool:
    """Whether two certificates have the same public key."""
    try:
        return public_bytes(one.public_key()) == public_bytes(other.public_key())
    except CRYPTO_ERRORS:
        return False


def _whose(foreign: bool, original: Original | None, left: str | None, node: Node) -> tuple[str, str]:
    """Why a rotation does not renew it by itself, and what to do about its end."""
    if foreign:
        return "another cluster's CA signed it", "Renew it with the tools of its own cluster, or take it out of the file."
    if original is not None and left is not None:
        return left, "Copy %s again." % original.path
    if original is not None:
        return (
            "it becomes valid again with %s" % original.path,
            "Renew the original, %s: certops.kubernetes.rotate does both, if the file is named in certs_rotate_kubeconfig_copies."
            % original.path,
        )
    if not _has_originals(node):
        return (
            "this node has no kubeconfig that it can be a copy of",
            "Look at it together with the control-plane nodes, one of which may have its original; or copy it again.",
        )
    return (
        "it is no copy of a kubeconfig of this node",
        "Have a new one made (certops.kubernetes.issue_kubeconfig), or copied again by whoever made this one.",
    )


def _has_originals(node: Node) -> bool:
    """Whether copies on this node may be of its own kubeconfigs; elsewhere they are compared with those of the control-plane nodes."""
    kubeconfigs = (credential for credential in node.credentials.values() if credential.kind == "kubeconfig")
    return API_SERVER in node.components or any(credential.component != "kubelet" for credential in kubeconfigs)


def _foreign_copy(about: About, issuer: str) -> Finding:
    return Finding(
        "foreign_copy",
        INFO,
        about.tells("was signed by no CA of this cluster, but by %s" % shown(issuer)),
        "Nothing, if the file is for several clusters: it is left alone. If not, take that user out of it.",
    )


def _stale_copy(about: About, original: Original, left: str | None, told: bool) -> t.Iterator[Finding]:
    """`told`: that its key is not what it should be, which is why it is left."""
    text = "is a copy of %s from before that was renewed; the original is valid until %s" % (original.path, iso(not_after(original.leaf)))
    if left is None:
        remedy = "certops.kubernetes.rotate makes it valid with its original (certs_rotate_kubeconfig_copies); or copy %s again."
        yield Finding("stale_copy", WARNING, about.tells(text), remedy % original.path)
    elif not told:
        message = about.tells("%s. A rotation leaves it as it is: %s" % (text, left.rstrip(".")))
        yield Finding("stale_copy_left", WARNING, message, "Cure that, or copy %s again." % original.path)


def _key_findings(file: KubeconfigFile, user: UserCredential, leaf: Certificate, about: About) -> t.Iterator[Finding]:
    try:
        key_pem = material(file, user.client_key_data, user.client_key)
        key = public_key_of(key_pem, about.name)
    except MissingFile as error:
        yield missing(about, shown_sentence("its key: %s" % error))
        return
    except CertopsError as error:
        yield unreadable(about, shown_sentence(str(error)))
        return
    try:
        if public_bytes(leaf.public_key()) != public_bytes(key) or not proves_key(leaf, key_pem):
            yield key_mismatch(about, shown(user.client_key or file.path))
    except CRYPTO_ERRORS:
        yield unreadable(about, "its public key is of no known kind")
    if user.client_key_data is not None and file.attributes.mode & _OTHERS:
        yield key_readable_by_others(about, shown(file.path), file.attributes.mode)


__all__ = (
    "Found",
    "KubeconfigFile",
    "Original",
    "authorities_of",
    "inspect_kubeconfigs",
    "is_original",
    "is_stale",
    "material",
    "original_of",
    "originals_of",
    "read_kubeconfig",
    "same_key",
)
