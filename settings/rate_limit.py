"""Settings of the scenario `rate_limit`: local and global rate limits (source: Istio, Traffic Management)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import Field

from settings.mesh import IstioSettings, ManagedMesh
from settings.model import DnsLabel, Model, Namespace, Problem, Resources, matching

Unit = Literal["second", "minute", "hour", "day"]

SECONDS: dict[Unit, int] = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
"""How long each is."""

OLDEST = (1, 28)
"""The first Istio whose proxies make a limit's descriptors in the filter (Envoy 1.36)."""


class Limit(Model):
    """How many requests a path may get in a unit of time; the others are answered 429."""

    path: Annotated[
        str,
        matching(r"/anything(/[A-Za-z0-9._~-]+)+", "a path below /anything, where the application answers everything"),
    ]
    """It and what is below it, for example /anything/orders."""

    header: (
        Annotated[str, matching(r"[a-z0-9]+(-[a-z0-9]+)*", "a header's name in lower case, for example x-client")]
        | None
    ) = None
    """Each of its values has a count of its own; requests without it are counted together. All requests are, when no
    header is named."""

    requests_per_unit: Annotated[int, Field(ge=1)]
    unit: Unit


class RateLimitService(Model):
    """Envoy's rate-limit service."""

    image: str = "docker.io/envoyproxy/ratelimit:3fb70258"
    replicas: Annotated[int, Field(ge=1)] = 2
    resources: Resources = Resources(cpu="50m", memory="64Mi")


class Redis(Model):
    """Where the rate-limit service counts. What it holds is worth nothing once its window is over."""

    image: str = "docker.io/library/redis:7.4"
    resources: Resources = Resources(cpu="50m", memory="64Mi")


class RateLimitSettings(Model):
    """An application in two replicas: limits that each proxy counts by itself, and limits that a service counts."""

    namespace: Namespace = "rate-limit"

    local_limits: Annotated[tuple[Limit, ...], Field(min_length=1)]
    """Of each replica's own proxy: the application as a whole lets as many times more through as it has replicas."""

    global_limits: Annotated[tuple[Limit, ...], Field(min_length=1)]
    """Of all replicas together."""

    failure_mode: Literal["deny", "allow"] = "deny"
    """What becomes of requests with a global limit while the rate-limit service does not answer: 500, or let through
    uncounted."""

    application_image: str = "docker.io/mccutchen/go-httpbin:2.26.0"
    service: RateLimitService = RateLimitService()
    redis: Redis = Redis()

    metrics_from: tuple[DnsLabel, ...] = ()
    """Namespaces whose pods may read the metrics of Redis' proxy (port 15020), for example that of Prometheus."""

    @property
    def made_namespaces(self) -> tuple[tuple[str, str], ...]:
        """The namespaces that it makes: key in this section, name."""
        return (("namespace", self.namespace),)

    def problems(self) -> Iterator[Problem]:
        keyed = [
            (f"{key}[{index}].path", limit.path)
            for key, limits in (("localLimits", self.local_limits), ("globalLimits", self.global_limits))
            for index, limit in enumerate(limits)
        ]
        for (first, path), (second, other) in combinations(keyed, 2):
            if f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/"):
                yield Problem(
                    key=second,
                    message=f"'{other}' and '{path}' ({first}) overlap, so that requests would count for both limits; "
                    "give each limit a path that no other one includes",
                )


def misfits(mesh: Any, istio: IstioSettings | None) -> Iterator[Problem]:
    """Problems between this section and the mesh of the same stack; `mesh` is its section, None where it has none."""
    if isinstance(mesh, ManagedMesh):
        yield Problem(
            key="rate_limit",
            message="needs EnvoyFilters, which the managed mesh does not take; take the layer out, or use istiod",
        )
    if istio is not None and tuple(map(int, istio.version.split(".")[:2])) < OLDEST:
        yield Problem(
            key="istio.version",
            message=f"is {istio.version}, whose proxies would leave rate_limit's limits out without a word; "
            f"use {'.'.join(map(str, OLDEST))}.0 or later",
        )
