"""onprem on the lab, deployed once for all tests of this directory, in the order of its life.

Files run in the order of their names, and tests as they stand: test_authority takes the environment from nothing to a
running mesh, the next ones change it, test_teardown destroys it. Each leaves an environment that is deployed whole, so
a file can also be run by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.instance import Instance
from tests.lab.onprem.arguments import Arguments
from tests.lab.onprem.environment import Onprem


@pytest.fixture(scope="package")
def arguments() -> Iterator[Arguments]:
    """The arguments of every process of this machine, from the first test on."""
    with Arguments() as arguments:
        yield arguments


@pytest.fixture(scope="package")
def operator(lab: Instance, arguments: Arguments, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Onprem]:
    """The environment, wherever it stands: not deployed before test_authority."""
    environment = Onprem(lab, tmp_path_factory.mktemp("onprem"))
    yield environment
    if environment.stack.resources():
        environment.destroy()


@pytest.fixture(scope="package")
def onprem(operator: Onprem) -> Onprem:
    """The environment with its mesh, whose CA the HSM has signed."""
    operator.deploy()
    return operator
