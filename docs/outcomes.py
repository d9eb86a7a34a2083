"""`python -m docs.outcomes [--check]`: writes what the probes promise into README and docs, so that it cannot drift.

A block starts with `<!-- outcomes: NAME -->` and ends with `<!-- end -->`; NAME is a scenario, or `table` for all.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from settings import load
from verify.probe import Probe
from verify.scenarios import probes

CHECKOUT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- outcomes: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Rewrite the blocks; with --check only say which files would change, and exit 1 if any does."""
    stale = []
    seen = promised("dev")
    for path in (CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))):
        text = path.read_text()
        new = BLOCK.sub(lambda block: block[1] + _block(block["name"], seen) + block[3], text)
        if new != text:
            stale.append(path.relative_to(CHECKOUT))
            if "--check" not in sys.argv:
                path.write_text(new)
    for file in stale:
        print(
            f"{file}: {'is behind the probes; run `python -m docs.outcomes`' if '--check' in sys.argv else 'written'}"
        )
    return 1 if stale and "--check" in sys.argv else 0


def promised(stack: str) -> Mapping[str, Probe]:
    """The probes of an environment of this checkout, by their ids."""
    config = yaml.safe_load((CHECKOUT / f"Pulumi.{stack}.yaml").read_text())["config"]
    return probes(load({key.removeprefix("meshgate:"): value for key, value in config.items()}))


def _block(name: str, seen: Mapping[str, Probe]) -> str:
    if name == "table":
        return "".join(_table(seen))
    lines = ["| probe | what must come back |", "|---|---|"]
    lines += [f"| {key} | {probe.expected} |" for key, probe in seen.items() if probe.scenario == name]
    if len(lines) == 2:
        raise SystemExit(f"no probe belongs to the scenario '{name}'")
    return "\n".join(lines) + "\n"


def _table(seen: Mapping[str, Probe]) -> Iterator[str]:
    yield "| scenario | rows | what the probes see (first of each row) |\n|---|---|---|\n"
    scenarios: dict[str, dict[str, str]] = {}
    for probe in seen.values():
        scenarios.setdefault(probe.scenario, {}).setdefault(probe.row, probe.expected)
    for scenario, first in scenarios.items():
        outcomes = "<br>".join(f"{row}: {expected}" for row, expected in first.items())
        yield f"| [{scenario}](docs/scenarios/{scenario}.md) | {', '.join(first)} | {outcomes} |\n"


if __name__ == "__main__":
    sys.exit(main())
