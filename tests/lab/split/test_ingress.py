"""Other scenarios beside Bookinfo, in stacks of their own: they read the layers below, and leave as they came."""

from __future__ import annotations

import pytest

from lab import balancer
from settings.bookinfo import STEPS
from tests.deployment import Stack
from tests.lab.left import left
from tests.lab.outcomes import verify
from tests.lab.split.conftest import Split

pytestmark = pytest.mark.lab

ABOVE = ("dev-egress", "dev-ingress")
"""Enough to see traffic pass between stacks; that all of them make what one makes, the engine's tests show."""


@pytest.fixture(scope="module")
def ingress(stacks: Split) -> Stack:
    made = [stacks.deploy(name) for name in ABOVE]
    balancer.apply(stacks.lab, ABOVE[-1])
    return made[-1]


def test_ingress_reads_the_layers_below_from_other_stacks(ingress: Stack) -> None:
    outcomes = verify(ingress)
    assert outcomes.failed() == []
    assert outcomes.rows() >= {"T1", "T2", "T3", "T4", "T5", "T6", "T7", "H7"}


def test_mesh_reads_the_layers_below_from_another_stack(stacks: Split) -> None:
    outcomes = verify(stacks.stack("dev-mesh"))
    assert outcomes.failed() == []


@pytest.mark.usefixtures("ingress")
def test_taken_out_they_leave_nothing_but_bookinfo_as_it_was(stacks: Split) -> None:
    bookinfo = stacks.bookinfo(STEPS[-1])
    made = [resource for name in ABOVE for resource in stacks.stack(name).resources()]
    for name in reversed(ABOVE):
        stacks.destroy(name)
    balancer.apply(stacks.lab, ABOVE[-1])
    assert left(stacks.lab, made) == []
    assert verify(bookinfo).failed() == []
