"""Scenario `mesh`: what is mesh-wide, rows M1 (STRICT mutual TLS) and M2 (REGISTRY_ONLY)."""

from __future__ import annotations

import time
from collections.abc import Callable

from settings import Settings
from verify import curl
from verify.context import Context, user_agent
from verify.curl import Request, Response
from verify.logs import NO_FILTER_CHAIN, AccessLogLine
from verify.pods import ProbePod
from verify.probe import Outcome, Probe
from verify.workload import Workload

SCENARIO = "mesh"

CALLER = Workload("caller", in_mesh=True)
OUTSIDER = Workload("outsider", in_mesh=False)
TARGET = Workload("target", in_mesh=True, serves=True)

UNREGISTERED = "unregistered.invalid"
NOWHERE = "192.0.2.1"
"""An address of documentation (RFC 5737), so that nothing is met should the mesh let the request out."""


def probes(settings: Settings) -> list[Probe]:
    """The probes for the whole mesh."""
    inside = Probe(
        row="M1",
        scenario=SCENARIO,
        expected="http from a pod in the mesh to another: 200 through mutual TLS, the caller's identity logged there",
        attempt=_mutual_tls,
        workloads=(CALLER, TARGET),
    )
    return [
        inside,
        Probe(
            row="M1",
            scenario=SCENARIO,
            expected="plaintext http from a pod without sidecar to a pod in the mesh: exit 56",
            attempt=_plaintext,
            workloads=(OUTSIDER, TARGET),
            pair=inside,
        ),
        Probe(
            row="M2",
            scenario=SCENARIO,
            expected="http from a pod in the mesh to an unregistered host: 502 of its own sidecar",
            attempt=_unregistered_http,
            workloads=(CALLER,),
            pair=inside,
        ),
        Probe(
            row="M2",
            scenario=SCENARIO,
            expected="https from a pod in the mesh to an unregistered host: exit 35, closed by its own sidecar",
            attempt=_unregistered_https,
            workloads=(CALLER,),
            pair=inside,
        ),
    ]


def _mutual_tls(context: Context) -> Outcome:
    caller, target = context.pods.get(CALLER), context.pods.get(TARGET)
    agent, start = user_agent("M1"), time.monotonic()
    response = curl.send(caller, Request(url=f"http://{target.host}/", user_agent=agent))
    if response.exit_code or response.status != 200:
        return Outcome(ok=False, observed=str(response))
    line = target.proxies.line(lambda line: line.user_agent == agent, start)
    identity = caller.spiffe_id(context.contracts["mesh"]["trust_domain"])
    peer = line.peer if line else "nothing"
    observed = f"{response}, the target's sidecar logs {peer}"
    if peer != identity:
        return Outcome(ok=False, observed=f"{observed}, not {identity}", evidence=_said(target, line))
    return Outcome(ok=True, observed=observed, evidence=_said(target, line), proven=True)


def _plaintext(context: Context) -> Outcome:
    outsider, target = context.pods.get(OUTSIDER), context.pods.get(TARGET)
    start = time.monotonic()
    response = curl.send(outsider, Request(url=f"http://{target.host}/", user_agent=user_agent("M1")))
    if response.exit_code != curl.READ_FAILED:
        return Outcome(ok=False, observed=str(response))
    return _logged(
        response,
        target,
        lambda line: line.downstream_remote_address == response.local and line.response_code_details == NO_FILTER_CHAIN,
        start,
    )


def _unregistered_http(context: Context) -> Outcome:
    caller = context.pods.get(CALLER)
    agent, start = user_agent("M2"), time.monotonic()
    response = curl.send(caller, _to_nowhere("http", 80, agent))
    if response.exit_code or response.status != 502:
        return Outcome(ok=False, observed=str(response))
    return _logged(response, caller, lambda line: line.user_agent == agent and line.kept, start)


def _unregistered_https(context: Context) -> Outcome:
    caller = context.pods.get(CALLER)
    start = time.monotonic()
    response = curl.send(caller, _to_nowhere("https", 443, user_agent("M2")))
    if response.exit_code != curl.TLS_FAILED:
        return Outcome(ok=False, observed=str(response))
    return _logged(
        response,
        caller,
        lambda line: line.downstream_remote_address == response.local and line.kept,
        start,
    )


def _to_nowhere(scheme: str, port: int, agent: str) -> Request:
    return Request(
        url=f"{scheme}://{UNREGISTERED}/", user_agent=agent, connect_to={(UNREGISTERED, port): (NOWHERE, port)}
    )


def _logged(response: Response, where: ProbePod, match: Callable[[AccessLogLine], bool], start: float) -> Outcome:
    """The denial counts when the sidecar of `where` says that it was its own."""
    line = where.proxies.line(match, start)
    if line is None:
        return Outcome(ok=False, observed=f"{response}: the {where.name}'s sidecar does not log that it refused it")
    return Outcome(ok=True, observed=str(response), evidence=_said(where, line), proven=True)


def _said(where: ProbePod, line: AccessLogLine | None) -> str:
    return f"sidecar of {where.name}: {line}" if line else ""
