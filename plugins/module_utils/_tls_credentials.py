# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A client's certificate and key in memory, and the TLS context that presents them.

Python's `ssl` takes a certificate and its key from files only. They are handed over through an anonymous file in memory
(`memfd_create`, seen as `/proc/self/fd/N`), so that no copy of a private key ever reaches a disk.
"""

from __future__ import annotations

import os
import ssl
import typing as t
from dataclasses import dataclass, field

from ansible_collections.certops.kubernetes.plugins.module_utils._files import read_bounded
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import parse_kubeconfig
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import not_after, parse_certificates

if t.TYPE_CHECKING:
    from datetime import datetime

# OpenSSL's X509_V_FLAG_PARTIAL_CHAIN (Python has it since 3.10): any certificate of the bundle is an anchor, as Go's x509 takes it.
_PARTIAL_CHAIN = 0x80000
# OpenSSL's X509_V_FLAG_NO_CHECK_TIME: signatures are verified, dates are not.
_NO_CHECK_TIME = 0x200000


@dataclass(frozen=True)
class Identity:
    """A client certificate with its key, and what its kubeconfig says of the server. The key is never shown."""

    source: str  # the file that it comes from
    certificate_pem: bytes
    private_key_pem: bytes = field(repr=False)
    ca_pem: bytes | None = None
    server: str | None = None  # URL, as the kubeconfig has it

    def not_after(self) -> datetime:
        """The end of the certificate's validity (aware, UTC). Raises CertopsError when it cannot be read."""
        return not_after(parse_certificates(self.certificate_pem, self.source)[0])

    def expired(self, now: datetime) -> bool:
        """Whether the certificate's validity is over."""
        return self.not_after() <= now


def identity_from_pair(cert_path: str, key_path: str, ca_path: str | None = None) -> Identity:
    """The identity of a certificate file and its key file. Raises CertopsError when one cannot be read."""
    return Identity(
        source=cert_path,
        certificate_pem=read_bounded(cert_path),
        private_key_pem=read_bounded(key_path),
        ca_pem=read_bounded(ca_path) if ca_path else None,
    )


def identity_from_kubeconfig(path: str) -> Identity:
    """The identity of a kubeconfig's current context. Raises CertopsError when it has no client certificate."""
    config = parse_kubeconfig(read_bounded(path), path)
    user, cluster = config.current_user(), config.current_cluster()
    certificate = embedded_or_file(user.client_certificate_data, user.client_certificate, path)
    key = embedded_or_file(user.client_key_data, user.client_key, path)
    if certificate is None or key is None:
        raise CertopsError(
            "%s: user %r has no client certificate and key (a token or a login command does not help here)" % (path, user.name)
        )
    ca_pem = embedded_or_file(cluster.ca_data, cluster.ca_file, path)
    return Identity(source=path, certificate_pem=certificate, private_key_pem=key, ca_pem=ca_pem, server=cluster.server)


def client_context(ca_pem: bytes | None, identity: Identity | None, ignore_dates: bool = False) -> ssl.SSLContext:
    """A context that trusts only `ca_pem` and presents `identity`; without a CA the server is not verified.

    The caller checks the server's name. `ignore_dates` verifies signatures but accepts an expired server certificate.
    """
    # Not create_default_context(): since Python 3.13 it demands extensions that certificates made by kubeadm may lack.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    if ca_pem is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.verify_mode = ssl.CERT_REQUIRED
        flags = int(context.verify_flags) | _PARTIAL_CHAIN | (_NO_CHECK_TIME if ignore_dates else 0)
        context.verify_flags = t.cast("ssl.VerifyFlags", flags)
        _trust(context, ca_pem)
    if identity is not None:
        _present(context, identity)
    return context


def _trust(context: ssl.SSLContext, ca_pem: bytes) -> None:
    try:
        context.load_verify_locations(cadata=ca_pem.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as exc:
        raise CertopsError("the CA bundle for the server has no readable certificate (%s)" % exc) from exc


def _present(context: ssl.SSLContext, identity: Identity) -> None:
    """Load certificate and key through an anonymous file in memory."""
    descriptor = _memory_file(identity.certificate_pem.rstrip() + b"\n" + identity.private_key_pem)
    try:
        # The password is given so that an encrypted key is an error, not a question on the terminal.
        context.load_cert_chain("/proc/self/fd/%d" % descriptor, password="")
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "reason", None) or getattr(exc, "strerror", None) or type(exc).__name__
        raise CertopsError(
            "%s: client certificate and key cannot be used for TLS (%s): are both there and do they belong together?"
            % (identity.source, reason)
        ) from exc
    finally:
        os.close(descriptor)


def _memory_file(data: bytes) -> int:
    create = getattr(os, "memfd_create", None)
    if create is None:
        raise CertopsError("this node's Python has no memfd_create (Linux >= 3.17, glibc >= 2.27): use the distribution's python3")
    try:
        descriptor = int(create("certops"))
    except OSError as exc:
        raise CertopsError("this node's kernel gives no memory file (memfd_create: %s): Linux >= 3.17 is needed" % exc.strerror) from exc
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    return descriptor


def embedded_or_file(data: bytes | None, name: str | None, kubeconfig: str) -> bytes | None:
    """Embedded data wins over a file, as in client-go; a relative file name is relative to the kubeconfig's folder."""
    if data is not None:
        return data
    if not name:
        return None
    return read_bounded(os.path.join(os.path.dirname(kubeconfig), name))


__all__ = (
    "Identity",
    "client_context",
    "embedded_or_file",
    "identity_from_kubeconfig",
    "identity_from_pair",
)
