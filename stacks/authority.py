"""Layer `authority`: the CA that signs the workloads' certificates."""

from __future__ import annotations

import pulumi

from components.authority.self_signed import SelfSignedMeshCa, SelfSignedMeshCaArgs
from settings import Settings
from settings.authority import SelfSignedAuthority
from stacks.contracts import SIGNED, Authority
from stacks.upstream import Upstream


def build(settings: Settings, upstream: Upstream) -> Authority:
    """Make the CA and plug it into the namespace where istiod will look for it."""
    assert isinstance(settings.authority, SelfSignedAuthority)
    authority = SelfSignedMeshCa(
        f"{settings.name}-authority",
        SelfSignedMeshCaArgs(
            namespace=settings.authority.namespace,
            environment=settings.name,
            authority=settings.authority,
            protect=settings.protect,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes]),
    )
    return Authority(
        namespace=authority.namespace,
        root_certificate=authority.root_certificate,
        status=pulumi.Output.from_input(SIGNED),
        generations=pulumi.Output.from_input({}),
    )
