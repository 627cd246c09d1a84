# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What it takes to make a user in a copy of a kubeconfig valid again, and why it is left: a rotation does what an inspection foretells."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils._as_user import as_user
from ansible_collections.certops.kubernetes.plugins.module_utils._files import room_problem, sha256
from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import replace_user_credentials
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError
from ansible_collections.certops.kubernetes.plugins.module_utils._places import place_of, read_as, read_place
from ansible_collections.certops.kubernetes.plugins.module_utils._renewal import NewFile
from ansible_collections.certops.kubernetes.plugins.module_utils._replaceable import replace_problems
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_request import proves_key
from ansible_collections.certops.kubernetes.plugins.module_utils._x509_text import shown_sentence

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig import UserCredential
    from ansible_collections.certops.kubernetes.plugins.module_utils._kubeconfig_records import KubeconfigFile
    from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import Certificate

_AGAIN = "Remedy: copy the original again."
_ROOM_BYTES = 64 * 1024  # what a kubeconfig or a pair takes


def with_credentials(
    file: KubeconfigFile, data: bytes, user: UserCredential, leaf: Certificate, certificate: bytes, key: bytes
) -> tuple[bytes, list[NewFile]]:
    """A kubeconfig's `data` with another certificate and key (PEM) for a user, and, where it names files for them, those, the key first.

    `leaf` is the user's present certificate. Raises CertopsError with why the user is left as he is.
    """
    embedded = user.client_certificate_data is not None and user.client_key_data is not None
    if not embedded and not (user.client_certificate_data is None and user.client_key_data is None and user.client_key is not None):
        raise CertopsError("Of the certificate and key of its user %s not both are embedded, nor both in files. %s" % (user.name, _AGAIN))
    if not (embedded and _is_root_s_alone(file)) and not proves_key(leaf, _key_of(file, user)):
        raise CertopsError("Its user %s does not hold the private key of its certificate. %s" % (user.name, _AGAIN))
    if embedded:
        data, files = replace_user_credentials(data, user.name, certificate, key, file.path), []
    else:
        files = _pair(file, user, certificate, key)
    paths = [one.path for one in files] or [file.place.path]
    problems = [problem for path in paths for problem in _problems(path, file.by)]
    if problems:
        raise CertopsError(" ".join(problems))
    return data, files


def why_left(file: KubeconfigFile, user: UserCredential, leaf: Certificate) -> str | None:
    """Why a rotation would leave that user as he is; None if it would not."""
    try:
        # With his own ones in their own place: what a rotation puts there is of the same form.
        with_credentials(file, file.data, user, leaf, user.client_certificate_data or b"", user.client_key_data or b"")
    except CertopsError as error:
        return shown_sentence(str(error))
    return None


def _is_root_s_alone(file: KubeconfigFile) -> bool:
    """Such a file may get a key whatever it holds; anywhere else who did not hold the present one gets none."""
    return file.by is None and file.attributes.uid in (0, os.geteuid()) and not file.attributes.mode & 0o077


def _key_of(file: KubeconfigFile, user: UserCredential) -> bytes:
    """Read with the rights of the kubeconfig's owner: what only root may read proves nothing for others."""
    return user.client_key_data if user.client_key_data is not None else read_as(_named(str(user.client_key), file), file.by)


def _named(name: str, file: KubeconfigFile) -> str:
    return os.path.normpath(os.path.join(os.path.dirname(file.path), name))


def _pair(file: KubeconfigFile, user: UserCredential, new_certificate: bytes, new_key: bytes) -> list[NewFile]:
    key, certificate = _named(str(user.client_key), file), _named(str(user.client_certificate), file)
    if key == certificate:
        raise CertopsError("Its user %s has certificate and key in one file, %s. %s" % (user.name, key, _AGAIN))
    files = []
    for name, content in ((key, new_key), (certificate, new_certificate)):
        there = place_of(name)
        if there.by != file.by or there.problem or (there.by is None and os.path.islink(name)):
            raise CertopsError(
                "The file %s, which its user %s names, is not where the kubeconfig's owner alone decides. %s" % (name, user.name, _AGAIN)
            )
        files.append(NewFile(there.path, content, by=there.by, made_from=sha256(read_place(there).data)))
    return files


def _problems(path: str, by: int | None) -> list[str]:
    """Why a file cannot be replaced, with its owner's rights."""
    if by is None:
        return _look(path)
    answer = as_user(by, None, "look at %s" % path, lambda: os.fsencode("\0".join(_look(path))))
    return [os.fsdecode(problem) for problem in answer.split(b"\0") if problem]


def _look(path: str) -> list[str]:
    room = room_problem(os.path.dirname(path), _ROOM_BYTES, 2)
    return [*replace_problems([path]), *([room] if room else [])]


__all__ = ("why_left", "with_credentials")
