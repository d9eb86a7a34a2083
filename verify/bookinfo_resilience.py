"""Bookinfo when something is slow or fails: faults on purpose (B5), timeouts, retries, outliers, breakers (B7)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from components.bookinfo.stages import (
    ABORT_STATUS,
    ATTEMPTS,
    DELAY,
    FAULTY,
    LATE,
    PORT,
    TIMEOUT,
    USER,
)
from verify.bookinfo_routing import LANES, STRANGER, subsets
from verify.bookinfo_visit import (
    DETAILS,
    NO_RATINGS,
    NO_REVIEWS,
    RATINGS,
    REVIEWS,
    SCENARIO,
    STARS,
    Bookinfo,
    Page,
    answered,
    flagged,
    listed,
    said,
    versions,
    wrong_pages,
)
from verify.context import Context
from verify.exchange import differs, judged
from verify.logs import VIA_UPSTREAM, AccessLogLine, Cluster
from verify.probe import Outcome, Probe
from verify.traffic import binomial_interval

PATIENCE = 3.0
"""Seconds that productpage waits for reviews, each of two times."""

QUICK = PATIENCE
"""Seconds in which a page comes that nothing delays, also from a busy machine; one that is delayed takes twice that."""

UNTOUCHED = 20
FAILING = 100
"""Pages for what happens by chance."""

CROWD = 10
"""How many come at once."""

SERVED = range(1, 6)
"""How many of them may come through: one that waits, and one for each of Envoy's threads, two to four, as every thread
has a connection whatever the limit."""

DELAYED, ABORTED, TIMED_OUT, GONE, OVERFLOW = "DI", "FI", "UT", "DC", "UO"
"""Envoy's response flags: delay injected, fault injected, upstream timeout, downstream connection termination, upstream
overflow."""

EJECTED = "/failed_outlier_check"


def delay() -> Iterator[Probe]:
    """Ratings are too late for one user."""
    yield Probe(
        row="B5",
        scenario=SCENARIO,
        expected=f"the page for {USER}: '{NO_REVIEWS}' after 6 s, as productpage gives up twice after 3 s ({GONE}) "
        f"while the sidecar of reviews delays ratings by {DELAY} ({DELAYED})",
        attempt=_delayed,
    )
    yield untouched()


def abort() -> Iterator[Probe]:
    """Ratings fail for one user."""
    yield Probe(
        row="B5",
        scenario=SCENARIO,
        expected=f"{UNTOUCHED} pages for {USER}: reviews v2 without stars, '{NO_RATINGS}'; the sidecar of reviews "
        f"answers {ABORT_STATUS} ({ABORTED}) for ratings",
        attempt=_aborted,
    )
    yield untouched()


def untouched() -> Probe:
    """The others at the stages that have a fault for one."""
    return Probe(
        row="B5",
        scenario=SCENARIO,
        expected=f"{UNTOUCHED} pages each for nobody logged in and for {STRANGER}: by reviews v1, each within "
        f"{QUICK:g} s",
        attempt=_untouched,
    )


def timeout() -> Iterator[Probe]:
    """Reviews take longer than they may."""
    yield Probe(
        row="B7",
        scenario=SCENARIO,
        expected=f"{CROWD} pages: '{NO_REVIEWS}' after 1 s, as reviews are given {TIMEOUT} twice (504, {TIMED_OUT}); "
        "the details are there",
        attempt=_timed_out,
    )
    yield Probe(
        row="B7",
        scenario=SCENARIO,
        expected=f"ratings without that timeout: 200 after {LATE}",
        attempt=_late,
    )


def faulty() -> Iterator[Probe]:
    """Ratings fail every second time."""
    yield Probe(
        row="B7",
        scenario=SCENARIO,
        expected=f"{FAILING} pages without retries: {_half()} without stars (binomial 99.9 % interval), as many 503 of "
        f"ratings {FAULTY}",
        attempt=_faulty,
    )


def retries() -> Iterator[Probe]:
    """The same, tried again."""
    yield Probe(
        row="B7",
        scenario=SCENARIO,
        expected=f"{FAILING} pages with up to {ATTEMPTS} retries: {_never()} without stars (binomial 99.9 % interval), "
        f"and at least {binomial_interval(FAILING, 0.5).low} retries",
        attempt=_retried,
    )


def outlier_detection() -> Iterator[Probe]:
    """The faulty version is taken out."""
    yield Probe(
        row="B7",
        scenario=SCENARIO,
        expected=f"{FAILING} pages, after some that may fail: all with stars, as the sidecar of reviews has ejected "
        f"ratings {FAULTY}",
        attempt=_ejected,
    )


def circuit_breaker() -> Iterator[Probe]:
    """More than reviews may have at once."""
    yield Probe(
        row="B7",
        scenario=SCENARIO,
        expected=f"{CROWD} requests for reviews at once: {SERVED[0]} to {SERVED[-1]} of them 200, the others 503 "
        f"({OVERFLOW}, counted as upstream_rq_pending_overflow); afterwards one after the other: 200 with stars",
        attempt=_broken,
    )
    yield Probe(
        row="B7",
        scenario=SCENARIO,
        expected=f"{CROWD * 5} requests for details, {CROWD} at once: all 200, the breaker is not theirs",
        attempt=_not_broken,
    )


def _half() -> str:
    return str(binomial_interval(FAILING, 0.5))


def _never() -> str:
    return str(binomial_interval(FAILING, 0.5 ** (ATTEMPTS + 1)))


def _seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def _delayed(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    visited = bookinfo.visit("B5", user=USER)
    (page,) = visited.pages
    given_up = bookinfo.outbound("productpage", "reviews", visited, 2, flagged(GONE))
    late = bookinfo.outbound("reviews", "ratings", visited, 1, flagged(DELAYED))
    fixed = _fixed_delays(bookinfo)
    lower, upper = 2 * PATIENCE - 0.1, 2 * PATIENCE + QUICK
    return judged(
        str(page),
        [
            *wrong_pages(
                [page], lambda page: page.details and page.version is None, f"'{NO_REVIEWS}' beside the details"
            ),
            *([] if lower <= page.seconds < upper else [f"it took {page.seconds:.1f} s, not {lower:g} to {upper:g}"]),
            *differs("requests for reviews that productpage gave up (DC)", len(given_up), 2),
            *([] if late else [f"no request for ratings of the sidecar of reviews has the flag {DELAYED}"]),
            *differs("the delay that the sidecar of reviews has", fixed, [DELAY]),
        ],
        "; ".join(filter(None, (said("sidecar of productpage", given_up), said("sidecar of reviews", late)))),
    )


def _fixed_delays(bookinfo: Bookinfo) -> list[str]:
    """The delays in what the sidecar of reviews has been given for ratings."""
    hosts: list[dict[str, Any]] = bookinfo.sidecars("reviews", "v2").config("route", str(PORT)).get("virtual_hosts", [])
    faults = [
        filters.get("envoy.filters.http.fault", {})
        for host in hosts
        if host["name"] == f"{bookinfo.host('ratings')}:{PORT}"
        for route in host["routes"]
        if (filters := route.get("typed_per_filter_config", {}))
    ]
    return [fault["delay"]["fixed_delay"] for fault in faults if "delay" in fault]


def _aborted(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    visited = bookinfo.visit("B5", UNTOUCHED, user=USER, lanes=LANES)
    pages = visited.pages
    aborted = bookinfo.outbound("reviews", "ratings", visited, UNTOUCHED, flagged(ABORTED, str(ABORT_STATUS)))
    return judged(
        f"{listed(versions(pages))}, {sum(page.stars for page in pages)} stars, {_slowest(pages)}",
        [
            *wrong_pages(
                pages,
                lambda page: (page.details, page.version, page.stars, page.ratings) == (True, "v2", 0, False),
                f"by v2 with '{NO_RATINGS}'",
            ),
            *_in_time(pages),
            *_at_least(UNTOUCHED, aborted, f"requests for ratings answered {ABORT_STATUS} {ABORTED}"),
        ],
        said("sidecar of reviews", aborted),
    )


def _untouched(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    observed, faults, evidence = [], [], ""
    visits = [(user, bookinfo.visit("B5", UNTOUCHED, user=user, lanes=2)) for user in (None, STRANGER)]
    for user, visited in visits:
        pages = visited.pages
        lines = bookinfo.outbound("productpage", "reviews", visited, UNTOUCHED, answered)
        who = user or "nobody"
        observed.append(f"{who}: {listed(versions(pages))}, {_slowest(pages)}")
        faults += wrong_pages(pages, lambda page: page.whole and page.version == "v1", f"by v1 ({who})")
        faults += _in_time(pages)
        faults += differs(f"subsets by productpage's sidecar ({who})", listed(subsets(lines)), f"v1 {UNTOUCHED}")
        evidence = evidence or said("sidecar of productpage", lines)
    return judged("; ".join(observed), faults, evidence)


def _at_least(number: int, lines: list[AccessLogLine], what: str) -> list[str]:
    return [] if len(lines) >= number else [f"the log has {len(lines)} {what}, not {number}"]


def _slowest(pages: list[Page]) -> str:
    return f"{max(page.seconds for page in pages):.1f} s at most"


def _in_time(pages: list[Page]) -> list[str]:
    return wrong_pages(pages, lambda page: page.seconds < QUICK, f"there within {QUICK:g} s")


def _timed_out(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    visited = bookinfo.visit("B7", CROWD, lanes=CROWD)
    pages = visited.pages
    timed_out = bookinfo.outbound("productpage", "reviews", visited, 2 * CROWD, flagged(TIMED_OUT, "504"))
    lower, upper = 2 * _seconds(TIMEOUT), _seconds(LATE)
    took = [page.seconds for page in pages]
    return judged(
        f"{CROWD} pages in {min(took):.1f} to {max(took):.1f} s, {listed(versions(pages))}",
        [
            *wrong_pages(
                pages, lambda page: page.details and page.version is None, f"'{NO_REVIEWS}' beside the details"
            ),
            *wrong_pages(pages, lambda page: lower <= page.seconds < upper, f"there after {lower:g} to {upper:g} s"),
            *_at_least(2 * CROWD, timed_out, f"requests for reviews answered 504 {TIMED_OUT}"),
        ],
        said("sidecar of productpage", timed_out),
    )


def _late(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    visited = bookinfo.visit("B7", path=RATINGS)
    (reply,) = visited.replies
    lines = bookinfo.outbound("productpage", "ratings", visited, 1, flagged(DELAYED))
    lower, upper = _seconds(LATE), PATIENCE
    return judged(
        f"{reply.status} after {reply.seconds:.1f} s",
        [
            *differs("status", reply.status, 200),
            *([] if lower <= reply.seconds < upper else [f"it took {reply.seconds:.1f} s, not {lower:g} to {upper:g}"]),
            *([] if lines else [f"productpage's sidecar does not log it with the flag {DELAYED}"]),
        ],
        said("sidecar of productpage", lines),
    )


def _faulty(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    visited = bookinfo.visit("B7", FAILING, lanes=LANES)
    pages = visited.pages
    lacking = _lacking(pages)
    lines = bookinfo.outbound("reviews", "ratings", visited, least=FAILING)
    failed = [line for line in lines if (line.response_code, line.response_code_details) == ("503", VIA_UPSTREAM)]
    interval = binomial_interval(FAILING, 0.5)
    return judged(
        f"{lacking} of {FAILING} pages without stars (99.9 %: {interval})",
        [
            *_by_v2(pages),
            *([] if lacking in interval else [f"that is not {interval}"]),
            *_at_least(lacking, failed, "503 of ratings"),
            *differs("where the sidecar of reviews sent them", set(subsets(lines)), {FAULTY}),
        ],
        said("sidecar of reviews", failed),
    )


def _lacking(pages: list[Page]) -> int:
    """How many pages say that there are no ratings."""
    return sum(not page.ratings for page in pages)


def _by_v2(pages: list[Page]) -> list[str]:
    """All but the stars."""
    return wrong_pages(
        pages,
        lambda page: page.details and page.version == "v2" and page.stars == (STARS["v2"] if page.ratings else 0),
        "by v2",
    )


def _retried(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    sidecar = bookinfo.sidecars("reviews", "v2")
    with sidecar.counting("upstream_rq_retry", _scope("ratings", FAULTY)) as watch:
        visited = bookinfo.visit("B7", FAILING, lanes=LANES)
    pages = visited.pages
    lacking = _lacking(pages)
    # Each try leaves a line where it arrives.
    tries = bookinfo.inbound("ratings", visited, least=FAILING + watch.rise)
    failed = [line for line in tries if line.response_code == "503"]
    few, half = binomial_interval(FAILING, 0.5 ** (ATTEMPTS + 1)), binomial_interval(FAILING, 0.5)
    return judged(
        f"{lacking} of {FAILING} pages without stars (99.9 %: {few}), {len(failed)} of {len(tries)} tries failed",
        [
            *_by_v2(pages),
            *([] if lacking in few else [f"that is not {few}"]),
            *([] if len(failed) >= half.low else [f"at least {half.low} of {FAILING} first tries must fail"]),
            *([] if watch.rise >= half.low else [f"the counter upstream_rq_retry rose by {watch.rise}"]),
        ],
        f"sidecar of reviews v2: counter upstream_rq_retry rose by {watch.rise}; {said('sidecar of ratings', failed)}",
    )


def _scope(app: str, subset: str) -> str:
    """Where a proxy keeps a service's counters; Istio ends its name with `;`."""
    return rf"cluster\.outbound\|{PORT}\|{re.escape(subset)}\|{app}\.[^;]*;?"


def _ejected(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    sidecar = bookinfo.sidecars("reviews", "v2")
    before = bookinfo.visit("B7", FAILING // 2, lanes=2)
    visited = bookinfo.visit("B7", FAILING, lanes=LANES)
    pages = visited.pages
    lines = bookinfo.outbound("reviews", "ratings", visited, least=FAILING)
    health = sidecar.health(Cluster(PORT, "", bookinfo.host("ratings")))
    out = {
        f"{pod.status.podIP}:{PORT}"
        for pod in context.kube.running(bookinfo.namespace, {"app": "ratings", "version": FAULTY})
        if pod.status
    }
    return judged(
        f"{_lacking(before.pages)} of {FAILING // 2} pages without stars, then {_lacking(pages)} of {FAILING}",
        [
            *_by_v2(pages),
            *wrong_pages(pages, lambda page: page.whole, "whole"),
            *_at_least(FAILING, lines, "answers of ratings"),
            *differs("the statuses of ratings", {line.response_code for line in lines}, {"200"}),
            *([] if out else [f"no pod of ratings {FAULTY} runs"]),
            *differs("what the sidecar of reviews ejected", {host for host in health if EJECTED in health[host]}, out),
            *differs("hosts that it still sends to", sum(flags == {"healthy"} for flags in health.values()), 1),
        ],
        "sidecar of reviews v2: " + "; ".join(f"{host} {', '.join(flags)}" for host, flags in health.items()),
    )


def _broken(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    sidecar = bookinfo.sidecars("productpage")
    counter = "upstream_rq_pending_overflow"
    with sidecar.counting(counter, _scope("reviews", "v2")) as watch:
        crowd = bookinfo.visit("B7", CROWD, path=REVIEWS, lanes=CROWD)
    ok, refused = crowd.statuses[200], crowd.statuses[503]
    # productpage asks a second time.
    lines = bookinfo.outbound("productpage", "reviews", crowd, 2 * refused, flagged(OVERFLOW))
    after = bookinfo.visit("B7", 2).pages
    return judged(
        f"{ok} of {CROWD} at once 200, {refused} 503; afterwards {after[-1]}",
        [
            *([] if ok in SERVED else [f"{ok} of {CROWD} came through"]),
            *differs("the answers that are neither", CROWD - ok - refused, 0),
            # productpage asks a second time.
            *(
                []
                if len(lines) >= 2 * refused
                else [f"only {len(lines)} requests for reviews were refused ({OVERFLOW})"]
            ),
            *([] if watch.rise >= len(lines) else [f"the counter {counter} rose by {watch.rise}"]),
            *wrong_pages(after, lambda page: page.whole and page.version == "v2", "by v2 with stars afterwards"),
        ],
        f"sidecar of productpage: counter {counter} rose by {watch.rise}; {said('its log', lines)}",
    )


def _not_broken(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    visited = bookinfo.visit("B7", CROWD * 5, path=DETAILS, lanes=CROWD)
    lines = bookinfo.outbound("productpage", "details", visited, least=CROWD * 5)
    return judged(
        ", ".join(f"{number} x {status}" for status, number in visited.statuses.items()),
        [
            *differs("the statuses", dict(visited.statuses), {200: CROWD * 5}),
            *differs("what was refused", sum(map(flagged(OVERFLOW), lines)), 0),
            *_at_least(CROWD * 5, lines, "requests for details"),
        ],
        said("sidecar of productpage", lines),
    )
