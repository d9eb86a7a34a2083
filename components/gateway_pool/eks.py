"""The egress gateway's nodes in an EKS cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from components.cluster.eks_nodes import EksNodeGroup, EksNodeGroupArgs
from components.network.ordering import after
from settings.gateway_pool import EksGatewayPool as EksGatewayPoolSettings


@dataclass(kw_only=True)
class EksGatewayPoolArgs:
    """Arguments of EksGatewayPool."""

    environment: str
    region: str
    pool: EksGatewayPoolSettings

    cluster: pulumi.Input[str]
    """The cluster's name; known when nodes can become ready."""

    subnets: pulumi.Input[Mapping[str, str]]
    """Ids of the subnets, `private/<zone>`."""

    security_group: pulumi.Input[str]
    """Id of the gateway nodes' group; by it they have a way to the internet."""


class EksGatewayPool(pulumi.ComponentResource):
    """A managed node group with a taint, which only the egress gateway tolerates, and with a role of its own."""

    labels: pulumi.Output[dict[str, str]]
    """They select its nodes; known when there are some."""

    taint: pulumi.Output[dict[str, str]]

    def __init__(self, name: str, args: EksGatewayPoolArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:gateway_pool:EksGatewayPool", name, None, opts)
        settings = args.pool
        pool = EksNodeGroup(
            f"{name}-group",
            EksNodeGroupArgs(
                environment=args.environment,
                region=args.region,
                nodes=settings,
                group=settings.name,
                version=settings.version,
                cluster=args.cluster,
                subnets=args.subnets,
                security_group=args.security_group,
                taint=settings.taint,
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        # EKS itself labels every node with its group's name.
        self.labels = after({"eks.amazonaws.com/nodegroup": settings.name}, pool.group)
        self.taint = after(settings.taint.model_dump(), pool.group)
        self.register_outputs({"labels": self.labels, "taint": self.taint})
