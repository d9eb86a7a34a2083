"""Layer `network`: the VPC, and what its nodes may reach.

A kind's component is imported when it is used: it loads an SDK that the other kind does not need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pulumi

from components.network.firewall import rules
from settings import Problem, Settings
from settings.network import GkeNetwork, NetworkSettings
from settings.network_eks import EksNetwork
from stacks.contracts import Network
from stacks.upstream import Upstream


def check(settings: NetworkSettings) -> list[Problem]:
    """On GKE: rules of one's own that take a name twice."""
    if isinstance(settings, EksNetwork):
        return []
    names = Counter(rule.name for rule in rules(settings))
    return [
        Problem(
            key=f"firewall.rules[{index}].name",
            message=f"'{rule.name}' names {names[rule.name]} rules; names must differ, from the layer's own too",
        )
        for index, rule in enumerate(settings.firewall.rules)
        if names[rule.name] > 1
    ]


def build(settings: Settings, upstream: Upstream) -> Network:
    """Make the network, or build in one that exists."""
    assert settings.network is not None
    if isinstance(settings.network, EksNetwork):
        return _eks(settings, settings.network, upstream)
    return _gke(settings, settings.network, upstream)


def _gke(settings: Settings, gke: GkeNetwork, upstream: Upstream) -> Network:
    from components.network import gke as component

    assert settings.gcp is not None
    network = component.GkeNetwork(
        f"{settings.name}-network",
        component.GkeNetworkArgs(
            environment=settings.name,
            project=settings.gcp.project,
            region=settings.gcp.region,
            network=gke,
            protect=settings.protect,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.gcp]),
    )
    cidrs = gke.cidrs
    subnets = {"nodes": network.subnets["application"]}
    ranges = {"pods": component.PODS, "services": component.SERVICES}
    networks = {
        "nodes": cidrs.nodes,
        "pods": cidrs.pods,
        "services": cidrs.services,
        "control_plane": cidrs.control_plane,
    }
    if cidrs.gateway:
        subnets["gateway"] = network.subnets["gateway"]
        ranges["gateway_pods"] = component.GATEWAY_PODS
        networks |= {"gateway": cidrs.gateway.nodes, "gateway_pods": cidrs.gateway.pods}
    return Network(
        network=network.vpc,
        subnets=pulumi.Output.all(**subnets),
        ranges=pulumi.Output.from_input(ranges),
        cidrs=pulumi.Output.from_input({key: str(cidr) for key, cidr in networks.items()}),
        node_accounts=pulumi.Output.all(**network.accounts),
        security_groups=pulumi.Output.from_input({}),
        dns_zones=pulumi.Output.from_input({}),
        image_prefixes=_mapping(network.image_prefixes),
    )


def _eks(settings: Settings, eks: EksNetwork, upstream: Upstream) -> Network:
    from components.network import eks as component

    assert settings.aws is not None
    network = component.EksNetwork(
        f"{settings.name}-network",
        component.EksNetworkArgs(
            environment=settings.name, region=settings.aws.region, network=eks, protect=settings.protect
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.aws]),
    )
    cidrs = {"vpc": eks.cidr}
    for zone in eks.zones:
        cidrs |= {f"public/{zone.name}": zone.public, f"private/{zone.name}": zone.private}
    return Network(
        network=network.vpc,
        subnets=pulumi.Output.all(
            **{f"public/{zone}": subnet for zone, subnet in network.public.items()},
            **{f"private/{zone}": subnet for zone, subnet in network.private.items()},
        ),
        ranges=pulumi.Output.from_input({}),
        cidrs=pulumi.Output.from_input({key: str(cidr) for key, cidr in cidrs.items()}),
        node_accounts=pulumi.Output.from_input({}),
        security_groups=pulumi.Output.all(**network.security_groups),
        dns_zones=_mapping(network.dns_zones),
        image_prefixes=_mapping(network.image_prefixes),
    )


def _mapping(values: Mapping[str, pulumi.Output[str]]) -> pulumi.Output[dict[str, str]]:
    # Output.all of nothing would be a list.
    return pulumi.Output.all(**values).apply(lambda mapping: mapping or {})
