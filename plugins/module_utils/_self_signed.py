# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The serving certificate that a kubelet makes for itself when nobody gives it one: known by its shape, and a new CA for the next one.

A kubelet without serving files makes a CA called `NAME-ca@SECONDS`, signs a certificate with it, writes both into `kubelet.crt`, and
throws the CA's key away (client-go's `util/cert`, GenerateSelfSignedCertKey). It does that once, for a year, and never again by itself.
"""

from __future__ import annotations

import re
import secrets
import typing as t
from datetime import timedelta

from ansible_collections.certops.kubernetes.plugins.module_utils._deps import CRYPTO_ERRORS, NameOID, x509
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import Certificate, PrivateKey, signed_by
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_renew import BACKDATE, new_key_like, signature_hash
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import render_name

if t.TYPE_CHECKING:
    from datetime import datetime

SELF_SIGNED_DAYS = 365  # as the kubelet makes it, whatever the cluster's own validity is

_OF_A_KUBELET = re.compile(r".+-ca@[0-9]+\Z", re.DOTALL)
_MOMENT = re.compile(r"@[0-9]+\Z")
_SERIAL_BITS = 63
# An X.520 common name has 64 characters at most; "-ca@" and the seconds take 14.
_LONGEST_NAME = 50


def foreign_signer(certificates: t.Sequence[Certificate]) -> str | None:
    """Who else than the kubelet signed what lies in its `kubelet.crt`, as a name; None when the kubelet did. At least one is given."""
    leaf = certificates[0]
    if signed_by(leaf, leaf):
        return None
    made_by_kubelet = _OF_A_KUBELET.match(_common_name(leaf.issuer)) is not None and any(signed_by(leaf, one) for one in certificates[1:])
    return None if made_by_kubelet else render_name(leaf.issuer)


def one_off_authority(leaf: Certificate, now: datetime, validity_seconds: int) -> tuple[Certificate, PrivateKey]:
    """A new CA as a kubelet makes it, for one certificate: valid as long as that, with a key of the same kind. Raises CertopsError."""
    try:
        key = new_key_like(leaf)
        moment = now.replace(microsecond=0)
        host = _MOMENT.sub("", _common_name(leaf.subject))[:_LONGEST_NAME] or "kubelet"
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "%s-ca@%d" % (host, moment.timestamp()))])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1 + secrets.randbelow(2**_SERIAL_BITS - 1))
            .not_valid_before(moment - BACKDATE)
            .not_valid_after(moment + timedelta(seconds=validity_seconds))
            .add_extension(_usage(), critical=True)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return builder.sign(key, signature_hash(key)), key
    except CRYPTO_ERRORS as exc:
        reason = " ".join(str(exc).split()).rstrip(".")[:200] or type(exc).__name__
        raise CertopsError(
            "A CA for the kubelet's serving certificate cannot be made: %s. Remedy: choose a shorter validity." % reason
        ) from None


def _usage() -> t.Any:
    unused = dict.fromkeys(
        ("content_commitment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only", "decipher_only"), False
    )
    return x509.KeyUsage(digital_signature=True, key_encipherment=True, key_cert_sign=True, **unused)


def _common_name(name: t.Any) -> str:
    return next((str(attribute.value) for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)), "")


__all__ = ("SELF_SIGNED_DAYS", "foreign_signer", "one_off_authority")
