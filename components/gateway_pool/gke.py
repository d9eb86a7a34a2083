"""The egress gateway's nodes in a GKE cluster."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from components.cluster.gke_nodes import node_pool
from components.network.ordering import after
from settings.gateway_pool import GkeGatewayPool as GkeGatewayPoolSettings


@dataclass(kw_only=True)
class GkeGatewayPoolArgs:
    """Arguments of GkeGatewayPool."""

    project: str
    pool: GkeGatewayPoolSettings

    cluster: pulumi.Input[str]
    """The cluster's name."""

    location: pulumi.Input[str]
    """The cluster's region or zone."""

    node_account: pulumi.Input[str]
    """E-mail address of the gateway nodes' account; by it the firewall lets them out."""

    subnet: pulumi.Input[str]
    """Self link of the subnet of their own, or of the cluster's."""

    pods_range: pulumi.Input[str]
    """Name of its secondary range for pods."""


class GkeGatewayPool(pulumi.ComponentResource):
    """A node pool with a taint, which only the egress gateway tolerates, and with a node account of its own.

    Source: "Use Anthos Service Mesh egress gateways on GKE clusters".
    """

    labels: pulumi.Output[dict[str, str]]
    """They select its nodes; known when there are some."""

    taint: pulumi.Output[dict[str, str]]

    def __init__(self, name: str, args: GkeGatewayPoolArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:gateway_pool:GkeGatewayPool", name, None, opts)
        settings = args.pool
        pool = node_pool(
            f"{name}-nodes",
            project=args.project,
            cluster=args.cluster,
            location=args.location,
            name=settings.name,
            machine_type=settings.machine_type,
            nodes=settings.nodes,
            account=args.node_account,
            subnet=args.subnet,
            pods_range=args.pods_range,
            taint=settings.taint,
            parent=self,
        )
        # GKE itself labels every node with its pool's name.
        self.labels = after({"cloud.google.com/gke-nodepool": settings.name}, pool)
        self.taint = after(settings.taint.model_dump(), pool)
        self.register_outputs({"labels": self.labels, "taint": self.taint})
