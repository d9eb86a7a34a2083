"""Layer `egress`: the egress gateway, and what keeps the teams to it (source: Anthos Service Mesh egress gateways)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pulumi

from components.egress.administrators import EgressAdministrators, EgressAdministratorsArgs
from components.egress.admission import TeamAdmission, TeamAdmissionArgs
from components.egress.gateway import ORIGINATE_SUBSET, SELECTOR, TARGET_PORTS, EgressGateway, EgressGatewayArgs
from settings import Settings
from stacks.contracts import Egress
from stacks.upstream import Upstream


def build(settings: Settings, upstream: Upstream) -> Egress:
    """Make the gateway on its nodes; nothing may pass it until a team's rules say so."""
    assert settings.egress is not None
    opts = pulumi.ResourceOptions(providers=[upstream.kubernetes])
    prefix = f"{settings.name}-egress"
    taint = cast("pulumi.Output[Mapping[str, str]]", upstream.gateway_pool.taint)
    TeamAdmission(f"{prefix}-admission", TeamAdmissionArgs(node_taint=taint), opts=opts)
    gateway = EgressGateway(
        f"{prefix}-gateway",
        EgressGatewayArgs(
            egress=settings.egress,
            istio=settings.istio,
            revisions=upstream.mesh.revisions,
            mesh_namespace=upstream.mesh.namespace,
            trust_domain=upstream.mesh.trust_domain,
            control_plane_cidrs=upstream.mesh.control_plane_cidrs,
            cluster_cidrs=[upstream.cluster.pod_cidr, upstream.cluster.service_cidr],
            node_labels=upstream.gateway_pool.labels,
            node_taint=taint,
        ),
        opts=opts,
    )
    if settings.egress.administrators:
        EgressAdministrators(
            f"{prefix}-administrators",
            EgressAdministratorsArgs(namespace=gateway.namespace, groups=settings.egress.administrators),
            opts=opts,
        )
    return Egress(
        namespace=gateway.namespace,
        service=gateway.service,
        gateway=gateway.gateway,
        selector=pulumi.Output.from_input(SELECTOR),
        identity=gateway.identity,
        target_ports=pulumi.Output.from_input(TARGET_PORTS),
        originate_subset=pulumi.Output.from_input(ORIGINATE_SUBSET),
    )
