"""Hosts outside asked by their names: ALLOW_ANY (O1), REGISTRY_ONLY (O2), ServiceEntry (O3)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from components.external.istio import HTTP_PORT, HTTPS_PORT
from settings.external import ExternalSettings, Step
from verify import curl
from verify.context import Context
from verify.exchange import differs, judged
from verify.logs import BLACK_HOLE, BLOCKING_ROUTE
from verify.outbound import CLOSED, PASSTHROUGH, SCENARIO, Right, ask, blocked, caller, sent, swallowed, url
from verify.probe import Outcome, Probe
from verify.workload import Workload

UNKNOWN_PORT = 8080
"""A port of no Service and no ServiceEntry of the step."""


def probes(external: ExternalSettings) -> Iterator[Probe]:
    """Each step by http and by https."""
    known, unknown = external.registered, external.unregistered
    closed = swallowed(curl.TLS_FAILED)
    passed = sent(PASSTHROUGH)
    any_http = _probe(external, "O1", "allow-any", "http", known, passed, f"200 by {PASSTHROUGH}")
    any_https = _probe(external, "O1", "allow-any", "https", known, passed, f"200 by {PASSTHROUGH}")
    yield any_http
    yield any_https
    yield _probe(external, "O2", "registry-only", "http", known, blocked(), "502 of its own sidecar", any_http)
    yield _probe(external, "O2", "registry-only", "https", known, closed, "exit 35, BlackHoleCluster", any_https)
    bare = caller(external, "registry-only")
    yield Probe(
        row="O2",
        scenario=SCENARIO,
        expected=f"http from {bare.namespace} to port {UNKNOWN_PORT} of {known}, which no listener is for: closed, "
        f"{BLACK_HOLE}",
        attempt=partial(_asked, "O2", bare, f"http://{known}:{UNKNOWN_PORT}/", swallowed(*CLOSED)),
        workloads=(bare,),
        pair=any_http,
    )
    entry_http = _probe(
        external, "O3", "service-entry", "http", known, sent(_cluster(HTTP_PORT, known)), "200 by its own cluster"
    )
    entry_https = _probe(
        external, "O3", "service-entry", "https", known, sent(_cluster(HTTPS_PORT, known)), "200 by its own cluster"
    )
    yield entry_http
    yield entry_https
    yield _probe(external, "O3", "service-entry", "http", unknown, blocked(), "502 of its own sidecar", entry_http)
    yield _probe(external, "O3", "service-entry", "https", unknown, closed, "exit 35, BlackHoleCluster", entry_https)
    where = caller(external, "service-entry")
    yield Probe(
        row="O3",
        scenario=SCENARIO,
        expected=f"the sidecar's route {HTTP_PORT}: {known} to its own cluster, every other host 502",
        attempt=partial(_route, where, known),
        workloads=(where,),
    )


def _probe(
    external: ExternalSettings,
    row: str,
    step: Step,
    scheme: str,
    host: str,
    right: Right,
    words: str,
    pair: Probe | None = None,
) -> Probe:
    workload = caller(external, step)
    return Probe(
        row=row,
        scenario=SCENARIO,
        expected=f"{scheme} from {workload.namespace} to {host}: {words}",
        attempt=partial(_asked, row, workload, url(scheme, host), right),
        workloads=(workload,),
        pair=pair,
    )


def _asked(row: str, workload: Workload, address: str, right: Right, context: Context) -> Outcome:
    exchange = ask(context, row, context.pods.get(workload), address)
    return judged(str(exchange.response), right.faults(exchange), exchange.evidence)


def _cluster(port: int, host: str) -> str:
    return f"outbound|{port}||{host}"


def _route(workload: Workload, host: str, context: Context) -> Outcome:
    """Whether the sidecar's configuration is what the requests showed."""
    proxies = context.pods.get(workload).proxies
    cluster = _cluster(HTTP_PORT, host)
    hosts = {one["name"]: one for one in proxies.config("route", str(HTTP_PORT)).get("virtual_hosts", [])}
    known, others = _action(hosts, f"{host}:{HTTP_PORT}"), _action(hosts, BLOCKING_ROUTE)
    found = proxies.config("cluster", cluster)
    addresses = [
        endpoint["endpoint"]["address"]["socket_address"]
        for locality in found.get("load_assignment", {}).get("endpoints", [])
        for endpoint in locality["lb_endpoints"]
    ]
    faults = [
        *differs(f"where {host} goes", known.get("route", {}).get("cluster"), cluster),
        *differs("what other hosts get", others.get("direct_response"), {"status": 502}),
        *differs(
            "the cluster's address",
            [(address["address"], address["port_value"]) for address in addresses],
            [(host, HTTP_PORT)],
        ),
    ]
    evidence = (
        f"proxy-config: route {HTTP_PORT}, virtual host {host}:{HTTP_PORT} -> {cluster}, {BLOCKING_ROUTE} -> "
        f"{others.get('direct_response')}; cluster {cluster} {found.get('type')} {host}:{HTTP_PORT}"
    )
    return judged(f"virtual hosts {', '.join(hosts)}", faults, "" if faults else evidence)


def _action(hosts: dict[str, Any], name: str) -> dict[str, Any]:
    """What the first route of a virtual host does."""
    routes = hosts.get(name, {}).get("routes") or [{}]
    return dict(routes[0])
