# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The public part of private keys: equal to the library's, and never a guess."""

from __future__ import annotations

import pytest
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._pem import der_of_block
from ansible_collections.certops.kubernetes.plugins.module_utils._public_part import public_key_of, rsa_public_numbers
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import public_bytes
from ansible_collections.certops.kubernetes.tests.unit.plugins.module_utils import pki


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


@pytest.mark.parametrize("data", [b"", b"noise", b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"])
def test_garbage_is_explained(data: bytes) -> None:
    with pytest.raises(CertopsError):
        public_key_of(data, "k")
