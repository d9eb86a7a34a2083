"""Settings of the layer `gateway_pool`: the nodes of their own on which the egress gateway runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from settings.cluster import PoolName, Taint
from settings.cluster_eks import EksNodes, KubernetesVersion, NodeGroupName
from settings.model import Model, Problem, Replicas

DEDICATED = Taint(key="dedicated", value="gateway", effect="NoSchedule")
"""Keeps off the pool what does not tolerate it."""


class GkeGatewayPool(Model):
    """A node pool with the gateway's node account; in the hardened network also with a subnet of its own."""

    kind: Literal["gke"]
    name: PoolName = "gateway"
    machine_type: str = "e2-standard-4"
    nodes: Replicas = Replicas(min=1, max=3)
    """Nodes in each of the cluster's zones: the autoscaler moves between the two."""

    taint: Taint = DEDICATED

    def problems(self) -> Iterator[Problem]:
        yield from (problem.below("nodes") for problem in self.nodes.problems())
        yield from _weak(self.taint)


class EksGatewayPool(EksNodes):
    """A managed node group with a role and a security group of its own: by the latter it has a way to the internet."""

    kind: Literal["eks"]
    name: NodeGroupName = "gateway"
    version: KubernetesVersion
    """Kubernetes of the nodes: the control plane's, or an older one until they follow its upgrade."""

    taint: Taint = DEDICATED

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from _weak(self.taint)


class OnpremGatewayPool(Model):
    """Nodes that exist and carry the label and the taint already."""

    kind: Literal["onprem"]
    labels: Annotated[dict[str, str], Field(min_length=1)]
    """The labels that select the pool's nodes."""

    taint: Taint = DEDICATED

    def problems(self) -> Iterator[Problem]:
        yield from _weak(self.taint)


def _weak(taint: Taint) -> Iterator[Problem]:
    if taint.effect == "PreferNoSchedule":
        yield Problem(
            key="taint.effect",
            message="is PreferNoSchedule, which keeps nobody off the gateway's nodes; use NoSchedule or NoExecute",
        )


GatewayPoolSettings = Annotated[GkeGatewayPool | EksGatewayPool | OnpremGatewayPool, Field(discriminator="kind")]
