"""Scenario `rate_limit`: local and global rate limits (source: Istio, Traffic Management)."""

from __future__ import annotations

import pulumi

from components.rate_limit.rate_limit import RateLimit, RateLimitArgs
from settings import Settings
from stacks import contracts
from stacks.upstream import Upstream


def build(settings: Settings, upstream: Upstream) -> contracts.RateLimit:
    """Make the limited application, the rate-limit service and its Redis."""
    assert settings.rate_limit is not None
    rate_limit = RateLimit(
        f"{settings.name}-rate-limit",
        RateLimitArgs(
            rate_limit=settings.rate_limit,
            revisions=upstream.mesh.revisions,
            trust_domain=upstream.mesh.trust_domain,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes]),
    )
    return contracts.RateLimit(namespace=rate_limit.namespace)
