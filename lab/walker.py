"""The walk through the steps of Bookinfo (lab/walk.py), as it runs where probes run: in the lab's control machine."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lab import deploy, files, sim, walk
from lab import pulumi as runner
from lab.errors import LabError
from lab.instance import Instance, default_name
from lab.propagation import Observation, Propagation, Writes
from lab.signs import sign
from settings import Settings, SettingsError, load, requires
from settings.bookinfo import STEPS, Step
from stacks.contracts import Bookinfo, ContractError
from verify import bookinfo, report
from verify.context import Context
from verify.errors import VerifyError
from verify.probe import Probe, numbered
from verify.runner import Result
from verify.runner import run as run_probes
from verify.session import session
from verify.stack import read_contracts

SECTION, LAYERS, UPSTREAM = "meshgate:bookinfo", "meshgate:layers", "meshgate:upstream"

UNCHANGED = ("same", "read")
"""What Pulumi counts although nothing was done."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one step. Times are in seconds."""

    step: Step
    changed: int
    """Resources that Pulumi made, changed or took away."""

    up: float
    """Of `pulumi up`."""

    propagation: Propagation
    probes: int
    passed: int
    """Probes that saw what they should, or did not apply."""

    probing: float
    """Of the probes."""

    failed: list[str]
    """The probes that fell short, with what they saw."""

    @property
    def ok(self) -> bool:
        """Whether the change has arrived and the probes pass."""
        return self.propagation.arrived and not self.failed


def main() -> int:
    """The walk itself, in the lab's control machine."""
    parser = argparse.ArgumentParser(prog="python -m lab.walker", description=__doc__)
    parser.add_argument("--instance", default=default_name())
    walk.arguments(parser)
    given = parser.parse_args()
    start = time.monotonic()

    def tell(text: str) -> None:
        print(f"[{time.monotonic() - start:5.1f} s] {text}", file=sys.stderr, flush=True)

    outcomes: list[Outcome] = []
    code = 0
    try:
        walker = Walker(Instance(given.instance), given.stack, given.config_file, tell)
        outcomes.extend(walker.through(given.first, given.last))
    except (LabError, VerifyError, SettingsError, ContractError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("interrupted: the same command begins anew", file=sys.stderr)
        code = 130
    # Also what was seen before it came to an end.
    if given.json:
        print(as_json(given.stack, outcomes, time.monotonic() - start))
    elif outcomes:
        print_table(given.stack, outcomes)
    return code or (0 if all(outcome.ok for outcome in outcomes) else 1)


class Walker:
    """A stack that holds Bookinfo, on its way through the steps."""

    def __init__(self, instance: Instance, stack: str, config_file: Path | None, tell: Callable[[str], None]) -> None:
        """`tell` is called with what happens.

        Raises LabError for a file that holds no Bookinfo, SettingsError for what is wrong in it at any step.
        """
        self._instance = instance
        self._stack = stack
        self._tell = tell
        self._config = runner.configuration(instance, stack, config_file)
        if SECTION not in self._config or "bookinfo" not in self._config.get(LAYERS, []):
            raise LabError(f"Pulumi.{stack}.yaml has no layer bookinfo: there are no steps to walk through")
        self._settings = _settings(self._config)
        for step in STEPS:
            _settings(at(self._config, step))

    def through(self, first: Step, last: Step) -> Iterator[Outcome]:
        """Take the steps one after another, and then the one that the file says.

        Raises LabError when `pulumi up` fails, VerifyError when the stack is not there or nothing can be asked.
        """
        assert self._settings.bookinfo is not None
        own = self._settings.bookinfo
        steps = STEPS[STEPS.index(first) : STEPS.index(last) + 1]
        if not steps:
            raise LabError(f"--from {first} comes after --to {last}; the order is: {', '.join(STEPS)}")
        self._tell(f"reading stack {self._stack}")
        with session(self._settings, read_contracts(self._stack, self._settings), self._tell) as context:
            probes = {step: numbered(bookinfo.step_probes(_with(self._settings, step), step)) for step in steps}
            # Those in Bookinfo's own namespaces come with the step that needs them.
            context.pods.start(
                it for step in steps for probe in probes[step].values() for it in probe.workloads if not it.namespace
            )
            writes = Writes({own.namespace, own.gateway_namespace})
            writes.watch(context.contracts["cluster"]["kubeconfig"])
            for number, step in enumerate(steps, 1):
                outcome, context = self._take(step, probes[step], context, writes)
                self._tell(f"{number} of {len(steps)}: {_in_words(outcome)}")
                for line in outcome.failed:
                    self._tell(f"  {line}")
                yield outcome
            if steps[-1] != own.step:
                self._tell(f"back to step {own.step}, as the file says")
                with self._up(self._config):
                    pass

    def _take(
        self, step: Step, probes: Mapping[str, Probe], context: Context, writes: Writes
    ) -> tuple[Outcome, Context]:
        """What came of one step, and the context after it."""
        observation = Observation(sign(context, step), writes)
        with self._up(at(self._config, step)) as up:
            propagation = observation.follow(up.ended)
        contracts = {**context.contracts, "bookinfo": self._handed_on()}
        context = replace(context, settings=_with(self._settings, step), contracts=contracts)
        begun = time.monotonic()
        context.pods.start(workload for probe in probes.values() for workload in probe.workloads)
        results = run_probes(probes, context, report=lambda result: None)
        failed = [_short(result) for result in results if result.ok is False]
        return Outcome(
            step=step,
            changed=up.changed,
            up=round(up.seconds, 1),
            propagation=propagation,
            probes=len(results),
            passed=len(results) - len(failed),
            probing=round(time.monotonic() - begun, 1),
            failed=failed,
        ), context

    def _handed_on(self) -> dict[str, Any]:
        """Bookinfo's contract, from the lab's state: `pulumi stack output` would take a second."""
        state = json.loads(runner.state_file(self._instance, self._stack).read_text())
        (stack,) = (it for it in state["checkpoint"]["latest"]["resources"] if it["type"] == "pulumi:pulumi:Stack")
        return Bookinfo.values(stack["outputs"], self._stack)

    @contextmanager
    def _up(self, config: Mapping[str, Any]) -> Iterator[Up]:
        """`pulumi up` with this configuration; it has ended after the block. Raises LabError when it fails."""
        directory = runner.project(self._instance)
        file = files.write(directory / "walk.yaml", yaml.safe_dump({"config": config}, sort_keys=False))
        runner.workspace(self._instance, self._stack, file)
        events, log = directory / "walk-events.json", self._instance.log("walk-pulumi")
        events.unlink(missing_ok=True)
        with log.open("w") as output:
            up = Up(self._stack, directory, events, output.fileno())
            try:
                yield up
            except BaseException:
                up.interrupt()
                raise
            finally:
                up.join()
        if up.code:
            tail = "\n".join(f"    {line}" for line in log.read_text().splitlines()[-30:])
            raise LabError(f"`pulumi up` of stack {self._stack} failed:\n{tail}\n  The whole log: {log}")


class Up:
    """A `pulumi up` that runs."""

    def __init__(self, stack: str, directory: Path, events: Path, output: int) -> None:
        self._events = events
        self._begun = time.monotonic()
        command = ["pulumi", *deploy.UP, "--stack", stack, "--event-log", str(events)]
        # A session of its own: of Ctrl-C it hears from `interrupt` alone, as a second time would end it at once. And it
        # does not outlive a walk that is killed.
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        self._ended_at: float | None = None
        self._waiting = Thread(target=self._await)
        self._waiting.start()

    def _await(self) -> None:
        self._process.wait()
        self._ended_at = time.monotonic()

    def ended(self) -> bool:
        """Whether it has."""
        return self._ended_at is not None

    def interrupt(self) -> None:
        """Have it end what it has begun, note that down, and stop."""
        if not self.ended():
            self._process.send_signal(signal.SIGINT)

    def join(self) -> None:
        """Wait for its end."""
        self._waiting.join()

    @property
    def code(self) -> int:
        """Exit code; it has ended."""
        return self._process.wait()

    @property
    def seconds(self) -> float:
        """How long it took; it has ended."""
        assert self._ended_at is not None
        return self._ended_at - self._begun

    @property
    def changed(self) -> int:
        """How many resources were made, changed or taken away; it has ended."""
        counts = sim.summary(self._events.read_text())
        return sum(number for operation, number in counts.items() if operation not in UNCHANGED)


def at(config: Mapping[str, Any], step: Step) -> dict[str, Any]:
    """A stack's configuration with Bookinfo at this step, without stacks above it that are not needed there."""
    result = {**config, SECTION: {**config[SECTION], "step": step}}
    needed = {layer for holder in result[LAYERS] for layer in requires(holder, result.get(f"meshgate:{holder}")) or ()}
    if UPSTREAM in result:
        result[UPSTREAM] = {layer: stack for layer, stack in result[UPSTREAM].items() if layer in needed}
    return result


def as_json(stack: str, outcomes: list[Outcome], seconds: float) -> str:
    """The document that `--json` prints."""
    steps = [{**asdict(outcome), "ok": outcome.ok} for outcome in outcomes]
    return json.dumps({"stack": stack, "seconds": round(seconds, 1), "steps": steps}, indent=2)


def print_table(stack: str, outcomes: list[Outcome]) -> None:
    """The table that people see on a terminal."""
    table = Table(title=f"Bookinfo's steps on {stack}")
    for column in ("step", "resources changed", "pulumi up s", "propagation s", "seen by", "probes", "probes s"):
        table.add_column(column, justify="left" if column in ("step", "seen by") else "right")
    for outcome in outcomes:
        seconds = outcome.propagation.seconds
        table.add_row(
            f"[{'green' if outcome.ok else 'bold red'}]{outcome.step}[/]",
            str(outcome.changed),
            f"{outcome.up:.1f}",
            "" if seconds is None else f"{seconds:.1f}",
            escape(outcome.propagation.seen),
            f"{outcome.passed}/{outcome.probes}",
            f"{outcome.probing:.1f}",
        )
    Console(width=None if sys.stdout.isatty() else report.WIDTH).print(table)


def _in_words(outcome: Outcome) -> str:
    seconds, seen = outcome.propagation.seconds, outcome.propagation.seen
    arrival = seen if seconds is None else f"after {seconds:.1f} s {seen}"
    return (
        f"{outcome.step}: {outcome.changed} resources in {outcome.up:.1f} s; {arrival}; "
        f"{outcome.passed} of {outcome.probes} probes in {outcome.probing:.1f} s"
    )


def _short(result: Result) -> str:
    return f"{result.id}: expected {result.expected}; observed {result.observed} ({result.evidence})"


def _settings(config: Mapping[str, Any]) -> Settings:
    return load({key.removeprefix("meshgate:"): value for key, value in config.items()})


def _with(settings: Settings, step: Step) -> Settings:
    """The settings at a step. All that the walk needs of upstream stacks stays, also where the step does not."""
    assert settings.bookinfo is not None
    return settings.model_copy(update={"bookinfo": settings.bookinfo.model_copy(update={"step": step})})


if __name__ == "__main__":
    sys.exit(main())
