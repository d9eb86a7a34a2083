"""Measures the program on a lab of its own, as ratios within one run, and says whether the targets are met.

Exit status 0 also when a target is missed; 1 when a measurement could not be made.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

from rich.console import Console

import tools
from bench import noop_overhead, peak_memory, sidecar_size, teams_preview, up_vs_script
from bench.result import Failure, Result, table
from bench.stacks import Say
from lab import cluster
from lab.errors import LabError
from lab.instance import Instance

LAB = Instance("bench")


@dataclass(frozen=True)
class Measurement:
    """How to measure, and how often unless told otherwise."""

    measure: Callable[[Instance, int, Say], Result]
    rounds: int


MEASUREMENTS = {
    "up_vs_script": Measurement(up_vs_script.measure, 3),
    "noop_overhead": Measurement(noop_overhead.measure, 7),
    "peak_memory": Measurement(peak_memory.measure, 2),
    "teams_preview": Measurement(teams_preview.measure, 2),
    "sidecar_size": Measurement(sidecar_size.measure, 1),
}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(MEASUREMENTS)}")
    parser.add_argument("--repeat", type=int, metavar="N", help="rounds of each measurement")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    parser.add_argument("--keep", action="store_true", help=f"leave the lab `{LAB.name}` running, for another bench")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in MEASUREMENTS]:
        parser.error(f"no such measurement: {', '.join(unknown)} (there are: {', '.join(MEASUREMENTS)})")
    if given.repeat is not None and given.repeat < 1:
        parser.error("--repeat must be at least 1")
    keep = False
    try:
        rows = [measured(name, given.repeat) for name in given.names or MEASUREMENTS]
        # After a failure or an interrupt nobody knows what is left on the lab.
        keep = given.keep and not any(isinstance(row, Failure) for row in rows)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    finally:
        if not keep:
            cluster.down(LAB, say)
    print_outcome(rows, given.json)
    return 1 if any(isinstance(row, Failure) for row in rows) else 0


def measured(name: str, repeat: int | None) -> Result | Failure:
    """Make one measurement."""
    measurement = MEASUREMENTS[name]
    try:
        cluster.up(LAB, False, say)
        return measurement.measure(LAB, repeat or measurement.rounds, lambda line: say(f"{name}: {line}"))
    except (LabError, tools.ToolsError) as error:
        say(f"error: {name}: {error}")
        # The next measurement gets a new lab.
        cluster.down(LAB, say)
        return Failure(name, str(error))


def print_outcome(rows: list[Result | Failure], as_json: bool) -> None:
    """The table, or everything as JSON."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    machine = {"cores": os.cpu_count(), "gibibytes": round(pages / 2**30), "load": round(os.getloadavg()[1], 1)}
    if as_json:
        results = [asdict(row) | ({"outcome": row.outcome} if isinstance(row, Result) else {}) for row in rows]
        print(json.dumps({"machine": machine, "measurements": results}, indent=2))
    else:
        Console().print(table(rows))
        print("{cores} cores, {gibibytes} GiB; load of the last 5 minutes {load}".format_map(machine))


if __name__ == "__main__":
    sys.exit(main())
