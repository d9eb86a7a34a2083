"""Scenario `bookinfo`: routing, resilience and authorization in stages (source: KANS 7)."""

from __future__ import annotations

import pulumi

from components.bookinfo.bookinfo import Bookinfo, BookinfoArgs, BookinfoMesh
from components.bookinfo.stages import GATEWAY, has_mesh
from settings import Settings
from stacks import contracts
from stacks.upstream import Upstream


def build(settings: Settings, upstream: Upstream) -> contracts.Bookinfo:
    """Make Bookinfo at its stage; without the mesh when the stage has none."""
    assert settings.bookinfo is not None
    mesh = None
    if has_mesh(settings.bookinfo.step):
        mesh = BookinfoMesh(revisions=upstream.mesh.revisions, trust_domain=upstream.mesh.trust_domain)
    bookinfo = Bookinfo(
        f"{settings.name}-bookinfo",
        BookinfoArgs(bookinfo=settings.bookinfo, istio=settings.istio, mesh=mesh),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes]),
    )
    gateway = bookinfo.gateway
    addresses = {GATEWAY: {"address": gateway.address, "port": gateway.port}} if gateway else {}
    return contracts.Bookinfo(
        namespace=bookinfo.namespace,
        step=pulumi.Output.from_input(settings.bookinfo.step),
        # Output.all of nothing would be a list.
        gateways=pulumi.Output.all(**addresses).apply(lambda values: values or {}),
    )
