"""The same environment over several stacks on the lab: the same probes pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import balancer
from lab.instance import Instance
from tests.deployment import DESTROY, Stack, split, write_stack_file
from tests.lab.outcomes import verify

pytestmark = pytest.mark.lab

STACKS = ("dev-base", "dev-mesh", "dev-egress", "dev-ingress")
"""Enough to see traffic pass between stacks; that all of them make what one makes, the engine's tests show."""


@pytest.fixture(scope="module")
def stacks(lab: Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Stack]]:
    directory = tmp_path_factory.mktemp("split")
    configs = split("dev")
    stacks = {name: Stack(lab, name, write_stack_file(directory, name, configs[name])) for name in STACKS}
    for stack in stacks.values():
        stack.deploy()
    balancer.apply(lab, "dev-ingress")
    yield stacks
    for stack in reversed(stacks.values()):
        stack.pulumi(*DESTROY, check=False)


def test_ingress_reads_the_layers_below_from_other_stacks(stacks: dict[str, Stack]) -> None:
    outcomes = verify(stacks["dev-ingress"])
    assert outcomes.failed() == []
    assert outcomes.rows() >= {"T1", "T2", "T3", "T4", "T5", "T6", "T7", "H7"}


def test_mesh_reads_the_layers_below_from_another_stack(stacks: dict[str, Stack]) -> None:
    outcomes = verify(stacks["dev-mesh"])
    assert outcomes.failed() == []
