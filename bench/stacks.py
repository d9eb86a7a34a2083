"""Pulumi and other programs on the bench's own lab."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import authority
from lab import pulumi as runner
from lab.errors import LabError
from lab.instance import Instance

UP = ("up", "--yes", "--skip-preview")
LAST_LINES = 30

Say = Callable[[str], None]


class BenchError(LabError):
    """A program that a measurement needs did not do its work."""


@dataclass(frozen=True)
class Ran:
    """A program that ran well."""

    output: str
    seconds: float
    """Wall time."""


def run(instance: Instance, program: Sequence[str], directory: Path, given: str | None = None) -> Ran:
    """Run a program on the lab, with `given` as its standard input. Raises BenchError unless it succeeds."""
    line = runner.command(instance, program, directory)
    environment = runner.environment(instance)
    start = time.perf_counter()
    done = subprocess.run(line, env=environment, input=given, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        tail = "\n".join(f"{done.stdout}\n{done.stderr}".splitlines()[-LAST_LINES:])
        raise BenchError(f"`{' '.join(program)}` ended with {done.returncode}. Its last lines:\n{tail}")
    return Ran(done.stdout, seconds)


@dataclass(frozen=True)
class Stack:
    """A stack of the bench's lab, worked on from a project's directory."""

    instance: Instance
    directory: Path
    name: str

    def pulumi(self, *arguments: str, given: str | None = None) -> Ran:
        """Run `pulumi <arguments> --stack <name>`."""
        return run(self.instance, ["pulumi", *arguments, "--stack", self.name], self.directory, given)

    def make(self) -> None:
        """Make the stack, empty, unless it is there."""
        run(self.instance, ["pulumi", "stack", "select", "--create", self.name], self.directory)

    def export(self) -> dict[str, Any]:
        """The state's deployment, secrets in clear."""
        exported = json.loads(self.pulumi("stack", "export", "--show-secrets").output)
        deployment: dict[str, Any] = exported["deployment"]
        return deployment


def of_program(instance: Instance, name: str, config_file: Path | None = None) -> Stack:
    """A stack of the checkout's program, made unless it is there; its configuration is Pulumi.<name>.yaml's."""
    stack = Stack(instance, runner.workspace(instance, name, config_file), name)
    stack.make()
    return stack


def deployed(instance: Instance, name: str, config_file: Path | None = None) -> Stack:
    """The same, after `pulumi up`; where its mesh CA waited, the HSM has signed, and a second one has made the mesh."""
    stack = of_program(instance, name, config_file)
    stack.pulumi(*UP)
    if authority.sign(instance, name, config_file):
        # The configuration has the chain now.
        runner.workspace(instance, name, config_file)
        stack.pulumi(*UP)
    return stack
