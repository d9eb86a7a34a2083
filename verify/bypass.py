"""Attempts to get around the egress gateway's rules by traffic, each under the row of the control that stops it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from lightkube.resources.core_v1 import Pod

from components.teams.istio import TEAM_HEADER
from components.teams.rules import outer_server_name
from settings import Settings
from settings.teams import PassthroughHost
from verify import curl, mesh
from verify.context import Context, user_agent
from verify.curl import UNREACHED_SECONDS, ClientCertificate, Request, Response
from verify.egress_http import DENIED, forbidden
from verify.errors import VerifyError
from verify.exchange import EgressGateway, by_http, differs, judged, kept_at_home
from verify.logs import VIA_UPSTREAM, AccessLogLine
from verify.network_policy import outside, to_host
from verify.probe import Outcome, Probe
from verify.straight import policies_of, stopped_by_policy
from verify.tenants import Asked, HttpEntry, Tenant, allowed, identity, refused, tenants, url
from verify.workload import FILES, Workload, annotate

SCENARIO = "egress"
ATTEMPT = "(bypass attempt)"

PROXY_USER = 1337
"""The sidecar's own user, whose traffic is not intercepted."""

OTHER_PORTS = {15000: "administration", 15020: "metrics", 15021: "status", 15090: "statistics"}
"""Ports of the gateway's pods that are not for tenants."""


def probes(
    settings: Settings,
    answered: Mapping[tuple[Tenant, str], Probe],
    passed: Mapping[tuple[Tenant, str], Probe],
    reached: Mapping[Tenant, Probe],
) -> Iterator[Probe]:
    """The attempts, most of them of one tenant; the mappings are the successes."""
    assert settings.teams is not None
    everyone = tenants(settings.teams)
    first = attacker(everyone, passed)
    gateway = reached[first]
    ports = ", ".join(f"{port} ({what})" for port, what in OTHER_PORTS.items())
    yield _probe(
        "G14",
        f"the gateway's other ports, {ports}, from a pod of {first} without sidecar: no connection",
        partial(_other_ports, first),
        gateway,
        first.plain,
    )
    yield _probe(
        "G14",
        "the egress gateway from a pod in no team's namespace: no connection, stopped by the gateway's NetworkPolicy",
        _no_team,
        gateway,
        mesh.OUTSIDER,
    )
    if some := next(((tenant, host) for tenant, host in answered), None):
        yield _probe(
            "G14",
            f"the egress gateway asked for nobody's host by the sidecar of {some[0]}: 403, nothing is allowed that no "
            "team's rule allows",
            partial(_nobodys_host, some[0]),
            answered[some],
            some[0].application,
        )
    if host := outside(settings):
        yield from _around_the_sidecar(first, everyone, host, reached)
    yield from _forged_by_sidecar(everyone, answered)
    yield from _as_somebody_else(first, everyone, passed)


def _probe(
    row: str, expected: str, attempt: Callable[[Context], Outcome], pair: Probe | None, *pods: Workload
) -> Probe:
    return Probe(
        row=row,
        scenario=SCENARIO,
        expected=f"{expected} {ATTEMPT}",
        attempt=attempt,
        workloads=pods,
        pair=pair,
    )


def _around_the_sidecar(
    first: Tenant, everyone: list[Tenant], host: str, reached: Mapping[Tenant, Probe]
) -> Iterator[Probe]:
    """Traffic that the sidecar is told to leave alone, and addresses instead of names."""
    # Each from a namespace of its own, as far as there are several: the counters are read by namespace.
    others = [tenant for tenant in everyone if tenant != first] or [first]
    for tenant, what, workload in (
        (others[0], "annotated to exclude ports", _excluding(others[0], "ports")),
        (others[-1], "annotated to exclude addresses", _excluding(others[-1], "addresses")),
        (first, f"as the sidecar's own user {PROXY_USER}", impostor(first)),
    ):
        yield _probe(
            "G11",
            f"http://{host} from a pod of {tenant} {what}: past its sidecar, but no connection, stopped by the "
            "NetworkPolicy",
            partial(_excluded, tenant, workload, host),
            reached[tenant],
            workload,
        )
    yield _probe(
        "G8",
        f"http to the address of {host} instead of its name, from {first}: 502 of its own sidecar",
        partial(_by_address, first, host),
        reached[first],
        first.application,
    )


def _forged_by_sidecar(everyone: list[Tenant], answered: Mapping[tuple[Tenant, str], Probe]) -> Iterator[Probe]:
    """What a tenant can say that its sidecar hands on."""
    for tenant, entry, victim in _coveted(everyone):
        pair = answered[victim, entry.host]
        where = f"{entry.host}, which only others see, said to be at the gateway's"
        yield _probe(
            "G8",
            f"{where} Service, from {tenant}: 502 of its own sidecar",
            partial(_said_to_be_gateway, tenant, entry),
            pair,
            tenant.application,
        )
        yield _probe(
            "G8",
            f"{where} pod, from {tenant}: closed by its own sidecar",
            partial(_said_to_be_gateway_pod, tenant, entry),
            pair,
            tenant.application,
        )
        break
    for tenant in everyone:
        other = next((one for one in everyone if one.team != tenant.team), None)
        for entry in tenant.http:
            if other and (asked := refused(entry)):
                yield _probe(
                    "G6",
                    f"{url(entry, asked.path)} from {tenant} with the header {TEAM_HEADER}: {other.team.name}: its "
                    "sidecar says who it is all the same, 403 by the gateway",
                    partial(_forged_header, tenant, entry, asked, other.team.name),
                    answered.get((other, entry.host)),
                    tenant.application,
                )
                return


def attacker(everyone: list[Tenant], passed: Mapping[tuple[Tenant, str], Probe]) -> Tenant:
    """A tenant that has something to gain: one whose own TLS nobody passes on, if there is any."""
    victims = {tenant.team.name for tenant, _ in passed}
    return next((tenant for tenant in everyone if tenant.team.name not in victims), everyone[0])


def _as_somebody_else(
    tenant: Tenant, everyone: list[Tenant], passed: Mapping[tuple[Tenant, str], Probe]
) -> Iterator[Probe]:
    """With the workload's own certificate, and no sidecar between, saying to be another team."""
    own = next((one for one in tenant.http if allowed(one)), None)
    coveted = next((found for found in _coveted(everyone) if found[0] == tenant), None)
    if own and coveted:
        _, entry, victim = coveted
        asked, own_asked = allowed(entry), allowed(own)
        assert asked
        assert own_asked
        straight = f"from {tenant} straight to the gateway with the workload's own certificate"
        honest = Probe(
            row="G6",
            scenario=SCENARIO,
            expected=f"{url(own, own_asked.path)} {straight} and {TEAM_HEADER}: {tenant.team.name}: the host's own "
            "answer, as by its sidecar",
            attempt=partial(_with_certificate, tenant, own, own_asked, tenant.team.name, True),
            workloads=(impostor(tenant),),
            pair=None,
        )
        yield honest
        yield _probe(
            "G6",
            f"{url(entry, asked.path)} {straight} and {TEAM_HEADER}: {victim.team.name}: 403 by the gateway, which "
            "logs who it was",
            partial(_with_certificate, tenant, entry, asked, victim.team.name, False),
            honest,
            impostor(tenant),
        )
    for (victim, host), success in passed.items():
        hardened = any(isinstance(one, PassthroughHost) and one.host == host for one in victim.tls)
        if hardened and victim.team != tenant.team:
            server_name = outer_server_name(host, victim.team.name)
            yield _probe(
                "G10",
                f"TLS from {tenant} straight to the gateway with the workload's own certificate and the server name "
                f"{server_name} of {victim.team.name}: closed by the gateway, which logs who it was",
                partial(_with_server_name, tenant, server_name),
                success,
                impostor(tenant),
            )
            return


def _coveted(everyone: list[Tenant]) -> Iterator[tuple[Tenant, HttpEntry, Tenant]]:
    """Tenants, what they do not see, and whom it belongs to."""
    for tenant in everyone:
        for victim in everyone:
            for entry in victim.http:
                if victim.team != tenant.team and not tenant.sees(entry.host) and allowed(entry):
                    yield tenant, entry, victim


# Pods


def _excluding(tenant: Tenant, what: str) -> Workload:
    change = _exclude_ports if what == "ports" else _exclude_addresses
    return Workload(f"excluded-{what}", in_mesh=True, namespace=tenant.namespace, change=change)


def _exclude_ports(pod: Pod) -> None:
    annotate(pod, {"traffic.sidecar.istio.io/excludeOutboundPorts": "80,443"})


def _exclude_addresses(pod: Pod) -> None:
    annotate(pod, {"traffic.sidecar.istio.io/excludeOutboundIPRanges": "0.0.0.0/0"})


def impostor(tenant: Tenant) -> Workload:
    """A pod that runs as the sidecar's user, and for which the sidecar writes down the workload's certificate."""
    return Workload("impostor", in_mesh=True, namespace=tenant.namespace, change=_impersonate_proxy)


def _impersonate_proxy(pod: Pod) -> None:
    assert pod.spec is not None
    security = pod.spec.containers[0].securityContext
    assert security is not None
    security.runAsUser = PROXY_USER
    annotate(
        pod,
        {
            "proxy.istio.io/config": json.dumps({"proxyMetadata": {"OUTPUT_CERTS": FILES}}),
            "sidecar.istio.io/userVolumeMount": json.dumps([{"name": "files", "mountPath": FILES}]),
        },
    )


CERTIFICATE = ClientCertificate(Path(FILES, "cert-chain.pem"), Path(FILES, "key.pem"))


# Attempts


def _other_ports(tenant: Tenant, context: Context) -> Outcome:
    gateway = EgressGateway(context)
    address = gateway.address()
    requests = [
        Request(url=f"http://{address}:{port}/", user_agent=user_agent("G14"), connect_seconds=UNREACHED_SECONDS)
        for port in OTHER_PORTS
    ]
    policies = policies_of(tenant.namespace, gateway.namespace)
    return stopped_by_policy(context, context.pods.get(tenant.plain), policies, *requests)


def _no_team(context: Context) -> Outcome:
    gateway = EgressGateway(context)
    request = Request(url=f"http://{gateway.service}/", user_agent=user_agent("G14"), connect_seconds=UNREACHED_SECONDS)
    outsider = context.pods.get(mesh.OUTSIDER)
    return stopped_by_policy(context, outsider, policies_of(outsider.namespace, gateway.namespace), request)


def _nobodys_host(tenant: Tenant, context: Context) -> Outcome:
    request = Request(url=f"http://{EgressGateway(context).service}/", user_agent="")
    return forbidden(context, by_http(context, "G14", context.pods.get(tenant.application), request))


def _excluded(tenant: Tenant, workload: Workload, host: str, context: Context) -> Outcome:
    return stopped_by_policy(context, context.pods.get(workload), policies_of(tenant.namespace), to_host(host))


def _by_address(tenant: Tenant, host: str, context: Context) -> Outcome:
    application = context.pods.get(tenant.application)
    # Whatever becomes of it by name: curl says which address the name has.
    tried = curl.send(application, to_host(host)).tried
    if tried is None:
        raise VerifyError(f"{host} has no address in {tenant.namespace}")
    address, _, _ = tried.rpartition(":")
    return kept_at_home(context, "G8", application, Request(url=f"http://{address}/", user_agent=""))


def _said_to_be_gateway(tenant: Tenant, entry: HttpEntry, context: Context) -> Outcome:
    request = Request(
        url=url(entry), user_agent="", connect_to={(entry.host, entry.port): (EgressGateway(context).service, 80)}
    )
    return kept_at_home(context, "G8", context.pods.get(tenant.application), request)


def _said_to_be_gateway_pod(tenant: Tenant, entry: HttpEntry, context: Context) -> Outcome:
    gateway = EgressGateway(context)
    place = gateway.address(), gateway.target_ports["http"]
    request = Request(url=url(entry), user_agent="", connect_to={(entry.host, entry.port): place})
    return kept_at_home(context, "G8", context.pods.get(tenant.application), request)


def _forged_header(tenant: Tenant, entry: HttpEntry, asked: Asked, team: str, context: Context) -> Outcome:
    request = Request(url=url(entry, asked.path), method=asked.method, user_agent="", headers={TEAM_HEADER: team})
    exchange = by_http(context, "G6", context.pods.get(tenant.application), request)
    return forbidden(context, exchange, has_body=asked.method != "HEAD")


def _with_certificate(
    tenant: Tenant, entry: HttpEntry, asked: Asked, team: str, honest: bool, context: Context
) -> Outcome:
    gateway = EgressGateway(context)
    pod = context.pods.get(impostor(tenant))
    agent, start = user_agent("G6"), time.monotonic()
    response = curl.send(
        pod,
        Request(
            url=f"https://{entry.host}{asked.path}",
            method=asked.method,
            user_agent=agent,
            connect_to={(entry.host, 443): (gateway.service, 80)},
            headers={TEAM_HEADER: team},
            certificate=CERTIFICATE,
            trusting=True,
        ),
    )
    line = gateway.proxies.line(lambda line: line.user_agent == agent, start)
    if honest:
        right = line is not None and line.response_code_details == VIA_UPSTREAM
    else:
        right = line is not None and line.refused and response.status == 403 and response.body.strip() == DENIED
    return _told_by_gateway(response, line, identity(context, pod), right)


def _with_server_name(tenant: Tenant, server_name: str, context: Context) -> Outcome:
    gateway = EgressGateway(context)
    pod = context.pods.get(impostor(tenant))
    who, start = identity(context, pod), time.monotonic()
    response = curl.send(
        pod,
        Request(
            url=f"https://{server_name}/",
            user_agent=user_agent("G10"),
            connect_to={(server_name, 443): (gateway.service, 443)},
            certificate=CERTIFICATE,
            trusting=True,
        ),
    )
    line = gateway.proxies.line(lambda line: line.requested_server_name == server_name and line.peer == who, start)
    # curl is done with the outer handshake then, and fails in one way or another when it reads.
    return _told_by_gateway(response, line, who, response.exit_code != 0 and line is not None and line.refused)


def _told_by_gateway(response: Response, line: AccessLogLine | None, who: str, right: bool) -> Outcome:
    return judged(
        str(response),
        [
            *([] if line else ["the egress gateway does not log it"]),
            *([] if line is None else differs("the caller that the gateway logs", line.peer, who)),
            *([] if right or line is None else [f"the gateway says {line.response_code_details}"]),
        ],
        f"egress gateway: {line}" if line else "",
    )
