"""Going straight to where nobody should get, past the sidecar and the egress gateway, and which control stopped it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from verify import counters, curl
from verify.context import Context
from verify.counters import DENY
from verify.curl import Request
from verify.pods import ProbePod
from verify.probe import Outcome

NOT_COUNTED = "the settings name no counters of the nodes' firewall (verify.firewallCounters), so its part was not seen"

NO_CONNECTION = (curl.TIMED_OUT, curl.REFUSED)
"""A firewall drops packets; some implementations of NetworkPolicy answer with a reset."""


def stopped_by_policy(context: Context, pod: ProbePod, policies: Sequence[str], *requests: Request) -> Outcome:
    """No connection, because a NetworkPolicy dropped it: these counters rose, by each request.

    Where NetworkPolicies are not counted but the firewall is, the firewall must not have had to stop it.
    """
    seen = policies if context.firewall.counts_policies else (DENY,)
    with context.firewall.counting(*seen) as rises, ThreadPoolExecutor(len(requests)) as side_by_side:
        responses = list(side_by_side.map(lambda request: curl.send(pod, request), requests))
    observed = "; ".join(f"{response}{f', tried {response.tried}' if response.tried else ''}" for response in responses)
    if any(response.exit_code not in NO_CONNECTION for response in responses):
        return Outcome(ok=False, observed=observed, evidence=str(rises))
    if not context.firewall.counts:
        return Outcome(ok=True, observed=observed, evidence=NOT_COUNTED)
    if not context.firewall.counts_policies:
        if rises.total:
            return Outcome(ok=False, observed=f"{observed}, but it got to the nodes' firewall", evidence=str(rises))
        return Outcome(ok=True, observed=observed, evidence=f"{rises}: it did not get to the nodes' firewall")
    if rises.total < len(requests):
        return Outcome(ok=False, observed=f"{observed}, but no NetworkPolicy dropped it", evidence=str(rises))
    return Outcome(ok=True, observed=observed, evidence=f"NetworkPolicy: {rises}", proven=True)


def stopped_by_firewall(context: Context, pod: ProbePod, request: Request) -> Outcome:
    """No connection, because the nodes' firewall dropped it: its last rule's counter rose."""
    with context.firewall.counting(DENY) as rises:
        response = curl.send(pod, request)
    observed = f"{response}{f', tried {response.tried}' if response.tried else ''}"
    if response.exit_code != curl.TIMED_OUT:
        return Outcome(ok=False, observed=observed, evidence=str(rises))
    if not context.firewall.counts:
        return Outcome(ok=True, observed=observed, evidence=NOT_COUNTED)
    if not rises.total:
        return Outcome(ok=False, observed=f"{observed}, but the firewall's rule {DENY} dropped nothing")
    return Outcome(ok=True, observed=observed, evidence=f"nodes' firewall: {rises}", proven=True)


def policies_of(*namespaces: str) -> list[str]:
    """The counters of NetworkPolicies on the way from the first namespace to the others."""
    first, *others = namespaces
    return [counters.egress(first), *map(counters.ingress, others)]
