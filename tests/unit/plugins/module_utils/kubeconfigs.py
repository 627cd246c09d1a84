# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A kubeconfig as kubeadm writes it, shared by the tests of _kubeconfig.py."""

from __future__ import annotations

import base64
import typing as t

from ansible_collections.certops.kubernetes.plugins.module_utils import _kubeconfig
from hypothesis import HealthCheck, settings

OLD_CERT = b"-----BEGIN CERTIFICATE-----\nb2xk\n-----END CERTIFICATE-----\n"
OLD_KEY = b"-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n-----END RSA PRIVATE KEY-----\n"
NEW_CERT = b"-----BEGIN CERTIFICATE-----\n" + b"bmV3" * 300 + b"\n-----END CERTIFICATE-----\n"
NEW_KEY = b"-----BEGIN EC PRIVATE KEY-----\n" + b"bmV3" * 60 + b"\n-----END EC PRIVATE KEY-----\n"
CA = b"-----BEGIN CERTIFICATE-----\nY2E=\n-----END CERTIFICATE-----\n"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


KUBEADM = """apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {ca}
    server: https://10.0.0.1:6443
  name: kubernetes
contexts:
- context:
    cluster: kubernetes
    user: kubernetes-admin
  name: kubernetes-admin@kubernetes
current-context: kubernetes-admin@kubernetes
kind: Config
preferences: {{}}
users:
- name: kubernetes-admin
  user:
    client-certificate-data: {cert}
    client-key-data: {key}
"""


def kubeadm(cert: str = b64(OLD_CERT), key: str = b64(OLD_KEY)) -> str:
    return KUBEADM.format(ca=b64(CA), cert=cert, key=key)


def replace(text: str | bytes, user: str = "kubernetes-admin") -> bytes:
    data = text.encode("utf-8") if isinstance(text, str) else text
    return _kubeconfig.replace_user_credentials(data, user, NEW_CERT, NEW_KEY, "admin.conf")


def any_loader(function: t.Any) -> t.Any:
    """Hypothesis runs all its examples inside one use of the `loader` fixture: that is what we want."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(deadline=None, max_examples=80, suppress_health_check=checks)(function)
