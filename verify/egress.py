"""Scenario `egress`: teams' traffic leaves by the egress gateway as their rules allow, and in no other way (rows G4 to
G12 and G14; source: Anthos Service Mesh egress gateways on GKE)."""

from __future__ import annotations

from settings import Settings
from verify import admission, bypass, egress_http, egress_tls, network_policy
from verify.network_policy import reaches_gateway
from verify.probe import Probe
from verify.tenants import tenants


def probes(settings: Settings) -> list[Probe]:
    """The probes of the layer `teams`, by row."""
    assert settings.teams is not None
    answered, passed = egress_http.successes(settings), egress_tls.successes(settings)
    reached = {tenant: reaches_gateway(tenant) for tenant in tenants(settings.teams)}
    leaves = next(iter({**answered, **passed}.values()), None)
    made = [
        *admission.probes(settings),
        *egress_http.probes(settings, answered),
        *egress_tls.probes(settings, passed),
        *network_policy.probes(settings, reached, leaves),
        *bypass.probes(settings, answered, passed, reached),
    ]
    return sorted(made, key=lambda probe: int(probe.row.removeprefix("G")))
