"""Scenario `edge`: gateways behind network load balancers, rows E2 to E9 (source: EKS, Istio ingress gateway)."""

from __future__ import annotations

from settings import Settings
from settings.edge import BalancerTls, NlbGateway
from verify import edge_address, edge_ranges, edge_tls
from verify.edge_site import Site
from verify.probe import Probe


def probes(settings: Settings) -> list[Probe]:
    """The probes for every gateway and host of the settings: by row, within a row by gateway."""
    edge = settings.edge
    assert edge is not None
    # Pulumi hands a mapping on in the order of its keys, whatever the file's was: ids must not depend on it. The steps
    # of a remedy are in the document's order.
    names = sorted(edge.gateways, key=lambda name: (_step(edge.gateways[name]), name))
    gateways = {name: [Site(edge, name, host) for host in edge.gateways[name].hosts] for name in names}
    successes = {site: edge_tls.answers(site) for sites in gateways.values() for site in sites}
    every: list[Probe] = []
    unseen: list[Site] = []
    for sites in gateways.values():
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


def _step(gateway: NlbGateway) -> int:
    if not isinstance(gateway.tls, BalancerTls) or gateway.tls.target_ports == "shared":
        return 0
    if not gateway.tls.https_server:
        return 1
    return 2 if gateway.tls.backend_protocol == "tcp" else 3
