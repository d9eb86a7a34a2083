"""Layer `gateway_pool`: the nodes on which only egress gateways run.

A kind's component is imported when it is used: it loads an SDK that the other kind does not need.
"""

from __future__ import annotations

from typing import cast

import pulumi

from settings import Settings
from settings.gateway_pool import EksGatewayPool, GkeGatewayPool, OnpremGatewayPool
from stacks.contracts import GatewayPool, Taint
from stacks.upstream import Upstream


def build(settings: Settings, upstream: Upstream) -> GatewayPool:
    """Make the nodes, or hand on how those that exist are told from others."""
    assert settings.gateway_pool is not None
    if isinstance(settings.gateway_pool, GkeGatewayPool):
        return _gke(settings, settings.gateway_pool, upstream)
    if isinstance(settings.gateway_pool, EksGatewayPool):
        return _eks(settings, settings.gateway_pool, upstream)
    return _onprem(settings.name, settings.gateway_pool)


def _gke(settings: Settings, pool: GkeGatewayPool, upstream: Upstream) -> GatewayPool:
    from components.gateway_pool import gke as component

    assert settings.gcp is not None
    network, cluster = upstream.network, upstream.cluster
    made = component.GkeGatewayPool(
        f"{settings.name}-gateway-pool",
        component.GkeGatewayPoolArgs(
            project=settings.gcp.project,
            pool=pool,
            cluster=cluster.name,
            location=cluster.location,
            node_account=network.node_accounts["gateway"],
            # Without a subnet of its own the pool shares the cluster's.
            subnet=network.subnets.apply(lambda subnets: subnets.get("gateway", subnets["nodes"])),
            pods_range=network.ranges.apply(lambda ranges: ranges.get("gateway_pods", ranges["pods"])),
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.gcp]),
    )
    return GatewayPool(labels=made.labels, taint=cast("pulumi.Output[Taint]", made.taint))


def _eks(settings: Settings, pool: EksGatewayPool, upstream: Upstream) -> GatewayPool:
    from components.gateway_pool import eks as component

    assert settings.aws is not None
    network = upstream.network
    made = component.EksGatewayPool(
        f"{settings.name}-gateway-pool",
        component.EksGatewayPoolArgs(
            environment=settings.name,
            region=settings.aws.region,
            pool=pool,
            cluster=upstream.cluster.name,
            subnets=network.subnets,
            security_group=network.security_groups["gateway"],
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.aws]),
    )
    return GatewayPool(labels=made.labels, taint=cast("pulumi.Output[Taint]", made.taint))


def _onprem(environment: str, pool: OnpremGatewayPool) -> GatewayPool:
    from components.gateway_pool import onprem as component

    existing = component.OnpremGatewayPool(f"{environment}-gateway-pool", component.OnpremGatewayPoolArgs(pool=pool))
    return GatewayPool(labels=existing.labels, taint=cast("pulumi.Output[Taint]", existing.taint))
