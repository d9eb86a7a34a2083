"""Squid (O4), and what becomes of its clients' requests when they have sidecars (O5)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from components.external.istio import HTTPS_PORT, PROXY_HOST
from components.external.squid import PORT
from settings.external import ExternalSettings, Step
from verify import counters, curl
from verify.context import Context, user_agent
from verify.curl import UNREACHED_SECONDS, Request
from verify.exchange import judged
from verify.mesh import OUTSIDER
from verify.outbound import CLOSED, PASSTHROUGH, SCENARIO, Exchange, Right, ask, blocked, caller, sent, swallowed, url
from verify.pods import ProbePod
from verify.probe import Outcome, Probe
from verify.squid import Squid, SquidLine
from verify.straight import stopped_by_policy
from verify.workload import Workload

UNLISTED = "unlisted.invalid"
OTHER_PORT = 8080

ANSWERED = Right(words="200", status=200)
"""Without a sidecar there is nobody else to ask."""

NO_ROUTE = Right(
    words="404 of its own sidecar to CONNECT",
    exit_codes=(curl.READ_FAILED,),
    error="404",
    logged={"response_code": "404", "response_code_details": "route_not_found"},
)
"""What Envoy says to CONNECT where no route is for CONNECT."""

STEPS: tuple[tuple[Step, str, Right, Right], ...] = (
    ("client-allow-any", "ALLOW_ANY", sent(PASSTHROUGH), sent(PASSTHROUGH)),
    ("client-registry-only", "REGISTRY_ONLY", swallowed(*CLOSED), swallowed(*CLOSED)),
    ("client-http", "a ServiceEntry that declares HTTP", NO_ROUTE, blocked()),
    (
        "client-tcp",
        "a ServiceEntry that declares TCP",
        sent(f"outbound|{PORT}||{PROXY_HOST}"),
        sent(f"outbound|{PORT}||{PROXY_HOST}"),
    ),
)
"""The document's steps, and what becomes of https and of http."""


def probes(external: ExternalSettings) -> Iterator[Probe]:
    """The client without sidecar first: the others' refusals are paired with it."""
    host = external.registered
    client = caller(external, "client")
    https = _probe(external, "O4", "client", "https", ANSWERED, "without sidecar")
    http = _probe(external, "O4", "client", "http", ANSWERED, "without sidecar")
    yield https
    yield http
    for what, address in (
        ("a host that it is not for", url("http", UNLISTED)),
        ("another port", f"http://{host}:{OTHER_PORT}/"),
    ):
        yield Probe(
            row="O4",
            scenario=SCENARIO,
            expected=f"http by Squid to {what}: 403 of Squid",
            attempt=partial(_denied, client, address),
            workloads=(client,),
            pair=http,
        )
    yield Probe(
        row="O4",
        scenario=SCENARIO,
        expected="Squid from a namespace that is not one of its clients': no connection",
        attempt=partial(_kept_out, host, external.namespaces["proxy"]),
        workloads=(OUTSIDER,),
        pair=http,
    )
    for step, mode, by_https, by_http in STEPS:
        yield _probe(external, "O5", step, "https", by_https, mode, https)
        yield _probe(external, "O5", step, "http", by_http, mode, http)


def _probe(
    external: ExternalSettings,
    row: str,
    step: Step,
    scheme: str,
    right: Right,
    mode: str,
    pair: Probe | None = None,
) -> Probe:
    workload = caller(external, step)
    client = caller(external, "client")
    return Probe(
        row=row,
        scenario=SCENARIO,
        expected=f"{scheme} by Squid from {workload.namespace} ({mode}): {right.words}, "
        + ("which Squid logs" if right.passes else "and nothing gets to Squid"),
        attempt=partial(_asked, row, workload, client, scheme, external.registered, right),
        workloads=(workload,) if right.passes else (workload, client),
        # What passes needs no other's success.
        pair=None if right.passes else pair,
    )


def _asked(
    row: str, workload: Workload, client: Workload, scheme: str, host: str, right: Right, context: Context
) -> Outcome:
    squid = Squid(context)
    exchange = ask(context, row, context.pods.get(workload), url(scheme, host), squid.proxy)
    faults = right.faults(exchange)
    if right.passes:
        line = squid.line(lambda line: line.user_agent == exchange.agent, exchange.start)
        faults += _logged_faults(line, exchange, scheme, host)
        said = f"Squid: {line}" if line else ""
    else:
        arrived, said = _silence(context, row, squid, context.pods.get(client), host, exchange)
        faults += arrived
    return judged(str(exchange.response), faults, "; ".join(filter(None, (exchange.evidence, said))))


def _logged_faults(line: SquidLine | None, exchange: Exchange, scheme: str, host: str) -> Iterator[str]:
    """Whether Squid saw the pod itself ask for what it asked."""
    if line is None:
        yield "Squid does not log it"
        return
    asked = ("CONNECT", f"{host}:{HTTPS_PORT}") if scheme == "https" else ("GET", url(scheme, host))
    if (line.method, line.url) != asked:
        yield f"Squid was asked for {line.method} {line.url}"
    if (line.client, line.status) != (exchange.address, "200"):
        yield f"Squid says {line.status} to {line.client}, not 200 to {exchange.address}"


def _silence(
    context: Context, row: str, squid: Squid, client: ProbePod, host: str, exchange: Exchange
) -> tuple[list[str], str]:
    """Whether Squid saw nothing of the pod: what asks later is in its log, and by then the pod would be, too."""
    later = ask(context, row, client, url("http", host), squid.proxy)
    marker = squid.line(lambda line: line.user_agent == later.agent, exchange.start)
    if marker is None:
        return ["Squid does not even log what was asked after it"], ""
    lines = [line for line in squid.lines(exchange.start) if line.client == exchange.address]
    if lines:
        return [f"it got to Squid: {lines[0]}"], ""
    return [], f"Squid has no line of {exchange.address}, but of what was asked after it: {marker}"


def _denied(workload: Workload, address: str, context: Context) -> Outcome:
    squid = Squid(context)
    exchange = ask(context, "O4", context.pods.get(workload), address, squid.proxy)
    line = squid.line(lambda line: line.user_agent == exchange.agent, exchange.start)
    right = Right(words="403 of Squid", status=403)
    faults = right.faults(exchange)
    if line is None or line.result != "TCP_DENIED":
        faults.append(f"Squid's log says {line.result if line else 'nothing'}, not TCP_DENIED")
    return judged(str(exchange.response), faults, f"Squid: {line}" if line else "")


def _kept_out(host: str, namespace: str, context: Context) -> Outcome:
    request = Request(
        url=url("http", host),
        user_agent=user_agent("O4"),
        proxy=Squid(context).proxy,
        connect_seconds=UNREACHED_SECONDS,
    )
    return stopped_by_policy(context, context.pods.get(OUTSIDER), [counters.ingress(namespace)], request)
