"""Which probes a stack has."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from settings import Layer, Settings
from verify import edge, egress, external, gateway_pool, ingress, mesh, workload_identity
from verify.probe import Probe, numbered

SCENARIOS: Mapping[Layer, Callable[[Settings], list[Probe]]] = {
    "mesh": mesh.probes,
    "egress": gateway_pool.probes,
    "teams": egress.probes,
    "workload_identity": workload_identity.probes,
    "ingress": ingress.probes,
    "edge": edge.probes,
    "external": external.probes,
}
"""A layer's probes; a new scenario is a module and a line here."""


def probes(settings: Settings) -> dict[str, Probe]:
    """The probes of the layers that the stack holds, by id. They follow from the settings alone."""
    return numbered(probe for layer, make in SCENARIOS.items() if layer in settings.layers for probe in make(settings))
