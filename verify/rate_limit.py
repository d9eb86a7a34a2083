"""Scenario `rate-limit`: limits that each proxy counts and limits that a service counts, row B7."""

from __future__ import annotations

import math
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from components.rate_limit import redis
from components.rate_limit.limits import APPLICATION, GRPC_PORT, METHOD, REDIS, REPLICAS, SERVICE
from settings import Settings
from settings.rate_limit import SECONDS, Limit, RateLimitSettings
from verify import curl, traffic
from verify.context import Context, user_agent
from verify.counters import ingress
from verify.curl import UNREACHED_SECONDS, Request
from verify.exchange import differs, judged
from verify.logs import VIA_UPSTREAM, AccessLogLine
from verify.mesh import CALLER, OUTSIDER
from verify.probe import Outcome, Probe
from verify.straight import stopped_by_policy
from verify.tenants import identity
from verify.traffic import Reply

SCENARIO = "rate-limit"
ROW = "B7"

LOCALLY, GLOBALLY = "local_rate_limited", "request_rate_limited"
"""What a proxy says of a request that it refused by itself, and of one that the service had it refuse."""

FLAG = "RL"
ALLOWED, REFUSED = 200, 429

MOST = 100
"""Requests in a unit: to go beyond more of them takes too long."""

UNLIMITED = "/get"
"""A path of the application that no limit can be for."""

PAUSE = 0.2
"""Seconds that clocks may differ by."""


def probes(settings: Settings) -> Iterator[Probe]:
    """Each limit; a path without one; and who gets to the service and to Redis."""
    limits = settings.rate_limit
    assert limits is not None
    yield Probe(
        row=ROW,
        scenario=SCENARIO,
        expected="requests to a path without a limit, more than any limit lets through: all 200",
        attempt=partial(_unlimited, limits),
        workloads=(CALLER,),
    )
    for limit in limits.local_limits:
        yield _limited(limits, limit, each=True)
    together = [_limited(limits, limit, each=False) for limit in limits.global_limits]
    yield from together
    yield Probe(
        row=ROW,
        scenario=SCENARIO,
        expected="the rate-limit service, asked by another identity than the application's: 403 of its own sidecar",
        attempt=partial(_stranger, limits),
        workloads=(CALLER,),
        pair=together[0],
    )
    yield Probe(
        row=ROW,
        scenario=SCENARIO,
        expected="Redis, asked by another pod than the rate-limit service's: no connection",
        attempt=partial(_at_redis, limits),
        workloads=(OUTSIDER,),
        pair=together[0],
    )


def _limited(limits: RateLimitSettings, limit: Limit, *, each: bool) -> Probe:
    """`each`: whether every proxy counts for itself."""
    whose = f"each of {REPLICAS} replicas" if each else f"{REPLICAS} replicas together"
    value = f"; another value of {limit.header} 200" if limit.header else ""
    back = f"; a {limit.unit} later 200" if limit.unit == "second" else ""
    return Probe(
        row=ROW,
        scenario=SCENARIO,
        expected=f"{limit.path}, {limit.requests_per_unit} requests a {limit.unit} of {whose}: so many 200, then 429 "
        f"({LOCALLY if each else GLOBALLY}){value}{back}",
        attempt=partial(_beyond, limits, limit, each),
        workloads=(CALLER,),
    )


def _host(limits: RateLimitSettings, service: str) -> str:
    return f"{service}.{limits.namespace}.svc.cluster.local"


def _requests(limit: Limit) -> int:
    """Enough for several windows, and for each replica to get more than it may let through."""
    return 10 * min(limit.requests_per_unit, MOST) + 20


@dataclass(frozen=True, kw_only=True)
class Replica:
    """What one of the application's sidecars says of a burst of requests."""

    address: str
    answered: Counter[tuple[str, str, str]]
    """How many, by status, response flags and details."""

    @property
    def allowed(self) -> int:
        """Those that its application answered."""
        return self.answered[str(ALLOWED), "-", VIA_UPSTREAM]

    @property
    def asked(self) -> int:
        """All of them."""
        return self.answered.total()

    def __str__(self) -> str:
        return f"sidecar of {self.address}: " + ", ".join(
            f"{count} x {' '.join(said)}" for said, count in sorted(self.answered.items())
        )


def _beyond(limits: RateLimitSettings, limit: Limit, each: bool, context: Context) -> Outcome:
    """A burst of more requests than the limit, and what came of them at each replica."""
    if limit.requests_per_unit > MOST:
        return Outcome(ok=None, observed=f"not asked: it takes more than {MOST} requests")
    if limit.header is None and limit.unit != "second":
        return Outcome(
            ok=None, observed=f"not asked: it would use up what all clients together may ask in this {limit.unit}"
        )
    value = secrets.token_hex(6)
    agent, begin = user_agent(ROW), time.monotonic()
    replies = _ask(context, limits, limit, agent, value, _requests(limit))
    seconds = time.monotonic() - begin
    faults = []
    if limit.unit == "second":
        context.stop.wait(SECONDS[limit.unit] + PAUSE)
        faults += _passes(context, limits, limit, value, f"a {limit.unit} later")
    if limit.header is not None:
        faults += _passes(context, limits, limit, secrets.token_hex(6), f"with another {limit.header}")

    replicas = _replicas(context, limits, agent, begin, len(replies))
    faults += _faults(limit, each, replies, replicas, seconds)
    evidence = "; ".join(map(str, replicas))
    if not each:
        line = _decision(context, limits, begin)
        if line is None:
            faults.append("the service's sidecar has no line of a decision for the application")
        else:
            evidence += f"; sidecar of the rate-limit service: {line}"
    statuses = Counter(reply.status for reply in replies)
    observed = f"{_counts(statuses)} in {seconds:.1f} s"
    return judged(observed, faults, evidence)


def _faults(
    limit: Limit, each: bool, replies: Sequence[Reply], replicas: Sequence[Replica], seconds: float
) -> Iterator[str]:
    """What is wrong with a burst that took so long."""
    details = LOCALLY if each else GLOBALLY
    known = {(str(ALLOWED), "-", VIA_UPSTREAM), (str(REFUSED), FLAG, details)}
    if others := {reply.status or reply.error for reply in replies} - {ALLOWED, REFUSED}:
        yield f"some got {', '.join(map(str, sorted(others, key=str)))}"
    if strange := {said for replica in replicas for said in replica.answered} - known:
        yield f"some were answered otherwise: {'; '.join(' '.join(said) for said in sorted(strange))}"
    yield from differs("the requests that the sidecars log", sum(one.asked for one in replicas), len(replies))
    yield from differs("the replicas that were asked", len(replicas), REPLICAS)
    for replica in replicas:
        if replica.allowed == replica.asked:
            yield f"{replica.address} refused none"
    if each:
        for replica in replicas:
            yield from _amiss(f"what {replica.address} let through", replica.allowed, *_of_bucket(limit, seconds))
    else:
        let_through = sum(one.allowed for one in replicas)
        yield from _amiss("what both let through", let_through, *_of_windows(limit, seconds))
        if not _in_windows(limit, replies):
            yield f"they were not let through {limit.requests_per_unit} at a time"
    first = [reply.status for reply in replies[: limit.requests_per_unit]]
    if first != [ALLOWED] * limit.requests_per_unit:
        yield f"the first {limit.requests_per_unit} were not all let through"


def _of_bucket(limit: Limit, seconds: float) -> tuple[int, int]:
    """How many requests a proxy's full bucket has tokens for: it fills all the time."""
    rate = limit.requests_per_unit / SECONDS[limit.unit]
    return limit.requests_per_unit, limit.requests_per_unit + math.floor(rate * seconds)


def _of_windows(limit: Limit, seconds: float) -> tuple[int, int]:
    """How many requests the service lets through: its windows begin with the clock's units.

    Of the longer ones another attempt meets the end only by chance.
    """
    windows = math.floor(seconds) + 2 if limit.unit == "second" else 1
    return limit.requests_per_unit, limit.requests_per_unit * windows


def _in_windows(limit: Limit, replies: Sequence[Reply]) -> bool:
    """Whether the requests passed in one row in each window, as many as the limit says.

    Fewer pass in a row where the requests end, and more where a window ends meanwhile; the more windows, the longer the
    row took. Two counts of the same requests would let twice as many through at once, or some after the first refusal.
    """
    rows = [list(row) for allowed, row in groupby(replies, key=lambda reply: reply.status == ALLOWED) if allowed]
    for row in rows:
        _, most = _of_windows(limit, sum(reply.seconds for reply in row))
        too_few = len(row) < limit.requests_per_unit and row[-1] is not replies[-1]
        if too_few or (len(row) > limit.requests_per_unit and len(row) >= most):
            return False
    return True


def _amiss(what: str, count: int, least: int, most: int) -> list[str]:
    right = str(least) if least == most else f"{least} to {most}"
    return [] if least <= count <= most else [f"{what} is {count}, not {right}"]


def _ask(context: Context, limits: RateLimitSettings, limit: Limit, agent: str, value: str, count: int) -> list[Reply]:
    request = Request(
        url=f"http://{_host(limits, APPLICATION)}{limit.path}",
        user_agent=agent,
        headers={limit.header: value} if limit.header else {},
    )
    return traffic.send(context.pods.get(CALLER), request, count)


def _passes(context: Context, limits: RateLimitSettings, limit: Limit, value: str, when: str) -> list[str]:
    """Whether one more request is let through."""
    (reply,) = _ask(context, limits, limit, user_agent(ROW), value, 1)
    return differs(f"the answer {when}", reply.status or reply.error, ALLOWED)


def _replicas(context: Context, limits: RateLimitSettings, agent: str, since: float, requests: int) -> list[Replica]:
    """What the application's sidecars say of the requests of this user agent."""
    proxies = context.gateway(limits.namespace, {"app": APPLICATION})
    lines = proxies.lines(lambda line: line.user_agent == agent, since, requests)
    return [
        Replica(
            address=address,
            answered=Counter(
                (line.response_code, line.response_flags, line.response_code_details)
                for line in lines
                if line.downstream_local_address == address
            ),
        )
        for address in sorted({line.downstream_local_address for line in lines})
    ]


def _decision(context: Context, limits: RateLimitSettings, since: float) -> AccessLogLine | None:
    """A line of the service's sidecar: the application asked, and was answered."""
    domain = context.contracts["mesh"]["trust_domain"]
    who = f"spiffe://{domain}/ns/{limits.namespace}/sa/{APPLICATION}"
    proxies = context.gateway(limits.namespace, {"app": SERVICE})
    return proxies.line(
        lambda line: line.peer == who and METHOD in line.text and line.response_code_details == VIA_UPSTREAM, since
    )


def _unlimited(limits: RateLimitSettings, context: Context) -> Outcome:
    """More requests to a path without a limit than any limit lets through."""
    count = max(_requests(limit) for limit in (*limits.local_limits, *limits.global_limits))
    agent, begin = user_agent(ROW), time.monotonic()
    request = Request(url=f"http://{_host(limits, APPLICATION)}{UNLIMITED}", user_agent=agent)
    replies = traffic.send(context.pods.get(CALLER), request, count)
    replicas = _replicas(context, limits, agent, begin, count)
    statuses = Counter(reply.status for reply in replies)
    faults = [
        *differs("what came back", dict(statuses), {ALLOWED: count}),
        *differs("the application's own answers", sum(one.allowed for one in replicas), count),
    ]
    return judged(_counts(statuses), faults, "; ".join(map(str, replicas)))


def _stranger(limits: RateLimitSettings, context: Context) -> Outcome:
    """A pod of the mesh asks the service as the application's sidecars do."""
    pod = context.pods.get(CALLER)
    agent, begin = user_agent(ROW), time.monotonic()
    url = f"http://{_host(limits, SERVICE)}:{GRPC_PORT}{METHOD}"
    response = curl.send(pod, Request(url=url, user_agent=agent, posted="{}"))
    proxies = context.gateway(limits.namespace, {"app": SERVICE})
    line = proxies.line(lambda line: line.user_agent == agent, begin)
    faults = differs("status", response.status, 403)
    if line is None or not line.refused:
        faults.append("the service's sidecar does not log that it refused it")
    else:
        faults += differs("the caller that it logs", line.peer, identity(context, pod))
    return judged(str(response), faults, f"sidecar of the rate-limit service: {line}" if line else "")


def _at_redis(limits: RateLimitSettings, context: Context) -> Outcome:
    request = Request(
        url=f"http://{_host(limits, REDIS)}:{redis.PORT}/",
        user_agent=user_agent(ROW),
        connect_seconds=UNREACHED_SECONDS,
    )
    return stopped_by_policy(context, context.pods.get(OUTSIDER), [ingress(limits.namespace)], request)


def _counts(statuses: Counter[int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
