"""Settings of the layer `network`: the VPC, and what its nodes may reach.

Source: "Use Anthos Service Mesh egress gateways on GKE clusters". The defaults are the hardened ones; docs/scenarios
names the values that make the network the document's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network
from itertools import combinations
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field

from settings.addresses import DOCKER, PRIVATE
from settings.model import Cidr, HostName, Model, Problem, matching
from settings.network_eks import EksNetwork

NodeRole = Literal["application", "gateway"]
"""What a node is for. Each role has an account of its own, by which firewall rules tell nodes apart."""

GOOGLE_APIS: Mapping[str, IPv4Network] = {
    "private": IPv4Network("199.36.153.8/30"),
    "restricted": IPv4Network("199.36.153.4/30"),
}
"""Where Google's APIs are served inside a VPC: all of them, or those alone that VPC Service Controls guard."""

HEALTH_CHECKERS = tuple(map(IPv4Network, ("130.211.0.0/22", "35.191.0.0/16", "209.85.152.0/22", "209.85.204.0/22")))
"""Where Google Cloud's health checks come from."""

METADATA_SERVER = IPv4Network("169.254.169.254/32")

NODE_PODS_PREFIX = 24
"""GKE gives each node a /24 of the pods' range, for its default of 110 pods."""
KEPT_ADDRESSES = 4
"""Addresses of every subnet that Google Cloud keeps."""

ENVIRONMENT = "{name}"
LONGEST_ENVIRONMENT = 20


def _cloud_name(longest: int, shortest: int = 1, end: str = "[a-z0-9}]") -> AfterValidator:
    def check(value: str) -> str:
        length = len(value.replace(ENVIRONMENT, "n" * LONGEST_ENVIRONMENT))
        if value and not re.fullmatch(rf"({ENVIRONMENT}|[a-z])([-a-z0-9]|{ENVIRONMENT})*(?<={end})", value):
            raise ValueError(f"must be lower-case letters, digits and '-'; {ENVIRONMENT} is the environment's name")
        if not shortest <= length <= longest:
            raise ValueError(
                f"must have {shortest} to {longest} characters, the environment's name taken for {LONGEST_ENVIRONMENT}"
            )
        return value

    return AfterValidator(check)


CloudName = Annotated[str, _cloud_name(63)]
AccountId = Annotated[str, _cloud_name(30, 6)]
NamePrefix = Annotated[str, _cloud_name(28, 0, end="[-a-z0-9}]")]
PortRange = Annotated[str, matching(r"[0-9]{1,5}(-[0-9]{1,5})?", "a port or a range of ports, for example '8443'")]


class Names(Model):
    """What the cloud calls things; `{name}` stands for the environment's name."""

    vpc: CloudName = "{name}-vpc"
    subnet: CloudName = "{name}-nodes"
    gateway_subnet: CloudName = "{name}-gateway"
    router: CloudName = "{name}-router"
    nat: CloudName = "{name}-nat"
    application_account: AccountId = "{name}-app-nodes"
    gateway_account: AccountId = "{name}-gw-nodes"
    google_apis_zone: CloudName = "{name}-googleapis-com"
    container_registry_zone: CloudName = "{name}-gcr-io"
    artifact_registry_zone: CloudName = "{name}-pkg-dev"
    firewall_prefix: NamePrefix = "{name}-"
    """Before the name of every firewall rule; empty for the document's names."""

    repository_prefix: NamePrefix = "{name}-"
    """Before the name of every Artifact Registry repository."""

    def of(self, environment: str) -> Self:
        """The names in an environment."""
        return self.model_validate(
            {key: value.replace(ENVIRONMENT, environment) for key, value in self.model_dump(by_alias=True).items()}
        )


class GatewayCidrs(Model):
    """The ranges of the gateway pool's own subnet."""

    nodes: Cidr = IPv4Network("10.0.1.0/28")
    pods: Cidr = IPv4Network("10.3.0.0/20")


class NetworkCidrs(Model):
    """The address ranges, all of them private and disjoint."""

    nodes: Cidr = IPv4Network("10.0.0.0/24")
    pods: Cidr = IPv4Network("10.1.0.0/16")
    services: Cidr = IPv4Network("10.2.0.0/20")
    control_plane: Cidr = IPv4Network("10.5.0.0/28")
    gateway: GatewayCidrs | None = GatewayCidrs()
    """A subnet of the gateway pool's own, so that NAT serves it alone; null for one subnet, as in the document."""

    @property
    def all_nodes(self) -> tuple[Cidr, ...]:
        return (self.nodes, *((self.gateway.nodes,) if self.gateway else ()))

    @property
    def all_pods(self) -> tuple[Cidr, ...]:
        return (self.pods, *((self.gateway.pods,) if self.gateway else ()))

    def named(self) -> dict[str, Cidr]:
        """Every range by its key."""
        ranges = {
            "nodes": self.nodes,
            "pods": self.pods,
            "services": self.services,
            "controlPlane": self.control_plane,
        }
        if self.gateway:
            ranges |= {"gateway.nodes": self.gateway.nodes, "gateway.pods": self.gateway.pods}
        return ranges

    def problems(self) -> Iterator[Problem]:
        ranges = self.named()
        for key, cidr in ranges.items():
            if not any(cidr.subnet_of(private) for private in PRIVATE):
                yield Problem(
                    key=key, message=f"is {cidr}, which is not private; take it from {', '.join(map(str, PRIVATE))}"
                )
        google = [
            *((f"Google's APIs ({choice})", cidr) for choice, cidr in GOOGLE_APIS.items()),
            *(("Google's health checkers", cidr) for cidr in HEALTH_CHECKERS),
            ("the metadata server", METADATA_SERVER),
        ]
        for (one, a), (other, b) in combinations([*ranges.items(), *google], 2):
            if one in ranges and a.overlaps(b):
                yield Problem(key=one, message=f"{a} overlaps {other} ({b}); the ranges must be disjoint")
        yield from self._sizes()

    def _sizes(self) -> Iterator[Problem]:
        pools = [("nodes", self.nodes, "pods", self.pods)]
        if self.gateway:
            pools.append(("gateway.nodes", self.gateway.nodes, "gateway.pods", self.gateway.pods))
        for nodes_key, nodes, pods_key, pods in pools:
            if nodes.prefixlen > 29:
                yield Problem(key=nodes_key, message=f"is {nodes}; a subnet is a /29 or larger")
                continue
            room, held = nodes.num_addresses - KEPT_ADDRESSES, pods.num_addresses >> (32 - NODE_PODS_PREFIX)
            if held < room:
                wanted = NODE_PODS_PREFIX - (room - 1).bit_length()
                yield Problem(
                    key=pods_key,
                    message=f"is {pods}, enough for the pods of {held} nodes (each takes a /{NODE_PODS_PREFIX}); "
                    f"{nodes_key} ({nodes}) has room for {room}: make it a /{wanted}, or {nodes_key} smaller",
                )
        if not 16 <= self.services.prefixlen <= 27:
            yield Problem(key="services", message=f"is {self.services}; GKE takes a /16 to a /27")
        if self.control_plane.prefixlen != 28:
            yield Problem(key="controlPlane", message=f"is {self.control_plane}; GKE takes a /28, no other size")
        if self.control_plane.overlaps(DOCKER):
            yield Problem(key="controlPlane", message=f"{self.control_plane} is in {DOCKER}, which Docker uses there")


class Nat(Model):
    """Who has a way to the internet."""

    subnets: Literal["gateway", "all"] = "gateway"
    """The gateway pool's own subnet, or every subnet (the document: there the firewall alone keeps the others in)."""

    log: Literal["none", "errors", "translations", "all"] = "errors"


class ExtraRule(Model):
    """A firewall rule of your own, beside those that the cluster and its gateways need."""

    name: Annotated[str, matching(r"[a-z]([-a-z0-9]{0,33}[a-z0-9])?", "at most 35 of a-z, 0-9 and '-', a letter first")]
    direction: Literal["egress", "ingress"]
    action: Literal["allow", "deny"]
    priority: Annotated[int, Field(ge=0, le=65535)] = 1000
    """The smallest number decides; at the same priority deny goes before allow."""

    ranges: Annotated[tuple[Cidr, ...], Field(min_length=1)]
    """The other side: destinations of egress, sources of ingress."""

    protocol: Literal["all", "tcp", "udp", "icmp", "sctp", "esp", "ah"] = "tcp"
    ports: tuple[PortRange, ...] = ()
    """All ports when empty."""

    targets: Annotated[tuple[NodeRole, ...], Field(min_length=1)]
    """The nodes that it is for."""

    description: str

    def problems(self) -> Iterator[Problem]:
        if self.ports and self.protocol not in ("tcp", "udp", "sctp"):
            yield Problem(key="ports", message=f"are given, but {self.protocol} has none; take them out")
        for index, ports in enumerate(self.ports):
            first, _, last = ports.partition("-")
            if not 0 <= int(first) <= int(last or first) <= 65535:
                yield Problem(key=f"ports[{index}]", message=f"is '{ports}'; ports go from 0 to 65535, upwards")
        for role, times in Counter(self.targets).items():
            if times > 1:
                yield Problem(key="targets", message=f"'{role}' is there {times} times; name each once")


class FirewallSettings(Model):
    """Which rules there are beside those that are always needed."""

    hardened: bool = True
    """Whether rules that allow something are for the two node accounts alone; in the document some are for every
    machine of the VPC."""

    in_cluster_istiod: bool = True
    """Whether the control plane may call istiod's webhooks (15017); the managed mesh needs it not."""

    calico: bool = False
    """Whether nodes reach Calico's Typha (5473); Dataplane V2 has none."""

    kubelet_readonly: bool = False
    """Whether nodes reach the kubelet's port 10255, which answers everybody; today's GKE uses 10250."""

    log: Literal["none", "denied", "all"] = "denied"
    """Which connections are logged, each with the rule that decided."""

    rules: tuple[ExtraRule, ...] = ()

    def problems(self) -> Iterator[Problem]:
        for index, rule in enumerate(self.rules):
            yield from (problem.below(f"rules[{index}]") for problem in rule.problems())


class GkeNetwork(Model):
    """A VPC for a private GKE cluster whose egress gateways have a node pool of their own."""

    kind: Literal["gke"]
    adopt_vpc: str | None = None
    """Name of an existing VPC of the project to build in; without it one is made. In an adopted VPC the rule that
    denies all egress is for the two node accounts alone: the other machines there are not ours."""

    names: Names = Names()
    cidrs: NetworkCidrs = NetworkCidrs()
    nat: Nat = Nat()
    flow_logs: bool = True
    google_apis: Literal["private", "restricted"] = "private"
    """How nodes and pods reach Google's APIs: private.googleapis.com, or restricted.googleapis.com, which serves only
    what VPC Service Controls guard. Names and firewall follow."""

    firewall: FirewallSettings = FirewallSettings()
    registries: tuple[HostName, ...] = ("docker.io", "quay.io", "registry.istio.io", "registry.k8s.io")
    """Public registries whose images nodes get through Artifact Registry, for they have no way to the internet."""

    apis: tuple[
        Annotated[str, matching(r"[a-z][a-z0-9-]*\.googleapis\.com", "an API, for example redis.googleapis.com")], ...
    ] = ()
    """APIs to enable in the project besides those that the layers need."""

    @property
    def google_apis_cidr(self) -> Cidr:
        """Where Google's APIs are served."""
        return GOOGLE_APIS[self.google_apis]

    def problems(self) -> Iterator[Problem]:
        yield from (problem.below("cidrs") for problem in self.cidrs.problems())
        yield from (problem.below("firewall") for problem in self.firewall.problems())
        if self.nat.subnets == "gateway" and not self.cidrs.gateway:
            yield Problem(
                key="nat.subnets",
                message="is 'gateway', but cidrs.gateway gives that pool no subnet of its own; do, or say 'all'",
            )
        for key, values in (("registries", self.registries), ("apis", self.apis)):
            for value, times in Counter(values).items():
                if times > 1:
                    yield Problem(key=key, message=f"'{value}' is there {times} times; name each once")


NetworkSettings = Annotated[GkeNetwork | EksNetwork, Field(discriminator="kind")]
