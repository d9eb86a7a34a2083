"""The probes of the scenario rate-limit against proxies and a service that count, each breakable."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.rate_limit.limits import METHOD
from settings import Settings, load
from settings.rate_limit import SECONDS, Limit
from tests.unit.test_verify_pods import Cluster
from tests.unit.verify_fakes import context, impatient, log_line, option, transfer
from verify import rate_limit, scenarios
from verify.probe import Outcome, Probe
from verify.shell import Completed
from verify.traffic import Reply

LOCAL = [
    {"path": "/anything/local", "requestsPerUnit": 3, "unit": "second"},
    {"path": "/anything/local-client", "header": "x-client", "requestsPerUnit": 4, "unit": "minute"},
]
GLOBAL = [
    {"path": "/anything/global-client", "header": "x-client", "requestsPerUnit": 6, "unit": "minute"},
    {"path": "/anything/global", "requestsPerUnit": 5, "unit": "second"},
]
UNLIMITED, LOCAL_SECOND, LOCAL_VALUE, GLOBAL_VALUE, GLOBAL_SECOND, STRANGER, REDIS = (f"B7{it}" for it in "abcdefg")
LIMITED = {LOCAL_SECOND, LOCAL_VALUE, GLOBAL_VALUE, GLOBAL_SECOND}
REPLICAS = ("10.1.1.7:8080", "10.1.2.7:8080")
CALLER = "spiffe://cluster.local/ns/{namespace}/sa/caller"
APPLICATION = "spiffe://cluster.local/ns/rate-limit/sa/httpbin"
PER_REQUEST = 0.002
"""Seconds that one takes."""


class Clock(threading.Event):
    """Time goes on only by requests and by waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.5

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.001
        return False


class Limiting(Cluster):
    """Two replicas behind proxies with limits, the service and Redis. `broken` names what they do not do."""

    def __init__(self, clock: Clock, broken: str) -> None:
        super().__init__()
        self.clock = clock
        self.broken = broken
        self.limits = {limit["path"]: (Limit.model_validate(limit), kind) for kind, several in
                       (("local", LOCAL), ("global", GLOBAL)) for limit in several}  # fmt: skip
        self.counts: Counter[tuple[object, ...]] = Counter()
        self.buckets: dict[tuple[object, ...], tuple[float, float]] = {}
        """Tokens, and when they were counted."""
        self.turn = 0

    def run(
        self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float, stdin: str = ""
    ) -> Completed:
        found = re.fullmatch(
            r"http://(\w+)\.rate-limit\.svc\.cluster\.local(?::(\d+))?(/[^#]*)(?:#\[1-(\d+)\])?", command[-1]
        )
        assert found is not None
        service, port, path, count = found.groups()
        if service == "httpbin":
            assert port is None
            answers = [self._answered(path, command) for _ in range(int(count))]
            return Completed(0, "".join(self._transfer(command, status) for status in answers), "")
        if service == "redis":
            assert (pod, port, path) == ("outsider", "6379", "/")
            assert option(command, "--connect-timeout") == "2"
            return (
                transfer(command, status=200)
                if self.broken == "Redis is for anybody"
                else transfer(command, exit_code=28)
            )
        assert (service, port, pod) == ("ratelimit", "8081", "caller")
        return self._stranger(namespace, path, command)

    def _transfer(self, command: Sequence[str], status: int) -> str:
        text = transfer(command, status=status).stdout
        return text.replace('"errormsg"', f'"time_total": {PER_REQUEST}, "errormsg"')

    def _answered(self, path: str, command: Sequence[str]) -> int:
        self.clock.now += PER_REQUEST
        self.turn += 1
        replica = REPLICAS[0 if self.broken == "one replica" else self.turn % 2]
        header = option(command, "--header")
        assert header is None or header.startswith("x-client: ")
        limit, kind = self.limits.get(path, (None, "local" if self.broken == "other paths are limited" else ""))
        if path == "/get" and not kind:
            return self._log(command, replica, 200)
        limit = limit or self.limits["/anything/local"][0]
        if self.broken == "the application refuses":
            return self._log(command, replica, 429)
        value = None if self.broken == "values are counted together" else header
        if kind == "local":
            shared = self.broken == "replicas share their bucket"
            passes = self.broken == "no local limits" or self._token(limit, (path, value, None if shared else replica))
            return (
                self._log(command, replica, 200) if passes else self._log(command, replica, 429, "local_rate_limited")
            )
        if self.broken == "the service is gone":
            return self._log(command, replica, 500, "rate_limiter_error", "RLSE")
        if self.broken == "the service is gone, and nobody minds":
            return self._log(command, replica, 200)
        if self.broken != "nobody asks the service":
            peer = "-" if self.broken == "plaintext to the service" else APPLICATION
            self._service(peer=peer, response_code="200", response_code_details="via_upstream")
        key = (path, value, replica if self.broken == "the service counts each replica" else None,
               0 if self.broken == "never again" else int(self.clock.now / SECONDS[limit.unit]))  # fmt: skip
        self.counts[key] += 1
        if self.counts[key] <= limit.requests_per_unit:
            return self._log(command, replica, 200)
        return self._log(command, replica, 429, "request_rate_limited")

    def _token(self, limit: Limit, key: tuple[object, ...]) -> bool:
        most = limit.requests_per_unit
        tokens, then = self.buckets.get(key, (float(most), self.clock.now))
        if self.broken != "never again":
            tokens = min(most, tokens + (self.clock.now - then) * most / SECONDS[limit.unit])
        self.buckets[key] = (tokens - 1 if tokens >= 1 else tokens, self.clock.now)
        return tokens >= 1

    def _log(
        self, command: Sequence[str], replica: str, status: int, details: str = "via_upstream", flags: str = "RL"
    ) -> int:
        if self.broken != "no log" or self.turn % 7:
            self.lines.setdefault("httpbin", []).append(
                log_line(
                    user_agent=option(command, "--user-agent") or "",
                    downstream_local_address=replica,
                    response_code=str(status),
                    response_flags="-" if details == "via_upstream" else flags,
                    response_code_details=details,
                )
            )
        return status

    def _service(self, **operators: str) -> None:
        line = log_line(**operators)
        path = "/" if self.broken == "no decisions asked" else METHOD
        self.lines.setdefault("ratelimit", []).append(line.replace('"- - -"', f'"POST {path} HTTP/2"', 1))

    def _stranger(self, namespace: str, path: str, command: Sequence[str]) -> Completed:
        assert path == METHOD
        assert option(command, "--json") == "{}"
        peer = "-" if self.broken == "a stranger without identity" else CALLER.format(namespace=namespace)
        said = {"user_agent": option(command, "--user-agent") or "", "peer": peer}
        if self.broken == "the service is for anybody":
            self._service(**said, response_code="415", response_code_details="via_upstream")
            return transfer(command, status=415)
        if self.broken != "refused elsewhere":
            self._service(**said, response_code="403", response_code_details="rbac_access_denied_matched_policy[none]")
        return transfer(command, status=403)


def configured(local: list[dict[str, Any]]) -> Settings:
    config = {
        "name": "lab",
        "layers": ["rate_limit"],
        "upstream": {"cluster": "base", "mesh": "base"},
        "rate_limit": {"localLimits": local, "globalLimits": GLOBAL},
    }
    return load(config)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return configured(LOCAL)


def probes(settings: Settings) -> dict[str, Probe]:
    return scenarios.probes(settings)


def outcomes(
    settings: Settings, directory: Path, monkeypatch: pytest.MonkeyPatch, broken: str = ""
) -> dict[str, Outcome]:
    impatient(monkeypatch)
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    kube = Limiting(clock, broken)
    asked = context(directory, settings, kube=kube, contracts={"mesh": {"trust_domain": "cluster.local"}})
    asked = replace(asked, stop=clock)
    seen = {}
    for name, probe in probes(settings).items():
        # Only what the probe says it needs is there.
        asked.pods.start(probe.workloads)
        seen[name] = probe.attempt(asked)
        # A window is over before the next one.
        clock.now += 60
    return seen


@pytest.mark.parametrize(
    ("broken", "short"),
    [
        ("", set()),
        ("other paths are limited", {UNLIMITED}),
        ("no local limits", {LOCAL_SECOND, LOCAL_VALUE}),
        ("replicas share their bucket", {LOCAL_SECOND, LOCAL_VALUE}),
        ("values are counted together", {LOCAL_VALUE, GLOBAL_VALUE}),
        ("never again", {LOCAL_SECOND, GLOBAL_SECOND}),
        ("the application refuses", LIMITED),
        ("one replica", LIMITED),
        ("no log", LIMITED | {UNLIMITED}),
        ("the service counts each replica", {GLOBAL_VALUE, GLOBAL_SECOND}),
        ("the service is gone", {GLOBAL_VALUE, GLOBAL_SECOND}),
        ("the service is gone, and nobody minds", {GLOBAL_VALUE, GLOBAL_SECOND}),
        ("nobody asks the service", {GLOBAL_VALUE, GLOBAL_SECOND}),
        ("no decisions asked", {GLOBAL_VALUE, GLOBAL_SECOND}),
        ("plaintext to the service", {GLOBAL_VALUE, GLOBAL_SECOND}),
        ("the service is for anybody", {STRANGER}),
        ("refused elsewhere", {STRANGER}),
        ("a stranger without identity", {STRANGER}),
        ("Redis is for anybody", {REDIS}),
    ],
)
def test_what_is_broken_falls_short_and_nothing_else(
    broken: str, short: set[str], settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = outcomes(settings, tmp_path, monkeypatch, broken)
    assert {name for name, outcome in seen.items() if outcome.ok is not True} == short


def test_the_evidence_is_of_whoever_decided(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = outcomes(settings, tmp_path, monkeypatch)
    for name, words in {
        UNLIMITED: ("40 x 200 - via_upstream",),
        LOCAL_VALUE: (
            "sidecar of 10.1.1.7:8080: 4 x 200 - via_upstream, 26 x 429 RL local_rate_limited",
            "sidecar of 10.1.2.7:8080: 4 x 200 - via_upstream, 26 x 429 RL local_rate_limited",
        ),
        GLOBAL_VALUE: (
            "sidecar of 10.1.1.7:8080: 3 x 200 - via_upstream, 37 x 429 RL request_rate_limited",
            "sidecar of 10.1.2.7:8080: 3 x 200 - via_upstream, 37 x 429 RL request_rate_limited",
            f"POST {METHOD} HTTP/2",
            APPLICATION,
        ),
        STRANGER: ("rbac_access_denied", "/sa/caller"),
    }.items():
        for word in words:
            assert word in seen[name].evidence, name
    assert seen[GLOBAL_SECOND].observed == "5 x 200, 65 x 429 in 0.1 s"
    assert seen[GLOBAL_VALUE].observed == "6 x 200, 74 x 429 in 0.2 s"


def test_denials_have_their_success(settings: Settings) -> None:
    found = probes(settings)
    names = {probe: name for name, probe in found.items()}
    assert {name: names[probe.pair] for name, probe in found.items() if probe.pair} == {
        STRANGER: GLOBAL_VALUE,
        REDIS: GLOBAL_VALUE,
    }


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (
            {"path": "/anything/x", "requestsPerUnit": 3, "unit": "minute"},
            "all clients together may ask in this minute",
        ),
        ({"path": "/anything/x", "requestsPerUnit": 101, "unit": "second"}, "more than 100 requests"),
    ],
)
def test_a_limit_that_others_would_feel_is_left_alone(
    limit: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = outcomes(configured([limit]), tmp_path, monkeypatch)["B7b"]
    assert outcome.ok is None
    assert words in outcome.observed


@pytest.mark.parametrize(
    ("unit", "seconds", "bucket", "windows"),
    [
        ("second", 0.4, (10, 14), (10, 20)),
        ("second", 1.2, (10, 22), (10, 30)),
        ("minute", 0.4, (10, 10), (10, 10)),
        ("minute", 7.0, (10, 11), (10, 10)),
    ],
)
def test_how_many_may_pass(unit: str, seconds: float, bucket: tuple[int, int], windows: tuple[int, int]) -> None:
    """A proxy's bucket fills all the time; the service's windows are the clock's."""
    limit = Limit.model_validate({"path": "/anything/x", "requestsPerUnit": 10, "unit": unit})
    assert rate_limit._of_bucket(limit, seconds) == bucket
    assert rate_limit._of_windows(limit, seconds) == windows


@pytest.mark.parametrize(
    ("rows", "right"),
    [
        ([5, -20], True),
        ([5, -20, 5, -10], True),
        # A window ended after three requests; the requests ended.
        ([8, -20], True),
        ([5, -20, 2], True),
        # Two counts: all of both at once, or one's last ones after the other's first refusal.
        ([10, -20], False),
        ([7, -2, 3, -20], False),
        ([4, -20], False),
        ([5, -20, 10], False),
    ],
)
def test_a_window_lets_through_as_many_in_a_row(rows: list[int], right: bool) -> None:
    assert rate_limit._in_windows(*_burst(rows, PER_REQUEST)) is right


@pytest.mark.parametrize(("seconds", "right"), [(0.08, False), (0.15, True)])
def test_slow_requests_pass_through_several_windows(seconds: float, right: bool) -> None:
    """Twelve in a row: in a second they meet two windows, in two seconds three."""
    assert rate_limit._in_windows(*_burst([5, -3, 12, -3], seconds)) is right


def _burst(rows: list[int], seconds: float) -> tuple[Limit, list[Reply]]:
    """So many let through, so many (below 0) refused, and so on."""
    limit = Limit.model_validate({"path": "/anything/x", "requestsPerUnit": 5, "unit": "second"})
    statuses = [200 if row > 0 else 429 for row in rows for _ in range(abs(row))]
    return limit, [Reply(status=status, seconds=seconds, body="", error="") for status in statuses]
