"""The signs of Bookinfo's steps: each tells its step from the one before."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from lab import signs
from lab.propagation import Sign
from settings import Settings, load
from settings.bookinfo import STEPS, Step
from tests.deployment import split
from tests.unit.bookinfo_fakes import CONTRACTS, Bookshop, Client
from tests.unit.verify_fakes import FakeShell, context, option, transfer
from verify.bookinfo_visit import OUTSIDE
from verify.shell import Completed

MADE_ANEW = ("no-mesh", "no-rules")
PAIRS = [(before, step) for before, step in itertools.pairwise(STEPS) if step not in MADE_ANEW]


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load({key.removeprefix("meshgate:"): value for key, value in split("dev")["dev-bookinfo"].items()})


class Waiting(Client):
    """Somebody on the internet whose curl gives up when it is told to."""

    def run(self, command: Sequence[str], timeout: float, stdin: str = "") -> Completed:
        done = super().run(command, timeout, stdin)
        limit = [float(after) for word, after in itertools.pairwise(command) if word == "--max-time"][-1]
        facts, _ = json.JSONDecoder().raw_decode(done.stdout, done.stdout.index('{"transfer"'))
        return done if facts["transfer"]["time_total"] < limit else transfer(command, exit_code=28, error="Timed out")


def sign(step: Step, at: Step, settings: Settings, directory: Path) -> Sign:
    """The sign of a step, asked of a Bookinfo that is at another one, or at the same."""
    shop = Bookshop(at)
    asked = context(directory, settings, kube=shop, client=cast(Any, Waiting(shop)), contracts=CONTRACTS)
    asked.pods.start([OUTSIDE])
    made = signs.sign(asked, step)
    assert made is not None
    return made


@pytest.mark.parametrize(("before", "step"), PAIRS)
def test_a_sign_tells_a_step_from_the_one_before(before: Step, step: Step, settings: Settings, tmp_path: Path) -> None:
    # Of a mixture a sample may be like the next step's, but not so many in a row.
    assert sign(step, before, settings, tmp_path).absent()
    shown = sign(step, step, settings, tmp_path)
    # The fake's breaker is open once.
    samples = [shown.sample() for _ in range(1 if step == "circuit-breaker" else shown.steady)]
    assert None not in samples


def test_every_step_has_a_sign_but_where_pods_are_made_anew() -> None:
    assert [step for step in STEPS if step not in signs.SIGNS] == list(MADE_ANEW)


def test_where_the_gateway_is_only_coming_there_is_no_sign(settings: Settings, tmp_path: Path) -> None:
    bookinfo = {**CONTRACTS["bookinfo"], "gateways": {}}
    assert signs.sign(context(tmp_path, settings, contracts={"bookinfo": bookinfo}), "all-v1") is None


def test_the_moment_is_that_of_the_question(settings: Settings, tmp_path: Path) -> None:
    """Not of the answer, which took 0.5 s; and nobody waits long for one."""
    client = FakeShell(lambda command: transfer(command, status=403, seconds=0.5))
    made = signs.sign(context(tmp_path, settings, client=client, contracts=CONTRACTS), "allow-nothing")
    assert made is not None
    before = time.monotonic()
    moment = made.sample()
    assert moment is not None
    assert before - 0.5 <= moment <= time.monotonic() - 0.5
    (command,) = client.commands
    assert command[-3:] == ["--max-time", "2", "http://10.0.0.11:30051/productpage#[1-1]"]
    assert (option(command, "--user-agent") or "").startswith("meshgate-verify/walk-")
