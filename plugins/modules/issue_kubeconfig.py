#!/usr/bin/python
# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: issue_kubeconfig
short_description: Make a kubeconfig for a person or a job, instead of a copy of admin.conf
version_added: 0.1.0
author:
  - certops.kubernetes contributors (@certops)
description:
  - Makes a kubeconfig with a client certificate of its own on the host where it is used. The private key is made there and never leaves it.
  - The certificate is signed by the cluster through its API, as an administrator asks for it and grants it, or by the key of the cluster's
    CA where that lies on the host. Then the API server is asked whom it sees behind it, and only then is the file written.
  - "Called again it changes nothing, as long as the file is for the same user and groups, cluster and server, its certificate verifies
    and belongs to its key, and enough of its validity is left. A renewal exchanges certificate and key, and keeps every other byte."
  - Kubernetes cannot revoke a client certificate. So let it be short-lived, and run this on a schedule. To lock somebody out at once,
    take the roles from user and groups.
  - The file is born for its owner alone, and is renamed into its place. It may lie in a folder of somebody who is not root, such as a
    home folder. So no part of O(path) may be a symbolic link, belong to anybody but O(owner) and root, or be writable by
    others (folders above the last one may be, if they are sticky like C(/tmp)). The folder must exist.
  - No permission in the cluster is granted by this. Bind roles to the user or to the groups.
requirements:
  - cryptography >= 3.4 on the host
  - PyYAML on the host
extends_documentation_fragment:
  - certops.kubernetes._attributes
  - certops.kubernetes._attributes.action_group
  - certops.kubernetes._attributes.changes_module
attributes:
  check_mode:
    details: Check mode reads files, and refuses what can be refused by them. Nobody is asked, so whether the cluster signs is not known.
  diff_mode:
    support: full
    details: Shows what certificates say, never a key.
  idempotent:
    support: full
    details: With O(force=true) each call makes a new key and certificate.
options:
  path:
    description:
      - The absolute path of the kubeconfig.
      - A file that is no kubeconfig, or that has further clusters, users or contexts and would be written anew, is overwritten with
        O(force=true) only.
      - Nothing in O(kubernetes_dir) is replaced, nor O(kubeconfig).
    type: str
    required: true
  user:
    description:
      - Who the API server sees, the certificate's CN. The user's entry in the kubeconfig has this name too.
      - Names that begin with V(system:) are refused, they are Kubernetes' own.
    type: str
    required: true
  groups:
    description:
      - The user's groups, the certificate's O.
      - Names that begin with V(system:) are refused. V(system:masters) needs O(allow_system_masters).
    type: list
    elements: str
    default: []
  signer:
    description:
      - V(api) makes a CertificateSigningRequest to C(kubernetes.io/kube-apiserver-client), approves it, takes the certificate and
        deletes the request. A request that could not be deleted is removed by the cluster within an hour.
      - V(ca) signs with the key of the cluster's CA on this host, also while the API is down.
    type: str
    choices:
      - api
      - ca
    default: api
  validity_hours:
    description:
      - How long a new certificate is valid, at most 87600. Hours, because a job needs a few of them only.
      - Beyond the end of the CA it is refused. With O(signer=api) not less than the 10 minutes, and not more than the
        C(--cluster-signing-duration), that Kubernetes gives. If that is less there is a warning.
    type: int
    default: 720
  renew_before_hours:
    description:
      - A certificate with no more hours left is renewed. Must be less than O(validity_hours).
      - Without it a third of the certificate's own validity.
    type: int
  force:
    description: Make a new key and certificate although those that are there would do, and overwrite what else O(path) holds.
    type: bool
    default: false
  private_key_algorithm:
    description: The kind of the new key, as kubeadm calls them. A certificate with another one is renewed.
    type: str
    choices:
      - RSA-2048
      - RSA-3072
      - RSA-4096
      - ECDSA-P256
      - ECDSA-P384
    default: RSA-2048
  kubeconfig:
    description:
      - The path of an administrator's kubeconfig on this host. Its current context has the certificate signed, and says where the
        API server is and which CA it has.
      - Without it C(admin.conf) in O(kubernetes_dir). With O(signer=ca) that one need not be there.
      - "With O(signer=api) it needs the permissions C(create), C(get) and C(delete) on C(certificatesigningrequests),
        C(update) on C(certificatesigningrequests/approval), and C(approve) on the C(signers) named
        C(kubernetes.io/kube-apiserver-client), all of C(certificates.k8s.io)."
    type: path
  server:
    description: The API server's URL in the new kubeconfig. Without it that of O(kubeconfig).
    type: str
  cluster:
    description: The cluster's name in the new kubeconfig. Without it that in O(kubeconfig).
    type: str
  context:
    description: The context's name in the new kubeconfig. Without it C(USER@CLUSTER).
    type: str
  owner:
    description: The file's owner, name or number. Without it the user that the module runs as.
    type: str
  group:
    description: The file's group, name or number. Without it the owner's primary group.
    type: str
  mode:
    description:
      - The file's mode, in octal. The private key is in it, so it may be read by the owner and at most by the group, and written by
        the owner only.
    type: raw
    default: "0600"
  allow_system_masters:
    description:
      - Accept V(system:masters) in O(groups), with O(signer=ca) only.
      - Its members bypass RBAC, no permission can be taken from them, and a certificate cannot be revoked. Keep one such kubeconfig for
        emergencies, and bind C(cluster-admin) to a group of your own for everything else. The API server lets nobody ask it for one
        (admission plugin C(CertificateSubjectRestriction)).
    type: bool
    default: false
  timeout_seconds:
    description: With O(signer=api), how long the certificate is waited for.
    type: int
    default: 60
  kubernetes_dir:
    description: The folder of the node's Kubernetes configuration.
    type: path
    default: /etc/kubernetes
seealso:
  - module: certops.kubernetes.certificate_info
"""

EXAMPLES = r"""
- name: A kubeconfig for Jane on the host where she works
  certops.kubernetes.issue_kubeconfig:
    path: /home/jane/.kube/config
    user: jane
    groups:
      - developers
    owner: jane

- name: One for a job, for a working day
  certops.kubernetes.issue_kubeconfig:
    path: /srv/ci/kubeconfig
    user: ci-deploy
    groups:
      - deployers
    validity_hours: 10
    private_key_algorithm: ECDSA-P256
    owner: ci
    mode: "0400"

- name: One for emergencies, with the key of the cluster's CA
  certops.kubernetes.issue_kubeconfig:
    path: /root/emergency.conf
    user: emergency
    groups:
      - system:masters
    allow_system_masters: true
    signer: ca
    validity_hours: 8760
"""

RETURN = r"""
path:
  description: Where the kubeconfig is.
  type: str
  returned: success
  sample: /home/jane/.kube/config
action:
  description: V(issued) when key and certificate are new, V(attributes) when owner, group or mode were corrected, else V(none).
  type: str
  returned: success
  sample: issued
because:
  description: Why the file that was there, if any, would not do. Null when it does.
  type: str
  returned: success
  sample: its certificate has 200 hours left, not more than 240
certificate:
  description: What the certificate says. In check mode of a new one only C(subject) and C(not_after) are known.
  type: dict
  returned: success
  contains:
    subject:
      description: Groups and user.
      type: str
      sample: O=developers,CN=jane
    sans:
      description: Alternative names; a client has none.
      type: list
      elements: str
    serial:
      description: Serial number in hexadecimal.
      type: str
    not_before:
      description: Beginning of the validity, ISO 8601 in UTC.
      type: str
    not_after:
      description: End of the validity, ISO 8601 in UTC.
      type: str
      sample: "2026-12-24T03:45:49Z"
    fingerprint_sha256:
      description: SHA-256 of the certificate.
      type: str
server:
  description: The API server's URL in the kubeconfig.
  type: str
  returned: success
  sample: https://192.0.2.7:6443
cluster:
  description: The cluster's name in the kubeconfig.
  type: str
  returned: success
  sample: kubernetes
context:
  description: The context's name in the kubeconfig.
  type: str
  returned: success
  sample: jane@kubernetes
proof:
  description:
    - V(identity) when the API server was asked with the new certificate, and saw this user in these groups.
    - V(none) when it could not be asked (then there is a warning), and when nothing was issued.
  type: str
  returned: success
  sample: identity
"""

import typing as t
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.certops.kubernetes.plugins.module_utils._deps import missing_requirements
from ansible_collections.certops.kubernetes.plugins.module_utils._issuing import Order, issue
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError


def argument_spec() -> dict[str, t.Any]:
    algorithms = ["RSA-2048", "RSA-3072", "RSA-4096", "ECDSA-P256", "ECDSA-P384"]
    return {
        "path": {"type": "str", "required": True},
        "user": {"type": "str", "required": True},
        "groups": {"type": "list", "elements": "str", "default": []},
        "signer": {"type": "str", "choices": ["api", "ca"], "default": "api"},
        "validity_hours": {"type": "int", "default": 720},
        "renew_before_hours": {"type": "int"},
        "force": {"type": "bool", "default": False},
        "private_key_algorithm": {"type": "str", "choices": algorithms, "default": "RSA-2048", "no_log": False},
        "kubeconfig": {"type": "path"},
        "server": {"type": "str"},
        "cluster": {"type": "str"},
        "context": {"type": "str"},
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "mode": {"type": "raw", "default": "0600"},
        "allow_system_masters": {"type": "bool", "default": False},
        "timeout_seconds": {"type": "int", "default": 60},
        "kubernetes_dir": {"type": "path", "default": "/etc/kubernetes"},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    missing = missing_requirements()
    if missing:
        module.fail_json(msg=" ".join(missing))
    try:
        result = issue(order_of(module.params), datetime.now(timezone.utc), module.check_mode)
    except CertopsError as error:
        module.fail_json(msg=str(error))
    for sentence in result.pop("warnings"):
        module.warn(sentence)
    module.exit_json(**result)


def order_of(params: dict[str, t.Any]) -> Order:
    """The module's parameters; what is empty counts as not given, as AWX surveys send it."""
    return Order(
        path=params["path"],
        user=params["user"],
        groups=tuple(params["groups"]),
        signer=params["signer"],
        validity_hours=params["validity_hours"],
        renew_before_hours=params["renew_before_hours"],
        algorithm=params["private_key_algorithm"],
        kubernetes_dir=params["kubernetes_dir"],
        kubeconfig=params["kubeconfig"] or None,
        server=params["server"] or None,
        cluster=params["cluster"] or None,
        context=params["context"] or None,
        owner=params["owner"] or None,
        group=params["group"] or None,
        mode=params["mode"],
        allow_masters=params["allow_system_masters"],
        force=params["force"],
        wait_seconds=params["timeout_seconds"],
    )


if __name__ == "__main__":
    main()
