"""Settings of the scenario `observability`: metrics, traces and dashboards of the mesh (source: the Istio labs, Kiali).

Versions are those of Istio 1.31's own samples/addons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from settings.mesh import IstiodMesh
from settings.model import Cidr, DnsLabel, Model, Namespace, Port, Problem, Quantity, Resources, matching

ChartVersion = Annotated[str, matching(r"[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?", "a version, for example 1.2.3")]
Repository = Annotated[str, matching(r"(https|oci)://\S+|(?!.*://).+", "https://..., oci://... or a directory's path")]
"""A Helm repository (https://, oci://) or a directory that holds the chart."""

JAEGER = "jaeger"
OTLP_PORT = 4317
"""Of OpenTelemetry's protocol by gRPC."""

MIB = 2**20
UNITS = {"k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": MIB, "Gi": 2**30}
"""What the last letters of a quantity multiply it by."""


class Storage(Model):
    """Where Prometheus keeps its series."""

    size: Annotated[str, matching(r"[0-9]+(\.[0-9]+)?(k|M|G|Ki|Mi|Gi)", "a size, for example 8Gi")] = "8Gi"
    persistent: bool = False
    """Whether in a PersistentVolumeClaim; otherwise the series go with the pod, which is made anew with each change of
    its settings."""

    storage_class: DnsLabel | None = None
    """Of the claim; the cluster's default when left out."""

    @property
    def kept(self) -> str:
        """At how much its oldest series go, as Prometheus writes sizes (its MB has 1024 * 1024 bytes).

        A fifth is left for what it writes meanwhile.
        """
        return f"{int(self._bytes * 0.8 / MIB)}MB"

    @property
    def _bytes(self) -> float:
        number = self.size.rstrip("".join(UNITS))
        return float(number) * UNITS.get(self.size.removeprefix(number), 1)

    def problems(self) -> Iterator[Problem]:
        if self._bytes < 64 * MIB:
            yield Problem(key="size", message=f"is {self.size}; Prometheus needs 64Mi at least")
        if self.storage_class is not None and not self.persistent:
            yield Problem(
                key="storageClass", message="is of a claim, and there is none; set persistent, or take it out"
            )


class Prometheus(Model):
    """The metrics of istiod, of every proxy and of whatever else asks for it by annotations."""

    image: str = "docker.io/prom/prometheus:v3.11.3"
    resources: Resources = Resources(cpu="100m", memory="512Mi")
    memory_limit: Quantity = "2Gi"
    scrape_seconds: Annotated[int, Field(ge=1, le=600)] = 15
    """How often each target is asked."""

    retention: Annotated[str, matching(r"[1-9][0-9]*[hdwy]", "a number with h, d, w or y, for example 15d")] = "15d"
    """How long series are kept, as far as the storage has room."""

    storage: Storage = Storage()

    def problems(self) -> Iterator[Problem]:
        yield from (problem.below("storage") for problem in self.storage.problems())


class Jaeger(Model):
    """Where traces are kept and looked at; in memory, so they go with the pod."""

    image: str = "docker.io/jaegertracing/jaeger:2.17.0"
    resources: Resources = Resources(cpu="20m", memory="128Mi")
    memory_limit: Quantity = "1Gi"
    max_traces: Annotated[int, Field(ge=1)] = 20000
    """The oldest go when there are more."""


class Tracing(Model):
    """Whose proxies send spans; the mesh knows where to (`mesh.tracing`)."""

    namespaces: Annotated[tuple[DnsLabel, ...], Field(min_length=1)]
    """All of their proxies, those of gateways too."""

    sampling_percentage: Annotated[float, Field(ge=0, le=100)] = 1
    """How many of the requests whose trace begins there; one that comes with a trace goes by that."""

    def problems(self) -> Iterator[Problem]:
        for namespace, times in Counter(self.namespaces).items():
            if times > 1:
                yield Problem(key="namespaces", message=f"'{namespace}' is there {times} times; name each once")


class Grafana(Model):
    """Istio's dashboards, by Grafana's chart."""

    charts: Repository = "https://grafana.github.io/helm-charts"
    version: ChartVersion = "9.2.2"
    dashboards: Annotated[
        str, matching(r"https://\S+[^/]", "https://..., without '/' at the end; {version} stands for istio.version")
    ] = "https://raw.githubusercontent.com/istio/istio/{version}/manifests/addons/dashboards"
    """From where its pod loads Istio's files when it starts."""

    loader_image: str = "docker.io/curlimages/curl:8.16.0"
    """With curl, which does that."""

    resources: Resources = Resources(cpu="50m", memory="128Mi")
    values: dict[str, Any] = {}
    """Further values of the chart; they win over the program's own."""


class Kiali(Model):
    """The mesh as a graph, by Kiali's chart. Users log in with a token of the cluster."""

    charts: Repository = "https://kiali.org/helm-charts"
    version: ChartVersion = "2.27.0"
    view_only: bool = True
    """Whether it may only look; otherwise whoever uses it changes Istio's resources."""

    resources: Resources = Resources(cpu="10m", memory="64Mi")
    memory_limit: Quantity = "1Gi"
    values: dict[str, Any] = {}
    """Further values of the chart; they win over the program's own."""


class ObservabilitySettings(Model):
    """Prometheus always; Jaeger, Grafana and Kiali where their sections are there. All inside the cluster only."""

    namespace: Namespace = "observability"
    prometheus: Prometheus = Prometheus()
    jaeger: Jaeger | None = None
    tracing: Tracing | None = None
    grafana: Grafana | None = None
    kiali: Kiali | None = None
    dns_addresses: tuple[Cidr, ...] = ()
    """Where names are asked besides kube-system's pods, for example 169.254.20.10/32 (NodeLocal DNSCache)."""

    api_server_ports: Annotated[tuple[Port, ...], Field(min_length=1)] = (443, 6443)
    """Of the API server itself, behind its Service."""

    @property
    def made_namespaces(self) -> tuple[tuple[str, str], ...]:
        """The namespaces that it makes: key in this section, name."""
        return (("namespace", self.namespace),)

    @property
    def traced(self) -> tuple[str, ...]:
        """The namespaces whose proxies send spans."""
        return self.tracing.namespaces if self.tracing else ()

    @property
    def collector(self) -> str:
        """Host name of Jaeger's Service, which takes spans on the port 4317."""
        return f"{JAEGER}.{self.namespace}.svc.cluster.local"

    def problems(self) -> Iterator[Problem]:
        yield from (problem.below("prometheus") for problem in self.prometheus.problems())
        if self.tracing is not None:
            yield from (problem.below("tracing") for problem in self.tracing.problems())
        if self.namespace in self.traced:
            yield Problem(
                key="tracing.namespaces", message=f"has '{self.namespace}', where no proxies are; take it out"
            )


def misfits(observability: ObservabilitySettings, mesh: Any) -> Iterator[Problem]:
    """Problems between this section and the mesh of the same stack; `mesh` is its section, None where it has none."""
    if mesh is None or observability.tracing is None:
        return
    if not isinstance(mesh, IstiodMesh):
        yield Problem(
            key="observability.tracing",
            message="needs a provider in the mesh's configuration, which the managed mesh does not take from here; "
            "take it out, or use istiod",
        )
    elif mesh.tracing is None:
        yield Problem(
            key="mesh.tracing",
            message="is missing; the proxies of observability.tracing.namespaces would not know where to send spans: "
            f"name the collector's service{f', {observability.collector}' if observability.jaeger else ''}",
        )
    elif observability.jaeger and (mesh.tracing.service, mesh.tracing.port) != (observability.collector, OTLP_PORT):
        yield Problem(
            key="mesh.tracing.service",
            message=f"is {mesh.tracing.service}:{mesh.tracing.port}, but Jaeger will be at "
            f"{observability.collector}:{OTLP_PORT}: spans would not come to it",
        )
