"""Layer `network`: the VPC, and what its nodes may reach."""

from __future__ import annotations

from collections import Counter

import pulumi

from components.network.firewall import rules
from components.network.gke import GATEWAY_PODS, PODS, SERVICES, GkeNetwork, GkeNetworkArgs
from settings import Problem, Settings
from settings.network import NetworkSettings
from stacks.contracts import Network
from stacks.upstream import Upstream


def check(settings: NetworkSettings) -> list[Problem]:
    """Rules of one's own that take a name twice."""
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
    assert settings.gcp is not None
    network = GkeNetwork(
        f"{settings.name}-network",
        GkeNetworkArgs(
            environment=settings.name,
            project=settings.gcp.project,
            region=settings.gcp.region,
            network=settings.network,
            protect=settings.protect,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.gcp]),
    )
    cidrs = settings.network.cidrs
    subnets = {"nodes": network.subnets["application"]}
    ranges = {"pods": PODS, "services": SERVICES}
    networks = {
        "nodes": cidrs.nodes,
        "pods": cidrs.pods,
        "services": cidrs.services,
        "control_plane": cidrs.control_plane,
    }
    if cidrs.gateway:
        subnets["gateway"] = network.subnets["gateway"]
        ranges["gateway_pods"] = GATEWAY_PODS
        networks |= {"gateway": cidrs.gateway.nodes, "gateway_pods": cidrs.gateway.pods}
    return Network(
        network=network.vpc,
        subnets=pulumi.Output.all(**subnets),
        ranges=pulumi.Output.from_input(ranges),
        cidrs=pulumi.Output.from_input({key: str(cidr) for key, cidr in networks.items()}),
        node_accounts=pulumi.Output.all(**network.accounts),
        # Output.all of nothing would be a list.
        image_prefixes=pulumi.Output.all(**network.image_prefixes).apply(lambda values: values or {}),
    )
