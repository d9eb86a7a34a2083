"""Runs of the program with mocks: each is by itself."""

from __future__ import annotations

import asyncio

import pulumi
import pytest

from tests.unit.program import build


def test_a_failed_run_leaves_nothing_to_the_next() -> None:
    ended: list[str] = []

    async def slow() -> str:
        try:
            await asyncio.sleep(60)
            return "slow"
        finally:
            ended.append("slow")

    def make() -> None:
        slowly: pulumi.Input[str] = slow()
        pulumi.Output.from_input(slowly).apply(str.upper)
        pulumi.Output.from_input(0).apply(lambda zero: 1 // zero)

    with pytest.raises(ZeroDivisionError):
        build(make)
    assert ended == ["slow"]
