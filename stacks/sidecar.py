"""Scenario `sidecar`: injection, a web server at a gateway, interception (source: KANS 7, Istio)."""

from __future__ import annotations

import pulumi

from components.sidecar.sidecar import Sidecar, SidecarArgs
from settings import Settings
from stacks import contracts
from stacks.upstream import Upstream


def build(settings: Settings, upstream: Upstream) -> contracts.Sidecar:
    """Make the web server and its gateway."""
    assert settings.sidecar is not None
    sidecar = Sidecar(
        f"{settings.name}-sidecar",
        SidecarArgs(sidecar=settings.sidecar, istio=settings.istio, revisions=upstream.mesh.revisions),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes]),
    )
    return contracts.Sidecar(
        namespace=sidecar.namespace,
        gateway=pulumi.Output.all(address=sidecar.address, port=sidecar.port).apply(
            lambda both: {"address": both["address"], "port": both["port"]}
        ),
    )
