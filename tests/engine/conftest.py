"""A bare control plane for all tests of the engine that run in one process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.instance import Instance
from tests.deployment import running


@pytest.fixture(scope="session")
def control_plane(worker_id: str) -> Iterator[Instance]:
    """A real API server with simulated nodes, removed at the end."""
    # Of its own for each of pytest-xdist's workers; without them there is one, `master`.
    name = "engine" if worker_id == "master" else f"engine{worker_id.removeprefix('gw')}"
    with running(name, bare=True) as instance:
        yield instance
