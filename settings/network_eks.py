"""Settings of the layer `network` of the kind `eks`: the VPC, and what its nodes may reach.

The document begins with a cluster that has its network already. The defaults are the hardened ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Annotated, Literal

from settings.addresses import DOCKER, PRIVATE
from settings.model import Cidr, HostName, Model, Port, Problem, matching

LARGEST_PREFIX, SMALLEST_PREFIX = 16, 28
"""What AWS takes, for a VPC and for a subnet."""

UpstreamRegistry = Literal["public.ecr.aws", "registry.k8s.io", "quay.io", "docker.io", "ghcr.io"]
WITH_CREDENTIAL = ("docker.io", "ghcr.io")
"""Registries that ECR asks only with an account there."""

RetentionDays = Literal[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653
]
"""What CloudWatch Logs takes."""


class Zone(Model):
    """A subnet of each sort in an availability zone."""

    name: Annotated[
        str, matching(r"[a-z]{2}(-[a-z]+)+-[0-9][a-f]", "an availability zone of the region, for example eu-central-1a")
    ]
    public: Cidr
    """For the load balancers that face the internet, and NAT."""

    private: Cidr
    """For nodes, pods, the control plane's interfaces and VPC endpoints."""


class NatGateways(Model):
    """The private subnets' way to the internet."""

    gateways: Literal["one", "per-zone"] = "per-zone"
    """One in each zone, or one for all in the first zone: cheaper, and gone with that zone."""


class PublicZone(Model):
    """A public hosted zone of Route 53."""

    domain: HostName
    zone_id: Annotated[str, matching(r"Z[A-Z0-9]{5,31}", "a hosted zone's id, for example Z0123456789ABC")] | None = (
        None
    )
    """Id of an existing zone of the account, which is used and never deleted; without it one is made."""


class Dns(Model):
    """Hosted zones of Route 53."""

    public: tuple[PublicZone, ...] = ()
    private: tuple[HostName, ...] = ()
    """Domains that only the VPC sees."""

    def problems(self) -> Iterator[Problem]:
        # One domain may be both: the VPC then sees its own answers.
        for key, domains in (("public", [zone.domain for zone in self.public]), ("private", self.private)):
            for domain, times in Counter(domains).items():
                if times > 1:
                    yield Problem(key=key, message=f"'{domain}' is there {times} times; name each once")


class FlowLogs(Model):
    """The VPC's flow logs, in CloudWatch Logs."""

    traffic: Literal["all", "accepted", "rejected"] = "all"
    retention_days: RetentionDays = 90


class Registry(Model):
    """A public registry whose images nodes get through ECR."""

    host: UpstreamRegistry
    credential_arn: (
        Annotated[
            str,
            matching(
                r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:ecr-pullthroughcache/[\w/+=.@-]+",
                "the ARN of a secret in Secrets Manager whose name begins with ecr-pullthroughcache/",
            ),
        ]
        | None
    ) = None
    """The secret with user name and access token there."""

    def problems(self) -> Iterator[Problem]:
        if self.host in WITH_CREDENTIAL and not self.credential_arn:
            yield Problem(
                key="credentialArn",
                message=f"is missing; ECR fetches from {self.host} only with an account there: "
                "put its user name and access token in Secrets Manager",
            )
        if self.host not in WITH_CREDENTIAL and self.credential_arn:
            yield Problem(key="credentialArn", message=f"is given, but {self.host} takes none; take it out")


class EksNetwork(Model):
    """A VPC for an EKS cluster with a load balancer in front."""

    kind: Literal["eks"]
    cidr: Cidr
    zones: tuple[Zone, ...]
    """At least two."""

    nat: NatGateways = NatGateways()
    application_egress: Literal["closed", "open"] = "closed"
    """What the application nodes reach outside the VPC: AWS's APIs through its endpoints alone, or ports 80 and 443 of
    everything, as in the document. The gateway nodes always reach those."""

    s3_buckets: Literal["own", "any"] = "own"
    """Buckets in the region that nodes of both sorts reach: the account's own and ECR's layers, or any. Then a pod on a
    closed node can write to a stranger's."""

    endpoints: tuple[
        Annotated[str, matching(r"[a-z0-9-]+(\.[a-z0-9-]+)*", "a service of AWS, for example secretsmanager")], ...
    ] = ()
    """Services with an interface endpoint in the VPC besides those that nodes need, by the last part of their names."""

    webhook_ports: tuple[Port, ...] = ()
    """Ports of pods that the control plane may call besides those of the layers (kubelet, istiod, controllers)."""

    control_plane_clients: tuple[Cidr, ...] = ()
    """Private networks that reach the control plane's private endpoint besides the nodes: a bastion, a VPN."""

    dns: Dns = Dns()
    flow_logs: FlowLogs | None = FlowLogs()
    registries: tuple[Registry, ...] = (
        Registry(host="public.ecr.aws"),
        Registry(host="registry.k8s.io"),
        Registry(host="quay.io"),
    )

    def problems(self) -> Iterator[Problem]:
        yield from (problem.below("dns") for problem in self.dns.problems())
        for index, registry in enumerate(self.registries):
            yield from (problem.below(f"registries[{index}]") for problem in registry.problems())
        if len(self.zones) < 2:
            yield Problem(key="zones", message=f"has {len(self.zones)}; EKS needs subnets in two zones at least")
        yield from self._twice()
        yield from self._cidrs()

    def _twice(self) -> Iterator[Problem]:
        for key, values in (
            ("zones", [zone.name for zone in self.zones]),
            ("endpoints", self.endpoints),
            ("webhookPorts", self.webhook_ports),
            ("controlPlaneClients", self.control_plane_clients),
            ("registries", [registry.host for registry in self.registries]),
        ):
            for value, times in Counter(map(str, values)).items():
                if times > 1:
                    yield Problem(key=key, message=f"'{value}' is there {times} times; name each once")

    def _cidrs(self) -> Iterator[Problem]:
        subnets = [
            (f"zones[{index}].{sort}", cidr)
            for index, zone in enumerate(self.zones)
            for sort, cidr in (("public", zone.public), ("private", zone.private))
        ]
        clients = [(f"controlPlaneClients[{index}]", cidr) for index, cidr in enumerate(self.control_plane_clients)]
        for key, cidr in (("cidr", self.cidr), *clients):
            if not any(cidr.subnet_of(private) for private in PRIVATE):
                yield Problem(
                    key=key, message=f"is {cidr}, which is not private; take it from {', '.join(map(str, PRIVATE))}"
                )
        if self.cidr.overlaps(DOCKER):
            yield Problem(key="cidr", message=f"{self.cidr} overlaps {DOCKER}, which Docker uses on AWS's machines")
        for key, cidr in (("cidr", self.cidr), *subnets):
            if not LARGEST_PREFIX <= cidr.prefixlen <= SMALLEST_PREFIX:
                yield Problem(key=key, message=f"is {cidr}; AWS takes a /{LARGEST_PREFIX} to a /{SMALLEST_PREFIX}")
        for key, cidr in subnets:
            if not cidr.subnet_of(self.cidr):
                yield Problem(key=key, message=f"is {cidr}, outside the VPC's cidr ({self.cidr})")
        for (one, a), (other, b) in combinations(subnets, 2):
            if a.overlaps(b):
                yield Problem(key=one, message=f"{a} overlaps {other} ({b}); the subnets must be disjoint")
