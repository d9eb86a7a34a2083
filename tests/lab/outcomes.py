"""The probes' outcomes, as tests look at them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from lab import pulumi as runner
from tests.deployment import Stack


@dataclass(frozen=True)
class Outcomes:
    """What `python -m verify --json` said."""

    exit_code: int
    probes: dict[str, dict[str, Any]]
    """By id."""

    def failed(self) -> list[str]:
        """The probes that fell short, with what was seen."""
        return [
            f"{name}: expected {probe['expected']}; observed {probe['observed']} ({probe['evidence']})"
            for name, probe in self.probes.items()
            if probe["ok"] is False
        ]

    def rows(self) -> set[str]:
        """The rows of ACCEPTANCE that have a probe which succeeded: T6 for T6a and T6b."""
        return {name.rstrip("abcdefghijklmnopqrstuvwxyz") for name, probe in self.probes.items() if probe["ok"]}


def verify(stack: Stack, *arguments: str) -> Outcomes:
    """Run the probes against a stack of the lab."""
    command = ["python", "-m", "verify", "--stack", stack.name, "--json", *arguments]
    done = subprocess.run(
        runner.command(stack.instance, command, runner.project(stack.instance)),
        env=runner.environment(stack.instance),
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, 1):
        raise AssertionError(f"exit {done.returncode} of {' '.join(command)}:\n{done.stdout}\n{done.stderr}")
    return Outcomes(done.returncode, {probe["id"]: probe for probe in json.loads(done.stdout)["probes"]})
