"""`python -m verify --stack S`: run the probes of a stack. Run it in the directory of the Pulumi project."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from settings import Settings, SettingsError
from stacks.contracts import ContractError
from verify import firewall, report
from verify.errors import VerifyError
from verify.probe import Probe
from verify.runner import Result, run, select
from verify.scenarios import probes
from verify.session import session
from verify.stack import read_contracts, read_settings

FELL_SHORT = 1
UNUSABLE = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0, 1 when a probe falls short, 2 when they cannot be run, 130 for Ctrl-C."""
    options = _options(arguments)
    progress = _Progress()
    try:
        if options.firewall:
            return _analyse_firewall(options.stack, as_json=options.json)
        progress.tell(f"reading stack {options.stack}")
        settings = read_settings(options.stack)
        chosen = select(probes(settings), only=options.only, scenario=options.scenario)
        if options.list:
            for name, probe in chosen.items():
                print(f"{name}\t{probe.scenario}\t{probe.expected}")
            return 0
        results = _run(options.stack, settings, chosen, progress)
        if options.json:
            print(report.as_json(options.stack, results))
        else:
            report.print_table(results, Console(width=None if sys.stdout.isatty() else report.WIDTH))
        progress.tell(report.summary(results))
        if options.junit:
            _write(options.junit, report.as_junit(options.stack, results))
    except (VerifyError, SettingsError, ContractError) as error:
        print(f"error: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return FELL_SHORT if any(result.ok is False for result in results) else 0


class _Progress:
    """What happens, on stderr, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def tell(self, text: str) -> None:
        print(f"[{time.monotonic() - self._start:5.1f} s] {text}", file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m verify",
        description="Ask a live environment, with real traffic, for what its scenarios promise.",
    )
    parser.add_argument("--stack", "-s", required=True, help="the Pulumi stack; its project is the current directory")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit report too")
    parser.add_argument(
        "--only",
        type=lambda text: tuple(part.strip() for part in text.split(",") if part.strip()),
        default=(),
        metavar="ID[,ID]",
        help="only these probes (T6a) or rows (T6), and the successes that their denials are paired with",
    )
    parser.add_argument("--scenario", metavar="NAME", help="only the probes of this scenario")
    parser.add_argument(
        "--firewall",
        action="store_true",
        help="print what the network's firewall lets through instead, from the stack's file alone; "
        "exit code 1 when application nodes reach the internet",
    )
    parser.add_argument("--list", action="store_true", help="print the probes' ids instead of running them")
    return parser.parse_args(arguments)


def _analyse_firewall(stack: str, *, as_json: bool) -> int:
    network = firewall.read_network(stack, Path())
    cells, leaks = firewall.matrix(network), firewall.ways_out(network, "application")
    if as_json:
        print(firewall.as_json(stack, cells, leaks))
    else:
        firewall.print_table(cells, Console(width=None if sys.stdout.isatty() else report.WIDTH))
    print(firewall.verdict(leaks), file=sys.stderr)
    return FELL_SHORT if leaks else 0


def _run(stack: str, settings: Settings, chosen: dict[str, Probe], progress: _Progress) -> list[Result]:
    if not chosen:
        progress.tell(f"stack {stack} holds no layer with probes")
        return []
    done = 0

    def finished(result: Result) -> None:
        nonlocal done
        done += 1
        progress.tell(f"{done} of {len(chosen)}: {result.id} {report.WORDS[result.ok]}")

    with session(settings, read_contracts(stack, settings), progress.tell) as context:
        context.pods.start(workload for probe in chosen.values() for workload in probe.workloads)
        context.pods.settle()
        return run(chosen, context, report=finished)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise VerifyError(f"cannot write the JUnit report to {path}: {error.strerror}") from None


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
