"""Layer `edge`: gateways behind network load balancers of AWS (source: EKS, Istio ingress gateway)."""

from __future__ import annotations

import pulumi

from components.edge.annotations import HTTPS_PORT
from components.edge.edge import Edge, EdgeArgs
from components.edge.routes import HTTP_PORT
from settings import Settings
from stacks import contracts
from stacks.upstream import Upstream


def build(settings: Settings, upstream: Upstream) -> contracts.Edge:
    """Make the gateways with their balancers and certificates, and the applications when the settings have them."""
    assert settings.edge is not None
    in_aws = settings.edge.needs_hosted_zones
    edge = Edge(
        f"{settings.name}-edge",
        EdgeArgs(
            edge=settings.edge,
            istio=settings.istio,
            revisions=upstream.mesh.revisions,
            zones=upstream.network.dns_zones if in_aws else {},
            protect=settings.protect,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes, *([upstream.aws] if in_aws else [])]),
    )
    addresses = {
        name: {"address": gateway.address, "http_port": HTTP_PORT, "https_port": HTTPS_PORT}
        for name, gateway in edge.gateways.items()
    }
    return contracts.Edge(
        gateways=pulumi.Output.all(**addresses).apply(lambda values: values),
        # Output.all of nothing would be a list.
        root_certificates=pulumi.Output.all(**edge.root_certificates).apply(lambda values: values or {}),
    )
