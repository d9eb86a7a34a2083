"""Scenario `external`: what sidecars let out to hosts (O1 to O3, O6) and to a proxy (O4, O5)."""

from __future__ import annotations

from settings import Settings
from verify import external_direct, external_listener, external_proxy
from verify.probe import Probe


def probes(settings: Settings) -> list[Probe]:
    """The probes of the layer."""
    assert settings.external is not None
    return [
        *external_direct.probes(settings.external),
        *external_proxy.probes(settings.external),
        *external_listener.probes(settings.external),
    ]
