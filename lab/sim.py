"""`python -m lab sim STACK`: an environment's own file on a bare control plane, from preview to an empty state.

Nothing runs there: the API server is a real one, its nodes are simulated. It is a lab of its own, never the one that
holds dev, and it is taken down afterwards.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab import cluster
from lab import pulumi as runner
from lab.instance import Instance

STEPS = {
    "preview": ["preview"],
    "up": ["up", "--yes", "--skip-preview"],
    "up again": ["up", "--yes", "--skip-preview", "--expect-no-changes"],
    "refresh": ["refresh", "--yes", "--skip-preview"],
    "destroy": ["destroy", "--yes", "--skip-preview"],
}


@dataclass(frozen=True)
class Step:
    """What came of one step."""

    name: str
    ok: bool
    seconds: float
    resources: dict[str, int] = field(default_factory=dict)
    """Operation (create, same, update, replace, delete, ...) -> number of resources."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m lab sim`."""
    parser.add_argument("stack", metavar="STACK", help="runs Pulumi.STACK.yaml")
    parser.add_argument("--config-file", type=Path, metavar="FILE", help="default: Pulumi.STACK.yaml")
    parser.add_argument("--name", default="sim", help="the bare control plane's name as a lab (default: sim)")
    parser.add_argument("--keep", action="store_true", help="leave the control plane running")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON; Pulumi's output goes to stderr")


def run(_: Instance, given: argparse.Namespace) -> int:
    """`python -m lab sim`: 0 when every step succeeded."""
    instance = Instance(given.name)
    steps: list[Step] = []
    try:
        start = time.monotonic()
        cluster.up(instance, True, _say)
        steps.append(Step("control plane", True, time.monotonic() - start))
        steps += simulate(instance, given.stack, given.config_file)
    finally:
        if not given.keep:
            cluster.down(instance, _say)
    if given.json:
        print(json.dumps({"stack": given.stack, "steps": [asdict(step) for step in steps]}, indent=2))
    else:
        _print_table(given.stack, steps)
    return 0 if all(step.ok for step in steps) else 1


def simulate(instance: Instance, stack: str, config_file: Path | None = None) -> list[Step]:
    """Runs the steps on a control plane that is up. The first that fails is the last."""
    steps: list[Step] = []
    for name, command in STEPS.items():
        _say(f"--- {stack}: {name}")
        steps.append(_timed(name, partial(_pulumi, instance, stack, command, config_file)))
        if not steps[-1].ok:
            return steps
    steps.append(_timed("state is empty", partial(_left_over, instance, stack)))
    return steps


def _timed(name: str, action: Callable[[], tuple[bool, dict[str, int]]]) -> Step:
    start = time.monotonic()
    ok, resources = action()
    return Step(name, ok, time.monotonic() - start, resources)


def _pulumi(
    instance: Instance, stack: str, command: Sequence[str], config_file: Path | None
) -> tuple[bool, dict[str, int]]:
    log = instance.directory / "pulumi" / "events.json"
    log.unlink(missing_ok=True)
    code = runner.pulumi(instance, stack, [*command, "--event-log", str(log)], config_file, stdout=sys.stderr)
    return code == 0, changes(log.read_text() if log.exists() else "")


def changes(events: str) -> dict[str, int]:
    """The numbers of the engine's summary, from its event log (one JSON object a line)."""
    for line in events.splitlines():
        if '"summaryEvent"' in line:  # the others are many and large, and the last may be cut off
            return dict(json.loads(line)["summaryEvent"]["resourceChanges"])
    return {}


def _left_over(instance: Instance, stack: str) -> tuple[bool, dict[str, int]]:
    export = runner.command(instance, ["pulumi", "stack", "export", "--stack", stack], runner.project(instance))
    answer = subprocess.run(export, env=runner.environment(instance), capture_output=True, text=True, check=True)
    resources = json.loads(answer.stdout)["deployment"].get("resources") or []
    return not resources, dict(Counter(resource["type"] for resource in resources))


def _print_table(stack: str, steps: Sequence[Step]) -> None:
    table = Table("step", "outcome", "seconds", "resources", title=f"simulation of {stack}")
    for step in steps:
        counts = ", ".join(f"{number} {operation}" for operation, number in sorted(step.resources.items()))
        table.add_row(step.name, "[green]ok[/]" if step.ok else "[red]failed[/]", f"{step.seconds:.1f}", counts)
    Console().print(table)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
