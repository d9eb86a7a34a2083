"""Settings of Istio itself (`istio`) and of the layer `mesh`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from settings.model import DnsLabel, HostName, Model, Port, Problem, Replicas, Resources, matching

IstioVersion = Annotated[str, matching(r"1\.[0-9]+\.[0-9]+", "an Istio version, for example 1.31.1")]


class IstioSettings(Model):
    """Which Istio, and where its charts and images come from; every gateway is of the same version as istiod."""

    version: IstioVersion = "1.31.1"
    charts: Annotated[
        str, matching(r"(https|oci)://\S+|(?!.*://).+", "https://..., oci://... or the path of a directory")
    ] = "https://istio-release.storage.googleapis.com/charts"
    """A Helm repository (https://, oci://) or a directory that holds base, istiod and gateway."""

    hub: str = "registry.istio.io/release"
    """The registry and prefix of pilot and proxyv2; a mirror of your own for nodes without internet."""

    platform: Literal["", "gke", "k3d", "k3s", "microk8s", "minikube", "openshift"] = ""
    values: dict[str, Any] = {}
    """Further values of the istiod chart; they win over the program's own."""

    @property
    def in_repository(self) -> bool:
        """Whether the charts' place holds several versions."""
        return self.charts.startswith(("https://", "oci://"))

    def at(self, version: str | None) -> IstioSettings:
        """The same at another version, if one is given."""
        return self.model_copy(update={"version": version}) if version else self


class Canary(Model):
    """A second istiod beside the first: the new one before `mesh.revision` is given to it, the old one afterwards.

    Both have the same mesh configuration, replicas and resources. Reference: Istio, "Canary Upgrades".
    """

    revision: DnsLabel
    version: IstioVersion | None = None
    """Its Istio; `istio.version` when left out."""

    namespaces: tuple[DnsLabel, ...] = ()
    """Those that follow it instead of the mesh's first revision tag; their pods do so when they are made anew."""

    def problems(self) -> Iterator[Problem]:
        for namespace, times in Counter(self.namespaces).items():
            if times > 1:
                yield Problem(key="namespaces", message=f"'{namespace}' is there {times} times; name each once")


class TracingProvider(Model):
    """Where proxies send spans when a Telemetry resource says that they do; without one nobody does.

    It may be there before what it names. Reference: Istio, "OpenTelemetry" (Distributed Tracing).
    """

    service: HostName
    """Host name of the collector's Service, which takes OpenTelemetry's protocol by gRPC."""

    port: Port = 4317
    max_tag_length: Annotated[int, Field(ge=1)] = 256
    """Of the path in a span, in characters; what is longer is cut off."""


class IstiodMesh(Model):
    """Istio's own control plane, in the cluster: mesh-wide are STRICT mutual TLS and REGISTRY_ONLY, nothing else."""

    kind: Literal["istiod"] = "istiod"
    revision: DnsLabel
    """The control plane's revision, for example 1-31-1."""

    revision_tags: Annotated[tuple[DnsLabel, ...], Field(min_length=1)] = ("stable",)
    """Names for the revision; namespaces follow the first by their label istio.io/rev."""

    canary: Canary | None = None

    trust_domain: Annotated[
        str, matching(r"[a-z0-9._-]{1,255}", "lower-case letters, digits, '.', '-' and '_', for example cluster.local")
    ] = "cluster.local"
    replicas: Replicas = Replicas()
    resources: Resources = Resources(cpu="500m", memory="2048Mi")
    tracing: TracingProvider | None = None

    @property
    def revisions(self) -> tuple[str, ...]:
        """Every revision whose istiod there is; each has the service account istiod-<revision>."""
        return (self.revision, *((self.canary.revision,) if self.canary else ()))

    @property
    def moved(self) -> dict[str, str]:
        """Namespaces that follow another revision than the tags', with its name."""
        return dict.fromkeys(self.canary.namespaces, self.canary.revision) if self.canary else {}

    def problems(self) -> Iterator[Problem]:
        yield from (problem.below("replicas") for problem in self.replicas.problems())
        for tag, times in Counter(self.revision_tags).items():
            if times > 1:
                yield Problem(key="revisionTags", message=f"'{tag}' is there {times} times; name each tag once")
        for revision in self.revisions:
            if revision in self.revision_tags:
                yield Problem(
                    key="revisionTags", message=f"'{revision}' is the revision itself; a tag needs another name"
                )
        if self.canary is not None:
            yield from (problem.below("canary") for problem in self.canary.problems())
            if self.canary.revision == self.revision:
                yield Problem(
                    key="canary.revision",
                    message=f"'{self.revision}' is mesh.revision too; a second istiod needs another",
                )


class ManagedMesh(Model):
    """The managed control plane of a fleet in Google Cloud, mesh-wide STRICT and REGISTRY_ONLY too.

    It has a CA, a revision and images of its own: there is no layer `authority`, and settings of istiod do not apply.
    """

    kind: Literal["managed"]
    namespace: Literal["istio-system"] = "istio-system"
    """Where the managed control plane keeps its own; it knows no other."""

    channel: Literal["rapid", "regular", "stable"] = "regular"
    """Its release channel, which follows the cluster's."""

    fleet_feature: Literal["create", "existing"] = "create"
    """A project's fleet has the feature once: `existing` where another cluster's stack has enabled it."""

    kubectl_image: str = "registry.k8s.io/kubectl:v1.34.4"
    """Image of the Job that waits in the cluster until the control plane is there."""

    @staticmethod
    def channel_of(release_channel: str) -> str:
        """The mesh's channel in a cluster of this release channel."""
        return {"RAPID": "rapid", "STABLE": "stable"}.get(release_channel, "regular")


def _kind(value: Any) -> Any:
    return value.get("kind", "istiod") if isinstance(value, dict) else getattr(value, "kind", None)


MeshSettings = Annotated[
    Annotated[IstiodMesh, Tag("istiod")] | Annotated[ManagedMesh, Tag("managed")], Discriminator(_kind)
]
"""The layer `mesh`; istiod where no kind is given."""
