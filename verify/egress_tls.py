"""TLS end to end by the egress gateway, inside mutual TLS or, weaker, without (G10)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from functools import partial

from components.teams.rules import outer_server_name
from settings import Settings
from settings.teams import OpenPassthroughHost, PassthroughHost
from verify import curl
from verify.context import Context, user_agent
from verify.curl import Request
from verify.exchange import (
    CLOSED,
    EgressGateway,
    Exchange,
    by_tls,
    differs,
    identity_faults,
    judged,
    kept_at_home,
    to_gateway_faults,
)
from verify.logs import NO_FILTER_CHAIN
from verify.probe import Outcome, Probe
from verify.tenants import Tenant, TlsEntry, invisible, tenants, tls_url, trust

SCENARIO = "egress"

PORT = 443
"""Of the gateway's Service."""


def successes(settings: Settings) -> dict[tuple[Tenant, str], Probe]:
    """The probes that succeed as a team's rules allow it, by the tenant and the host's name."""
    assert settings.teams is not None
    return {
        (tenant, entry.host): Probe(
            row="G10",
            scenario=SCENARIO,
            expected=f"{tls_url(entry)} from {tenant}: 200 end to end, the host's own certificate verified; "
            + (
                "the gateway logs the pod's identity and the team's server name"
                if isinstance(entry, PassthroughHost)
                else "the gateway does not know who asks (the document's way, weaker)"
            ),
            attempt=partial(_answered, tenant, entry),
            workloads=(tenant.application,),
        )
        for tenant in tenants(settings.teams)
        for entry in tenant.tls
        if isinstance(entry, OpenPassthroughHost) or entry.allow == "all"
    }


def probes(settings: Settings, known: Mapping[tuple[Tenant, str], Probe]) -> Iterator[Probe]:
    """The probes of every tenant; `known` are the successes, which are among them."""
    assert settings.teams is not None
    everyone = tenants(settings.teams)
    some = next(iter(known.values()), None)
    yield from known.values()
    for tenant in everyone:
        for entry in tenant.tls:
            if isinstance(entry, PassthroughHost) and entry.allow == "none":
                yield Probe(
                    row="G10",
                    scenario=SCENARIO,
                    expected=f"{tls_url(entry)} from {tenant}, not allowed: reset by the gateway, which logs whom it "
                    "refused",
                    attempt=partial(_refused, tenant, entry),
                    workloads=(tenant.application,),
                    pair=some,
                )
            if isinstance(entry, OpenPassthroughHost):
                yield from _open(tenant, entry, everyone, known[tenant, entry.host])
        for entry in _hidden(tenant, everyone):
            yield Probe(
                row="G10",
                scenario=SCENARIO,
                expected=f"{tls_url(entry)} from {tenant}, to which it is not visible: closed by its own sidecar",
                attempt=partial(_hidden_host, tenant, entry),
                workloads=(tenant.application,),
                pair=some,
            )


def _open(tenant: Tenant, entry: OpenPassthroughHost, everyone: list[Tenant], success: Probe) -> Iterator[Probe]:
    stranger = next((other for other in everyone if other.team != tenant.team), tenant)
    yield Probe(
        row="G10",
        scenario=SCENARIO,
        expected=f"{tls_url(entry)} from a pod of {stranger} without sidecar, straight to the gateway: 200, and nobody "
        f"asks who it is (passthrough-open of {tenant.team.name} is weaker: any pod with the right server name passes)",
        attempt=partial(_let_in, stranger, entry),
        workloads=(stranger.plain,),
    )
    yield Probe(
        row="G10",
        scenario=SCENARIO,
        expected=f"the same with a server name that no team has: reset by the gateway (exit {curl.TLS_FAILED})",
        attempt=partial(_unknown_name, stranger),
        workloads=(stranger.plain,),
        pair=success,
    )


def _hidden(tenant: Tenant, everyone: list[Tenant]) -> Iterator[TlsEntry]:
    """One host that others see."""
    for entry in invisible(tenant, everyone):
        if isinstance(entry, TlsEntry):
            yield entry
            return


def _ask(context: Context, tenant: Tenant, entry: TlsEntry) -> Exchange:
    hardened = isinstance(entry, PassthroughHost)
    name = outer_server_name(entry.host, tenant.team.name) if hardened else entry.host
    request = Request(url=tls_url(entry), user_agent="", trust=trust(context))
    return by_tls(context, "G10", context.pods.get(tenant.application), request, name)


def _answered(tenant: Tenant, entry: TlsEntry, context: Context) -> Outcome:
    exchange = _ask(context, tenant, entry)
    response, line = exchange.response, exchange.gateway
    upstream = line.upstream if line else None
    return judged(
        str(response),
        [
            *(["no answer"] if response.exit_code else differs("status", response.status, 200)),
            *to_gateway_faults(exchange, EgressGateway(context), PORT),
            *(identity_faults(context, exchange) if isinstance(entry, PassthroughHost) else []),
            *([] if line is None else differs("where the gateway sent it", upstream and upstream.host, entry.host)),
        ],
        exchange.evidence,
    )


def _refused(tenant: Tenant, entry: TlsEntry, context: Context) -> Outcome:
    exchange = _ask(context, tenant, entry)
    response, line = exchange.response, exchange.gateway
    return judged(
        str(response),
        [
            *([] if response.exit_code in CLOSED else ["it was not reset"]),
            *to_gateway_faults(exchange, EgressGateway(context), PORT),
            *identity_faults(context, exchange),
            *([] if line is None or line.refused else ["the gateway does not say that a rule refused it"]),
        ],
        exchange.evidence,
    )


def _hidden_host(tenant: Tenant, entry: TlsEntry, context: Context) -> Outcome:
    request = Request(url=tls_url(entry), user_agent="", trust=trust(context))
    return kept_at_home(context, "G10", context.pods.get(tenant.application), request)


def _let_in(stranger: Tenant, entry: TlsEntry, context: Context) -> Outcome:
    gateway = EgressGateway(context)
    start = time.monotonic()
    response = curl.send(context.pods.get(stranger.plain), _straight(context, tls_url(entry), entry.host, entry.port))
    line = gateway.proxies.line(lambda line: line.downstream_remote_address == response.local, start)
    return judged(
        str(response),
        [
            *differs("exit code", response.exit_code, 0),
            *differs("status", response.status, 200),
            *([] if line else ["the egress gateway does not log the connection"]),
        ],
        f"egress gateway: {line}" if line else "",
    )


def _unknown_name(stranger: Tenant, context: Context) -> Outcome:
    name = f"unknown-{secrets.token_hex(6)}.invalid"
    gateway = EgressGateway(context)
    start = time.monotonic()
    response = curl.send(context.pods.get(stranger.plain), _straight(context, f"https://{name}/", name, PORT))
    line = gateway.proxies.line(
        lambda line: line.requested_server_name == name and line.response_code_details == NO_FILTER_CHAIN, start
    )
    return judged(
        str(response),
        [
            *differs("exit code", response.exit_code, curl.TLS_FAILED),
            *([] if line else ["the egress gateway does not log that it has no server of that name"]),
        ],
        f"egress gateway: {line}" if line else "",
    )


def _straight(context: Context, url: str, host: str, port: int) -> Request:
    """A request to the gateway itself, which the host's name is said to lead to."""
    return Request(
        url=url,
        user_agent=user_agent("G10"),
        connect_to={(host, port): (EgressGateway(context).service, PORT)},
        trust=trust(context),
    )
