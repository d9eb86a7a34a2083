"""Layer `mesh`: Istio's control plane and what is mesh-wide."""

from __future__ import annotations

import pulumi

from components.mesh.istio import Istio, IstioArgs
from settings import Settings
from stacks.contracts import Mesh
from stacks.upstream import Upstream


def build(settings: Settings, upstream: Upstream) -> Mesh:
    """Install Istio beside the CA that the authority has plugged in."""
    assert settings.mesh is not None
    istio = Istio(
        f"{settings.name}-mesh",
        IstioArgs(namespace=upstream.authority.namespace, istio=settings.istio, mesh=settings.mesh),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes]),
    )
    return Mesh(namespace=istio.namespace, revision_tag=istio.revision_tag, trust_domain=istio.trust_domain)
