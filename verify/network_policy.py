"""What tenants' NetworkPolicies, the nodes' firewall and mutual TLS let through or stop (G11, G12, G14)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta

from settings import Settings
from settings.teams import DirectHost
from verify import curl, mesh
from verify.context import Context, user_agent
from verify.curl import UNREACHED_SECONDS, Request
from verify.exchange import CLOSED, EgressGateway, differs, judged, kept_at_home
from verify.logs import NO_FILTER_CHAIN, Cluster
from verify.probe import Outcome, Probe
from verify.straight import policies_of, stopped_by_firewall, stopped_by_policy
from verify.tenants import Tenant, identity, tenants, trust

SCENARIO = "egress"

ServiceEntry = create_namespaced_resource("networking.istio.io", "v1", "ServiceEntry", "serviceentries")
DestinationRule = create_namespaced_resource("networking.istio.io", "v1", "DestinationRule", "destinationrules")


def outside(settings: Settings) -> str | None:
    """A host outside that the teams reach by the gateway, so that somebody answers there."""
    assert settings.teams is not None
    hosts = (entry.host for tenant in tenants(settings.teams) for entry in [*tenant.http, *tenant.tls])
    return next(hosts, None)


def reaches_gateway(tenant: Tenant) -> Probe:
    """The success for whatever a pod without sidecar is refused: names and the gateway's ports are open to it."""
    return Probe(
        row="G11",
        scenario=SCENARIO,
        expected=f"a pod of {tenant} without sidecar finds the egress gateway by name and connects; without mutual TLS "
        "the gateway closes the connection",
        attempt=partial(_gateway_closes, tenant),
        workloads=(tenant.plain,),
    )


def probes(settings: Settings, reached: dict[Tenant, Probe], pair: Probe | None) -> Iterator[Probe]:
    """The probes of every tenant. `reached` are those of `reaches_gateway`; `pair` leaves by the gateway."""
    assert settings.teams is not None
    everyone = tenants(settings.teams)
    host = outside(settings)
    called = _called(everyone)
    yield from reached.values()
    for tenant in everyone:
        yield Probe(
            row="G11",
            scenario=SCENARIO,
            expected=f"the control plane and its CA from {tenant}: a new sidecar has its certificate",
            attempt=partial(_certified, tenant),
            workloads=(tenant.application,),
        )
        for entry in tenant.direct:
            yield Probe(
                row="G11",
                scenario=SCENARIO,
                expected=f"{entry.host}:{entry.ports[0].number} from {tenant}: connected directly, not by the gateway",
                attempt=partial(_direct, tenant, entry),
                workloads=(tenant.application,),
            )
        if host:
            yield Probe(
                row="G11",
                scenario=SCENARIO,
                expected=f"http://{host} from a pod of {tenant} without sidecar, straight out: no connection, stopped "
                "by the NetworkPolicy (bypass attempt)",
                attempt=partial(_straight_out, tenant, host),
                workloads=(tenant.plain,),
                pair=reached[tenant],
            )
    for target in called:
        yield from _between(everyone, target)
    if host:
        yield from _firewall(host, pair)


def _called(everyone: list[Tenant]) -> list[Tenant]:
    """Those whose workloads are asked: of teams that others call; the first one where nobody calls anybody."""
    names = {name for tenant in everyone for name in tenant.team.calls}
    return [tenant for tenant in everyone if tenant.team.name in names] or everyone[:1]


def _between(everyone: list[Tenant], target: Tenant) -> Iterator[Probe]:
    """Calls from its own namespace, from teams that may, from one that may not."""
    callers = [target, *(tenant for tenant in everyone if target.team.name in tenant.team.calls)]
    success = {
        caller: Probe(
            row="G11",
            scenario=SCENARIO,
            expected=f"http from {caller} to a workload {'beside it' if caller == target else f'of {target}'}: 200 by "
            "mutual TLS, the caller's identity logged there",
            attempt=partial(_calls, caller, target),
            workloads=(caller.application, target.server),
        )
        for caller in callers
    }
    yield from success.values()
    stranger = next((tenant for tenant in everyone if tenant.team != target.team and tenant not in callers), None)
    if stranger:
        yield Probe(
            row="G11",
            scenario=SCENARIO,
            expected=f"http from {stranger} to a workload of {target}, which it does not call: 502 of its own sidecar",
            attempt=partial(_call_kept, stranger, target),
            workloads=(stranger.application, target.server),
            pair=success[target],
        )
        yield Probe(
            row="G11",
            scenario=SCENARIO,
            expected=f"the same from a pod of {stranger} without sidecar: no connection, stopped by NetworkPolicies",
            attempt=partial(_call_stopped, stranger, target),
            workloads=(stranger.plain, target.server),
            pair=success[target],
        )
    yield Probe(
        row="G14",
        scenario=SCENARIO,
        expected=f"plaintext http from a pod without sidecar to a workload beside it in {target}: exit 56",
        attempt=partial(_plaintext, target),
        workloads=(target.plain, target.server),
        pair=success[target],
    )


def _firewall(host: str, pair: Probe | None) -> Iterator[Probe]:
    yield Probe(
        row="G12",
        scenario=SCENARIO,
        expected=f"http://{host} from a pod without sidecar on an application node, no NetworkPolicy: no connection, "
        "stopped by the nodes' firewall",
        attempt=partial(_straight_to_firewall, host),
        workloads=(mesh.OUTSIDER,),
        pair=pair,
    )
    yield Probe(
        row="G12",
        scenario=SCENARIO,
        expected=f"http://{host} by a sidecar that knows the host but no way to the gateway: 503, its own sidecar "
        "cannot connect (UF)",
        attempt=partial(_sidecar_to_firewall, host),
        workloads=(mesh.CALLER,),
        pair=pair,
    )


def _gateway_closes(tenant: Tenant, context: Context) -> Outcome:
    request = Request(url=f"http://{EgressGateway(context).service}/", user_agent=user_agent("G11"))
    response = curl.send(context.pods.get(tenant.plain), request)
    # The gateway has nothing in its access log: to it this is a handshake that failed.
    return judged(
        str(response),
        [
            *([] if response.connected else ["no connection"]),
            *([] if response.exit_code in CLOSED else ["it was not closed"]),
        ],
        f"the client: connected to {response.connected}; {response.error}" if response.connected else "",
    )


def _certified(tenant: Tenant, context: Context) -> Outcome:
    pod = context.pods.get(tenant.application)
    name = identity(context, pod)
    if name not in pod.proxies.certificates():
        return Outcome(ok=False, observed=f"the sidecar of {pod.name} holds no certificate for {name}")
    return Outcome(ok=True, observed=f"certificate for {name}", evidence=f"sidecar of {pod.name}: /certs", proven=True)


def _direct(tenant: Tenant, entry: DirectHost, context: Context) -> Outcome:
    port = entry.ports[0]
    pod = context.pods.get(tenant.application)
    scheme = "https" if port.protocol == "TLS" else "http"
    agent, start = user_agent("G11"), time.monotonic()
    response = curl.send(
        pod, Request(url=f"{scheme}://{entry.host}:{port.number}/", user_agent=agent, trust=trust(context))
    )
    line = pod.proxies.line(
        lambda line: line.user_agent == agent or line.downstream_remote_address == response.local, start
    )
    return judged(
        str(response),
        ["its sidecar does not log it"]
        if line is None
        else [
            *differs("where its sidecar sent it", line.upstream, Cluster(port.number, "", entry.host)),
            *differs("the response flags", line.response_flags, "-"),
        ],
        f"sidecar of {pod.name}: {line}" if line else "",
    )


def _straight_out(tenant: Tenant, host: str, context: Context) -> Outcome:
    """Straight to a host outside from a pod without sidecar."""
    return stopped_by_policy(context, context.pods.get(tenant.plain), policies_of(tenant.namespace), to_host(host))


def to_host(host: str) -> Request:
    """A request that somebody outside would answer."""
    return Request(url=f"http://{host}/", user_agent=user_agent("G11"), connect_seconds=UNREACHED_SECONDS)


def _calls(caller: Tenant, target: Tenant, context: Context) -> Outcome:
    asking, asked = context.pods.get(caller.application), context.pods.get(target.server)
    agent, start = user_agent("G11"), time.monotonic()
    response = curl.send(asking, Request(url=f"http://{asked.host}/", user_agent=agent))
    line = asked.proxies.line(lambda line: line.user_agent == agent, start)
    return judged(
        str(response),
        [
            *differs("status", response.status, 200),
            *differs("the caller that the asked sidecar logs", line and line.peer, identity(context, asking)),
        ],
        f"sidecar of {asked.name}: {line}" if line else "",
    )


def _call_kept(stranger: Tenant, target: Tenant, context: Context) -> Outcome:
    asked = context.pods.get(target.server)
    request = Request(url=f"http://{asked.host}/", user_agent="")
    return kept_at_home(context, "G11", context.pods.get(stranger.application), request)


def _call_stopped(stranger: Tenant, target: Tenant, context: Context) -> Outcome:
    asked = context.pods.get(target.server)
    request = Request(url=f"http://{asked.host}/", user_agent=user_agent("G11"), connect_seconds=UNREACHED_SECONDS)
    policies = policies_of(stranger.namespace, target.namespace)
    return stopped_by_policy(context, context.pods.get(stranger.plain), policies, request)


def _plaintext(target: Tenant, context: Context) -> Outcome:
    asked = context.pods.get(target.server)
    start = time.monotonic()
    response = curl.send(
        context.pods.get(target.plain), Request(url=f"http://{asked.host}/", user_agent=user_agent("G14"))
    )
    line = asked.proxies.line(
        lambda line: line.downstream_remote_address == response.local and line.response_code_details == NO_FILTER_CHAIN,
        start,
    )
    return judged(
        str(response),
        [
            *differs("exit code", response.exit_code, curl.READ_FAILED),
            *([] if line else [f"the sidecar of {asked.name} does not log that it refused it"]),
        ],
        f"sidecar of {asked.name}: {line}" if line else "",
    )


def _straight_to_firewall(host: str, context: Context) -> Outcome:
    return stopped_by_firewall(context, context.pods.get(mesh.OUTSIDER), to_host(host))


def _sidecar_to_firewall(host: str, context: Context) -> Outcome:
    caller = context.pods.get(mesh.CALLER)
    _make_known(context, host)
    agent, start = user_agent("G12"), time.monotonic()
    response = curl.send(caller, Request(url=f"http://{host}/", user_agent=agent))
    line = caller.proxies.line(lambda line: line.user_agent == agent, start)
    return judged(
        str(response),
        [
            *differs("status", response.status, 503),
            *(
                ["its sidecar does not log it"]
                if line is None
                else [
                    *differs("where its sidecar sent it", line.upstream, Cluster(80, "", host)),
                    *([] if "UF" in line.response_flags else [f"the flags are {line.response_flags}, not UF"]),
                ]
            ),
        ],
        f"sidecar of {caller.name}: {line}" if line else "",
    )


def _make_known(context: Context, host: str) -> None:
    """In the run's own namespace, with which it goes away: as before any egress routing."""
    metadata = ObjectMeta(name="outside", namespace=context.pods.namespace)
    entry = {
        "hosts": [host],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "location": "MESH_EXTERNAL",
        "resolution": "DNS",
        "exportTo": ["."],
    }
    # Istio's default would be 10 seconds for each of three attempts.
    rule = {"host": host, "exportTo": ["."], "trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": "1s"}}}}
    context.kube.create(DestinationRule(metadata=metadata, spec=rule), exists_ok=True)
    context.kube.create(ServiceEntry(metadata=metadata, spec=entry), exists_ok=True)
