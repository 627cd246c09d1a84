# Copyright (c) certops.kubernetes contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The certificates in the cluster's API objects, and those of the servers that the API server calls: asked for, seen, and told.

Reads only. A Secret's key comes with the API's answer, which cannot be asked for less; nothing here keeps it.
"""

from __future__ import annotations

import functools
import time
import typing as t
from urllib.parse import quote

from ansible_collections.certops.kubernetes.plugins.module_utils import _cluster_objects as objects
from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiError
from ansible_collections.certops.kubernetes.plugins.module_utils._cluster_objects import Call, Found, Held, Server
from ansible_collections.certops.kubernetes.plugins.module_utils._documents import dig, items, text
from ansible_collections.certops.kubernetes.plugins.module_utils._findings import INFO, WARNING
from ansible_collections.certops.kubernetes.plugins.module_utils._listing import each_object
from ansible_collections.certops.kubernetes.plugins.module_utils._model import CertopsError, Finding, Record
from ansible_collections.certops.kubernetes.plugins.module_utils._object_records import record_of_server, records_of_held
from ansible_collections.certops.kubernetes.plugins.module_utils._tls_probe import Probe, chain_refusal
from ansible_collections.certops.kubernetes.plugins.module_utils._x509 import certificates_in, pem

if t.TYPE_CHECKING:
    from ansible_collections.certops.kubernetes.plugins.module_utils._api import ApiClient
    from ansible_collections.certops.kubernetes.plugins.module_utils._records import Setting

NONE, CALLED, ALL = "none", "called", "all"

_LONGEST_SECONDS = 60.0  # for all questions to the API together
_AT_ONCE = 50  # handshakes, each in a thread
_MOST_SERVERS = 500
_AWAY = (None, 401)  # no answer at all, or to nobody with this certificate: the next question has no better one
_REMEDY = "Mend that and inspect again, or leave the API's objects out."

_Each = t.Callable[[t.Any], Found]


def _one_by_one(read: _Each) -> t.Callable[[t.Iterable[t.Any]], Found]:
    def read_all(found: t.Iterable[t.Any]) -> Found:
        return _joined([read(item) for item in found])

    return read_all


class _Kind(t.NamedTuple):
    """A list of the API, and what its objects say."""

    title: str
    path: str
    read: t.Callable[[t.Iterable[t.Any]], Found]
    page: int = 100
    fields: str = ""


_WHOM_IT_CALLS = (
    _Kind("APIServices", objects.API_SERVICES, _one_by_one(objects.of_api_service)),
    *(
        _Kind(kind + "s", path, _one_by_one(functools.partial(objects.of_webhooks, kind, path)))
        for kind, path in (
            ("ValidatingWebhookConfiguration", objects.VALIDATING),
            ("MutatingWebhookConfiguration", objects.MUTATING),
        )
    ),
    # Their schemas make them large.
    _Kind("CustomResourceDefinitions", objects.DEFINITIONS, _one_by_one(objects.of_definition), page=10),
)
_WHAT_ELSE = (
    _Kind("TLS Secrets", objects.SECRETS, _one_by_one(objects.of_secret), page=50, fields="type=" + objects.TLS_SECRET),
    _Kind("ConfigMaps " + objects.ROOT_CA, objects.CONFIG_MAPS, objects.of_root_ca, fields="metadata.name=" + objects.ROOT_CA),
    *(
        _Kind(
            "the ConfigMap %s/%s" % (namespace, name),
            "/api/v1/namespaces/%s/configmaps" % namespace,
            _one_by_one(read),
            fields="metadata.name=" + name,
        )
        for namespace, name, read in (
            ("kube-public", "cluster-info", objects.of_cluster_info),
            ("kube-system", "extension-apiserver-authentication", objects.of_extension_authentication),
        )
    ),
)


def _joined(found: t.Sequence[Found]) -> Found:
    return Found(tuple(held for one in found for held in one.held), tuple(call for one in found for call in one.calls))


def inspect_objects(
    client: ApiClient, what: str, setting: Setting, probe_timeout: float, proxy: str | None = None
) -> tuple[list[Record], list[Finding]]:
    """The records of what lies in the API's objects and of whom the API server calls, and as findings what could not be looked at.

    `what` is `called` or `all`. Each server may take `probe_timeout` seconds to show its certificate. `proxy` is the setting by which the
    API server calls them through one: this node does not see what it sees then, and asks none. Never raises for what it is told.
    """
    until = time.monotonic() + _LONGEST_SECONDS
    problems: list[Finding] = []
    found = [_read(client, kind, until, problems) for kind in (*_WHOM_IT_CALLS, *(_WHAT_ELSE if what == ALL else ()))]
    held, calls = _joined(found).held, _joined(found).calls
    if calls and proxy is not None:
        message = (
            "The API server calls webhooks and aggregated servers through a proxy (%s), so that nobody sees from here what they serve."
        )
        problems.append(Finding("not_inspected", INFO, message % proxy, "Look at them where that proxy runs."))
        calls = ()
    return [*_held_records(setting, held), *_server_records(client, setting, calls, until, probe_timeout, problems)], problems


def _read(client: ApiClient, kind: _Kind, until: float, problems: list[Finding]) -> Found:
    """What the objects of a kind say; what could not be seen of them becomes a problem, once where it is everybody's."""
    if any(problem.code == "unreachable" for problem in problems):
        return Found()

    def each() -> t.Iterator[t.Any]:
        try:
            yield from each_object(client, kind.path, until, kind.page, kind.fields)
        except ApiError as error:
            problems.append(_problem(kind.title, error))

    return kind.read(each())


def _problem(title: str, error: ApiError) -> Finding:
    said = str(error).rstrip(".")
    if error.status in _AWAY:
        message = "The certificates in the cluster's API objects could not be looked at: %s." % said
        return Finding("unreachable", WARNING, message, "Look at the API server's own certificates and log, then inspect again.")
    if error.status == 403:
        message = "Nobody whose kubeconfig lies on this node may list %s, so their certificates are not known: %s." % (title, said)
        return Finding("not_inspected", WARNING, message, "Keep admin.conf on one control-plane node, or leave the API's objects out.")
    if error.status == 404:
        return Finding("not_inspected", INFO, "This API server does not serve %s: %s." % (title, said), "Nothing is to be done about it.")
    return Finding("not_inspected", WARNING, "Not all %s could be looked at: %s." % (title, said), _REMEDY)


def _held_records(setting: Setting, held: t.Iterable[Held]) -> list[Record]:
    return [one for value in held for one in records_of_held(setting, value)]


def _server_records(
    client: ApiClient, setting: Setting, calls: t.Iterable[Call], until: float, probe_timeout: float, problems: list[Finding]
) -> list[Record]:
    by_server: dict[Server, list[Call]] = {}
    for call in calls:
        by_server.setdefault(call.server, []).append(call)
    servers = list(by_server)
    if len(servers) > _MOST_SERVERS:
        message = "The API server calls %d servers; %d of them are looked at." % (len(servers), _MOST_SERVERS)
        problems.append(Finding("not_inspected", WARNING, message, "Look at the others by hand (openssl s_client)."))
    records: list[Record] = []
    for start in range(0, min(len(servers), _MOST_SERVERS), _AT_ONCE):
        asked = [_Asked(client, server, until, probe_timeout) for server in servers[start : start + _AT_ONCE]]
        for one in asked:
            records.append(record_of_server(setting, one.server, by_server[one.server], one.address, one.seen(), one.refusal))
    return records


class _Asked:
    """A server that is shaken hands with, in a thread of its own, where the API server would find it and by the name it would use."""

    def __init__(self, client: ApiClient, server: Server, until: float, timeout: float) -> None:
        self.server = server
        self.address: str | None = None
        self._problem: CertopsError | None = None
        self._host, self._timeout = server.host, timeout
        self._refusals: dict[bytes, str | None] = {}
        try:
            if server.service is not None:
                self._host = service_host(client, server, until)
            self.address = ("[%s]:%d" if ":" in self._host else "%s:%d") % (self._host, server.port)
            self._probe = Probe(self._host, server.port, server.server_name, timeout)
        except CertopsError as error:
            self._problem = error

    def seen(self) -> bytes | CertopsError:
        """The DER of what it shows, or why nothing was seen."""
        if self._problem is not None:
            return self._problem
        try:
            return self._probe.result().der
        except CertopsError as error:
            return error

    def refusal(self, bundle: bytes) -> str | None:
        """Why what it sends, all of it, does not verify under a bundle."""
        if bundle not in self._refusals:
            known = [one for one in certificates_in(bundle, "") if not isinstance(one, CertopsError)]
            anchors = b"".join(pem(one) for one in known)
            self._refusals[bundle] = chain_refusal(self._host, self.server.port, self.server.server_name, self._timeout, anchors)
        return self._refusals[bundle]


def service_host(client: ApiClient, server: Server, until: float) -> str:
    """Where the API server finds a Service: its cluster IP, or the name that it stands for. Raises CertopsError.

    Source: kube-aggregator's and the webhooks' service resolver, k8s.io/apiserver `pkg/util/proxy/proxy.go`, ResolveCluster.
    """
    namespace, name = server.service or ("", "")
    path = "/api/v1/namespaces/%s/services" % quote(namespace, safe="")
    # To list suffices, which also those may who may not get it.
    found = next(each_object(client, path, until, fields="metadata.name=" + name), None)
    if found is None:
        raise CertopsError("there is no Service %s/%s" % (namespace, name))
    spec = dig(found, "spec")
    if dig(spec, "type") == "ExternalName":
        host = text(dig(spec, "externalName"))
    else:
        host = text(dig(spec, "clusterIP"))
        if server.port not in [dig(port, "port") for port in items(dig(spec, "ports"))]:
            raise CertopsError("the Service %s/%s has no port %d" % (namespace, name, server.port))
    if host in (None, "None"):
        raise CertopsError("the Service %s/%s has no cluster IP" % (namespace, name))
    return str(host)


__all__ = ("ALL", "CALLED", "NONE", "inspect_objects", "service_host")
