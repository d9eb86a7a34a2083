"""What the probes of the scenario `external` share: the steps' pods, and what became of their requests."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from lightkube.models.core_v1 import Toleration
from lightkube.resources.core_v1 import Pod

from components.external.istio import MODES
from settings.external import ExternalSettings, Step
from verify import curl
from verify.context import Context, user_agent
from verify.curl import Request, Response
from verify.exchange import differs
from verify.logs import BLACK_HOLE, BLOCKING_ROUTE, AccessLogLine
from verify.pods import ProbePod
from verify.tenants import trust
from verify.workload import Workload, annotate

SCENARIO = "external"

PASSTHROUGH = "PassthroughCluster"
BLACK_HOLE_COUNTERS = rf"tcp\.{BLACK_HOLE}"
CLOSED = (curl.EMPTY, curl.READ_FAILED)
"""How a connection ends that is closed before there was an answer."""


def caller(external: ExternalSettings, step: Step) -> Workload:
    """A pod in a step's namespace, on the nodes from which traffic may go straight out."""
    placed = _Placed(
        tuple(sorted(external.nodes.labels.items())),
        tuple((taint.key, taint.value, taint.effect) for taint in external.nodes.taints),
    )
    return Workload(step, in_mesh=step in MODES, namespace=external.namespaces[step], change=placed)


@dataclass(frozen=True)
class _Placed:
    labels: tuple[tuple[str, str], ...]
    taints: tuple[tuple[str, str, str], ...]

    def __call__(self, pod: Pod) -> None:
        assert pod.spec is not None
        pod.spec.nodeSelector = dict(self.labels)
        pod.spec.tolerations = [
            Toleration(key=key, operator="Equal", value=value, effect=effect) for key, value, effect in self.taints
        ]
        # Istio has Envoy keep no counters of its BlackHoleCluster otherwise.
        matcher = {"proxyStatsMatcher": {"inclusionPrefixes": [f"tcp.{BLACK_HOLE}"]}}
        annotate(pod, {"proxy.istio.io/config": json.dumps(matcher)})


@dataclass(frozen=True, kw_only=True)
class Right:
    """What must come back, and what the pod's sidecar must say of it."""

    words: str
    status: int = 0
    exit_codes: tuple[int, ...] = (0,)
    error: str = ""
    """What curl's own words must have in them."""

    logged: Mapping[str, str] = field(default_factory=dict)
    """Fields of AccessLogLine; empty for a pod without sidecar."""

    @property
    def passes(self) -> bool:
        """Whether it gets to where it was sent."""
        return self.status == 200

    def faults(self, exchange: Exchange) -> list[str]:
        """Where they differ."""
        response, line = exchange.response, exchange.line
        faults = []
        if response.exit_code not in self.exit_codes or self.error not in response.error:
            faults.append(f"it is not {self.words}")
        else:
            faults += differs("status", response.status, self.status)
        if not self.logged:
            return faults
        if line is None:
            return [*faults, "its sidecar does not log it"]
        logged = {name: getattr(line, name) for name in self.logged}
        return faults + [
            fault
            for name, value in self.logged.items()
            for fault in differs(f"the sidecar's {name.replace('_', ' ')}", logged[name], value)
        ]


def sent(cluster: str) -> Right:
    """An answer of the other side, by this cluster of the sidecar."""
    return Right(words="200", status=200, logged={"upstream_cluster": cluster})


def blocked() -> Right:
    """An answer of the sidecar's own, as it knows no such host (http)."""
    return Right(
        words="502 of its own sidecar", status=502, logged={"response_code": "502", "route_name": BLOCKING_ROUTE}
    )


def swallowed(*exit_codes: int) -> Right:
    """A connection that the sidecar closes, as it knows no such host."""
    return Right(words="closed by its own sidecar", exit_codes=exit_codes, logged={"upstream_cluster": BLACK_HOLE})


@dataclass(frozen=True)
class Exchange:
    """A request of a pod, and what its sidecar says of it."""

    pod: ProbePod
    response: Response
    line: AccessLogLine | None
    agent: str
    """The request's user agent, which no other has."""

    start: float
    """When it began, as `time.monotonic()`."""

    @property
    def address(self) -> str:
        """The pod's."""
        return self.response.local.rpartition(":")[0]

    @property
    def evidence(self) -> str:
        """The sidecar's line."""
        return f"sidecar of {self.pod.name}: {self.line}" if self.line else ""


def ask(context: Context, row: str, pod: ProbePod, url: str, proxy: str | None = None) -> Exchange:
    """Ask from a pod; inside TLS its sidecar sees no user agent, but the pod's address and port."""
    agent, start = user_agent(row), time.monotonic()
    response = curl.send(pod, Request(url=url, user_agent=agent, trust=trust(context), proxy=proxy))
    line = None
    if pod.workload.in_mesh:
        line = pod.proxies.line(
            lambda line: line.user_agent == agent or line.downstream_remote_address == response.local, start
        )
    return Exchange(pod, response, line, agent, start)


def url(scheme: str, host: str) -> str:
    """A host's front page."""
    return f"{scheme}://{host}/"
