"""One lab for all tests that need real traffic."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.instance import Instance
from tests.deployment import running


@pytest.fixture(scope="session")
def lab() -> Iterator[Instance]:
    """A whole lab, removed at the end."""
    with running("test", bare=False) as instance:
        yield instance
