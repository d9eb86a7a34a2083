"""Scenario `peer_authentication`: modes of mutual TLS (source: KANS 7, security)."""

from __future__ import annotations

import pulumi

from components.peer_authentication.peer_authentication import PeerAuthentication, PeerAuthenticationArgs
from settings import Settings
from stacks import contracts
from stacks.upstream import Upstream


def build(settings: Settings, upstream: Upstream) -> contracts.PeerAuthentication:
    """Make the places' namespaces and servers."""
    assert settings.peer_authentication is not None
    made = PeerAuthentication(
        f"{settings.name}-peer-authentication",
        PeerAuthenticationArgs(peer_authentication=settings.peer_authentication, revisions=upstream.mesh.revisions),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes]),
    )
    return contracts.PeerAuthentication(
        namespaces=pulumi.Output.all(**made.namespaces).apply(lambda values: values),
    )
