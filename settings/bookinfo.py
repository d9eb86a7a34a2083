"""Settings of the scenario `bookinfo`: routing, resilience and authorization in stages (source: KANS 7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal, get_args

from settings.http_gateway import HttpGateway
from settings.model import Model, Namespace, Problem, Resources, matching

NO_MESH: Final = "no-mesh"

Step = Literal[
    "no-mesh",
    "no-rules",
    "all-v1",
    "jason-exact",
    "jason-prefix",
    "jason-regex",
    "delay",
    "abort",
    "shift-50",
    "shift-10",
    "timeout",
    "faulty",
    "retries",
    "outlier-detection",
    "circuit-breaker",
    "permissive",
    "strict",
    "allow-nothing",
    "productpage-viewer",
    "details-viewer",
    "reviews-viewer",
    "ratings-viewer",
]
"""The stages in their order. The last four add to one another; each of the others replaces the one before."""

STEPS: tuple[Step, ...] = get_args(Step)


class Images(Model):
    """Bookinfo's images as Istio publishes them: <registry>/examples-bookinfo-<application>-<version>:<tag>."""

    registry: Annotated[
        str,
        matching(
            r"[a-z0-9][-a-z0-9.]*(:[0-9]+)?(/[a-z0-9][-a-z0-9._]*)+",
            "a registry's host and a path without '/' at the end, for example docker.io/istio",
        ),
    ] = "docker.io/istio"
    tag: Annotated[
        str, matching(r"[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}", "an image's tag in quotes, for example '1.20.3'")
    ] = "1.20.3"

    def of(self, app: str, version: str) -> str:
        """The image of an application's version, for example of `reviews`, `v2`."""
        return f"{self.registry}/examples-bookinfo-{app}-{version}:{self.tag}"


class BookinfoSettings(Model):
    """Bookinfo at one of its stages."""

    namespace: Namespace = "bookinfo"
    gateway_namespace: Namespace = "bookinfo-ingress"
    """Of the gateway in front of it: what is closed in the other one does not close the gateway."""

    step: Step = "ratings-viewer"
    images: Images = Images()
    gateway: HttpGateway
    """There is none at the step no-mesh."""

    resources: Resources = Resources(cpu="10m", memory="64Mi")
    """Of each application's container."""

    @property
    def made_namespaces(self) -> tuple[tuple[str, str], ...]:
        """The namespaces that it makes: key in this section, name."""
        return (("namespace", self.namespace), ("gatewayNamespace", self.gateway_namespace))

    def problems(self) -> Iterator[Problem]:
        yield from (problem.below("gateway") for problem in self.gateway.problems())
