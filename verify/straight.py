"""Going straight out, past the sidecar and the egress gateway, and which control stopped it."""

from __future__ import annotations

from collections.abc import Sequence

from verify import counters, curl
from verify.context import Context
from verify.counters import DENY, Rises
from verify.curl import Request, Response
from verify.pods import ProbePod
from verify.probe import Outcome

NOT_COUNTED = "the settings name no counters of the nodes' firewall (verify.firewallCounters), so its part was not seen"

NO_CONNECTION = (curl.TIMED_OUT, curl.REFUSED)
"""A firewall drops packets; some implementations of NetworkPolicy answer with a reset."""


def attempt(context: Context, pod: ProbePod, request: Request) -> tuple[Response, Rises]:
    """One attempt to connect, and what the nodes' firewall counted meanwhile."""
    with context.firewall.counting() as rises:
        response = curl.send(pod, request)
    return response, rises


def stopped_by_policy(context: Context, pod: ProbePod, request: Request, policies: Sequence[str]) -> Outcome:
    """No connection, because a NetworkPolicy dropped it: one of these counters rose.

    Where the NetworkPolicies are not counted but the firewall is, the firewall must not have had to stop it.
    """
    response, rises = attempt(context, pod, request)
    observed = _observed(response)
    if response.exit_code not in NO_CONNECTION:
        return Outcome(ok=False, observed=observed)
    if not context.firewall.counts:
        return Outcome(ok=True, observed=observed, evidence=NOT_COUNTED)
    evidence = rises.said(*policies, DENY)
    known = [rise for policy in policies if (rise := rises.of(policy)) is not None]
    if known and not any(known):
        return Outcome(ok=False, observed=f"{observed}, but no NetworkPolicy dropped it", evidence=evidence)
    if rises.of(DENY):
        return Outcome(ok=False, observed=f"{observed}, but it got as far as the nodes' firewall", evidence=evidence)
    return Outcome(ok=True, observed=observed, evidence=evidence, proven=bool(known))


def stopped_by_firewall(context: Context, pod: ProbePod, request: Request) -> Outcome:
    """No connection, because the nodes' firewall dropped it: its last rule's counter rose."""
    response, rises = attempt(context, pod, request)
    observed = _observed(response)
    if response.exit_code != curl.TIMED_OUT:
        return Outcome(ok=False, observed=observed)
    if not context.firewall.counts:
        return Outcome(ok=True, observed=observed, evidence=NOT_COUNTED)
    if not rises.of(DENY):
        return Outcome(ok=False, observed=f"{observed}, but the firewall's rule {DENY} dropped nothing")
    return Outcome(ok=True, observed=observed, evidence=rises.said(DENY), proven=True)


def policies_of(*namespaces: str) -> list[str]:
    """The counters of NetworkPolicies on the way from the first namespace to the others."""
    first, *others = namespaces
    return [counters.egress(first), *map(counters.ingress, others)]


def _observed(response: Response) -> str:
    return f"{response}{f', tried {response.tried}' if response.tried else ''}"
