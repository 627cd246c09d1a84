# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What the collection takes from third parties on a node: cryptography and PyYAML, and nothing else.

The imports are guarded, so that a node without them gets one clear sentence instead of a traceback. Where a library is
missing its names are None: a module calls `missing_requirements()` first, and ends there if that says anything.
"""

from __future__ import annotations

import re
import sys
import typing as t
import warnings

MINIMUM_CRYPTOGRAPHY = (3, 4)

_PACKAGES = {
    "cryptography": "python3-cryptography",
    "PyYAML": "python3-yaml (Debian, Ubuntu) or python3-pyyaml (RHEL, Fedora, SUSE)",
}


class _Libraries:
    """The result of the guarded imports: modules and classes by name, and why something is not there."""

    def __init__(self) -> None:
        self.names: dict[str, t.Any] = {}
        self.failures: dict[str, str] = {}
        self.cryptography_version: str | None = None
        self.cryptography_file: str | None = None

    def get(self, name: str) -> t.Any:
        return self.names.get(name)


def _import_cryptography(found: _Libraries) -> None:
    try:
        import cryptography
        from cryptography import exceptions, x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
        from cryptography.x509 import oid
    except ImportError as exc:
        found.failures["cryptography"] = str(exc)
        return
    found.cryptography_version = str(cryptography.__version__)
    found.cryptography_file = str(cryptography.__file__)
    found.names.update(
        x509=x509,
        hashes=hashes,
        serialization=serialization,
        ec=ec,
        ed25519=ed25519,
        padding=padding,
        rsa=rsa,
        NameOID=oid.NameOID,
        ExtensionOID=oid.ExtensionOID,
        ExtendedKeyUsageOID=oid.ExtendedKeyUsageOID,
        InvalidSignature=exceptions.InvalidSignature,
        UnsupportedAlgorithm=exceptions.UnsupportedAlgorithm,
        parse_errors=(
            exceptions.UnsupportedAlgorithm,
            exceptions.InternalError,
            x509.DuplicateExtension,
            x509.InvalidVersion,
            x509.UnsupportedGeneralNameType,
        ),
    )


def _import_yaml(found: _Libraries) -> None:
    try:
        import yaml
    except ImportError as exc:
        found.failures["PyYAML"] = str(exc)
        return
    found.names["yaml"] = yaml


def _import_all() -> _Libraries:
    found = _Libraries()
    with warnings.catch_warnings():
        # "Python 3.8 is no longer supported …": true, and nothing that the user of a module could act upon.
        warnings.simplefilter("ignore")
        _import_cryptography(found)
        _import_yaml(found)
    return found


def _version_tuple(version: str) -> tuple[int, ...]:
    """`38.0.4` → (38, 0, 4); what follows the leading numbers does not count."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def _missing_sentence(what: str, failure: str) -> str:
    library = what.split()[0]
    return "%s is missing on this node for %s (%s): install %s" % (what, sys.executable, failure, _PACKAGES[library])


def missing_requirements() -> list[str]:
    """One sentence for each library that is missing or too old, naming the interpreter and the package that brings it."""
    minimum = "cryptography >= %s" % ".".join(str(part) for part in MINIMUM_CRYPTOGRAPHY)
    sentences = []
    version = _libraries.cryptography_version
    if "cryptography" in _libraries.failures:
        sentences.append(_missing_sentence(minimum, _libraries.failures["cryptography"]))
    elif version is not None and _version_tuple(version) < MINIMUM_CRYPTOGRAPHY:
        sentences.append(
            "%s is needed, but %s finds version %s at %s: update %s, or remove the copy that hides a newer one"
            % (minimum, sys.executable, version, _libraries.cryptography_file, _PACKAGES["cryptography"])
        )
    if "PyYAML" in _libraries.failures:
        sentences.append(_missing_sentence("PyYAML", _libraries.failures["PyYAML"]))
    return sentences


_libraries = _import_all()

x509: t.Any = _libraries.get("x509")
hashes: t.Any = _libraries.get("hashes")
serialization: t.Any = _libraries.get("serialization")
rsa: t.Any = _libraries.get("rsa")
ec: t.Any = _libraries.get("ec")
ed25519: t.Any = _libraries.get("ed25519")
padding: t.Any = _libraries.get("padding")
NameOID: t.Any = _libraries.get("NameOID")
ExtensionOID: t.Any = _libraries.get("ExtensionOID")
ExtendedKeyUsageOID: t.Any = _libraries.get("ExtendedKeyUsageOID")
InvalidSignature: t.Any = _libraries.get("InvalidSignature")
UnsupportedAlgorithm: t.Any = _libraries.get("UnsupportedAlgorithm")
yaml: t.Any = _libraries.get("yaml")

# Everything that cryptography raises, in one version or another, for input that it cannot make sense of.
CRYPTO_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    KeyError,
    OverflowError,
    NotImplementedError,
) + (_libraries.get("parse_errors") or ())

__all__ = (
    "CRYPTO_ERRORS",
    "MINIMUM_CRYPTOGRAPHY",
    "ExtendedKeyUsageOID",
    "ExtensionOID",
    "InvalidSignature",
    "NameOID",
    "UnsupportedAlgorithm",
    "ec",
    "ed25519",
    "hashes",
    "missing_requirements",
    "padding",
    "rsa",
    "serialization",
    "x509",
    "yaml",
)
