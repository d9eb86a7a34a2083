"""Visits to Bookinfo: who comes, what the pages say, and what the sidecars on the way log."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from components.bookinfo.stages import GATEWAY, PORT, account
from verify import curl, mesh, traffic
from verify.context import Context, user_agent
from verify.curl import Request
from verify.envoy import Proxies
from verify.errors import VerifyError
from verify.logs import AccessLogLine
from verify.shell import Shell

SCENARIO = "bookinfo"

IN_MESH = mesh.CALLER
"""The debug pod: it has a sidecar, and an identity of another namespace."""

OUTSIDE = mesh.OUTSIDER
"""A pod without sidecar."""

PAGE = "/productpage"
REVIEWS = "/api/v1/products/0/reviews"
DETAILS = "/api/v1/products/0"
RATINGS = "/api/v1/products/0/ratings"
"""What productpage asks one of the services for and hands on as it is."""

PATHS = {"productpage": PAGE, "details": "/details/0", "reviews": "/reviews/0", "ratings": "/ratings/0"}
"""What each of the services answers itself."""

STARS = {"v1": 0, "v2": 9, "v3": 9}
"""By version of reviews: of its two reviews, five and four, if it asks ratings at all."""

VERSIONS = tuple(STARS)

NO_DETAILS = "Error fetching product details"
NO_REVIEWS = "Error fetching product reviews"
NO_RATINGS = "Ratings service is currently unavailable"

STAR = re.compile(r'glyphicon glyphicon-star"')
SERVED_BY = re.compile(r"\breviews-(v\d)-[a-z0-9]+-[a-z0-9]+")
"""The name of the pod that the reviews are of."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """An answer of productpage, as people see it."""

    status: int
    seconds: float
    details: bool
    """Whether it has the book's details."""

    version: str | None
    """Of reviews; None where it has none."""

    stars: int
    ratings: bool
    """Whether it does not say that ratings is unavailable."""

    said: str = ""
    """The answer itself, or curl's error, where it is no page."""

    @classmethod
    def of(cls, reply: traffic.Reply) -> Page:
        """Read it."""
        body = reply.body
        by = SERVED_BY.search(body)
        ok = reply.status == 200
        return cls(
            status=reply.status,
            seconds=reply.seconds,
            details=ok and NO_DETAILS not in body and "Book Details" in body,
            version=by[1] if by and NO_REVIEWS not in body else None,
            stars=len(STAR.findall(body)),
            ratings=NO_RATINGS not in body,
            said="" if ok else reply.error or body.strip()[:80],
        )

    def __str__(self) -> str:
        if self.status != 200:
            return f"{self.status} {self.said}"
        details = "details" if self.details else f"'{NO_DETAILS}'"
        stars = f"{self.stars} stars" if self.ratings else f"'{NO_RATINGS}'"
        reviews = f"reviews of {self.version}, {stars}" if self.version else f"'{NO_REVIEWS}'"
        return f"{self.status}, {details}, {reviews}, {self.seconds:.1f} s"

    @property
    def whole(self) -> bool:
        """Whether nothing is missing that its version of reviews shows."""
        return self.details and self.version in STARS and self.ratings and self.stars == STARS[self.version]


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Requests of one user, one like the other."""

    agent: str
    """Their user agent. productpage and reviews hand it on, so that every sidecar's log has it."""

    start: float
    """When they began, as `time.monotonic()`."""

    replies: list[traffic.Reply]

    @property
    def pages(self) -> list[Page]:
        """The answers as pages."""
        return [Page.of(reply) for reply in self.replies]

    @property
    def statuses(self) -> Counter[int]:
        """How many answers there are of each status."""
        return Counter(reply.status for reply in self.replies)


@dataclass(frozen=True)
class Bookinfo:
    """The live one, as the layer `bookinfo` hands it on."""

    context: Context

    @property
    def namespace(self) -> str:
        """Where its services are."""
        return str(self.context.contracts["bookinfo"]["namespace"])

    @property
    def url(self) -> str:
        """Where users reach it: the gateway, without a path."""
        gateways: dict[str, dict[str, Any]] = self.context.contracts["bookinfo"]["gateways"]
        if GATEWAY not in gateways:
            raise VerifyError(f"the stack's output bookinfo_gateways has no '{GATEWAY}': run `pulumi up`")
        return f"http://{gateways[GATEWAY]['address']}:{gateways[GATEWAY]['port']}"

    @property
    def gateway(self) -> Proxies:
        """The gateway's Envoys."""
        settings = self.context.settings.bookinfo
        assert settings is not None
        return self.context.gateway(settings.gateway_namespace, {"app": GATEWAY})

    def host(self, app: str) -> str:
        """A service's name in the cluster."""
        return f"{app}.{self.namespace}.svc.cluster.local"

    def service_url(self, app: str, path: str) -> str:
        """Where a service is reached in the cluster."""
        return f"http://{self.host(app)}:{PORT}{path}"

    def cluster(self, app: str, subset: str = "") -> str:
        """A service as a proxy names it."""
        return f"outbound|{PORT}|{subset}|{self.host(app)}"

    def identity(self, app: str) -> str:
        """The SPIFFE id of a service's pods."""
        return f"spiffe://{self.context.contracts['mesh']['trust_domain']}/ns/{self.namespace}/sa/{account(app)}"

    def sidecars(self, app: str, version: str | None = None) -> Proxies:
        """The sidecars of a service's pods, of one version or of all."""
        return self.context.gateway(self.namespace, {"app": app} | ({"version": version} if version else {}))

    def visit(
        self,
        row: str,
        count: int = 1,
        *,
        user: str | None = None,
        path: str = PAGE,
        lanes: int = 1,
        method: str = "GET",
    ) -> Visit:
        """Ask from a client outside the cluster, a user being logged in first. Raises VerifyError when that fails."""
        client = self.context.clients[0]
        cookie = {} if user is None else {"Cookie": self._login(client, row, user)}
        request = Request(
            url=f"{self.url}{path}", user_agent="", method=method, headers=self._headers(), secret_headers=cookie
        )
        return visit(client, row, request, count, lanes)

    def _login(self, client: Shell, row: str, user: str) -> str:
        """The session of somebody who has logged in by the page's form."""
        response = curl.send(
            client,
            Request(
                url=f"{self.url}/login",
                user_agent=user_agent(row),
                headers=self._headers(),
                form={"username": user, "passwd": ""},
            ),
        )
        for cookie in response.headers.get("set-cookie", []):
            if cookie.startswith("session="):
                return cookie.partition(";")[0]
        raise VerifyError(f"{user} cannot log in: POST /login answers {response}, without a session")

    def _headers(self) -> dict[str, str]:
        # Whoever logs in or out is sent back to where he came from.
        return {"Referer": f"{self.url}{PAGE}"}

    def inbound(self, app: str, visit: Visit, least: int = 1) -> list[AccessLogLine]:
        """What a service's own sidecars say of requests of a visit that came to it: `least`, if they are there."""
        return self.sidecars(app).lines(
            lambda line: line.user_agent == visit.agent and line.upstream is None, visit.start, least
        )

    def outbound(
        self,
        app: str,
        to: str,
        visit: Visit,
        least: int = 1,
        match: Callable[[AccessLogLine], bool] = lambda line: True,
    ) -> list[AccessLogLine]:
        """What a service's sidecars say of the requests that it made of another for a visit, as far as they match."""
        host = self.host(to)
        return self.sidecars(app).lines(
            lambda line: (
                line.user_agent == visit.agent
                and line.upstream is not None
                and line.upstream.host == host
                and match(line)
            ),
            visit.start,
            least,
        )


def visit(shell: Shell, row: str, request: Request, count: int = 1, lanes: int = 1) -> Visit:
    """Ask with a user agent of its own."""
    agent, start = user_agent(row), time.monotonic()
    replies = traffic.send(shell, replace(request, user_agent=agent), count, lanes)
    return Visit(agent=agent, start=start, replies=replies)


def answered(line: AccessLogLine) -> bool:
    """Whether the other side answered 200. On a busy machine productpage may have to ask twice."""
    return line.response_code == "200"


def flagged(flag: str, code: str | None = None) -> Callable[[AccessLogLine], bool]:
    """Whether Envoy says so by a response flag, beside this response code or any."""
    return lambda line: flag in line.response_flags.split(",") and code in (None, line.response_code)


def said(who: str, lines: list[AccessLogLine]) -> str:
    """Lines as evidence: how many, and the first."""
    if not lines:
        return ""
    several = f" ({len(lines)} lines, the first)" if len(lines) > 1 else ""
    return f"{who}{several}: {lines[0]}"


def versions(pages: Iterable[Page]) -> Counter[str]:
    """How many pages have reviews of each version."""
    return Counter(page.version or "none" for page in pages)


def listed(counts: Counter[str]) -> str:
    """Counts in words: v1 353, v3 47."""
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items())) or "nothing"


def wrong_pages(pages: list[Page], right: Callable[[Page], bool], words: str) -> list[str]:
    """The fault, if some pages are not as they should be."""
    wrong = [page for page in pages if not right(page)]
    return [f"{len(wrong)} of {len(pages)} pages are not {words}, the first: {wrong[0]}"] if wrong else []
