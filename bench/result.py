"""What a measurement gives, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich.table import Table


@dataclass(frozen=True)
class Result:
    """One measured value with its target, and what it was computed from."""

    name: str
    value: float
    unit: str
    """`x` for a ratio, or MB."""

    limit: float
    """The value must not be greater."""

    aim: float | None
    """What would be better still."""

    runs: dict[str, list[float]]
    """What ran -> the value of each run, in order."""

    runs_unit: str
    sizes: dict[str, int]
    """What was there -> how many."""

    @property
    def outcome(self) -> str:
        """`aim met`, `met` or `MISSED`."""
        if self.value > self.limit:
            return "MISSED"
        return "aim met" if self.aim is not None and self.value <= self.aim else "met"

    @property
    def target(self) -> str:
        """The target in words."""
        aim = "" if self.aim is None else f", aim {self.aim:g}"
        return f"at most {self.limit:g}{aim}"


@dataclass(frozen=True)
class Failure:
    """A measurement that could not be made."""

    name: str
    why: str


def ratio_of_medians(runs: dict[str, list[float]], measured: str, reference: str) -> float:
    """The median of one thing's runs divided by that of another's."""
    return median(runs[measured]) / median(runs[reference])


def table(rows: Sequence[Result | Failure]) -> Table:
    """One line for each measurement."""
    result = Table("measurement", "value", "target", "outcome", "made of")
    for row in rows:
        if isinstance(row, Failure):
            result.add_row(row.name, "-", "-", "[red]could not be made[/]", row.why.splitlines()[0])
            continue
        colour = "red" if row.outcome == "MISSED" else "green"
        runs = [
            f"{what} {' '.join(f'{value:.1f}' for value in values)} {row.runs_unit}"
            for what, values in row.runs.items()
        ]
        sizes = ", ".join(f"{count} {what}" for what, count in row.sizes.items())
        value = f"{row.value:.2f}" if row.unit == "x" else f"{row.value:.0f} {row.unit}"
        result.add_row(row.name, value, row.target, f"[{colour}]{row.outcome}[/]", "\n".join([*runs, sizes]))
    return result
