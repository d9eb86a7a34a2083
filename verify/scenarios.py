"""Which probes a stack has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain

from settings import Layer, Settings
from verify import (
    authority,
    authority_workloads,
    bookinfo,
    edge,
    egress,
    external,
    external_address,
    gateway_pool,
    ingress,
    interception,
    mesh,
    observability,
    peer_authentication,
    rate_limit,
    revisions,
    sidecar,
    standalone_envoy,
    workload_identity,
)
from verify.probe import Probe, numbered

SCENARIOS: Mapping[Layer, Callable[[Settings], Iterable[Probe]]] = {
    "authority": authority.probes,
    "mesh": lambda settings: chain(
        mesh.probes(settings), revisions.probes(settings), authority_workloads.probes(settings)
    ),
    "egress": gateway_pool.probes,
    "teams": egress.probes,
    "workload_identity": workload_identity.probes,
    "ingress": lambda settings: chain(ingress.probes(settings), external_address.probes(settings)),
    "edge": edge.probes,
    "external": external.probes,
    "standalone_envoy": standalone_envoy.probes,
    "sidecar": lambda settings: chain(sidecar.probes(settings), interception.probes(settings)),
    "bookinfo": bookinfo.probes,
    "rate_limit": rate_limit.probes,
    "peer_authentication": peer_authentication.probes,
    "observability": observability.probes,
}
"""A layer's probes; a new scenario is a module and a line here."""


def probes(settings: Settings) -> dict[str, Probe]:
    """The probes of the layers that the stack holds, by id. They follow from the settings alone."""
    return numbered(probe for layer, make in SCENARIOS.items() if layer in settings.layers for probe in make(settings))
