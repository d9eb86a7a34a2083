"""Who may ask Bookinfo's services: mutual TLS (B8), and what each AuthorizationPolicy opens (B9)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from components.bookinfo.stages import APPS, CALLERS, viewers
from settings.bookinfo import Step
from verify import curl
from verify.bookinfo_routing import LANES
from verify.bookinfo_visit import (
    IN_MESH,
    NO_DETAILS,
    NO_RATINGS,
    NO_REVIEWS,
    OUTSIDE,
    PATHS,
    RATINGS,
    SCENARIO,
    STARS,
    VERSIONS,
    Bookinfo,
    Page,
    Visit,
    listed,
    said,
    versions,
    visit,
    wrong_pages,
)
from verify.context import Context, user_agent
from verify.curl import Request
from verify.exchange import differs, judged
from verify.logs import NO_FILTER_CHAIN, AccessLogLine
from verify.probe import Outcome, Probe

NO_POLICY = "rbac_access_denied_matched_policy[none]"
"""What a sidecar says of a request that no policy allows."""

DENIED = "RBAC: access denied"

PAGES = 40
"""That one of three versions of reviews is never met by chance happens once in 4 million times."""


def permissive() -> Iterator[Probe]:
    """Both ways are open."""
    yield _mutual()
    yield Probe(
        row="B8",
        scenario=SCENARIO,
        expected="GET ratings from a pod without sidecar, PERMISSIVE: 200, without an identity",
        attempt=_plaintext,
        workloads=(OUTSIDE,),
    )


def strict() -> Iterator[Probe]:
    """Only mutual TLS is."""
    inside = _mutual()
    yield inside
    yield _no_plaintext("B8", ("ratings",), inside)


def _mutual() -> Probe:
    return Probe(
        row="B8",
        scenario=SCENARIO,
        expected="GET ratings from a pod in the mesh: 200 through mutual TLS, the caller's identity logged there",
        attempt=_mutual_tls,
        workloads=(IN_MESH,),
    )


def _no_plaintext(row: str, apps: tuple[str, ...], pair: Probe | None) -> Probe:
    return Probe(
        row=row,
        scenario=SCENARIO,
        expected=f"GET {', '.join(apps)} from a pod without sidecar: 000, exit 56, closed by "
        f"{'its sidecar' if len(apps) == 1 else 'their sidecars'}",
        attempt=partial(_refused_plaintext, row, apps),
        workloads=(OUTSIDE,),
        pair=pair,
    )


def authorization(step: Step) -> Iterator[Probe]:
    """What the policies up to this stage open, and nothing else."""
    opened = viewers(step)
    assert opened is not None
    page = Probe(row="B9", scenario=SCENARIO, expected=_page_words(opened), attempt=partial(_page, opened))
    yield page
    pair = page if opened else None
    yield Probe(
        row="B9",
        scenario=SCENARIO,
        expected="POST /login through the gateway: 403 by the sidecar of productpage",
        attempt=_no_login,
        pair=pair,
    )
    if opened:
        yield Probe(
            row="B9",
            scenario=SCENARIO,
            expected=f"GET {RATINGS}: 403 by the sidecar of ratings, which is not for productpage",
            attempt=_not_for_productpage,
            pair=pair,
        )
    foreign = _foreign("productpage", "GET", "productpage" in opened, None)
    yield foreign
    first = foreign if opened else None
    yield from (_foreign(app, "GET", False, first) for app in APPS if app != "productpage")
    yield _foreign("productpage", "POST", False, first)
    yield _no_plaintext("B9", APPS, first)


def _page_words(opened: tuple[str, ...]) -> str:
    if not opened:
        return f"GET {PATHS['productpage']} through the gateway: 403 '{DENIED}' by the sidecar of productpage"
    parts = {
        "details": ("details", f"'{NO_DETAILS}'"),
        "reviews": ("reviews v1, v2 and v3", f"'{NO_REVIEWS}'"),
        "ratings": ("stars", f"'{NO_RATINGS}' with v2 and v3"),
    }
    seen = [there if app in opened else missing for app, (there, missing) in parts.items()]
    if "reviews" not in opened:
        seen.pop()
    denied = [app for app in APPS if app not in opened and (app != "ratings" or "reviews" in opened)]
    by = f"; 403 by the sidecars of {' and '.join(denied)}" if denied else ""
    return f"{PAGES} pages through the gateway: 200, {', '.join(seen)}{by}"


def _page(opened: tuple[str, ...], context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    if not opened:
        visited = bookinfo.visit("B9")
        return _judged_denial(bookinfo, visited, "productpage", None)
    visited = bookinfo.visit("B9", PAGES, lanes=LANES)
    pages = visited.pages
    faults = wrong_pages(pages, partial(_as_opened, opened), f"what {', '.join(opened)} give")
    if "reviews" in opened:
        faults += differs("the versions that appear", sorted(versions(pages)), list(VERSIONS))
    evidence = []
    for app, least in _denials(opened, pages).items():
        lines = bookinfo.inbound(app, visited, least)
        caller = CALLERS[app]
        assert caller is not None
        faults += _denial_faults(lines, app, bookinfo.identity(caller), least)
        evidence.append(said(f"sidecar of {app}", lines))
    if not evidence:
        lines = bookinfo.inbound("ratings", visited)
        evidence.append(said("sidecar of ratings", lines))
        faults += differs("who asks ratings", {line.peer for line in lines}, {bookinfo.identity("reviews")})
    return judged(f"{pages[0]}; {listed(versions(pages))}", faults, "; ".join(filter(None, evidence)))


def _as_opened(opened: tuple[str, ...], page: Page) -> bool:
    stars = STARS[page.version] if page.version and "ratings" in opened else 0
    rated = "ratings" in opened or page.version in (None, "v1")
    return (page.status, page.details, page.version is not None, page.stars, page.ratings) == (
        200,
        "details" in opened,
        "reviews" in opened,
        stars,
        rated,
    )


def _denials(opened: tuple[str, ...], pages: list[Page]) -> dict[str, int]:
    """How many requests each of the services behind productpage must have refused at least."""
    if "reviews" not in opened:
        denied = {"reviews": len(pages), "details": len(pages)}
        return {app: least for app, least in denied.items() if app not in opened}
    return {} if "ratings" in opened else {"ratings": sum(page.version != "v1" for page in pages)}


def _no_login(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    visited = bookinfo.visit("B9", path="/login", method="POST")
    return _judged_denial(bookinfo, visited, "productpage", None)


def _not_for_productpage(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    visited = bookinfo.visit("B9", path=RATINGS)
    return _judged_denial(bookinfo, visited, "ratings", bookinfo.identity("productpage"), own_words=False)


def _judged_denial(
    bookinfo: Bookinfo, visited: Visit, app: str, peer: str | None, *, own_words: bool = True
) -> Outcome:
    """One request that the sidecar of a service must have refused. `peer` is who asked it, anybody when None.

    `own_words`: the sidecar's answer is what came back; otherwise productpage made its own of it.
    """
    (reply,) = visited.replies
    lines = bookinfo.inbound(app, visited)
    return judged(
        str(reply),
        [
            *differs("status", reply.status, 403),
            *([] if reply.body.strip() == DENIED or not own_words else [f"the answer is not '{DENIED}'"]),
            *_denial_faults(lines, app, peer, 1),
        ],
        said(f"sidecar of {app}", lines),
    )


def _denial_faults(lines: list[AccessLogLine], app: str, peer: str | None, least: int) -> list[str]:
    if len(lines) < least:
        return [f"the sidecar of {app} logs {len(lines)} of {least} requests"]
    faults = differs(f"what the sidecar of {app} says", {line.response_code_details for line in lines}, {NO_POLICY})
    if peer is not None:
        faults += differs(f"who asked {app}", {line.peer for line in lines}, {peer})
    return faults


def _foreign(app: str, method: str, allowed: bool, pair: Probe | None) -> Probe:
    right = "200" if allowed else f"403 by the sidecar of {app}"
    return Probe(
        row="B9",
        scenario=SCENARIO,
        expected=f"{method} {app} from the debug pod (identity of another namespace): {right}",
        attempt=partial(_asked_by_foreigner, app, method, allowed),
        workloads=(IN_MESH,),
        pair=pair,
    )


def _asked_by_foreigner(app: str, method: str, allowed: bool, context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    pod = context.pods.get(IN_MESH)
    visited = visit(pod, "B9", Request(url=bookinfo.service_url(app, PATHS[app]), method=method, user_agent=""))
    peer = pod.spiffe_id(context.contracts["mesh"]["trust_domain"])
    if not allowed:
        return _judged_denial(bookinfo, visited, app, peer)
    (reply,) = visited.replies
    lines = bookinfo.inbound(app, visited)
    return judged(
        str(reply.status),
        [*differs("status", reply.status, 200), *differs("who asked", [line.peer for line in lines], [peer])],
        said(f"sidecar of {app}", lines),
    )


def _mutual_tls(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    pod = context.pods.get(IN_MESH)
    return _ratings(bookinfo, visit(pod, "B8", _ratings_request(bookinfo)), pod.spiffe_id(_trust_domain(context)))


def _plaintext(context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    return _ratings(bookinfo, visit(context.pods.get(OUTSIDE), "B8", _ratings_request(bookinfo)), "-")


def _trust_domain(context: Context) -> str:
    return str(context.contracts["mesh"]["trust_domain"])


def _ratings_request(bookinfo: Bookinfo) -> Request:
    return Request(url=bookinfo.service_url("ratings", PATHS["ratings"]), user_agent="")


def _ratings(bookinfo: Bookinfo, visited: Visit, peer: str) -> Outcome:
    (reply,) = visited.replies
    lines = bookinfo.inbound("ratings", visited)
    return judged(
        str(reply),
        [
            *differs("status", reply.status, 200),
            *differs("the caller's identity", [line.peer for line in lines], [peer]),
        ],
        said("sidecar of ratings", lines),
    )


def _refused_plaintext(row: str, apps: tuple[str, ...], context: Context) -> Outcome:
    bookinfo = Bookinfo(context)
    pod = context.pods.get(OUTSIDE)
    start = time.monotonic()
    responses = {
        app: curl.send(pod, Request(url=bookinfo.service_url(app, PATHS[app]), user_agent=user_agent(row)))
        for app in apps
    }
    faults, evidence = [], []
    for app, response in responses.items():
        faults += differs(f"exit code for {app}", response.exit_code, curl.READ_FAILED)
        if response.exit_code != curl.READ_FAILED:
            continue
        line = bookinfo.sidecars(app).line(
            partial(_closed, response.local),
            start,
        )
        faults += [] if line else [f"the sidecar of {app} does not log that it closed the connection"]
        evidence.append(said(f"sidecar of {app}", [line] if line else []))
    words = ", ".join(f"{app} {response.status:03d} {response}" for app, response in responses.items())
    return judged(words, faults, "; ".join(filter(None, evidence)))


def _closed(address: str, line: AccessLogLine) -> bool:
    """Whether it is the line of a connection from there that was no mutual TLS."""
    return line.downstream_remote_address == address and line.response_code_details == NO_FILTER_CHAIN
