"""Settings of the layer `egress`: the egress gateway (source: Anthos Service Mesh egress gateways on GKE)."""

from __future__ import annotations

from collections.abc import Iterator

from settings.model import Cidr, DnsLabel, Model, Namespace, Problem, Quantity, Replicas, Resources


class GatewayResources(Resources):
    """What the gateway's container asks for, and the memory that it may take."""

    memory_limit: Quantity = "1Gi"
    """It grows with the teams: Envoy takes about 9 MiB for a team with 20 hosts."""


class EgressSettings(Model):
    """The gateway on the gateway pool, in a namespace where nothing is allowed that no team's rule allows."""

    namespace: Namespace = "istio-egress"
    replicas: Replicas = Replicas()
    resources: GatewayResources = GatewayResources()
    administrators: tuple[str, ...] = ()
    """RBAC groups that may change what is in the namespace; nobody else but the cluster's administrators may."""

    metrics_from: tuple[DnsLabel, ...] = ()
    """Namespaces whose pods may read the gateway's metrics (port 15020), for example that of Prometheus."""

    dns_addresses: tuple[Cidr, ...] = ()
    """Link-local addresses where the gateway asks names, for example 169.254.20.10/32 (NodeLocal DNSCache)."""

    def problems(self) -> Iterator[Problem]:
        yield from (problem.below("replicas") for problem in self.replicas.problems())
