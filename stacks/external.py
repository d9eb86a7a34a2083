"""Scenario `external`: outbound traffic, by itself and through a proxy (source: EKS, outbound)."""

from __future__ import annotations

import pulumi

from components.external.external import External, ExternalArgs
from settings import Settings
from stacks import contracts
from stacks.upstream import Upstream


def build(settings: Settings, upstream: Upstream) -> contracts.External:
    """Make the steps' namespaces and the proxy."""
    assert settings.external is not None
    external = External(
        f"{settings.name}-external",
        ExternalArgs(
            external=settings.external,
            revisions=upstream.mesh.revisions,
            pod_cidr=upstream.cluster.pod_cidr,
            service_cidr=upstream.cluster.service_cidr,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes]),
    )
    return contracts.External(
        namespaces=pulumi.Output.all(**external.namespaces).apply(lambda values: values),
        proxy=external.proxy,
    )
