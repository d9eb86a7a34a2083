"""dev on the lab, deployed once for all tests of this directory. A test that changes it takes the change back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import balancer
from lab.instance import Instance
from tests.deployment import CHECKOUT, DESTROY, Stack


@pytest.fixture(scope="package")
def dev(lab: Instance) -> Iterator[Stack]:
    """The embedded default, as it is in its file."""
    stack = Stack(lab, "dev", CHECKOUT / "Pulumi.dev.yaml")
    stack.deploy()
    balancer.apply(lab, stack.name)
    yield stack
    stack.pulumi(*DESTROY, check=False)
    balancer.apply(lab, stack.name)
