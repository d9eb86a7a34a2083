"""`python -m docs.outcomes [--check]`: writes what the probes promise into README and docs, so that it cannot drift.

A block starts with `<!-- outcomes: NAME -->` and ends with `<!-- end -->`; NAME is a scenario, or `table` for all.
Of Bookinfo it is all stages, whichever the environment is at; `peer-authentication-matrix` is that scenario's ways.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from settings import Settings, load
from settings.bookinfo import STEPS, Step
from settings.peer_authentication import PLACES
from verify.bookinfo_visit import SCENARIO as BOOKINFO
from verify.peer_authentication import CALLERS, way
from verify.probe import Probe
from verify.scenarios import probes

Stages = Mapping[Step, Mapping[str, Probe]]

MATRIX = "peer-authentication-matrix"

CHECKOUT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- outcomes: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Rewrite the blocks; with --check only say which files would change, and exit 1 if any does."""
    stale = []
    seen, stages = promised("dev"), bookinfo_stages("dev")
    for path in (CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))):
        text = path.read_text()
        new = BLOCK.sub(lambda block: block[1] + _block(block["name"], seen, stages) + block[3], text)
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
    return probes(_settings(stack))


def bookinfo_stages(stack: str) -> Stages:
    """The probes of Bookinfo at each stage, by the ids that they have when the environment is at it."""
    settings = _settings(stack)
    assert settings.bookinfo is not None
    at = {
        step: settings.model_copy(update={"bookinfo": settings.bookinfo.model_copy(update={"step": step})})
        for step in STEPS
    }
    return {step: _of(BOOKINFO, probes(settings)) for step, settings in at.items()}


def _settings(stack: str) -> Settings:
    config = yaml.safe_load((CHECKOUT / f"Pulumi.{stack}.yaml").read_text())["config"]
    return load({key.removeprefix("meshgate:"): value for key, value in config.items()})


def _of(scenario: str, seen: Mapping[str, Probe]) -> Mapping[str, Probe]:
    found = {key: probe for key, probe in seen.items() if probe.scenario == scenario}
    if not found:
        raise SystemExit(f"no probe belongs to the scenario '{scenario}'")
    return found


def _block(name: str, seen: Mapping[str, Probe], stages: Stages) -> str:
    if name == "table":
        return "".join(_table(seen, stages))
    if name == BOOKINFO:
        return "\n".join(f"### {step}\n\n{_list(probes)}" for step, probes in stages.items())
    if name == MATRIX:
        return "".join(_matrix())
    return _list(_of(name, seen))


def _list(seen: Mapping[str, Probe]) -> str:
    lines = ["| probe | what must come back |", "|---|---|"]
    return "\n".join([*lines, *(f"| {key} | {probe.expected} |" for key, probe in seen.items())]) + "\n"


def _matrix() -> Iterator[str]:
    yield f"| from, to | {' | '.join(PLACES)} |\n|---|{'---|' * len(PLACES)}\n"
    for caller in CALLERS:
        yield f"| {caller} | {' | '.join(way(caller, server) for server in PLACES)} |\n"


def _table(seen: Mapping[str, Probe], stages: Stages) -> Iterator[str]:
    yield "| scenario | rows | what the probes see (first of each row) |\n|---|---|---|\n"
    scenarios: dict[str, dict[str, str]] = {}
    of_stages = [probe for probes in stages.values() for probe in probes.values()]
    for probe in seen.values():
        for one in of_stages if probe.scenario == BOOKINFO else [probe]:
            scenarios.setdefault(one.scenario, {}).setdefault(one.row, one.expected)
    for scenario, first in scenarios.items():
        outcomes = "<br>".join(f"{row}: {expected}" for row, expected in first.items())
        yield f"| [{scenario}](docs/scenarios/{scenario}.md) | {', '.join(first)} | {outcomes} |\n"


if __name__ == "__main__":
    sys.exit(main())
