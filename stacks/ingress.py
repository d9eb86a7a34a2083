"""Scenario `ingress`: TLS at the mesh's edge (source: Istio ingress gateway, part 2)."""

from __future__ import annotations

import pulumi

from components.ingress.haproxy import configuration
from components.ingress.ingress import Ingress, IngressArgs
from settings import Settings
from settings.ingress import NodePortService
from stacks import contracts
from stacks.upstream import Upstream


def build(settings: Settings, upstream: Upstream) -> contracts.Ingress:
    """Make the gateways with their certificates, and the application when the settings have one."""
    assert settings.ingress is not None
    ingress = Ingress(
        f"{settings.name}-ingress",
        IngressArgs(
            ingress=settings.ingress,
            istio=settings.istio,
            revisions=upstream.mesh.revisions,
            protect=settings.protect,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes]),
    )
    addresses = {
        name: {"address": gateway.address, "http_port": gateway.http_port, "https_port": gateway.https_port}
        for name, gateway in ingress.gateways.items()
    }
    return contracts.Ingress(
        gateways=pulumi.Output.all(**addresses).apply(lambda values: values),
        balancers=pulumi.Output.from_input(
            {
                name: configuration(name, gateway.service)
                for name, gateway in settings.ingress.gateways.items()
                if isinstance(gateway.service, NodePortService) and gateway.service.balancer
            }
        ),
        # Output.all of nothing would be a list.
        root_certificates=pulumi.Output.all(**ingress.root_certificates).apply(lambda values: values or {}),
    )
