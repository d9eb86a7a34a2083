"""One lab for all tests that need real traffic."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from lab import cluster
from lab.instance import Instance


def _say(line: str) -> None:
    print(line, file=sys.stderr)


@pytest.fixture(scope="session")
def lab() -> Iterator[Instance]:
    """A whole lab, removed at the end."""
    instance = Instance("test")
    cluster.down(instance, _say)
    cluster.up(instance, False, _say)
    yield instance
    cluster.down(instance, _say)
