"""The egress gateway's nodes in a cluster that exists."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from settings.gateway_pool import OnpremGatewayPool as OnpremGatewayPoolSettings


@dataclass(kw_only=True)
class OnpremGatewayPoolArgs:
    """Arguments of OnpremGatewayPool."""

    pool: OnpremGatewayPoolSettings


class OnpremGatewayPool(pulumi.ComponentResource):
    """Stands for nodes that carry the label and the taint already. It makes nothing."""

    labels: pulumi.Output[dict[str, str]]
    """They select its nodes."""

    taint: pulumi.Output[dict[str, str]]

    def __init__(self, name: str, args: OnpremGatewayPoolArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:gateway_pool:OnpremGatewayPool", name, None, opts)
        self.labels = pulumi.Output.from_input(dict(args.pool.labels))
        self.taint = pulumi.Output.from_input(args.pool.taint.model_dump())
        self.register_outputs({"labels": self.labels, "taint": self.taint})
