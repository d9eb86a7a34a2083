"""What shows that a step of Bookinfo has arrived: a question whose answer changes with it.

A client outside asks the gateway; but for the steps of mutual TLS, where a pod without a sidecar asks ratings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from components.bookinfo.stages import PORT
from lab.propagation import Sign
from settings.bookinfo import Step
from verify import curl
from verify.bookinfo_visit import OUTSIDE, PATHS, Bookinfo, Page, Visit
from verify.context import Context
from verify.curl import Request, Response
from verify.logs import Cluster
from verify.shell import Completed, Shell

NAME = "walk"
"""In the user agents of all requests."""

SURE = 5
"""Samples in a row, where each new answer differs from every old one."""

LIKELY = 3
"""Samples in a row, where one is several requests that chance decides on, or one that takes its time."""

PATIENCE = 2
"""Seconds after which an answer does not come: less than the injected delay, more than reviews' timeout takes twice."""


def sign(context: Context, step: Step) -> Sign | None:
    """What shows the step to who knows the stage before; None where pods are made anew, which has its own time."""
    if step not in SIGNS or not context.contracts["bookinfo"]["gateways"]:
        return None
    what, steady, seen = SIGNS[step]
    bookinfo = Bookinfo(replace(context, clients=tuple(_Impatient(client) for client in context.clients)))
    return Sign(what=what, seen=lambda: seen(bookinfo), steady=steady)


@dataclass(frozen=True)
class _Impatient:
    """A client that does not wait long for an answer."""

    shell: Shell

    @property
    def name(self) -> str:
        return self.shell.name

    def run(self, command: Sequence[str], timeout: float, stdin: str = "") -> Completed:
        # curl takes the last one that it is told; the URL stays where it is, at the end.
        return self.shell.run([*command[:-1], "--max-time", str(PATIENCE), command[-1]], timeout, stdin)


Question = Callable[[Bookinfo], float | None]
"""The moment at which it was asked, if the answer is new."""


def _page(test: Callable[[Page], bool], user: str | None = None) -> Question:
    """Whether a page, of a user who is logged in or of nobody, is like that."""
    return lambda bookinfo: _asked(bookinfo.visit(NAME, user=user), lambda pages: test(pages[0]))


def _pages(test: Callable[[list[Page]], bool], count: int, lanes: int = 1) -> Question:
    """Whether so many pages are like that together."""
    return lambda bookinfo: _asked(bookinfo.visit(NAME, count, lanes=lanes), test, lanes)


def _asked(visit: Visit, test: Callable[[list[Page]], bool], lanes: int = 1) -> float | None:
    now = time.monotonic()
    # Without the time that it took to start curl, and to log in.
    return now - sum(reply.seconds for reply in visit.replies) / lanes if test(visit.pages) else None


def _plaintext(test: Callable[[Response], bool]) -> Question:
    """Whether ratings' answer to a pod without a sidecar is like that."""

    def asked(bookinfo: Bookinfo) -> float | None:
        request = Request(url=bookinfo.service_url("ratings", PATHS["ratings"]), user_agent=NAME)
        new = test(curl.send(bookinfo.context.pods.get(OUTSIDE), request))
        return time.monotonic() if new else None

    return asked


def _ejecting(bookinfo: Bookinfo) -> float | None:
    # Only who is asked finds out.
    bookinfo.visit(NAME, 8)
    now = time.monotonic()
    health = bookinfo.sidecars("reviews", "v2").health(Cluster(PORT, "", bookinfo.host("ratings")))
    return now if any("/failed_outlier_check" in flags for flags in health.values()) else None


SIGNS: Mapping[Step, tuple[str, int, Question]] = {
    "all-v1": ("8 of 8 by v1", LIKELY, _pages(lambda pages: {page.version for page in pages} == {"v1"}, 8)),
    "jason-exact": ("jason: v2", SURE, _page(lambda page: page.version == "v2", "jason")),
    "jason-prefix": ("jasper: v2", SURE, _page(lambda page: page.version == "v2", "jasper")),
    "jason-regex": ("jan: v2", SURE, _page(lambda page: page.version == "v2", "jan")),
    "delay": (f"jason: nothing in {PATIENCE} s", LIKELY, _page(lambda page: page.status == 0, "jason")),
    "abort": ("jason: no ratings, at once", SURE, _page(lambda page: not page.ratings, "jason")),
    "shift-50": ("some of 10 by v3", LIKELY, _pages(lambda pages: any(page.version == "v3" for page in pages), 10)),
    "shift-10": (
        "at most 8 of 30 by v3",
        LIKELY,
        _pages(lambda pages: sum(page.version == "v3" for page in pages) <= 8, 30),
    ),
    "timeout": ("no reviews", LIKELY, _page(lambda page: page.status == 200 and page.version is None)),
    "faulty": ("some of 10 without ratings", LIKELY, _pages(lambda pages: any(not page.ratings for page in pages), 10)),
    "retries": ("8 of 8 with stars", LIKELY, _pages(lambda pages: all(page.whole for page in pages), 8)),
    "outlier-detection": ("a pod of ratings is ejected", LIKELY, _ejecting),
    "circuit-breaker": (
        "some of 6 at once without reviews",
        LIKELY,
        _pages(lambda pages: any(page.status == 200 and page.version is None for page in pages), 6, 6),
    ),
    "permissive": ("plaintext: 200", SURE, _plaintext(lambda response: response.status == 200)),
    "strict": ("plaintext: exit 56", SURE, _plaintext(lambda response: response.exit_code == curl.READ_FAILED)),
    "allow-nothing": ("page: 403", SURE, _page(lambda page: page.status == 403)),
    "productpage-viewer": ("page: 200", SURE, _page(lambda page: page.status == 200)),
    "details-viewer": ("details", SURE, _page(lambda page: page.details)),
    "reviews-viewer": ("reviews", SURE, _page(lambda page: page.version is not None)),
    "ratings-viewer": ("10 of 10 whole", LIKELY, _pages(lambda pages: all(page.whole for page in pages), 10)),
}
"""In words, so many samples in a row, and the question. The old behaviour is that of the stage before."""
