"""Tries, pairs and selection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from settings import load
from tests.unit.verify_fakes import context
from verify.context import Context
from verify.errors import VerifyError
from verify.probe import Outcome, Probe, numbered
from verify.runner import Patience, Result, run, select

GOOD = Outcome(ok=True, observed="200", evidence="a line")
BAD = Outcome(ok=False, observed="503")
PATIENCE = Patience(tries=3, seconds=5, pause=0.01)


@pytest.fixture
def here(dev_config: dict[str, Any], tmp_path: Path) -> Context:
    return context(tmp_path, load(dev_config))


def _probe(*outcomes: Outcome | Exception, row: str = "X1", pair: Probe | None = None) -> Probe:
    """A probe that gives these outcomes one after the other, the last one for ever."""
    left = list(outcomes)

    def attempt(context: Context) -> Outcome:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Probe(row=row, scenario="test", expected="200", attempt=attempt, pair=pair)


def _run(context: Context, *probes: Probe, patience: Patience = PATIENCE) -> dict[str, Result]:
    return {
        result.id: result for result in run(numbered(probes), context, report=lambda result: None, patience=patience)
    }


def test_ids_have_suffixes_where_a_row_has_several_probes() -> None:
    many = [_probe(GOOD, row="X2") for _ in range(28)]
    ids = list(numbered([_probe(GOOD), *many]))
    assert ids[:3] == ["X1", "X2a", "X2b"]
    assert ids[-3:] == ["X2z", "X2aa", "X2ab"]


def test_a_probe_that_succeeds_is_asked_once(here: Context) -> None:
    result = _run(here, _probe(GOOD))["X1"]
    assert (result.ok, result.tries, result.observed, result.evidence) == (True, 1, "200", "a line")


def test_a_probe_is_asked_again_while_configuration_may_be_on_its_way(here: Context) -> None:
    result = _run(here, _probe(BAD, VerifyError("pod is gone"), GOOD))["X1"]
    assert (result.ok, result.tries) == (True, 3)


def test_tries_are_bounded_in_number(here: Context) -> None:
    result = _run(here, _probe(BAD))["X1"]
    assert (result.ok, result.tries, result.observed) == (False, 3, "503")


def test_tries_are_bounded_in_time(here: Context) -> None:
    start = time.monotonic()
    result = _run(here, _probe(BAD), patience=Patience(tries=100, seconds=0.2, pause=0.05))["X1"]
    assert time.monotonic() - start < 2
    assert 1 < result.tries < 10


def test_what_does_not_apply_is_not_asked_again(here: Context) -> None:
    result = _run(here, _probe(Outcome(ok=None, observed="no such thing here")))["X1"]
    assert (result.ok, result.tries) == (None, 1)


def test_an_error_is_an_answer_that_falls_short(here: Context) -> None:
    result = _run(here, _probe(VerifyError("no curl there")))["X1"]
    assert (result.ok, result.observed) == (False, "no curl there")


def test_a_denial_counts_when_its_pair_succeeds(here: Context) -> None:
    success = _probe(BAD, GOOD)
    denial = _probe(GOOD, row="X2", pair=success)
    # In this order too: the pair is asked first.
    assert _run(here, denial, success)["X2"].ok is True


def test_a_denial_without_its_pairs_success_proves_nothing(here: Context) -> None:
    success = _probe(BAD)
    result = _run(here, success, _probe(GOOD, row="X2", pair=success))["X2"]
    assert result.ok is False
    assert result.observed == "200; but its pair X1 fell short, so this proves nothing"


def test_a_denial_whose_pair_does_not_apply_does_not_apply(here: Context) -> None:
    success = _probe(Outcome(ok=None, observed="no client"))
    assert _run(here, success, _probe(GOOD, row="X2", pair=success))["X2"].ok is None


def test_a_proven_denial_needs_no_success(here: Context) -> None:
    success = _probe(BAD)
    proven = replace(GOOD, proven=True)
    assert _run(here, success, _probe(proven, row="X2", pair=success))["X2"].ok is True


def test_a_denial_that_falls_short_says_only_why_itself(here: Context) -> None:
    success = _probe(BAD)
    assert _run(here, success, _probe(BAD, row="X2", pair=success))["X2"].observed == "503"


def test_probes_run_side_by_side_and_are_reported_as_they_end(here: Context) -> None:
    both = threading.Barrier(2, timeout=5)

    def attempt(context: Context) -> Outcome:
        both.wait()
        return GOOD

    probes = [replace(_probe(GOOD), attempt=attempt) for _ in range(2)]
    reported: list[str] = []
    results = run(numbered(probes), here, report=lambda result: reported.append(result.id))
    assert [result.id for result in results] == ["X1a", "X1b"]
    assert sorted(reported) == ["X1a", "X1b"]


def test_an_interrupt_gives_up_what_waits(here: Context) -> None:
    def interrupt(result: Result) -> None:
        raise KeyboardInterrupt

    slow = _probe(BAD, row="X2")
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(
            numbered([_probe(GOOD), slow]),
            here,
            report=interrupt,
            patience=Patience(tries=100, seconds=600, pause=60),
        )
    assert time.monotonic() - start < 5
    assert here.stop.is_set()


@pytest.fixture
def known() -> dict[str, Probe]:
    success = _probe(GOOD, row="X2")
    denial = _probe(GOOD, row="X2", pair=success)
    other = replace(_probe(GOOD, row="Y1"), scenario="other")
    return numbered([_probe(GOOD), success, denial, other])


@pytest.mark.parametrize(
    ("choose", "chosen"),
    [
        (lambda known: select(known, only=(), scenario=None), ["X1", "X2a", "X2b", "Y1"]),
        (lambda known: select(known, only=("X1", "Y1"), scenario=None), ["X1", "Y1"]),
        (lambda known: select(known, only=("X2",), scenario=None), ["X2a", "X2b"]),
        (lambda known: select(known, only=("X2b",), scenario=None), ["X2a", "X2b"]),
        (lambda known: select(known, only=("X2a",), scenario=None), ["X2a"]),
        (lambda known: select(known, only=(), scenario="other"), ["Y1"]),
    ],
)
def test_selection(
    known: dict[str, Probe], choose: Callable[[dict[str, Probe]], dict[str, Probe]], chosen: list[str]
) -> None:
    assert list(choose(known)) == chosen


def test_unknown_selections_are_errors(known: dict[str, Probe]) -> None:
    with pytest.raises(VerifyError, match="no probe X9; it has: X1, X2a, X2b, Y1"):
        select(known, only=("X1", "X9"), scenario=None)
    with pytest.raises(VerifyError, match="no scenario 'edge' with probes; it has: other, test"):
        select(known, only=(), scenario="edge")
