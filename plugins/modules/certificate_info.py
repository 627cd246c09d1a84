#!/usr/bin/python
# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_info
short_description: Find every certificate of a Kubernetes node and say what is wrong with it
version_added: 0.1.0
author:
  - certops.kubernetes contributors (@certops)
description:
  - Finds the certificates of a node of a kubeadm cluster from the flags of its running components, the static-pod manifests and the
    kubelet's configuration, not from a list of paths, and connects to each address where a component serves.
  - An etcd outside of the cluster is found as well, as a unit of systemd (by flags, environment or configuration file) or as a static
    pod of a kubelet that has no API server.
  - "Returns one record for each certificate: what it says, how long it lasts, which CA signs it, whether this node can renew it, whether
    the processes that read it have what lies on disk (and by which proof that is known), and what is wrong with it."
  - Can also look at the certificates that lie in objects of the cluster's API, and at the servers that the API server calls because of them
    (O(cluster_objects)).
  - Reads only. A file that cannot be understood is a finding of its record; the module does not fail because of it.
  - The controller's side adds what this tells of the node's clock, and where it finds the node (C(node.address)).
  - Private keys are read to see whether they belong to their certificates, and that of a TLS Secret comes with the API's answer. Nothing of
    them is kept or returned.
extends_documentation_fragment:
  - certops.kubernetes._attributes
  - certops.kubernetes._attributes.action_group
  - certops.kubernetes._attributes.info_module
options:
  cluster_objects:
    description:
      - Which objects of the cluster's API are looked at, through this node's own API server. One control-plane node of a cluster is enough.
      - V(called) is whom the API server calls. These are the C(caBundle) of APIServices, of Validating- and MutatingWebhookConfigurations
        and of CustomResourceDefinitions with a conversion webhook, and what the servers behind them show in a handshake from this node.
      - V(all) adds C(tls.crt) and C(ca.crt) of each Secret of type C(kubernetes.io/tls), and the CAs in the ConfigMaps C(kube-root-ca.crt)
        (once for all namespaces that have the same), C(kube-public/cluster-info) and C(kube-system/extension-apiserver-authentication).
      - What may not be listed, or is not served, is one of RV(problems).
    type: str
    choices: [none, called, all]
    default: none
  kubeconfigs:
    description:
      - Paths of people's and machines' kubeconfigs on this host, C(~) and wildcards allowed.
      - Each user in them who has a client certificate, embedded or in a file that they name, has a record called C(PATH#USER). Users with a
        token or a plugin are left alone.
      - A file in a folder that somebody else than root may change is read with that user's rights, through no symbolic link of theirs.
      - A file that is not there is no finding. One that cannot be read, or is no kubeconfig, is one of RV(problems).
    type: list
    elements: str
    default: []
  kubeconfigs_only:
    description: Whether this host is no node of the cluster, such as a bastion. Then O(kubeconfigs) alone are looked at.
    type: bool
    default: false
  cluster:
    description: What to call the cluster in the records. By default what its own configuration calls it.
    type: str
  warn_days:
    description: A certificate that ends within so many days has the status V(warning).
    type: int
    default: 30
  critical_days:
    description: A certificate that ends within so many days has the status V(critical).
    type: int
    default: 7
  etcd_unit:
    description: Whether an etcd that systemd runs on this host is the cluster's, as on control-plane nodes and hosts of etcd.
    type: bool
    default: true
  kubernetes_dir:
    description: The folder of the node's Kubernetes configuration, for what no flag names, such as C(admin.conf).
    type: path
    default: /etc/kubernetes
  probe_timeout_seconds:
    description: How many seconds each address may take to show its certificate. All are asked at the same time.
    type: float
    default: 2.0
seealso:
  - module: certops.kubernetes.certificate_rotation
  - module: certops.kubernetes.kubelet_info
notes:
  - Needs the rights of root on the node, since keys, kubeconfigs and other users' processes are looked at.
"""

EXAMPLES = r"""
- name: Look at every certificate of the node
  certops.kubernetes.certificate_info:
  become: true
  register: inspected

- name: Show what is wrong, in plain words
  ansible.builtin.debug:
    msg: "{{ inspected.certificates | map(attribute='findings') | flatten | map(attribute='message') }}"

- name: Fail when something ends within two weeks
  certops.kubernetes.certificate_info: {critical_days: 14}
  become: true
  register: inspected
  failed_when: inspected.certificates | selectattr('status', 'in', ['critical', 'expired']) | length > 0
"""

RETURN = r"""
certificates:
  description:
    - One record for each certificate, certificate authority and signing key in a file, then one for each address that serves, then those of
      O(kubeconfigs), then those of the cluster's API.
    - Every key is there in every record; what has no value is V(null).
  type: list
  elements: dict
  returned: always
  contains:
    schema_version:
      description: Version of this list of keys.
      type: int
      sample: 1
    cluster:
      description: Name of the cluster.
      type: str
      sample: kubernetes
    host:
      description: The node's name. The roles of this collection put the inventory's name of the host in its place.
      type: str
      sample: cp-1
    node:
      description: Kubernetes' name of the node.
      type: str
      sample: cp-1
    name:
      description:
        - Name of the certificate, unique on its host. What an address serves is called C(served:ADDRESS:PORT), and what a Service of the
          cluster serves C(served:NAME.NAMESPACE.svc:PORT). The API server's own connections to itself see
          C(served:ADDRESS:PORT#apiserver-loopback-client).
        - What is in one of O(kubeconfigs) is called C(PATH#USER).
        - What lies in an object of the API is called C(api:KIND/NAMESPACE/NAME#FIELD). Further certificates of a file or
          field have a number behind it.
      type: str
      sample: etcd/server
    component:
      description: Whose credential it is.
      type: str
      sample: etcd
    presented_by:
      description: Who shows it.
      type: str
      sample: etcd
    presented_to:
      description: To whom it is shown.
      type: str
      sample: clients of etcd
    usage:
      description: One of V(server), V(client), V(server+client), V(ca), V(signing-key).
      type: str
      sample: server+client
    source:
      description: Where it was found; one of V(file), V(kubeconfig), V(served), V(api).
      type: str
      sample: file
    path:
      description: Path of the file on the node, or of the object in the API.
      type: str
      sample: /etc/kubernetes/pki/etcd/server.crt
    address:
      description: The address that serves it.
      type: str
      sample: 10.0.0.1:2379
    subject:
      description: Its subject.
      type: str
      sample: CN=cp-1
    issuer:
      description: The subject of the CA that signed it.
      type: str
      sample: CN=etcd-ca
    sans:
      description: Its subject alternative names, each with its kind.
      type: list
      elements: str
      sample: ["DNS:cp-1", "DNS:localhost", "IP:10.0.0.1"]
    serial:
      description: Its serial number in lower-case hexadecimal digits, without leading zeros.
      type: str
      sample: 5f1c2a90d3b1e4c7
    fingerprint_sha256:
      description: SHA-256 of the certificate (of the public key, for a signing key) in lower-case hexadecimal digits.
      type: str
      sample: b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c
    key_algorithm:
      description: Algorithm of its key.
      type: str
      sample: RSA
    key_bits:
      description: Size of its key in bits.
      type: int
      sample: 2048
    signature_algorithm:
      description: Algorithm of its signature.
      type: str
      sample: sha256WithRSAEncryption
    not_before:
      description: Start of its validity, UTC, ISO 8601.
      type: str
      sample: "2026-01-31T08:00:00Z"
    not_after:
      description: End of its validity, UTC, ISO 8601.
      type: str
      sample: "2027-01-31T08:00:00Z"
    seconds_left:
      description: Seconds until its end; negative when it has ended.
      type: int
      sample: 5875200
    days_left:
      description: Whole days until its end; negative when it has ended.
      type: int
      sample: 68
    lifetime_days:
      description: Whole days between the start and the end of its validity.
      type: int
      sample: 365
    status:
      description: One of V(ok), V(warning), V(critical), V(expired), V(not_yet_valid), V(missing), V(unreadable), V(unreachable).
      type: str
      sample: ok
    ca:
      description: Name of the certificate authority that signs it.
      type: str
      sample: etcd/ca
    renewable:
      description: Whether this node can renew it; what a component made in memory when it started by a restart of that component.
      type: bool
      sample: true
    not_renewable_because:
      description: Why this node cannot renew it.
      type: str
      sample: the kubelet renews it itself
    externally_managed:
      description: Whether the key of its CA is kept elsewhere.
      type: bool
      sample: false
    readers:
      description: The components that read it.
      type: list
      elements: dict
      contains:
        component:
          description: Name of the component.
          type: str
          sample: etcd
        reload:
          description: How it learns of a new file; V(hot) by itself, V(restart) only when it starts, V(self) when it renews it itself.
          type: str
          sample: hot
        in_use:
          description: Whether it has what lies on disk; one of V(true), V(false), V(unknown).
          type: str
          sample: "true"
        proof:
          description:
            - How that is known.
            - V(handshake) means that an address was asked, V(inode) that the file behind the process' own mount was compared,
              V(process_age) that the file's age was, V(metrics) that the kubelet tells it, V(none) that nothing can prove it.
          type: str
          sample: handshake
    findings:
      description: What is wrong with it.
      type: list
      elements: dict
      contains: &finding
        code:
          description:
            - What is wrong, as a word that does not change.
            - The collection's C(docs/findings.md) lists them all, what each means and what to do.
          type: str
          sample: expiring
        severity:
          description: One of V(info), V(warning), V(critical).
          type: str
          sample: warning
        message:
          description: What is wrong, in words, with file and node.
          type: str
          sample: etcd/server ends in 20 days, at 2026-12-14T08:00:00Z (/etc/kubernetes/pki/etcd/server.crt on cp-1).
        remedy:
          description: What to do about it.
          type: str
          sample: "Renew it: certops.kubernetes.rotate does that, or kubeadm certs renew."
node:
  description: The node itself.
  type: dict
  returned: always
  contains:
    name:
      description: Kubernetes' name of it.
      type: str
      sample: cp-1
    cluster:
      description: Name of the cluster.
      type: str
      sample: kubernetes
    now:
      description: The node's clock when it was looked at, UTC, ISO 8601. All times left were computed with it.
      type: str
      sample: "2026-11-24T02:30:00Z"
    seconds_taken:
      description: How long it took to look at the node.
      type: float
      sample: 0.412
    certificate_validity_seconds:
      description: For how many seconds kubeadm makes certificates valid here (C(certificateValidityPeriod)), where that is known.
      type: int
      sample: 31536000
    leads:
      description: Which of C(kube-controller-manager) and C(kube-scheduler) lead the cluster from this node.
      type: list
      elements: str
      sample: [kube-scheduler]
    signing_seconds:
      description: For how many seconds at most the kube-controller-manager of this node signs what nodes ask for
        (C(--cluster-signing-duration)), V(null) where it has none.
      type: int
      sample: 31536000
    signs:
      description: Names of the certificate authorities whose keys are on this node.
      type: list
      elements: str
      sample: [ca, front-proxy-ca, etcd/ca]
    issued_by:
      description: For each certificate in one of O(kubeconfigs) the SHA-256 of the CA that signed it, where that CA is known.
      type: dict
      sample: {"/root/.kube/config#kubernetes-admin": b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c}
    kubelet_to_ask:
      description: The certificate of which its kubelet alone can tell whether it uses it, asked by M(certops.kubernetes.kubelet_info).
      type: str
      sample: null
    kubelet_settings:
      description: Whether each setting that M(certops.kubernetes.certificate_rotation) can switch on is on, and if not, in which file it
        would be changed, or why it cannot be. Empty where no kubelet is a client of a cluster.
      type: dict
      sample: {"kubelet:rotateCertificates": {"on": false, "path": /var/lib/kubelet/config.yaml, "obstacle": null}}
    unfinished_run:
      description: Id of a rotation that was stopped half-way on this node; the next one ends it first.
      type: str
      sample: null
    components:
      description: The components that were found, by name.
      type: dict
      sample: {etcd: {pid: 506, started_at: "2026-11-24T02:08:05Z", manifest: /etc/kubernetes/manifests/etcd.yaml, unit: null}}
problems:
  description: What is wrong with the node rather than with one certificate, such as a manifest that cannot be read.
  type: list
  elements: dict
  returned: always
  contains: *finding
clock:
  description: How the node's clock differs from the controller's, as far as when it asked and was answered can tell, or V(null).
  type: dict
  returned: always
  contains:
    ahead_at_least:
      description: So many seconds the node's clock is ahead at least; negative when it may be behind.
      type: float
    ahead_at_most:
      description: So many seconds the node's clock is ahead at most; negative when it is behind.
      type: float
"""

from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.certops.kubernetes.plugins.module_utils._deps import missing_requirements
from ansible_collections.certops.kubernetes.plugins.module_utils._survey import survey


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "cluster": {"type": "str"},
            "warn_days": {"type": "int", "default": 30},
            "critical_days": {"type": "int", "default": 7},
            "kubernetes_dir": {"type": "path", "default": "/etc/kubernetes"},
            "probe_timeout_seconds": {"type": "float", "default": 2.0},
            "etcd_unit": {"type": "bool", "default": True},
            "kubeconfigs": {"type": "list", "elements": "str", "default": []},
            "kubeconfigs_only": {"type": "bool", "default": False},
            "cluster_objects": {"type": "str", "choices": ["none", "called", "all"], "default": "none"},
        },
        supports_check_mode=True,
    )
    missing = missing_requirements()
    if missing:
        module.fail_json(msg=" ".join(missing))
    for name in ("warn_days", "critical_days", "probe_timeout_seconds"):
        if not 0 <= module.params[name] < 1e6:
            module.fail_json(msg="%s is %s, but must be between 0 and a million." % (name, module.params[name]))
    module.exit_json(changed=False, **survey(module.params, datetime.now(timezone.utc)))


if __name__ == "__main__":
    main()
