"""One bare control plane for all tests of the engine."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from lab import cluster
from lab.instance import Instance


def _say(line: str) -> None:
    print(line, file=sys.stderr)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Instance]:
    """A real API server with simulated nodes, removed at the end."""
    instance = Instance("engine")
    cluster.down(instance, _say)
    cluster.up(instance, True, _say)
    yield instance
    cluster.down(instance, _say)
