"""What a probe is, and what comes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verify.context import Context
    from verify.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one attempt saw."""

    ok: bool | None
    """None: the probe does not apply here; `observed` says why."""

    observed: str
    evidence: str = ""
    """Where it was decided: a line of a log, a counter, curl's own words."""

    proven: bool = False
    """Whether the evidence is the deciding party's own word on this very attempt, so that a denial needs no more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """One question to a live environment."""

    row: str
    """The row of ACCEPTANCE.md that it belongs to, for example T6."""

    scenario: str
    expected: str
    """What must come back, in words."""

    attempt: Callable[[Context], Outcome]
    """Asks once. A VerifyError of it counts as an answer that falls short."""

    workloads: tuple[Workload, ...] = ()
    """The probe pods that it asks for."""

    pair: Probe | None = None
    """For a denial: the same question from somebody who is let in, asked first. When that falls short, or the
    configuration has not arrived yet, a denial proves nothing."""


def numbered(probes: Iterable[Probe]) -> dict[str, Probe]:
    """The probes by their ids: the row, with a suffix a, b, c ... in the given order where it has several."""
    several = list(probes)
    size = Counter(probe.row for probe in several)
    seen: Counter[str] = Counter()
    ids: dict[str, Probe] = {}
    for probe in several:
        suffix = _letters(seen[probe.row]) if size[probe.row] > 1 else ""
        seen[probe.row] += 1
        ids[probe.row + suffix] = probe
    return ids


def _letters(index: int) -> str:
    """a ... z, aa, ab ..."""
    more, last = divmod(index, 26)
    return (_letters(more - 1) if more else "") + chr(ord("a") + last)
