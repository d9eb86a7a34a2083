"""dev on the lab, deployed once for all tests of this directory. A test that changes it takes the change back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.instance import Instance
from tests.deployment import CHECKOUT, DESTROY, UP, Stack


@pytest.fixture(scope="package")
def dev(lab: Instance) -> Iterator[Stack]:
    """The embedded default, as it is in its file."""
    stack = Stack(lab, "dev", CHECKOUT / "Pulumi.dev.yaml")
    stack.pulumi(*UP)
    yield stack
    stack.pulumi(*DESTROY, check=False)
