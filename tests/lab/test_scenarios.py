"""Scenarios do not disturb each other: one that is taken out of dev leaves nothing, and the others' probes passing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lab import balancer
from settings import Layer
from tests.deployment import CHECKOUT, DESTROY, UP, Stack, running, stack_file, write_stack_file
from tests.lab.left import left
from tests.lab.outcomes import verify

pytestmark = pytest.mark.soak

SCENARIOS: Mapping[str, tuple[Layer, ...]] = {
    # What is above it goes with it.
    "egress": ("egress", "teams", "workload_identity"),
    **{
        layer: (layer,)
        for layer in (
            *("workload_identity", "ingress", "edge", "external", "standalone_envoy", "sidecar"),
            *("bookinfo", "rate_limit", "peer_authentication", "observability"),
        )
    },
}


@pytest.fixture(scope="module")
def dev() -> Iterator[Stack]:
    with running("soak", bare=False) as instance:
        stack = Stack(instance, "dev", CHECKOUT / "Pulumi.dev.yaml")
        stack.deploy()
        balancer.apply(instance, stack.name)
        yield stack
        # As a whole again; every one that was put back was also looked at while the next was away.
        assert verify(stack).failed() == []
        stack.pulumi(*DESTROY)
        assert stack.resources() == []


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_one_is_taken_out(dev: Stack, scenario: str, tmp_path: Path) -> None:
    before = dev.resources()
    smaller = Stack(dev.instance, "dev", write_stack_file(tmp_path, "dev", without(stack_file("dev"), scenario)))
    _up(smaller)
    stay = {resource["urn"] for resource in smaller.resources()}
    assert left(dev.instance, [resource for resource in before if resource["urn"] not in stay]) == []
    assert verify(smaller).failed() == []
    _up(dev)


def _up(stack: Stack) -> None:
    stack.pulumi(*UP)
    balancer.apply(stack.instance, stack.name)


def without(config: dict[str, Any], scenario: str) -> dict[str, Any]:
    """dev's configuration without a scenario, and without the traces of its namespaces."""
    layers = SCENARIOS[scenario]
    config["meshgate:layers"] = [layer for layer in config["meshgate:layers"] if layer not in layers]
    for layer in layers:
        del config[f"meshgate:{layer}"]
    tracing = config.get("meshgate:observability", {}).get("tracing")
    if scenario == "bookinfo" and tracing:
        # Observability traces Bookinfo alone.
        del config["meshgate:observability"]["tracing"]
    return config
