"""Settings of the layer `cluster`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Annotated, Literal

from pydantic import Field

from settings.model import Cidr, DnsLabel, Model, Problem, matching


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


ClusterSettings = OnpremCluster
