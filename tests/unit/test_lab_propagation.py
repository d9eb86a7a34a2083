"""How the arrival of a change is measured: signs, writes, and what is said when there is nothing to see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from lab import propagation
from lab.propagation import LIMIT, PAUSE, Observation, Propagation, Sign, Writes
from verify.errors import VerifyError


class Clock:
    """Time that passes only when somebody sleeps, or asks (`cost` seconds each)."""

    def __init__(self, cost: float = 0) -> None:
        self.now = 100.0
        self.cost = cost

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def sign(clock: Clock, shown: Callable[[float], bool], steady: int = 3) -> Sign:
    """One that shows what is so at a time."""

    def seen() -> float | None:
        then = clock.now
        clock.now += clock.cost
        return then if shown(then) else None

    return Sign(what="stars", seen=seen, steady=steady)


def event(namespace: str = "bookinfo", uid: str = "u", version: str = "2") -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "uid": uid, "resourceVersion": version}}


def test_the_first_of_the_samples_that_stay_new_counts() -> None:
    clock = Clock()
    # New for a moment, as one of several proxies has it; steadily from 101.5 on.
    arrived = sign(clock, lambda now: 100.95 < now < 101.15 or now > 101.45)
    assert arrived.arrival(lambda: True, clock=clock, sleep=clock.sleep) == pytest.approx(101.5)


def test_it_goes_on_until_everything_is_written() -> None:
    clock = Clock()
    arrived = sign(clock, lambda now: now < 100.5 or now > 104.95)
    assert arrived.arrival(lambda: clock.now > 103, clock=clock, sleep=clock.sleep) == pytest.approx(105)


def test_a_change_that_never_comes_ends_at_the_limit() -> None:
    clock = Clock(cost=0.5)
    never = sign(clock, lambda now: False)
    assert never.arrival(lambda: clock.now > 110, clock=clock, sleep=clock.sleep) is None
    assert 110 + LIMIT < clock.now < 110 + LIMIT + 2


def test_a_change_that_comes_and_goes_is_not_steady() -> None:
    clock = Clock()
    flapping: Iterator[bool] = iter([True, True, False] * 1000)
    assert sign(clock, lambda now: next(flapping)).arrival(lambda: True, clock=clock, sleep=clock.sleep) is None


def test_samples_are_a_pause_apart_however_long_one_takes() -> None:
    clock = Clock(cost=0.04)
    begun: list[float] = []

    def shown(now: float) -> bool:
        begun.append(now)
        return len(begun) > 5

    sign(clock, shown).arrival(lambda: True, clock=clock, sleep=clock.sleep)
    assert [after - before for before, after in pairwise(begun)] == pytest.approx([PAUSE] * 7)


def test_who_cannot_be_asked_has_not_changed() -> None:
    def broken() -> float | None:
        raise VerifyError("no answer")

    assert Sign(what="stars", seen=broken, steady=3).absent()


def test_of_a_mixture_any_sample_may_show_the_old_behaviour() -> None:
    clock = Clock()
    answers = iter([True, True, False])
    assert sign(clock, lambda now: next(answers)).absent()
    assert not sign(clock, lambda now: True).absent()


def test_only_new_writes_in_these_namespaces_count() -> None:
    watched = Writes({"bookinfo", "bookinfo-ingress"})
    watched.tell("MODIFIED", event("elsewhere"))
    assert watched.last is None
    watched.tell("ADDED", event(version="7"))
    first = watched.last
    assert first is not None
    # A watch that begins anew.
    watched.forget()
    watched.tell("ADDED", event(version="7"))
    assert watched.last is None
    watched.tell("MODIFIED", event("bookinfo-ingress", "other"))
    assert watched.last is not None
    assert watched.last >= first
    watched.forget()
    watched.tell("DELETED", event(version="7"))
    assert watched.last is not None


class FakeWrites(Writes):
    """Objects that are written at these times, of a clock that only sampling moves."""

    def __init__(self, last: float | None) -> None:
        self._moment = last

    def forget(self) -> None:
        pass

    @property
    def last(self) -> float | None:
        return self._moment

    def await_first(self, ended: Callable[[], bool]) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    arrival = Sign.arrival
    monkeypatch.setattr(
        Sign, "arrival", lambda self, ended: arrival(self, ended, clock=made, sleep=made.sleep), raising=True
    )
    return made


def test_propagation_is_from_the_last_write_on(clock: Clock) -> None:
    changed = sign(clock, lambda now: now > 101.05)
    assert Observation(changed, FakeWrites(100.4)).follow(lambda: True) == Propagation(seconds=0.7, seen="stars")


def test_what_is_seen_before_the_last_write_took_no_time(clock: Clock) -> None:
    changed = sign(clock, lambda now: now > 101.05)
    assert Observation(changed, FakeWrites(103)).follow(lambda: True) == Propagation(seconds=0, seen="stars")


@pytest.mark.parametrize(
    ("shown", "last", "said", "arrived"),
    [
        (None, 100.0, "pods are made anew", True),
        (True, 100.0, "nothing to see, as before: stars", True),
        (False, None, "no Istio object was written", True),
        (False, 100.0, f"not within {LIMIT:g} s: stars", False),
    ],
)
def test_without_a_propagation_it_says_why(
    clock: Clock, shown: bool | None, last: float | None, said: str, arrived: bool
) -> None:
    asked = None if shown is None else sign(clock, lambda now: bool(shown))
    observation = Observation(asked, FakeWrites(last))
    assert observation.follow(lambda: True) == Propagation(seconds=None, seen=said, arrived=arrived)


def test_nobody_waits_for_a_write_longer_than_for_its_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propagation, "PAUSE", 0.01)
    ends = iter([False, False, True])
    Writes({}).await_first(lambda: next(ends))
    assert next(ends, None) is None
