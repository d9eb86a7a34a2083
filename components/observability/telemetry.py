"""Which proxies send spans, and of how many requests; plain data."""

from __future__ import annotations

from typing import Any

from components.mesh.istio import TRACING_PROVIDER
from settings.observability import Tracing

API_VERSION = "telemetry.istio.io/v1"
KIND = "Telemetry"
NAME = "tracing"


def telemetry(tracing: Tracing) -> dict[str, Any]:
    """Spec of the Telemetry of a namespace. A request that comes with a trace goes by that trace's own decision."""
    return {
        "tracing": [
            {
                "providers": [{"name": TRACING_PROVIDER}],
                "randomSamplingPercentage": tracing.sampling_percentage,
            }
        ]
    }
