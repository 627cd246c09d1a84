# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The public part of a private key, without the price of loading it.

Older cryptography (before 39 there is no way around it) proves at each load that an RSA key's factors are prime: 50 ms for a key of
2048 bits, nearly a second for a control-plane node. To know which certificate a key belongs to, the numbers in the file are enough,
and that they belong together can be computed in microseconds.
"""

from __future__ import annotations

import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._deps import CRYPTO_ERRORS, rsa
from ansible_collections.certops.kubernetes.plugins.module_utils._pem import der_element, der_of_block, pem_blocks
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import load_private_key

_SEQUENCE = 0x30
_INTEGER = 0x02
_OCTET_STRING = 0x04
_RSA_ENCRYPTION = bytes.fromhex("300d06092a864886f70d0101010500")  # AlgorithmIdentifier, RFC 8017 A.1
_MIN_BITS, _MAX_BITS = 1024, 16384


def public_key_of(data: bytes, source: str) -> t.Any:
    """The public key (an object of cryptography) of the first private key in a PEM file. Raises CertopsError."""
    for label, block in pem_blocks(data, source):
        if label in ("RSA PRIVATE KEY", "PRIVATE KEY") and b"Proc-Type" not in block:
            key = _rsa_key(block, label)
            if key is not None:
                return key
        if label.endswith("PRIVATE KEY"):
            break
    return load_private_key(data, source).public_key()


def _rsa_key(block: bytes, label: str) -> t.Any:
    """The public key; None for anything that is not a sound RSA key: then the library has the word."""
    try:
        numbers = rsa_public_numbers(der_of_block(block), pkcs8=label == "PRIVATE KEY")
        return rsa.RSAPublicNumbers(numbers[1], numbers[0]).public_key() if numbers is not None else None
    except CRYPTO_ERRORS:
        return None


def rsa_public_numbers(der: bytes, *, pkcs8: bool) -> tuple[int, int] | None:
    """(modulus, public exponent) of an RSAPrivateKey (RFC 8017 A.1.2), or of one within a PrivateKeyInfo (RFC 5208).

    None where it is something else, or its numbers do not belong together. Raises ValueError for malformed DER.
    """
    body, rest = der_element(der, _SEQUENCE)
    if rest:
        return None
    if pkcs8:
        _version, body = der_element(body, _INTEGER)
        if not body.startswith(_RSA_ENCRYPTION):
            return None
        key, _attributes = der_element(body[len(_RSA_ENCRYPTION) :], _OCTET_STRING)
        return rsa_public_numbers(key, pkcs8=False)
    numbers: list[int] = []
    while body and len(numbers) < 9:
        number, body = der_element(body, _INTEGER)
        numbers.append(int.from_bytes(number, "big", signed=True))
    if len(numbers) != 9 or numbers[0] != 0 or not _belong_together(*numbers[1:]):
        return None
    return numbers[1], numbers[2]


def _belong_together(n: int, e: int, d: int, p: int, q: int, dp: int, dq: int, q_inverse: int) -> bool:
    """The relations of RFC 8017 3.2 between the numbers of a key with two factors, but for the factors' being prime."""
    if min(e, d, dp, dq, q_inverse) < 1 or min(p, q) < 3 or n.bit_length() < _MIN_BITS:
        return False
    if max(n, e, d, p, q, dp, dq, q_inverse).bit_length() > _MAX_BITS:
        return False
    return (
        p * q == n
        and e % 2 == 1
        and (e * dp) % (p - 1) == 1
        and (e * dq) % (q - 1) == 1
        and d % (p - 1) == dp
        and d % (q - 1) == dq
        and (q * q_inverse) % p == 1
    )


__all__ = ("public_key_of", "rsa_public_numbers")
