"""A Bookinfo that does, at each of its steps, what the source document says; each part of that can be broken."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from settings.bookinfo import STEPS, Step
from tests.unit.test_verify_pods import Cluster
from tests.unit.verify_fakes import log_line, option, transfer
from verify.shell import Completed

GATEWAY = {"address": "10.0.0.11", "port": 30051}
CONTRACTS: dict[str, dict[str, Any]] = {
    "mesh": {"trust_domain": "cluster.local"},
    "bookinfo": {"namespace": "bookinfo", "gateways": {"bookinfo-gateway": GATEWAY}},
}

APPS = ("productpage", "details", "reviews", "ratings")
RULES = STEPS[STEPS.index("all-v1") : STEPS.index("permissive")]
FAULTY = ("faulty", "retries", "outlier-detection")
VIEWERS = STEPS[STEPS.index("allow-nothing") :]
SUBSETS = {
    "productpage": ("v1",),
    "details": ("v1", "v2"),
    "reviews": ("v1", "v2", "v3"),
    "ratings": ("v1", "v2", "v2-mysql", "v2-mysql-vm"),
}

STARS = '<svg id="glyphicon glyphicon-star" class="h-5 w-5 flex-none"></svg>\n' * 9
UNAVAILABLE = '<p class="text-red-500">Ratings service is currently unavailable</p>'
NONE = "rbac_access_denied_matched_policy[none]"


def identity(namespace: str, account: str) -> str:
    return f"spiffe://cluster.local/ns/{namespace}/sa/{account}"


class Bookshop(Cluster):
    """The cluster. `broken` names what is not as it should be."""

    def __init__(self, step: Step, broken: str = "") -> None:
        super().__init__()
        self.step = step
        self.broken = broken
        self.chance = random.Random(7)
        self.retries = 0
        self.overflows = 0
        self.at_once = 0
        """Requests for reviews so far, of those that come at once."""
        self.ejected = False
        self.port = 40000

    # What the API server and the proxies' administration say.

    def running(self, namespace: str, labels: dict[str, str]) -> list[Any]:
        if self.broken == "no faulty pod":
            return []
        names = ["istio-proxy", "app"] if self.step != "no-mesh" or self.broken == "a sidecar is left" else ["app"]
        spec = SimpleNamespace(containers=[SimpleNamespace(name=name) for name in names], initContainers=None)
        metadata = SimpleNamespace(name="reviews-v1-1", deletionTimestamp=None)
        return [SimpleNamespace(metadata=metadata, spec=spec, status=SimpleNamespace(podIP="10.1.0.8"))]

    def run(
        self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float, stdin: str = ""
    ) -> Completed:
        if command[0] == "pilot-agent":
            return Completed(0, self._administration(command[-1]), "")
        return self._from_pod(pod, namespace, command)

    def _administration(self, path: str) -> str:
        if path.startswith("stats"):
            if self.broken == "no counters":
                return ""
            host = "bookinfo.svc.cluster.local;"
            return (
                f"cluster.outbound|9080|v-faulty|ratings.{host}.upstream_rq_retry: {self.retries}\n"
                f"cluster.outbound|9080|v2|reviews.{host}.upstream_rq_pending_overflow: {self.overflows}\n"
            )
        if path == "clusters":
            name = "outbound|9080||ratings.bookinfo.svc.cluster.local"
            flags = "/failed_outlier_check" if self.ejected and self.broken != "not ejected" else "healthy"
            hosts = f"{name}::10.1.0.7:9080::health_flags::healthy\n"
            if self.broken != "no faulty pod":
                hosts += f"{name}::10.1.0.8:9080::health_flags::{flags}\n"
            return hosts + "".join(
                f"outbound|9080|{subset}|{app}.bookinfo.svc.cluster.local::10.1.0.7:9080::cx_active::0\n"
                for app in APPS
                for subset in SUBSETS[app]
                if self.step in RULES and (self.broken != "a subset is missing" or subset != "v3")
            )
        assert path.endswith("name_regex=9080")
        known = [{"name": f"{app}.bookinfo.svc.cluster.local:9080", "routes": self._routes(app)} for app in APPS]
        return json.dumps({"configs": [{"route_config": {"virtual_hosts": known}}]})

    def _routes(self, app: str) -> list[dict[str, Any]]:
        subset = "v1" if self.step in RULES and self.broken != f"no route of {app}" else ""
        route: dict[str, Any] = {"route": {"cluster": f"outbound|9080|{subset}|{app}.bookinfo.svc.cluster.local"}}
        if app != "ratings" or self.step != "delay":
            return [route]
        delay = {"delay": {"fixed_delay": "4s" if self.broken == "shorter delay" else "7s"}}
        return [{**route, "typed_per_filter_config": {"envoy.filters.http.fault": delay}}, route]

    # Who asks.

    def _from_pod(self, pod: str, namespace: str, command: Sequence[str]) -> Completed:
        path, count = _asked(command)
        app = re.match(r"http://(\w+)\.bookinfo\.svc\.cluster\.local:9080", command[-1])[1]  # type: ignore[index]
        in_mesh = pod == "caller"
        plain = self.step in ("no-mesh", "permissive") or self.broken == "plaintext passes"
        if self.broken == "plaintext never passes":
            plain = False
        if not in_mesh and not plain:
            self.port += 1
            local = f"10.1.0.9:{self.port}"
            details = "filter_chain_not_found"
            self._log(app, response_code="0", response_code_details=details, downstream_remote_address=local)
            return transfer(command, exit_code=56, error="Recv failure: Connection reset by peer", local=local)
        peer = identity(namespace, pod) if in_mesh else "-"
        if self.broken == "nobody has an identity":
            peer = "-"
        return self._replies(command, [self._serve(app, path, command, None, peer) for _ in range(count)])

    def user(self, command: Sequence[str], stdin: str) -> Completed:
        """A request by the gateway."""
        path, count = _asked(command)
        cookie = re.search(r"session=(\w+)", stdin)
        user = None if cookie is None or self.broken == "sessions are lost" else cookie[1]
        return self._replies(command, [self._enter(path, command, user) for _ in range(count)])

    def _replies(self, command: Sequence[str], answers: list[tuple[int, str, float]]) -> Completed:
        parts = [transfer(command, status=status, body=body, seconds=took) for status, body, took in answers]
        return Completed(0, "".join(part.stdout for part in parts), "")

    def _enter(self, path: str, command: Sequence[str], user: str | None) -> tuple[int, str, float]:
        matches = (r"/productpage", r"/static.*", r"/login", r"/logout", r"/api/v1/products.*")
        if not any(re.fullmatch(match, path) for match in matches) and self.broken != "every path is open":
            self._log("bookinfo-gateway", agent=_agent(command), response_code="404", response_flags="NR")
            return 404, "", 0.01
        self._log("bookinfo-gateway", agent=_agent(command), to="productpage")
        gateway = identity("bookinfo-ingress", "bookinfo-gateway")
        return self._serve("productpage", path, command, user, gateway)

    def login(self, command: Sequence[str]) -> Completed:
        """The form."""
        fields = [command[index + 1] for index, word in enumerate(command) if word == "--data-urlencode"]
        user = fields[0].removeprefix("username=")
        if self.step in VIEWERS:
            return transfer(command, status=403, body="RBAC: access denied")
        cookies = [] if self.broken == "nobody can log in" else [f"session={user}; HttpOnly; Path=/"]
        return transfer(command, status=302, headers={"set-cookie": cookies})

    # What the applications and their sidecars do.

    def _serve(
        self, app: str, path: str, command: Sequence[str], user: str | None, peer: str
    ) -> tuple[int, str, float]:
        agent = _agent(command)
        if not self._let_in(app, option(command, "--request") or "GET", agent, peer):
            return 403, "RBAC: access denied", 0.01
        if app != "productpage":
            return 200, "{}", 0.01
        if path.startswith("/static"):
            return 404 if self.broken == "no static files" else 200, "", 0.01
        if path in ("/login", "/logout"):
            return 302, "", 0.01
        if path == "/api/v1/products":
            return 200, "[]", 0.01
        if path == "/api/v1/products/0":
            status = self._call("productpage", "details", agent, user)[0]
            return status, "{}", 0.01
        if path == "/api/v1/products/0/ratings":
            status, took = self._ratings("productpage", agent, user)
            return status, "{}", took
        reviews, took = self._reviews(agent, user)
        if path == "/api/v1/products/0/reviews":
            return (200, reviews, took) if reviews else (503, '{"error": "unavailable"}', took)
        details = self._call("productpage", "details", agent, user)[0]
        page = [
            "<title>Simple Bookstore App</title>",
            user or "",
            '<img src="static/img/izzy.png">',
            "<h4>Book Details</h4>" if details == 200 else "Error fetching product details",
            reviews or "Error fetching product reviews",
        ]
        return 200, "\n".join(page), took

    def _let_in(self, app: str, method: str, agent: str, peer: str) -> bool:
        if self.step in VIEWERS and self.broken != "no policies":
            opened = APPS[: VIEWERS.index(self.step)]
            if self.broken == "one policy too many" and opened:
                opened = APPS[: len(opened) + 1]
            if self.broken == "one policy too few":
                opened = APPS[: max(len(opened) - 1, 0)]
            callers = {"details": "productpage", "reviews": "productpage", "ratings": "reviews"}
            right = app == "productpage" or peer == identity("bookinfo", f"bookinfo-{callers[app]}")
            if self.broken == "policies are for everybody":
                right = True
            methods = ("GET", "POST") if self.broken == "POST is allowed" else ("GET",)
            if app not in opened or not right or method not in methods:
                by = "policy[other]" if self.broken == "another policy" else NONE
                self._log(app, agent=agent, response_code="403", response_code_details=by, peer=peer)
                return False
        self._log(app, agent=agent, response_code="200", upstream_cluster="inbound|9080||", peer=peer)
        return True

    def _call(self, app: str, to: str, agent: str, user: str | None, subset: str = "v1") -> tuple[int, float]:
        subset = subset if self.step in RULES else ""
        code = 200 if self._let_in(to, "GET", agent, identity("bookinfo", f"bookinfo-{app}")) else 403
        self._log(app, agent=agent, to=to, subset=subset, response_code=str(code))
        return code, 0.01

    def _reviews(self, agent: str, user: str | None) -> tuple[str, float]:
        """The reviews, nothing if there are none, and how long that took: productpage asks twice."""
        took = 0.0
        for _ in range(2):
            reviews, seconds = self._reviews_once(agent, user)
            took += seconds
            if reviews:
                break
        return reviews, took

    def _reviews_once(self, agent: str, user: str | None) -> tuple[str, float]:
        version = self._version(user)
        logged = {"agent": agent, "to": "reviews", "subset": version if self.step in RULES else ""}
        if self.broken == "another way":
            logged["subset"] = "v2" if version != "v2" else "v1"
        if self.step == "circuit-breaker" and self.broken != "no breaker":
            self.at_once += 1
            many = 9 if self.broken == "wide breaker" else 3
            if many < self.at_once <= 17 or self.broken == "closed for good":
                self.overflows += 1
                self._log("productpage", **logged, response_code="503", response_flags="UO")
                return "", 0.01
        if not self._let_in("reviews", "GET", agent, identity("bookinfo", "bookinfo-productpage")):
            self._log("productpage", **logged, response_code="403")
            return "", 0.01
        code, took = self._ratings("reviews", agent, user) if version != "v1" else (0, 0.01)
        if took > 3:
            self._log("productpage", **logged, response_code="0", response_flags="DC")
            return "", 3.0
        if self.step == "timeout" and self.broken != "no timeout":
            self._log("productpage", **logged, response_code="504", response_flags="UT")
            return "", 0.5
        self._log("productpage", **logged, response_code="200")
        stars = {0: "", 200: STARS}.get(code, UNAVAILABLE)
        if self.broken == "no stars":
            stars = ""
        return f"<h4>Book Reviews</h4>{stars}Reviews served by: reviews-{version}-7d8f-x2x", took

    def _version(self, user: str | None) -> str:
        patterns = {"jason-exact": "jason", "jason-prefix": "jas.*", "jason-regex": "ja.*n"}
        if self.broken in patterns:
            patterns[self.step] = patterns[self.broken]
        if self.broken == "no rules" or self.step not in RULES:
            versions = ("v1", "v2") if self.broken == "a version is missing" else ("v1", "v2", "v3")
            return self.chance.choice(versions)
        if self.step in ("shift-50", "shift-10"):
            weight = 0.5 if self.step == "shift-50" else 0.1
            return "v3" if self.chance.random() < weight + (0.25 if self.broken == "other weights" else 0) else "v1"
        if self.step in ("timeout", *FAULTY, "circuit-breaker"):
            return "v2"
        if self.step == "all-v1":
            return "v2" if self.broken == "jason is known" and user == "jason" else "v1"
        pattern = patterns.get(self.step, "jason")
        chosen = bool(user and re.fullmatch(pattern, user)) or self.broken == "everybody is jason"
        return "v2" if chosen and self.broken != "nobody is jason" else "v1"

    def _ratings(self, app: str, agent: str, user: str | None) -> tuple[int, float]:
        for_him = user == "jason" or self.broken == "everybody is jason"
        if self.step == "abort" and for_him and self.broken != "no fault":
            self._log(app, agent=agent, to="ratings", subset="v1", response_code="500", response_flags="FI")
            return 500, 0.01
        late = {"delay": 7.0 if for_him else 0.0, "timeout": 2.0, "circuit-breaker": 1.0}.get(self.step, 0.0)
        if late and self.broken != "no fault":
            self._log(app, agent=agent, to="ratings", subset="v1", response_code="200", response_flags="DI")
            return 200, late
        if self.step in FAULTY:
            return self._faulty(app, agent)
        if self.broken == "slow":
            return 200, 2.5
        return self._call(app, "ratings", agent, user)

    def _faulty(self, app: str, agent: str) -> tuple[int, float]:
        subset = "" if self.step == "outlier-detection" else "v-faulty"
        tries = 1 if self.step != "retries" or self.broken == "no retries" else 11
        share = {"never fails": 0.0, "always fails": 1.0}.get(self.broken, 0.5)
        code = 200
        for number in range(tries):
            sound = self.ejected or self.broken == "no faulty pod" or self.chance.random() < 0.5
            bad = not (self.step == "outlier-detection" and sound)
            code = 503 if bad and self.chance.random() < share else 200
            self._log("ratings", agent=agent, response_code=str(code), upstream_cluster="inbound|9080||")
            if code == 200:
                break
            self.ejected = self.step == "outlier-detection" and self.broken != "nothing is ejected"
            if number < tries - 1:
                self.retries += 1
        details = "via_upstream" if self.broken != "not its own answer" else "upstream_reset"
        logged = {"response_code": str(code), "response_code_details": details}
        self._log(app, agent=agent, to="ratings", subset=subset, **logged)
        return code, 0.01

    def _log(self, app: str, *, agent: str = "-", to: str = "", subset: str = "", **operators: str) -> None:
        if self.broken in ("no logs", f"no log of {app}"):
            return
        if to:
            operators["upstream_cluster"] = f"outbound|9080|{subset}|{to}.bookinfo.svc.cluster.local"
        if self.broken == "no flags":
            operators.pop("response_flags", None)
        self.lines.setdefault(app, []).append(log_line(user_agent=agent, **operators))


class Client:
    """Somebody on the internet."""

    name = "here"

    def __init__(self, shop: Bookshop) -> None:
        self.shop = shop
        self.commands: list[list[str]] = []

    def run(self, command: Sequence[str], timeout: float, stdin: str = "") -> Completed:
        self.commands.append(list(command))
        assert command[-1].startswith("http://10.0.0.11:30051/")
        assert option(command, "--header") == "Referer: http://10.0.0.11:30051/productpage"
        if self.shop.step == "no-mesh":
            return transfer(command, exit_code=7, error="Failed to connect")
        if "--data-urlencode" in command:
            return self.shop.login(command)
        return self.shop.user(command, stdin)


def _asked(command: Sequence[str]) -> tuple[str, int]:
    """The path, and how many times."""
    path, count = re.fullmatch(r"http://[^/]+(/[^#]*)(?:#\[1-(\d+)\])?", command[-1]).groups()  # type: ignore[union-attr]
    return path, int(count or 1)


def _agent(command: Sequence[str]) -> str:
    return option(command, "--user-agent") or ""
