"""Bookinfo's routes: the way in (B3), versions by user (B4), and by weight (B6)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from components.bookinfo.stages import APPS, MATCHES, PORT, SHIFTS, SUBSETS, USER
from settings.bookinfo import Step
from verify.bookinfo_visit import (
    DETAILS,
    OUTSIDE,
    PAGE,
    REVIEWS,
    SCENARIO,
    STARS,
    VERSIONS,
    Bookinfo,
    Page,
    Visit,
    answered,
    listed,
    said,
    versions,
    visit,
    wrong_pages,
)
from verify.context import Context
from verify.curl import Request
from verify.envoy import CONTAINER
from verify.exchange import differs, judged
from verify.logs import AccessLogLine
from verify.pods import containers
from verify.probe import Outcome, Probe
from verify.traffic import binomial_interval

PAGES = 50
"""For every user; that one of three versions is never met by chance happens once in 200 million times."""

REQUESTS = 400
"""For a weight: enough to tell one half from two thirds, and a tenth from a fifth."""

LANES = 4

STRANGER = "julia"
"""A user whom no rule is for."""

SIMILAR: Mapping[Step, Mapping[str | None, str]] = {
    "jason-exact": {"jasper": "v1", "jan": "v1"},
    "jason-prefix": {"jasper": "v2", "jan": "v1"},
    "jason-regex": {"jasper": "v1", "jan": "v2"},
}
"""Whom else a match lets through, and whom not: it tells the three from one another."""

CLOSED_PATHS = ("/", "/health", "/details/0", "/productpage/0", "/login/0", "/logout/0", "/api/v1/other")
"""productpage answers the first two, another service the third; the others come near to one of the five matches."""

NO_ROUTE = "NR"


def without_mesh() -> Iterator[Probe]:
    """Before there is a mesh."""
    yield Probe(
        row="B3",
        scenario=SCENARIO,
        expected=f"{PAGES} pages by the Service from a pod without sidecar: details and reviews, v1, v2 and v3 appear; "
        "no pod has a sidecar",
        attempt=_without_mesh,
        workloads=(OUTSIDE,),
    )


def entry() -> Iterator[Probe]:
    """The way in, which every stage of the mesh has; shown once."""
    page = Probe(
        row="B3",
        scenario=SCENARIO,
        expected=f"GET {PAGE} through the gateway: 200 with details and reviews",
        attempt=_entered,
    )
    yield page
    yield Probe(
        row="B3",
        scenario=SCENARIO,
        expected="the four other matches (/static, /login, /logout, /api/v1/products) through the gateway: productpage "
        "answers",
        attempt=_other_matches,
    )
    yield Probe(
        row="B3",
        scenario=SCENARIO,
        expected=f"{', '.join(CLOSED_PATHS)} through the gateway: 404 of the gateway's own",
        attempt=_closed_paths,
        pair=page,
    )


def balanced(row: str) -> Probe:
    """Without rules every version gets its part."""
    return Probe(
        row=row,
        scenario=SCENARIO,
        expected=f"{PAGES} pages without a user: reviews v1, v2 and v3 appear, each with its stars",
        attempt=partial(_balanced, row),
    )


def all_v1() -> Iterator[Probe]:
    """Everything to version 1."""
    yield served("B4", {None: "v1", USER: "v1"})
    yield Probe(
        row="B4",
        scenario=SCENARIO,
        expected=f"routes of productpage's sidecar: {', '.join(APPS)} to subset v1; all subsets known",
        attempt=_subsets,
    )


def by_user(step: Step) -> Iterator[Probe]:
    """Version 2 for some."""
    ((how, pattern),) = MATCHES[step].items()
    yield served("B4", {USER: "v2"}, f" ({how} '{pattern}')")
    yield served("B4", {None: "v1", STRANGER: "v1"})
    yield served("B4", SIMILAR[step], f" ({how} '{pattern}')", count=10)


def shifted(step: Step) -> Iterator[Probe]:
    """Versions by weight."""
    weights = SHIFTS[step]
    words = " and ".join(f"{version} {weight} %" for version, weight in weights.items())
    yield Probe(
        row="B6",
        scenario=SCENARIO,
        expected=f"{REQUESTS} requests for reviews without a user: {words}, inside the binomial 99.9 % interval "
        f"({_intervals(step)})",
        attempt=partial(_shifted, step),
    )
    yield Probe(
        row="B6",
        scenario=SCENARIO,
        expected=f"{PAGES} pages for {USER}: by {' and '.join(weights)} alone, as for everybody",
        attempt=partial(_same_for, USER, tuple(weights)),
    )


def _intervals(step: Step) -> str:
    """How many requests each version may get."""
    return ", ".join(
        f"{version}: {binomial_interval(REQUESTS, weight / 100)}" for version, weight in SHIFTS[step].items()
    )


def served(row: str, users: Mapping[str | None, str], why: str = "", count: int = PAGES) -> Probe:
    """Each of the users (None: nobody is logged in) gets the reviews of one version."""
    words = "; ".join(
        f"for {user or 'nobody logged in'} by reviews {version}, {'with' if STARS[version] else 'without'} stars"
        for user, version in users.items()
    )
    return Probe(
        row=row,
        scenario=SCENARIO,
        expected=f"{count} pages each: {words}{why}",
        attempt=partial(_served, row, tuple(users.items()), count),
    )


def _served(row: str, users: Iterable[tuple[str | None, str]], count: int, context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    observed, faults, evidence = [], [], []
    # All requests first: a log is seconds behind.
    visits = [(user, version, bookinfo.visit(row, count, user=user, lanes=LANES)) for user, version in users]
    for user, version, visited in visits:
        pages = visited.pages
        lines = bookinfo.outbound("productpage", "reviews", visited, count, answered)
        who = user or "nobody"
        observed.append(f"{who}: {listed(versions(pages))}, {sum(page.stars for page in pages)} stars")
        faults += [
            f"{who}: {fault}"
            for fault in (
                *wrong_pages(pages, _by(version), f"by {version}"),
                *differs("subsets by productpage's sidecar", listed(subsets(lines)), listed(Counter({version: count}))),
            )
        ]
        evidence.append(said(f"sidecar of productpage, {who}", lines))
    return judged("; ".join(observed), faults, "; ".join(filter(None, evidence)))


def _by(*right: str) -> Callable[[Page], bool]:
    return lambda page: page.whole and page.version in right


def subsets(lines: Iterable[AccessLogLine]) -> Counter[str]:
    """To which subsets requests were sent."""
    return Counter((line.upstream.subset or "none") for line in lines if line.upstream)


def _without_mesh(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    pod = context.pods.get(OUTSIDE)
    pages = visit(pod, "B3", Request(url=bookinfo.service_url("productpage", PAGE), user_agent=""), PAGES, LANES).pages
    running = [pod for pod in context.kube.running(bookinfo.namespace, {}) if not pod.metadata.deletionTimestamp]  # type: ignore[union-attr]
    injected = sorted(str(pod.metadata.name) for pod in running if CONTAINER in containers(pod))  # type: ignore[union-attr]
    return judged(
        listed(versions(pages)),
        [*_all_versions(pages), *([f"with a sidecar: {', '.join(injected)}"] if injected else [])],
        f"containers of {len(running)} pods in {bookinfo.namespace}: "
        f"{', '.join(sorted({name for pod in running for name in containers(pod)}))}",
    )


def _all_versions(pages: list[Page]) -> list[str]:
    return [
        *wrong_pages(pages, lambda page: page.whole, "whole"),
        *differs("the versions that appear", sorted(set(versions(pages))), list(VERSIONS)),
    ]


def _entered(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    visited = bookinfo.visit("B3")
    lines = _at_gateway(bookinfo, visited)
    return judged(
        str(visited.pages[0]),
        [*wrong_pages(visited.pages, lambda page: page.whole, "whole"), *_to_productpage(bookinfo, lines)],
        said("gateway", lines),
    )


def _at_gateway(bookinfo: Bookinfo, visited: Visit) -> list[AccessLogLine]:
    return bookinfo.gateway.lines(lambda line: line.user_agent == visited.agent, visited.start, len(visited.replies))


def _to_productpage(bookinfo: Bookinfo, lines: list[AccessLogLine]) -> list[str]:
    if not lines:
        return ["the gateway does not log it"]
    right = bookinfo.cluster("productpage")
    wrong = {line.upstream_cluster for line in lines} - {right}
    return [f"the gateway sent it to {', '.join(wrong)}, not to {right}"] if wrong else []


def _other_matches(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    page = bookinfo.visit("B3").replies[0].body
    # The page that comes with the session of POST /login says whose it is.
    welcome = bookinfo.visit("B3", user=USER).replies[0].body
    static = re.search(r"static/[^\"' )]+", page)
    right = {
        f"/{static[0]}" if static else "/static": 200,
        "/logout": 302,
        "/api/v1/products": 200,
        DETAILS: 200,
        REVIEWS: 200,
    }
    # All requests first: a log is seconds behind.
    visits = {path: bookinfo.visit("B3", path=path) for path in right}
    known = USER in welcome and USER not in page
    observed = [f"/login, the page {'says' if known else 'does not say'} that it is {USER}"]
    faults = [] if known else ["nobody is logged in"]
    evidence = []
    for path, visited in visits.items():
        (reply,) = visited.replies
        lines = _at_gateway(bookinfo, visited)
        observed.append(f"{path} {reply.status}")
        faults += [*differs(f"status of {path}", reply.status, right[path]), *_to_productpage(bookinfo, lines)]
        evidence.append(said("gateway", lines))
    return judged(", ".join(observed), faults, evidence[0])


def _closed_paths(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    observed, faults, evidence = [], [], ""
    visits = {path: bookinfo.visit("B3", path=path) for path in CLOSED_PATHS}
    for path, visited in visits.items():
        (reply,) = visited.replies
        observed.append(f"{path} {reply.status}")
        lines = _at_gateway(bookinfo, visited)
        faults += differs(f"status of {path}", reply.status, 404)
        faults += differs(f"the gateway's flags of {path}", [line.response_flags for line in lines], [NO_ROUTE])
        evidence = evidence or said("gateway", lines)
    return judged(", ".join(observed), faults, evidence)


def _balanced(row: str, context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    visited = bookinfo.visit(row, PAGES, lanes=LANES)
    lines = bookinfo.outbound("productpage", "reviews", visited, PAGES, answered)
    return judged(
        listed(versions(visited.pages)),
        [
            *_all_versions(visited.pages),
            *differs("subsets by productpage's sidecar", listed(subsets(lines)), listed(Counter({"none": PAGES}))),
        ],
        said("sidecar of productpage", lines),
    )


def _subsets(context: Context) -> Outcome:
    """What productpage's sidecar has been given."""
    bookinfo = Bookinfo(context)
    proxies = bookinfo.sidecars("productpage")
    hosts: list[dict[str, Any]] = proxies.config("route", str(PORT)).get("virtual_hosts", [])
    routes = {host["name"]: [_cluster(route) for route in host["routes"]] for host in hosts}
    known = {(cluster.host, cluster.subset) for cluster in proxies.clusters() if cluster.subset}
    faults, words = [], []
    for app in APPS:
        name = f"{bookinfo.host(app)}:{PORT}"
        faults += differs(f"the routes of {name}", routes.get(name), [bookinfo.cluster(app, "v1")])
        missing = [subset for subset in SUBSETS[app] if (bookinfo.host(app), subset) not in known]
        faults += [f"it does not know subset {subset} of {app}" for subset in missing]
        words.append(f"{name} -> {', '.join(map(str, routes.get(name, ['nothing'])))}")
    return judged(
        f"{len(known)} subsets", faults, "" if faults else f"proxy-config of productpage's sidecar: {'; '.join(words)}"
    )


def _cluster(route: dict[str, Any]) -> str | None:
    to: str | None = route.get("route", {}).get("cluster")
    return to


def _shifted(step: Step, context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    weights = SHIFTS[step]
    visited = bookinfo.visit("B6", REQUESTS, path=REVIEWS, lanes=LANES)
    pages = visited.pages
    counts = versions(pages)
    lines = bookinfo.outbound("productpage", "reviews", visited, REQUESTS, answered)
    faults = [
        f"{version} got {counts[version]} of {REQUESTS}, not {interval}"
        for version, weight in weights.items()
        if counts[version] not in (interval := binomial_interval(REQUESTS, weight / 100))
    ]
    faults += differs("the versions that appear", sorted(counts), sorted(weights))
    faults += differs("subsets by productpage's sidecar", listed(subsets(lines)), listed(counts))
    return judged(
        f"{listed(counts)} of {REQUESTS} (99.9 %: {_intervals(step)})", faults, said("sidecar of productpage", lines)
    )


def _same_for(user: str, right: tuple[str, ...], context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    visited = bookinfo.visit("B6", PAGES, user=user, lanes=LANES)
    counts = versions(visited.pages)
    lines = bookinfo.outbound("productpage", "reviews", visited, PAGES, answered)
    faults = wrong_pages(visited.pages, _by(*right), f"by {' or '.join(right)}")
    faults += differs("subsets by productpage's sidecar", listed(subsets(lines)), listed(counts))
    return judged(listed(counts), faults, said("sidecar of productpage", lines))
