"""Who may connect at all to gateways behind network load balancers: row E9 (loadBalancerSourceRanges)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from verify import curl
from verify.context import Context
from verify.curl import UNREACHED_SECONDS
from verify.edge_site import PORTS, SCENARIO, Caller, Site, by_outside
from verify.edge_tls import Successes
from verify.exchange import judged
from verify.probe import Outcome, Probe

NOT_COUNTED = "the settings name no counter of the balancer (verify.firewallCounters), so its part was not seen"


def outside(site: Site, successes: Successes) -> Probe:
    """The attempt from outside the ranges."""
    return Probe(
        row="E9",
        scenario=SCENARIO,
        expected=f"{site.at('https')}, and http, from a client outside its source ranges: no connection (exit "
        f"{curl.TIMED_OUT}), dropped at the balancer",
        attempt=partial(by_outside, site, partial(_no_connection, site)),
        pair=successes[site.served],
    )


def _no_connection(site: Site, caller: Caller, context: Context) -> Outcome:
    requests = [replace(site.request(context, scheme, "E9"), connect_seconds=UNREACHED_SECONDS) for scheme in PORTS]
    counter = f"nlb-{site.edge.namespace}/{site.name}"
    with context.firewall.counting(counter) as rises, ThreadPoolExecutor(len(requests)) as side_by_side:
        responses = list(side_by_side.map(lambda request: curl.send(caller.shell, request), requests))
    observed = "; ".join(map(str, responses))
    if any(response.exit_code != curl.TIMED_OUT or response.connected for response in responses):
        return Outcome(ok=False, observed=observed, evidence=str(rises))
    if not rises.by_rule:
        return Outcome(ok=True, observed=observed, evidence=NOT_COUNTED)
    short = [] if rises.total >= len(requests) else [f"the balancer dropped {rises.total} packets"]
    return judged(observed, short, f"balancer: {rises}")
