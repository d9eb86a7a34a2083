"""dev over several stacks on the lab, for all tests of this directory, in the order of its life.

Files run in the order of their names, and tests as they stand: test_bookinfo walks through Bookinfo's steps,
test_ingress has other scenarios come beside it and go again, test_without_mesh removes the mesh below it. Each leaves
what the next one needs, so a file can also be run by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.instance import Instance
from lab.walker import at
from settings.bookinfo import Step
from tests.deployment import DESTROY, UP, Stack, split, write_stack_file

BOOKINFO = "dev-bookinfo"


@dataclass
class Split:
    """The stacks that make up dev, those of them that are deployed."""

    lab: Instance
    directory: Path
    """For the stacks' files."""

    deployed: list[str] = field(default_factory=list)

    def stack(self, name: str, step: Step | None = None) -> Stack:
        """One of them, with Bookinfo at this step."""
        config = split("dev")[name]
        return Stack(self.lab, name, write_stack_file(self.directory, name, at(config, step) if step else config))

    def deploy(self, name: str) -> Stack:
        """One of them, deployed, unless it is already."""
        stack = self.stack(name)
        if name not in self.deployed:
            # First: what was half made is destroyed too.
            self.deployed.append(name)
            stack.deploy()
        return stack

    def bookinfo(self, step: Step) -> Stack:
        """Bookinfo's, deployed and at this step."""
        stack = self.stack(BOOKINFO, step)
        if BOOKINFO not in self.deployed:
            self.deployed.append(BOOKINFO)
            stack.deploy()
        elif stack.outputs()["bookinfo_step"] != step:
            stack.pulumi(*UP)
        return stack

    def destroy(self, name: str, *, check: bool = True) -> None:
        """Destroy one of them, if it is deployed."""
        if name in self.deployed:
            self.stack(name).pulumi(*DESTROY, check=check)
            self.deployed.remove(name)


@pytest.fixture(scope="package")
def stacks(lab: Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Split]:
    """The cluster's own and the mesh's are deployed; the others come as tests need them."""
    stacks = Split(lab, tmp_path_factory.mktemp("split"))
    try:
        for name in ("dev-base", "dev-mesh"):
            stacks.deploy(name)
        yield stacks
    finally:
        for name in reversed(stacks.deployed.copy()):
            stacks.destroy(name, check=False)
