"""Settings of the layer `cluster`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Annotated, Literal

from pydantic import Field

from settings.cluster_eks import EksCluster
from settings.model import Cidr, DnsLabel, Model, Problem, Replicas, matching


class Taint(Model):
    """A taint that every node of a pool carries."""

    key: str
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}"


class NodePool(Model):
    """Nodes that carry the same labels and taints."""

    name: DnsLabel
    count: Annotated[int, Field(ge=1)] = 1
    """How many nodes there must be at least."""

    labels: Annotated[dict[str, str], Field(min_length=1)]
    """The labels that tell a node of this pool from every other."""

    taints: tuple[Taint, ...] = ()


class ClusterCidrs(Model):
    """The address ranges of the cluster. They must not overlap."""

    nodes: Cidr
    pods: Cidr
    services: Cidr

    def problems(self) -> Iterator[Problem]:
        ranges = {"nodes": self.nodes, "pods": self.pods, "services": self.services}
        for (one, a), (other, b) in combinations(ranges.items(), 2):
            if a.overlaps(b):
                yield Problem(key=one, message=f"{a} overlaps {other} ({b}); the ranges must be disjoint")


class OnpremCluster(Model):
    """An existing Kubernetes cluster, reached by kubeconfig; it is checked before anything is made."""

    kind: Literal["onprem"]
    kubeconfig: str = "~/.kube/config"
    """Path of the kubeconfig file."""

    context: str | None = None
    """Its context; the file's current context when left out."""

    minimum_version: Annotated[str, matching(r"1\.[0-9]+", "a Kubernetes minor version, for example 1.32")] = "1.32"
    """The oldest Kubernetes minor version that is accepted."""

    cidrs: ClusterCidrs
    node_pools: Annotated[tuple[NodePool, ...], Field(min_length=1)]

    def problems(self) -> Iterator[Problem]:
        yield from (problem.below("cidrs") for problem in self.cidrs.problems())
        names = [pool.name for pool in self.node_pools]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Problem(key=f"nodePools[{index}].name", message=f"'{name}' names two pools; names must differ")
        for (i, a), (j, b) in combinations(enumerate(self.node_pools), 2):
            if a.labels.items() <= b.labels.items() or b.labels.items() <= a.labels.items():
                yield Problem(
                    key=f"nodePools[{j}].labels",
                    message=f"do not tell pool '{b.name}' from '{a.name}' (nodePools[{i}]); "
                    "give each a label value of its own",
                )


class AuthorizedNetwork(Model):
    """Who may reach the control plane's addresses besides its nodes and their pods."""

    name: str
    cidr: Cidr


class ControlPlane(Model):
    """How the control plane is reached; nodes and pods reach it at its private address in any case."""

    public: bool = False
    """Whether it has a public address too."""

    authorized_networks: tuple[AuthorizedNetwork, ...] = ()
    """Of the private address these are networks of the VPC and what is connected to it."""

    dns_endpoint: bool = True
    """Whether it is also reached by its DNS name, from anywhere, guarded by IAM; kubeconfig then names that."""

    def problems(self) -> Iterator[Problem]:
        if self.public and not self.authorized_networks:
            yield Problem(key="authorizedNetworks", message="is empty; a public address needs to know who may use it")
        for index, network in enumerate(self.authorized_networks):
            if network.cidr.prefixlen == 0:
                yield Problem(key=f"authorizedNetworks[{index}].cidr", message="is everybody; name the networks")


PoolName = Annotated[
    str,
    matching(r"[a-z]([-a-z0-9]{0,37}[a-z0-9])?", "at most 39 lower-case letters, digits and '-', a letter first"),
]
"""Of a node pool in GKE; its nodes are labelled with it."""


class GkeNodePool(Model):
    """The application node pool."""

    name: PoolName = "application"
    machine_type: str = "e2-standard-4"
    nodes: Replicas = Replicas(min=1, max=3)
    """Nodes in each of the cluster's zones: the autoscaler moves between the two."""


class GkeCluster(Model):
    """A private, VPC-native GKE cluster with Dataplane V2, Workload Identity and Shielded nodes."""

    kind: Literal["gke"]
    name: Annotated[
        str,
        matching(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", "at most 40 lower-case letters, digits and '-', a letter first"),
    ] = "cluster1"
    location: Annotated[
        str,
        matching(r"[a-z]+-[a-z]+[0-9]+(-[a-z])?", "a region or a zone, for example europe-west1 or europe-west1-b"),
    ]
    """A region spreads control plane and nodes over its zones; a zone has one of each."""

    release_channel: Literal["RAPID", "REGULAR", "STABLE", "EXTENDED"] = "REGULAR"
    deletion_protection: bool = True
    """Whether the provider refuses to delete it; to do so, set false and run `pulumi up` before `pulumi destroy`."""

    control_plane: ControlPlane = ControlPlane()
    application_pool: GkeNodePool = GkeNodePool()

    def problems(self) -> Iterator[Problem]:
        yield from (problem.below("controlPlane") for problem in self.control_plane.problems())
        yield from (problem.below("applicationPool.nodes") for problem in self.application_pool.nodes.problems())


ClusterSettings = Annotated[OnpremCluster | GkeCluster | EksCluster, Field(discriminator="kind")]
