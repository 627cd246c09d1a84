# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The public part of private keys: equal to the library's, and never a guess."""

from __future__ import annotations

import math
import time

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._pem import der_of_block
from ansible_collections.certops.kubernetes.plugins.module_utils._public_part import public_key_of, rsa_public_numbers
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import public_bytes
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import der, pki


@pytest.mark.parametrize("kind", ["RSA-2048", "EC-256", "EC-384", "Ed25519"])
@pytest.mark.parametrize("pkcs8", [False, True])
def test_equals_what_the_library_says(kind: str, pkcs8: bool) -> None:
    key = pki.new_key(kind)
    assert public_bytes(public_key_of(pki.key_to_pem(key, pkcs8), "k")) == public_bytes(key.public_key())


@pytest.mark.parametrize("pkcs8", [False, True])
def test_rsa_keys_are_not_loaded(pkcs8: bool) -> None:
    der = der_of_block(pki.key_to_pem(pki.new_key("RSA-2048"), pkcs8))
    numbers = pki.new_key("RSA-2048").public_key().public_numbers()
    assert rsa_public_numbers(der, pkcs8=pkcs8) == (numbers.n, numbers.e)


def test_numbers_that_do_not_belong_together_are_not_believed() -> None:
    der = bytearray(der_of_block(pki.key_to_pem(pki.new_key("RSA-2048"))))
    for position in range(20, len(der), 37):
        changed = bytearray(der)
        changed[position] ^= 1
        try:
            numbers = rsa_public_numbers(bytes(changed), pkcs8=False)
        except ValueError:
            continue
        assert numbers is None, position


@pytest.mark.parametrize("length", range(0, 1200, 71))
def test_cut_off_keys_are_an_error_of_ours(length: int) -> None:
    der = der_of_block(pki.key_to_pem(pki.new_key("RSA-2048")))[:length]
    with pytest.raises(ValueError, match="."):
        rsa_public_numbers(der, pkcs8=False)


def rsa_key(e: int = 65537, d: int | None = None, **numbers: int) -> bytes:
    """A key of the library's primes with another exponent, and with numbers that belong to it unless they are given."""
    known = pki.new_key("RSA-2048").private_numbers()
    p, q = numbers.get("p", known.p), numbers.get("q", known.q)
    if d is None:
        d = pow(e, -1, (p - 1) * (q - 1)) if e % 2 else 1
    values = {"n": p * q, "e": e, "d": d, "p": p, "q": q, "dp": d % max(1, p - 1), "dq": d % (q - 1), "qi": pow(q, -1, p) if p != q else 1}
    return der.pem(der.tlv(der.SEQUENCE, der.integer(0), *map(der.integer, {**values, **numbers}.values())), "RSA PRIVATE KEY")


P = pki.new_key("RSA-2048").private_numbers().p
DEGENERATE = {
    "e is 1": {"e": 1},
    "e is 2": {"e": 2},
    "e is 0": {"e": 0},
    "e is negative": {"e": -65537, "d": 1},
    "p is q": {"q": P, "d": 1},
    "p is 1": {"p": 1, "d": 1, "dp": 1},
    "p is 2": {"p": 2, "d": 1},
    "n is 0": {"n": 0},
    "a huge d": {"d": 1 << 4_000_000},
    "all of them huge": dict.fromkeys(("n", "e", "d", "p", "q", "dp", "dq", "qi"), (1 << 900_000) + 1),
}


@pytest.mark.parametrize("numbers", list(DEGENERATE.values()), ids=list(DEGENERATE))
def test_degenerate_keys_are_explained(numbers: dict[str, int]) -> None:
    started = time.monotonic()
    with pytest.raises(CertopsError):
        public_key_of(rsa_key(**numbers), "k")
    assert time.monotonic() - started < 30


def test_a_small_exponent_is_a_key() -> None:
    known = pki.new_key("RSA-2048").private_numbers()
    small = next(e for e in (3, 5, 7, 11, 13, 17, 19, 23) if math.gcd(e, (known.p - 1) * (known.q - 1)) == 1)
    assert public_key_of(rsa_key(e=small), "k").public_numbers().e == small


@pytest.mark.parametrize("data", [b"", b"noise", b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"])
def test_garbage_is_explained(data: bytes) -> None:
    with pytest.raises(CertopsError):
        public_key_of(data, "k")
