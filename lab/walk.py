"""`python -m lab walk [STACK]`: through the steps of Bookinfo, each by a real `pulumi up`, and what comes of it.

For each step: how many resources Pulumi changed, and in how long; how long after its last write the change is seen in
what requests get; whether the step's probes pass. Only the lab's copy of the stack's configuration changes, and in the
end the stack is as its file says. A walk that was interrupted, or killed, is begun anew by the same command.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lab import deploy
from lab import pulumi as runner
from lab.errors import LabError
from lab.instance import Instance
from settings.bookinfo import STEPS


def arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m lab walk`."""
    parser.add_argument("stack", metavar="STACK", nargs="?", default="dev", help="a deployed stack (default: dev)")
    parser.add_argument("--config-file", type=Path, metavar="FILE", help="default: Pulumi.STACK.yaml")
    parser.add_argument("--from", dest="first", metavar="STEP", choices=STEPS, default=STEPS[0], help="the first step")
    parser.add_argument("--to", dest="last", metavar="STEP", choices=STEPS, default=STEPS[-1], help="the last step")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(instance: Instance, given: argparse.Namespace) -> int:
    """`python -m lab walk`: 0; 1 when a probe falls short, a change does not arrive or `pulumi up` fails."""
    deploy.recover(instance, given.stack)
    if not runner.state_file(instance, given.stack).exists():
        raise LabError(f"there is no stack {given.stack} on lab {instance.name}: deploy it first")
    walk = [sys.executable, "-m", "lab.walker", "--instance", instance.name, given.stack]
    walk += ["--from", given.first, "--to", given.last, *(["--json"] if given.json else [])]
    if given.config_file:
        walk += ["--config-file", str(given.config_file.absolute())]
    return runner.execute(instance, walk, runner.project(instance))
