"""Scenario `standalone_envoy`: Envoy without a mesh (source: KANS 7, Envoy)."""

from __future__ import annotations

import pulumi

from components.standalone_envoy.envoy import StandaloneEnvoy, StandaloneEnvoyArgs
from components.teams.credential import FileError, certificates
from settings import Problem, Settings
from settings.standalone_envoy import StandaloneEnvoySettings
from stacks import contracts
from stacks.upstream import Upstream


def check(settings: StandaloneEnvoySettings) -> list[Problem]:
    """What is wrong with the file of the upstream's CAs."""
    if settings.upstream.ca is None:
        return []
    try:
        certificates(settings.upstream.ca)
    except FileError as error:
        return [Problem(key="upstream.ca", message=str(error))]
    return []


def build(settings: Settings, upstream: Upstream) -> contracts.StandaloneEnvoy:
    """Make Envoy and its namespace."""
    assert settings.standalone_envoy is not None
    envoy = StandaloneEnvoy(
        f"{settings.name}-standalone-envoy",
        StandaloneEnvoyArgs(
            envoy=settings.standalone_envoy,
            pod_cidr=upstream.cluster.pod_cidr,
            service_cidr=upstream.cluster.service_cidr,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes]),
    )
    return contracts.StandaloneEnvoy(namespace=envoy.namespace, service=envoy.service)
