# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A user in a kubeconfig of anybody's, who holds the key of his certificate: what a host outside of the cluster can have renewed."""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass, field

from ansible_collections.certops.kubernetes.plugins.module_utils._copied_user import why_left
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig_records import authorities_of, read_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._places import place_of, read_as
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import chain_problem, parse_certificates
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_request import proves_key
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import shown_sentence

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import UserCredential
    from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig_records import KubeconfigFile
    from ansible_collections.certops.kubernetes.plugins.module_utils._places import Place
    from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import Certificate


@dataclass(frozen=True)
class Holder:
    """A user in a kubeconfig, and what is known of whom."""

    name: str
    file: KubeconfigFile
    place: Place
    user: UserCredential
    leaf: Certificate
    authorities: tuple[Certificate, ...]
    key: bytes = field(repr=False)

    @property
    def where(self) -> tuple[str, str]:
        """Where its certificate is: two users may name the same files, and two names may be of one user."""
        named = self.user.client_certificate
        if self.user.client_certificate_data is None and named is not None:
            return place_of(_named(self.file, named)).path, ""
        return self.place.path, self.user.name


def all_holders(names: t.Sequence[str], problems: list[str]) -> t.Iterator[Holder]:
    """Those of these users (`PATH#USER`) who can be renewed, one of those who name the same files; sentences about the others."""
    seen: set[tuple[str, str]] = set()
    for name in names:
        try:
            held = _holder(name)
            where = held.where
        except CertopsError as error:
            problems.append(shown_sentence(str(error)))
            continue
        if where not in seen:
            seen.add(where)
            yield held


def _holder(name: str) -> Holder:
    """Raises CertopsError, also for whoever does not hold the key of his certificate."""
    file, user_name = None, ""
    for index in (index for index, letter in enumerate(name) if letter == "#"):
        try:
            file, user_name = read_kubeconfig(name[:index]), name[index + 1 :]
        except CertopsError:
            if index == name.rindex("#"):
                raise
            continue
        break
    user = file.config.users.get(user_name) if file is not None else None
    if file is None or user is None:
        raise CertopsError("%s is no user of a kubeconfig on this host. Remedy: make the plan again." % name)
    certificate, key = _pair_of(file, user, name)
    authorities = tuple(authorities_of(file, user))
    if not authorities:
        raise CertopsError(
            "The kubeconfig of %s does not hold its cluster's CA, so that an answer could not be verified. Remedy: embed it." % name
        )
    leaf = parse_certificates(certificate, name)[0]
    if not proves_key(leaf, key):
        raise CertopsError(
            "%s does not hold the private key of its certificate, which anybody may have. Remedy: have a new one made." % name
        )
    left = why_left(file, user, leaf)  # before anything is signed that could not be put in
    if left is not None:
        raise CertopsError("%s is left as it is. %s" % (name, left))
    return Holder(name, file, place_of(file.path), user, leaf, authorities, key)


def _pair_of(file: KubeconfigFile, user: UserCredential, name: str) -> tuple[bytes, bytes]:
    """Certificate and key: embedded, or in files, which are read with the rights of the kubeconfig's owner. Raises CertopsError."""
    certificate, key = user.client_certificate_data, user.client_key_data
    if certificate is not None and key is not None:
        return certificate, key
    if (certificate, key) == (None, None) and user.client_certificate is not None and user.client_key is not None:
        return read_as(_named(file, user.client_certificate), file.by), read_as(_named(file, user.client_key), file.by)
    raise CertopsError(
        "%s has no certificate and key, both embedded or both in files. Remedy: embed them (kubectl config set-credentials)." % name
    )


def _named(file: KubeconfigFile, name: str) -> str:
    return os.path.normpath(os.path.join(os.path.dirname(file.path), name))


def server_of(held: Holder) -> tuple[str, bytes | None]:
    """URL and CA of a cluster of this user whose CA has signed the certificate. Raises CertopsError when there is none."""
    for context in held.file.config.contexts.values():
        cluster = held.file.config.clusters.get(context.cluster or "") if context.user == held.user.name else None
        if cluster is None or cluster.server is None:
            continue
        ca_pem = cluster.ca_data
        if ca_pem is None and cluster.ca_file is not None:
            ca_pem = read_as(_named(held.file, cluster.ca_file), held.file.by)
        if ca_pem is not None and chain_problem(held.leaf, parse_certificates(ca_pem, held.file.path)) is None:
            return cluster.server, ca_pem
    raise CertopsError("the kubeconfig names no server for it")


__all__ = ("Holder", "all_holders", "server_of")
