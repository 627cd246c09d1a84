# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A certificate whose CA's key is on another node: ask for its renewal, grant it there, and judge the answer here.

What travels is public: the request (PKCS#10, which proves that whoever asks has the key), the certificate that is to be renewed, and
its successor. What a successor says comes from that certificate alone, so that nobody gets by a request what the CA never gave out.
"""

from __future__ import annotations

import base64
import typing as t
import warnings

from ansible_collections.certops.kubernetes.plugins.module_utils._deps import (
    CRYPTO_ERRORS,
    InvalidSignature,
    ec,
    hashes,
    padding,
    rsa,
    serialization,
    x509,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import (
    Certificate,
    PrivateKey,
    chain_problem,
    describe,
    key_matches,
    load_private_key,
    not_after,
    not_before,
)
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_renew import renew_for_key, signature_hash
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import render_name

if t.TYPE_CHECKING:
    from datetime import datetime

_SHORTEST_RSA_KEY = 2048
_NO_SIGNATURE: tuple[type[Exception], ...] = (InvalidSignature, AttributeError, *CRYPTO_ERRORS)  # the second: keys that sign nothing


def make_request(subject: t.Any, key: PrivateKey) -> bytes:
    """A request for a certificate with this subject (an x509.Name) and this key, as PEM. Raises CertopsError."""
    try:
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, signature_hash(key))
        return bytes(request.public_bytes(serialization.Encoding.PEM))
    except CRYPTO_ERRORS as exc:
        raise CertopsError("A request for %s cannot be made: %s." % (render_name(subject), _reason(exc))) from None


def grant_request(
    request_pem: bytes, cert: Certificate, ca_cert: Certificate, ca_key: PrivateKey, now: datetime, validity_seconds: int
) -> bytes:
    """Renew `cert`, which this CA must have signed, for the key of the request. Returns the new certificate as PEM.

    Raises CertopsError when the request is none, does not prove that its key is had, or asks for something else than `cert`.
    """
    name = render_name(cert.subject)
    problem = chain_problem(cert, [ca_cert])
    if problem is not None:
        raise CertopsError("%s is not renewed with this CA: %s. Have it signed by the CA that signed it." % (name, problem))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            request = x509.load_pem_x509_csr(request_pem)
            valid, key, subject = request.is_signature_valid, request.public_key(), request.subject
    except CRYPTO_ERRORS as exc:
        raise CertopsError("The request for %s cannot be read: %s. Make it again." % (name, _reason(exc))) from None
    if not valid:
        raise CertopsError("The request for %s was not signed with the key that it asks for. Make it again." % name)
    if subject != cert.subject:
        raise CertopsError("The request is for %s, the certificate to be renewed for %s. Make it again." % (render_name(subject), name))
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _SHORTEST_RSA_KEY:
        raise CertopsError("The request for %s has an RSA key of %d bits only. Make it again with 2048 or more." % (name, key.key_size))
    return renew_for_key(cert, ca_cert, ca_key, now, validity_seconds, key)


def answer_problem(new: Certificate, old: Certificate, key: PrivateKey, ca_certs: t.Sequence[Certificate], now: datetime) -> str | None:
    """Why `new` is not the renewal of `old` that was asked for with this key, as a clause; None if it is."""
    problem = chain_problem(new, ca_certs)
    if problem is not None:
        return problem
    if not key_matches(new, key):
        return "it does not belong to the key that was made for it on this node"
    if not not_before(new) <= now < not_after(new):
        return "it is not valid now"
    is_now, was = describe(new, "the new certificate"), describe(old, "the old one")
    for what in ("subject", "sans", "extended_key_usages", "is_ca"):
        if getattr(is_now, what) != getattr(was, what):
            return "its %s is %s, and was %s" % (what, getattr(is_now, what), getattr(was, what))
    return None


def proves_key(cert: Certificate, key_pem: bytes) -> bool:
    """Whether this is the private key of a certificate, by a signature: its file may claim any public key."""
    try:
        key = load_private_key(key_pem, "a key")
        return key_matches(cert, key) and bool(x509.load_pem_x509_csr(make_request(cert.subject, key)).is_signature_valid)
    except CertopsError:
        return False
    except CRYPTO_ERRORS:
        return False


def prove_renewal(request_pem: bytes, key_pem: bytes) -> bytes:
    """A signature, in base64, of a request for a renewal with the key of the certificate that is to be renewed. Raises CertopsError."""
    key = load_private_key(key_pem, "the present key")
    try:
        if isinstance(key, rsa.RSAPrivateKey):
            signature = key.sign(_signed(request_pem), padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePrivateKey):
            signature = key.sign(_signed(request_pem), ec.ECDSA(hashes.SHA256()))
        else:
            signature = t.cast(t.Any, key).sign(_signed(request_pem))
    except _NO_SIGNATURE as exc:
        raise CertopsError("The present key cannot sign (%s). Have a new kubeconfig made." % _reason(exc)) from None
    return base64.b64encode(signature)


def is_proven(cert: Certificate, request_pem: bytes, proof: bytes) -> bool:
    """Whether `proof` is what `prove_renewal` makes of this request with the key of this certificate."""
    try:
        key, signature = t.cast(t.Any, cert.public_key()), base64.b64decode(proof, validate=True)
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, _signed(request_pem), padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, _signed(request_pem), ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(signature, _signed(request_pem))
    except _NO_SIGNATURE:
        return False
    return True


def _signed(request_pem: bytes) -> bytes:
    """What is signed: the prefix keeps a signature that was made for something else from being one for this."""
    return b"certops.kubernetes: renew for this request\n" + request_pem


def _reason(exc: Exception) -> str:
    return " ".join(str(exc).split()).rstrip(".")[:200] or type(exc).__name__


__all__ = ("answer_problem", "grant_request", "is_proven", "make_request", "prove_renewal", "proves_key")
