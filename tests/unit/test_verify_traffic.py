"""Many requests by few curls, and the intervals in which counts must be."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from tests.unit.verify_fakes import FakeShell, transfer
from verify import traffic
from verify.curl import Request
from verify.errors import VerifyError
from verify.shell import Completed
from verify.traffic import binomial_interval

REQUEST = Request(url="http://shop.example/page", user_agent="me")


def _answer(command: Sequence[str]) -> Completed:
    """As many answers as the URL says."""
    count = int(command[-1].partition("#[1-")[2].rstrip("]"))
    parts = [transfer(command, status=200 + number, body=f"<{number}>\n", seconds=number) for number in range(count)]
    return Completed(0, "".join(part.stdout for part in parts), "")


def test_lanes_share_the_requests() -> None:
    shell = FakeShell(_answer)
    replies = traffic.send(shell, REQUEST, 10, lanes=4)
    assert sorted(command[-1] for command in shell.commands) == [
        *["http://shop.example/page#[1-2]"] * 2,
        *["http://shop.example/page#[1-3]"] * 2,
    ]
    assert [(reply.status, reply.body, reply.seconds) for reply in replies[:3]] == [
        (200, "<0>\n", 0),
        (201, "<1>\n", 1),
        (202, "<2>\n", 2),
    ]
    assert len(replies) == 10


def test_no_more_lanes_than_requests() -> None:
    shell = FakeShell(_answer)
    assert len(traffic.send(shell, REQUEST, 2, lanes=8)) == 2
    assert len(shell.commands) == 2


def test_a_failed_request_is_a_reply() -> None:
    shell = FakeShell(lambda command: transfer(command, exit_code=56, error="Recv failure: Connection reset by peer"))
    (reply,) = traffic.send(shell, REQUEST, 1)
    assert (reply.status, reply.error) == (0, "Recv failure: Connection reset by peer")


def test_requests_that_were_not_made_are_told() -> None:
    shell = FakeShell(lambda command: transfer(command))
    with pytest.raises(VerifyError, match="curl made 1 of 5 requests"):
        traffic.send(shell, REQUEST, 5)


def test_a_curl_that_does_not_run_is_told() -> None:
    shell = FakeShell(lambda command: Completed(2, "", "curl: option --json: is unknown\n"))
    with pytest.raises(VerifyError, match=r"curl made no transfer \(exit 2\): curl: option --json: is unknown"):
        traffic.send(shell, REQUEST, 5)


@pytest.mark.parametrize(
    ("requests", "probability", "low", "high"),
    # R: qbinom(c(.0005, .9995), n, p)
    [(400, 0.5, 167, 233), (400, 0.1, 22, 61), (400, 0.9, 339, 378), (100, 0.5, 34, 66), (100, 0.5**11, 0, 2)],
)
def test_intervals(requests: int, probability: float, low: int, high: int) -> None:
    interval = binomial_interval(requests, probability)
    assert (interval.low, interval.high) == (low, high)
    assert low in interval
    assert high in interval
    assert low - 1 not in interval
    assert high + 1 not in interval


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.37, 0.5, 0.9])
def test_each_tail_is_rare_and_could_not_be_larger(probability: float) -> None:
    requests = 250

    def chance(counts: range) -> float:
        return sum(
            math.comb(requests, count) * probability**count * (1 - probability) ** (requests - count)
            for count in counts
        )

    interval = binomial_interval(requests, probability)
    assert chance(range(interval.low)) <= 0.0005 < chance(range(interval.low + 1))
    assert chance(range(interval.high + 1, requests + 1)) <= 0.0005 < chance(range(interval.high, requests + 1))


@pytest.mark.parametrize(("probability", "low", "high"), [(0, 0, 0), (1, 20, 20)])
def test_certainty_has_no_width(probability: float, low: int, high: int) -> None:
    interval = binomial_interval(20, probability)
    assert (interval.low, interval.high) == (low, high)
