"""Layer `mesh`: Istio's control plane and what is mesh-wide.

A kind's component is imported when it is used: it loads an SDK that the other kind does not need.
"""

from __future__ import annotations

import pulumi

from settings import Settings
from settings.authority import HsmKmsAuthority
from settings.mesh import IstiodMesh, ManagedMesh
from stacks.contracts import Mesh
from stacks.upstream import Upstream


def build(settings: Settings, upstream: Upstream) -> Mesh:
    """Install Istio beside the CA that the authority has plugged in, or enable the fleet's managed control plane."""
    assert settings.mesh is not None
    if isinstance(settings.mesh, ManagedMesh):
        return _managed(settings, settings.mesh, upstream)
    return _istiod(settings, settings.mesh, upstream)


def _istiod(settings: Settings, mesh: IstiodMesh, upstream: Upstream) -> Mesh:
    from components.mesh import istio as component

    istio = component.Istio(
        f"{settings.name}-mesh",
        component.IstioArgs(
            namespace=upstream.authority.namespace,
            istio=settings.istio,
            mesh=mesh,
            kms=settings.authority if isinstance(settings.authority, HsmKmsAuthority) else None,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes]),
    )
    return Mesh(
        namespace=istio.namespace,
        revision_tag=istio.revisions.tag,
        revision=istio.revisions.revision,
        moved=istio.revisions.moved,
        trust_domain=istio.trust_domain,
        # istiod's pods are all there is.
        control_plane_cidrs=pulumi.Output.from_input([]),
    )


def _managed(settings: Settings, mesh: ManagedMesh, upstream: Upstream) -> Mesh:
    from components.mesh import managed as component

    assert settings.gcp is not None
    managed = component.ManagedMesh(
        f"{settings.name}-mesh",
        component.ManagedMeshArgs(
            project=settings.gcp.project,
            region=settings.gcp.region,
            cluster=upstream.cluster.name,
            location=upstream.cluster.location,
            mesh=mesh,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.gcp, upstream.kubernetes]),
    )
    return Mesh(
        namespace=managed.namespace,
        revision_tag=managed.revision_tag,
        revision=managed.revision_tag,
        # It has no second one: Google upgrades it.
        moved=pulumi.Output.from_input({}),
        trust_domain=managed.trust_domain,
        control_plane_cidrs=managed.control_plane_cidrs,
    )
