"""`python -m tests [PART ...]`: runs the parts of `make test` one after another and prints the time of each."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tools.cache import cache_dir

PACKAGES = (
    "__main__.py",
    "settings",
    "stacks",
    "components",
    "authority",
    "verify",
    "docs",
    "lab",
    "tools",
    "bench",
    "tests",
)


@dataclass(frozen=True)
class Part:
    """One part of the tests: a name, and the commands that must all succeed."""

    name: str
    commands: tuple[tuple[str, ...], ...]


def _pytest(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "pytest", "-q", "--durations=5", *arguments)


PARTS = (
    Part(
        "lint",
        (
            (sys.executable, "-m", "ruff", "check", "."),
            (sys.executable, "-m", "ruff", "format", "--check", "."),
        ),
    ),
    # What mypy knows of the SDKs, the most of its work, is kept with the programs, for every checkout.
    Part("types", ((sys.executable, "-m", "mypy", "--cache-dir", str(cache_dir() / "mypy"), *PACKAGES),)),
    Part("unit", (_pytest("-n", "2", "tests/unit"),)),
    # Two at a time, a file each: the engine waits more than it computes.
    Part("engine", (_pytest("-n", "2", "--dist", "loadfile", "-m", "engine and not soak", "tests/engine"),)),
    Part("lab", (_pytest("-m", "lab and not soak", "tests/lab"),)),
)
SOAK = Part("soak", (_pytest("-m", "soak", "tests"),))


def main() -> int:
    """Run the parts that were asked for; a part that fails does not keep the next from running."""
    known = {part.name: part for part in (*PARTS, SOAK)}
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(known))
    names = parser.parse_args().parts or [part.name for part in PARTS]
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)} (there are: {', '.join(known)})")

    table = Table("part", "outcome", "seconds")
    failed = False
    for name in names:
        print(f"== {name}", flush=True)
        started = time.monotonic()
        ok = all([subprocess.run(command, check=False).returncode == 0 for command in known[name].commands])
        failed = failed or not ok
        table.add_row(name, "passed" if ok else "FAILED", f"{time.monotonic() - started:.0f}")
    Console().print(table)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
