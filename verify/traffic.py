"""Many requests, and how far their counts may be from the expected by chance alone."""

from __future__ import annotations

import json
import math
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from verify.curl import TIMEOUT, Request
from verify.errors import VerifyError
from verify.shell import Completed, Shell

CONFIDENCE = 0.999
"""Of the intervals: one right count in a thousand lies outside."""

RUN_SECONDS = 60
"""What a lane's requests may take together."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back for one of many requests."""

    status: int
    """HTTP status code; 0 when there was no response."""

    seconds: float
    """From the begin of the request to the end of the answer."""

    body: str
    error: str
    """curl's words when there was no whole response."""

    def __str__(self) -> str:
        said = self.error or " ".join(self.body.split())[:80]
        return f"{self.status} {said}".rstrip()


def send(shell: Shell, request: Request, count: int, lanes: int = 1) -> list[Reply]:
    """Send `request` `count` times, in lanes side by side; in a lane one after the other by a connection of its own.

    A lane is one curl. Raises VerifyError when curl itself cannot be run.
    """
    shares = [len(range(lane, count, lanes)) for lane in range(min(lanes, count))]
    with ThreadPoolExecutor(len(shares)) as pool:
        replies = pool.map(lambda share: _lane(shell, request, share), shares)
        return [reply for lane in replies for reply in lane]


def _lane(shell: Shell, request: Request, count: int) -> list[Reply]:
    separator = f"\n{secrets.token_hex(16)}\n"
    # curl counts in the fragment, which it does not send: the requests are all the same.
    command = replace(request, url=f"{request.url}#[1-{count}]").command(separator)
    replies = parse(shell.run(command, max(RUN_SECONDS, TIMEOUT + 5), request.stdin), separator)
    if len(replies) != count:
        raise VerifyError(f"client '{shell.name}': curl made {len(replies)} of {count} requests")
    return replies


def parse(completed: Completed, separator: str) -> list[Reply]:
    """Read the output of a curl that made several transfers, the facts about each after `separator` and its body."""
    body, *rest = completed.stdout.split(separator)
    replies = []
    for text in rest:
        facts, end = json.JSONDecoder().raw_decode(text)
        replies.append(_reply(facts["transfer"], body))
        body = text[end:]
    if not replies:
        said = completed.stderr.strip().splitlines() or ["nothing on stderr"]
        raise VerifyError(f"curl made no transfer (exit {completed.exit_code}): {said[-1]}")
    return replies


def _reply(transfer: dict[str, Any], body: str) -> Reply:
    return Reply(
        status=transfer["response_code"],
        seconds=transfer["time_total"],
        body=body,
        error=transfer["errormsg"] or "",
    )


@dataclass(frozen=True)
class Interval:
    """Counts between which the right one lies, both included."""

    low: int
    high: int

    def __contains__(self, count: int) -> bool:
        return self.low <= count <= self.high

    def __str__(self) -> str:
        return f"{self.low} to {self.high}"


def binomial_interval(requests: int, probability: float, confidence: float = CONFIDENCE) -> Interval:
    """The counts that are to be expected of so many independent requests, each of which counts with `probability`.

    Exact and two-sided: the count lies below it, and above it, with at most half of what `confidence` leaves.
    """
    tail = (1 - confidence) / 2
    chances = [
        math.comb(requests, count) * probability**count * (1 - probability) ** (requests - count)
        for count in range(requests + 1)
    ]
    return Interval(_beyond(chances, tail), requests - _beyond(chances[::-1], tail))


def _beyond(chances: list[float], tail: float) -> int:
    """The most outcomes from the first on that together are no likelier than `tail`."""
    together = 0.0
    for number, chance in enumerate(chances):
        together += chance
        if together > tail:
            return number
    return len(chances)
