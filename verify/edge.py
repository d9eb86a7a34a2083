"""Scenario `edge`: gateways behind network load balancers, rows E2 to E9 (source: EKS, Istio ingress gateway)."""

from __future__ import annotations

from settings import Settings
from verify import edge_address, edge_ranges, edge_tls
from verify.edge_site import Site
from verify.probe import Probe


def probes(settings: Settings) -> list[Probe]:
    """The probes for every gateway and host of the settings: by row, within a row by gateway."""
    edge = settings.edge
    assert edge is not None
    gateways = [[Site(edge, name, host) for host in gateway.hosts] for name, gateway in edge.gateways.items()]
    # Pulumi hands a mapping on in the order of its keys, whatever the file's was: ids must not depend on it.
    gateways.sort(key=lambda sites: (_step(sites[0]), sites[0].name))
    successes = {site: edge_tls.answers(site) for sites in gateways for site in sites}
    every: list[Probe] = []
    unseen: list[Site] = []
    for sites in gateways:
        first = sites[0]
        if first.gateway.allow and not first.sees_address:
            every.append(edge_address.nobody(first))
            continue
        every += edge_tls.probes(sites, successes)
        if first.has_rules and first.sees_address:
            every += edge_address.seen(first, successes[first])
        elif first.has_rules:
            unseen.append(first)
        if first.by_header:
            every.append(edge_address.past_balancer(first, successes[first]))
        if first.has_ranges:
            every.append(edge_ranges.outside(first, successes[first]))
    every += edge_address.unseen(unseen, successes)
    return sorted(every, key=lambda probe: probe.row)


def _step(site: Site) -> int:
    """The gateway's place among the document's steps."""
    if site.has_rules or site.has_ranges:
        return 4
    if not site.balancer_ends_tls or site.shares_port:
        return 0
    if not site.https_served:
        return 1
    return 3 if site.gateway.tls.credential else 2
