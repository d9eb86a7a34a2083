"""Settings of a gateway that speaks http alone: what stands in front of a scenario's applications."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Annotated, Literal

from pydantic import Field

from settings.gateway_service import LoadBalancerService
from settings.model import Model, NodePort, Problem, Replicas, Resources


class HttpNodePortService(Model):
    """The gateway at a port of every node."""

    type: Literal["NodePort"]
    node_port: NodePort | None = None
    """Any that is free when not given.

    From 30086 on the API server gives ports to Services that ask for none in particular, so one of there may be taken.
    """

    addresses: Annotated[tuple[IPv4Address, ...], Field(min_length=1)]
    """Where clients reach the nodes."""

    external_traffic_policy: Literal["Cluster", "Local"] = "Cluster"
    """Local keeps the client's address; then only nodes with a pod of the gateway answer."""


class ClusterIpService(Model):
    """The gateway for clients inside the cluster."""

    type: Literal["ClusterIP"]


class HttpGateway(Model):
    """A gateway of its own: Deployment and Service, for http on port 80."""

    service: Annotated[LoadBalancerService | HttpNodePortService | ClusterIpService, Field(discriminator="type")]
    replicas: Replicas = Replicas()
    resources: Resources = Resources()

    def problems(self) -> Iterator[Problem]:
        yield from (problem.below("service") for problem in self.service.problems())
        yield from (problem.below("replicas") for problem in self.replicas.problems())
