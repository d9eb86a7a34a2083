"""One bare control plane for all tests of the engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.instance import Instance
from tests.deployment import running


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Instance]:
    """A real API server with simulated nodes, removed at the end."""
    with running("engine", bare=True) as instance:
        yield instance
