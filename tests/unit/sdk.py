"""A resource's inputs, as they go to the engine, held against the SDK's own types and required arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.plugins import sdk

UNTYPED_GROUPS = ("networking.istio.io", "security.istio.io", "telemetry.istio.io")
"""Custom resources: no SDK has types for them; a real API server checks them in the engine tests."""


def problems(token: str, inputs: Mapping[str, Any]) -> list[str]:
    """What is wrong with `inputs` (names as on the wire) of a resource of the type `token`; empty when all is right."""
    if any(f":{group}/" in token for group in UNTYPED_GROUPS):
        return [] if inputs.keys() >= {"metadata", "spec"} else [f"{token}: a custom resource has metadata and spec"]
    return [f"{token}: {path} {reason}" for path, reason in sdk.problems(token, inputs)]
