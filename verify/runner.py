"""Running probes side by side, and what becomes of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from verify.context import Context
from verify.errors import VerifyError
from verify.probe import Outcome, Probe


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a probe is asked again: new configuration takes moments to reach every proxy."""

    tries: int = 5
    seconds: float = 30
    """Counted from the end of the first try, which may have waited for a pod."""

    pause: float = 1
    """Before the second try; doubled each time."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a probe."""

    id: str
    scenario: str
    ok: bool | None
    expected: str
    observed: str
    evidence: str
    tries: int
    seconds: float


def run(
    probes: Mapping[str, Probe],
    context: Context,
    *,
    report: Callable[[Result], None],
    patience: Patience | None = None,
    workers: int = 12,
) -> list[Result]:
    """Ask every probe, `workers` at a time, a denial after its pair; the results in the order of `probes`.

    `probes` has the pair of each probe too. `report` is called for each result as it comes. On an exception (Ctrl-C)
    what has not begun is given up, and what has begun is waited for, so that nothing is left running.
    """
    patience = patience or Patience()
    results: dict[Probe, Result] = {}
    waiting = dict(zip(probes.values(), probes, strict=True))
    running: dict[Future[tuple[Result, bool]], Probe] = {}
    with ThreadPoolExecutor(workers) as pool:
        try:
            while waiting or running:
                ready = [probe for probe in waiting if probe.pair is None or probe.pair in results]
                for probe in ready:
                    running[pool.submit(_ask, waiting.pop(probe), probe, context, patience)] = probe
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    probe = running.pop(future)
                    results[probe] = _paired(*future.result(), results.get(probe.pair) if probe.pair else None)
                    report(results[probe])
        except BaseException:
            context.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [results[probe] for probe in probes.values()]


def select(probes: Mapping[str, Probe], *, only: tuple[str, ...], scenario: str | None) -> dict[str, Probe]:
    """The probes with these ids or rows (all when empty) of this scenario, and the pairs that they need.

    Raises VerifyError for an id or a scenario that nothing has.
    """
    scenarios = sorted({probe.scenario for probe in probes.values()})
    if scenario is not None and scenario not in scenarios:
        raise VerifyError(
            f"this stack has no scenario '{scenario}' with probes; it has: {', '.join(scenarios) or 'none'}"
        )
    known = {*probes, *(probe.row for probe in probes.values())}
    if unknown := [name for name in only if name not in known]:
        raise VerifyError(f"this stack has no probe {', '.join(unknown)}; it has: {', '.join(probes) or 'none'}")
    chosen = {
        probe
        for name, probe in probes.items()
        if (not only or name in only or probe.row in only) and scenario in (None, probe.scenario)
    }
    pairs = {probe.pair for probe in chosen}
    return {name: probe for name, probe in probes.items() if probe in chosen or probe in pairs}


def _ask(name: str, probe: Probe, context: Context, patience: Patience) -> tuple[Result, bool]:
    """The result without regard to the pair, and whether it is proven."""
    start = time.monotonic()
    end = None
    pause = patience.pause
    tries = 0
    while True:
        tries += 1
        try:
            outcome = probe.attempt(context)
        except VerifyError as error:
            outcome = Outcome(ok=False, observed=str(error))
        now = time.monotonic()
        end = end or now + patience.seconds
        # `is False`: a probe that does not apply will not apply later either.
        again = outcome.ok is False and tries < patience.tries and now + pause < end
        if not again or context.stop.wait(pause):
            break
        pause *= 2
    return Result(
        id=name,
        scenario=probe.scenario,
        ok=outcome.ok,
        expected=probe.expected,
        observed=outcome.observed,
        evidence=outcome.evidence,
        tries=tries,
        seconds=round(time.monotonic() - start, 3),
    ), outcome.proven


def _paired(result: Result, proven: bool, pair: Result | None) -> Result:
    """A denial that is not proven by the party that denied counts only beside its pair's success."""
    if pair is None or pair.ok is True or proven or result.ok is not True:
        return result
    why = "fell short" if pair.ok is False else "does not apply"
    return replace(
        result, ok=pair.ok, observed=f"{result.observed}; but its pair {pair.id} {why}, so this proves nothing"
    )
