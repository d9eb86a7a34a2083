"""Plain http by the egress gateway: what rules allow, refuse or hide, and TLS that begins at the gateway (G5 to G9)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from settings import Settings
from settings.teams import OriginateHost
from verify import mesh
from verify.context import Context
from verify.curl import Request
from verify.exchange import (
    EgressGateway,
    Exchange,
    answer_faults,
    by_http,
    differs,
    identity_faults,
    judged,
    kept_at_home,
    to_gateway_faults,
)
from verify.probe import Outcome, Probe
from verify.tenants import Asked, HttpEntry, Tenant, allowed, invisible, refused, tenants, url

SCENARIO = "egress"

PORT = 80
"""Of the gateway's Service."""

DENIED = "RBAC: access denied"


def successes(settings: Settings) -> dict[tuple[Tenant, str], Probe]:
    """The probes that succeed as a team's rules allow it, by the tenant and the host's name."""
    assert settings.teams is not None
    return {
        (tenant, entry.host): Probe(
            row="G5" if entry.allow == "all" else "G7",
            scenario=SCENARIO,
            expected=f"{_request(entry, asked)} from {tenant}: the host's own answer by way of the egress gateway, "
            "which logs the pod's identity",
            attempt=partial(_answered, tenant, entry, asked),
            workloads=(tenant.application,),
        )
        for tenant in tenants(settings.teams)
        for entry in tenant.http
        if (asked := allowed(entry))
    }


def pair_for(tenant: Tenant, known: dict[tuple[Tenant, str], Probe]) -> Probe | None:
    """A success of the tenant itself or, if it may nothing, of another."""
    own = (probe for (who, _), probe in known.items() if who == tenant)
    return next(own, None) or next(iter(known.values()), None)


def probes(settings: Settings, known: dict[tuple[Tenant, str], Probe]) -> Iterator[Probe]:
    """The probes of every tenant; `known` are the successes, which are among them."""
    assert settings.teams is not None
    everyone = tenants(settings.teams)
    yield from known.values()
    for tenant in everyone:
        pair = pair_for(tenant, known)
        yield Probe(
            row="G5",
            scenario=SCENARIO,
            expected=f"the sidecar of {tenant} knows only the egress gateway, its own namespaces and what its settings "
            "name; a sidecar without a Sidecar resource knows more",
            attempt=partial(_scoped, tenant),
            workloads=(tenant.application, mesh.CALLER),
        )
        for entry in tenant.http:
            if asked := refused(entry):
                yield Probe(
                    row="G6" if entry.allow == "none" else "G7",
                    scenario=SCENARIO,
                    expected=f"{_request(entry, asked)} from {tenant}, not allowed: 403 '{DENIED}', by the gateway",
                    attempt=partial(_forbidden, tenant, entry, asked),
                    workloads=(tenant.application,),
                    pair=known.get((tenant, entry.host), pair),
                )
            if isinstance(entry, OriginateHost) and (asked := allowed(entry)):
                yield Probe(
                    row="G9",
                    scenario=SCENARIO,
                    expected=f"{_request(entry, asked)} from {tenant}: the gateway speaks "
                    f"{entry.tls.mode if entry.tls else 'SIMPLE'} TLS to port {entry.target_port} of it",
                    attempt=partial(_originated, tenant, entry, asked),
                    workloads=(tenant.application,),
                )
        for entry in _hidden(tenant, everyone):
            yield Probe(
                row="G8",
                scenario=SCENARIO,
                expected=f"{url(entry)} from {tenant}, to which it is not visible: 502 of its own sidecar",
                attempt=partial(_hidden_host, tenant, entry),
                workloads=(tenant.application,),
                pair=pair,
            )


def _hidden(tenant: Tenant, everyone: list[Tenant]) -> Iterator[HttpEntry]:
    """One host of each mode that others see."""
    modes = set()
    for entry in invisible(tenant, everyone):
        if isinstance(entry, HttpEntry) and entry.mode not in modes:
            modes.add(entry.mode)
            yield entry


def _request(entry: HttpEntry, asked: Asked) -> str:
    method = "" if asked.method == "GET" else f"{asked.method} "
    return f"{method}{url(entry, asked.path)}"


def ask(context: Context, row: str, tenant: Tenant, entry: HttpEntry, asked: Asked) -> Exchange:
    """Ask as an ordinary application."""
    request = Request(url=url(entry, asked.path), method=asked.method, user_agent="")
    return by_http(context, row, context.pods.get(tenant.application), request)


def _answered(tenant: Tenant, entry: HttpEntry, asked: Asked, context: Context) -> Outcome:
    exchange = ask(context, "G5", tenant, entry, asked)
    port, subset = (entry.target_port, None) if isinstance(entry, OriginateHost) else (entry.port, "")
    return judged(
        str(exchange.response),
        [
            *to_gateway_faults(exchange, EgressGateway(context), PORT),
            *identity_faults(context, exchange),
            *answer_faults(exchange, entry, port, subset),
        ],
        exchange.evidence,
    )


def _originated(tenant: Tenant, entry: OriginateHost, asked: Asked, context: Context) -> Outcome:
    exchange = ask(context, "G9", tenant, entry, asked)
    subset = None if entry.tls else context.contracts["egress"]["originate_subset"]
    line = exchange.gateway
    plain = line is not None and line.upstream is not None and not line.upstream.subset
    return judged(
        f"{exchange.response}, by {line.upstream_cluster if line else 'nothing'}",
        [
            *to_gateway_faults(exchange, EgressGateway(context), PORT),
            *answer_faults(exchange, entry, entry.target_port, subset),
            # Only a subset has TLS.
            *(["the gateway did not begin TLS"] if plain else []),
        ],
        exchange.evidence,
    )


def _forbidden(tenant: Tenant, entry: HttpEntry, asked: Asked, context: Context) -> Outcome:
    return forbidden(context, ask(context, "G6", tenant, entry, asked), has_body=asked.method != "HEAD")


def forbidden(context: Context, exchange: Exchange, *, has_body: bool = True) -> Outcome:
    """A request that the gateway refused for want of a rule."""
    response, line = exchange.response, exchange.gateway
    return judged(
        f"{response}{f', {response.body.strip()}' if response.body.strip() == DENIED else ''}",
        [
            *differs("status", response.status, 403),
            *(differs("the body", response.body.strip()[:80], DENIED) if has_body else []),
            *to_gateway_faults(exchange, EgressGateway(context), PORT),
            *identity_faults(context, exchange),
            *([] if line is None or line.refused else [f"the gateway did not refuse it: {line.response_code_details}"]),
        ],
        exchange.evidence,
    )


def _hidden_host(tenant: Tenant, entry: HttpEntry, context: Context) -> Outcome:
    request = Request(url=url(entry), user_agent="")
    return kept_at_home(context, "G8", context.pods.get(tenant.application), request)


def _scoped(tenant: Tenant, context: Context) -> Outcome:
    application, unscoped = context.pods.get(tenant.application), context.pods.get(mesh.CALLER)
    known, more = application.proxies.clusters(), unscoped.proxies.clusters()
    gateway = EgressGateway(context)
    namespaces = _namespaces(tenant, context)
    foreign = sorted(
        {
            cluster.host
            for cluster in known
            if cluster.host != gateway.service
            and not tenant.sees(cluster.host)
            and not _host_of(cluster.host, namespaces)
        }
    )
    others = {cluster.host for cluster in more if cluster.host != gateway.service}
    faults = [f"it knows {', '.join(foreign)}"] if foreign else []
    if not any(cluster.host == gateway.service for cluster in known):
        faults.append("it does not know the egress gateway")
    if not any(not tenant.sees(host) and not _host_of(host, namespaces) for host in others):
        faults.append("a sidecar without a Sidecar resource knows no more, so this proves nothing")
    hosts = {cluster.host for cluster in known}
    return judged(
        f"{len(hosts)} hosts; a sidecar without a Sidecar resource knows {len(others)}",
        faults,
        f"clusters of the sidecar of {application.name}: {', '.join(sorted(hosts))}",
    )


def _namespaces(tenant: Tenant, context: Context) -> set[str]:
    """The team's own, and those of teams that it calls."""
    by_team: dict[str, list[str]] = context.contracts["teams"]["namespaces"]
    return {name for team in (tenant.team.name, *tenant.team.calls) for name in by_team.get(team, [])}


def _host_of(host: str, namespaces: set[str]) -> bool:
    _, _, rest = host.partition(".")
    return rest.endswith(".svc.cluster.local") and rest.partition(".")[0] in namespaces
