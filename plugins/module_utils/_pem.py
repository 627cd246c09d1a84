# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""PEM: the blocks of a file, found as Kubernetes and OpenSSL find them; and the elements of the DER in them."""

from __future__ import annotations

import base64
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError

_BEGIN = b"-----BEGIN "
_END = b"-----END "
_DASHES = b"-----"
_LONGEST_LABEL = 80  # bytes; what is longer is noise


def pem_blocks(data: bytes, source: str) -> t.Iterator[tuple[str, bytes]]:
    """(label, the block with its first and last line) of each PEM block; text around the blocks is skipped.

    A block starts at the beginning of a line, as in Go's encoding/pem and in OpenSSL: what they do not find is not found here.
    """
    position = 0
    while True:
        start = data.find(_BEGIN, position)
        if start < 0:
            return
        position = start + len(_BEGIN)
        if start > 0 and data[start - 1 : start] != b"\n":
            continue
        label_end = data.find(_DASHES, position, position + _LONGEST_LABEL)
        if label_end <= position or b"\n" in data[position:label_end]:
            continue
        label = data[position:label_end]
        last_line = b"\n" + _END + label + _DASHES
        end = data.find(last_line, label_end)
        following = data.find(b"\n" + _BEGIN, label_end)
        if end < 0 or 0 <= following < end:
            name = label.decode("ascii", "replace")
            raise CertopsError(
                "%s is truncated: its block %s has a beginning, but no end. Restore the file from a backup or write it anew."
                % (source, name)
            )
        position = end + len(last_line)
        yield label.decode("ascii", "replace"), data[start:position] + b"\n"


def der_of_block(block: bytes) -> bytes:
    """The bytes inside a PEM block; ValueError if they are not base64."""
    body = block[block.index(b"\n") : block.rindex(_END)]
    return base64.b64decode(b"".join(body.split()), validate=True)


def der_element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """(content, what follows) of a DER element. Raises ValueError when it is none of that tag, or cut off."""
    if len(data) < 2 or data[0] != tag:
        raise ValueError("not the expected element")
    length, start = data[1], 2
    if length & 0x80:
        size = length & 0x7F
        if not 0 < size <= 3:
            raise ValueError("no sensible length")
        length, start = int.from_bytes(data[2 : 2 + size], "big"), 2 + size
    if len(data) < start + length:
        raise ValueError("cut off")
    return data[start : start + length], data[start + length :]


def nothing_found(data: bytes, source: str, wanted: str) -> CertopsError:
    """The error for a file without any block of the wanted kind, by what it holds instead."""
    if not data.strip():
        return CertopsError("%s is empty: there is no %s in it. Restore it from a backup or write it anew." % (source, wanted))
    if data[:1] == b"\x30":
        return CertopsError(
            "%s holds no %s in PEM form; it looks like DER, which Kubernetes does not read. Convert it, for example with "
            "'openssl x509 -inform DER' or 'openssl pkey -inform DER'." % (source, wanted)
        )
    return CertopsError("%s holds no %s in PEM form. Restore it from a backup or write it anew." % (source, wanted))


__all__ = ("der_element", "der_of_block", "nothing_found", "pem_blocks")
