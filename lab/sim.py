"""`python -m lab sim STACK`: an environment's own file on a bare control plane, from preview to an empty state.

Nothing runs there: the API server is a real one, its nodes and the clouds are simulated. It is a lab of its own, never
the one that holds dev, and it is taken down afterwards. What an operator changes on the way is in sim.yaml.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from lab import authority, cluster, vault
from lab import pulumi as runner
from lab.errors import LabError
from lab.instance import Instance
from lab.plugins.store import Store

CHANGES = Path(__file__).parent / "sim.yaml"
UP = ("up", "--yes", "--skip-preview")

STEPS = {
    "preview": ("preview",),
    "up": UP,
    # A mesh CA in an HSM has made its requests now, and waits for them to be signed.
    "signed": UP,
    "up again": (*UP, "--expect-no-changes"),
    "update": UP,
    "refresh": ("refresh", "--yes", "--skip-preview"),
    # An environment that protects what must not be lost has to give it up first; others have nothing to do here.
    "unprotect": UP,
    "destroy": ("destroy", "--yes", "--skip-preview"),
}
"""A step whose name is in sim.yaml comes after those changes of the configuration."""


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
    changes: list[dict[str, Any]] = []
    steps: list[Step] = []
    for name, command in STEPS.items():
        parts = yaml.safe_load(CHANGES.read_text()).get(name, [])
        before = runner.configuration(instance, stack, config_file, changes)
        changes += parts
        if parts and runner.configuration(instance, stack, config_file, changes) == before:
            if name == "update":
                raise LabError(f"{CHANGES} changes nothing of {stack}: give one of its layers something to update")
            continue
        if name == "signed" and not authority.sign(instance, stack, config_file, changes):
            continue
        _say(f"--- {stack}: {name}")
        steps.append(_timed(name, partial(_pulumi, instance, stack, command, config_file, changes)))
        if not steps[-1].ok:
            return steps
    steps.append(_timed("state is empty", partial(_left_over, instance, stack)))
    steps.append(_timed("clouds are empty", partial(_left_in_clouds, instance)))
    steps.append(_timed("Vault is empty", partial(_left_in_vault, instance)))
    return steps


def _timed(name: str, action: Callable[[], tuple[bool, dict[str, int]]]) -> Step:
    start = time.monotonic()
    ok, resources = action()
    return Step(name, ok, time.monotonic() - start, resources)


def _pulumi(
    instance: Instance,
    stack: str,
    command: Sequence[str],
    config_file: Path | None,
    changes: Sequence[Mapping[str, Any]],
) -> tuple[bool, dict[str, int]]:
    log = instance.directory / "pulumi" / "events.json"
    log.unlink(missing_ok=True)
    arguments = [*command, "--event-log", str(log)]
    code = runner.pulumi(instance, stack, arguments, config_file, changes=changes, stdout=sys.stderr)
    return code == 0, summary(log.read_text() if log.exists() else "")


def summary(events: str) -> dict[str, int]:
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


def _left_in_clouds(instance: Instance) -> tuple[bool, dict[str, int]]:
    """What a wrong order leaves in a cloud is in no state: a cluster's load balancers, logs that came too late."""
    left: Counter[str] = Counter()
    for file in (instance.directory / "clouds").glob("*.json"):
        with Store(instance, file.stem).open() as world:
            left.update(record.type for record in world.records.values())
    return not left, dict(left)


def _left_in_vault(instance: Instance) -> tuple[bool, dict[str, int]]:
    left = vault.as_root(instance, vault.of(instance), vault.left)
    return not left, dict(Counter(left))


def _print_table(stack: str, steps: Sequence[Step]) -> None:
    table = Table("step", "outcome", "seconds", "resources", title=f"simulation of {stack}")
    for step in steps:
        counts = ", ".join(f"{number} {operation}" for operation, number in sorted(step.resources.items()))
        table.add_row(step.name, "[green]ok[/]" if step.ok else "[red]failed[/]", f"{step.seconds:.1f}", counts)
    Console().print(table)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
