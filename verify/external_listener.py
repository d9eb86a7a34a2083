"""The sidecars' outbound listener, in both modes (O6)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from components.external.istio import MODES
from settings.external import ExternalSettings, Step
from verify import curl
from verify.context import Context, user_agent
from verify.curl import Request
from verify.exchange import differs, judged
from verify.logs import BLACK_HOLE
from verify.outbound import BLACK_HOLE_COUNTERS, CLOSED, PASSTHROUGH, SCENARIO, caller
from verify.probe import Outcome, Probe
from verify.workload import Workload

LISTENER = "virtualOutbound"
PORT = 15001
"""Where iptables sends all that a pod sends out."""

OTHERS = {"ALLOW_ANY": PASSTHROUGH, "REGISTRY_ONLY": BLACK_HOLE}
"""What becomes of what no other listener is for."""


def probes(external: ExternalSettings) -> Iterator[Probe]:
    """What istiod gave the sidecars, and a connection to the listener's own port."""
    steps: tuple[Step, ...] = ("allow-any", "registry-only")
    for step in steps:
        workload = caller(external, step)
        yield Probe(
            row="O6",
            scenario=SCENARIO,
            expected=f"outbound listener in {workload.namespace}: port {PORT} to {BLACK_HOLE}, "
            f"all else to {OTHERS[MODES[step]]}",
            attempt=partial(_listener, workload, OTHERS[MODES[step]]),
            workloads=(workload,),
        )
    workload = caller(external, "allow-any")
    yield Probe(
        row="O6",
        scenario=SCENARIO,
        expected=f"http from {workload.namespace} to {external.registered}:{PORT}: closed, {BLACK_HOLE}",
        attempt=partial(_own_port, workload, external.registered),
        workloads=(workload,),
    )


def _listener(workload: Workload, others: str, context: Context) -> Outcome:
    proxies = context.pods.get(workload).proxies
    listener = proxies.config("listener", LISTENER)
    ways = [(chain.get("filter_chain_match", {}), _cluster(chain)) for chain in listener.get("filter_chains", [])]
    passing, black = proxies.config("cluster", PASSTHROUGH), proxies.config("cluster", BLACK_HOLE)
    words = "; ".join(f"{match or 'all else'} -> {to}" for match, to in ways)
    evidence = (
        f"proxy-config: listener {LISTENER}: {words}; cluster {PASSTHROUGH}: {passing.get('type')}; "
        f"cluster {BLACK_HOLE}: {black.get('type')} without endpoints"
    )
    faults = [
        *differs("the listener's port", _port(listener), PORT),
        *differs("where connections go", ways, [({"destination_port": PORT}, BLACK_HOLE), ({}, others)]),
        *differs(f"the type of {PASSTHROUGH}", passing.get("type"), "ORIGINAL_DST"),
        *differs(f"the type of {BLACK_HOLE}", black.get("type"), "STATIC"),
        *differs(f"what {BLACK_HOLE} leads to", black.get("load_assignment", {}).get("endpoints", []), []),
    ]
    return judged(words, faults, "" if faults else evidence)


def _cluster(chain: dict[str, Any]) -> str | None:
    """Where a filter chain's connections go; Istio's Envoy has filters of telemetry before."""
    last: dict[str, Any] = chain["filters"][-1]["typed_config"]
    return last.get("cluster")


def _port(listener: dict[str, Any]) -> int | None:
    port: int | None = listener.get("address", {}).get("socket_address", {}).get("port_value")
    return port


def _own_port(workload: Workload, host: str, context: Context) -> Outcome:
    """The listener must not send connections to itself."""
    pod = context.pods.get(workload)
    request = Request(url=f"http://{host}:{PORT}/", user_agent=user_agent("O6"))
    with pod.proxies.counting("downstream_cx_total", BLACK_HOLE_COUNTERS) as black:
        response = curl.send(pod, request)
    faults = [] if response.exit_code in CLOSED else ["it was not closed"]
    if not black.rise:
        faults.append(f"the sidecar counts no connection to {BLACK_HOLE}")
    return judged(
        str(response), faults, f"sidecar of {pod.name}: tcp.{BLACK_HOLE}.downstream_cx_total rose by {black.rise}"
    )
