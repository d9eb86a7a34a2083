"""Settings of the layer `cluster` of the kind `eks`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import Field

from settings.addresses import DOCKER, PRIVATE
from settings.model import Cidr, DnsLabel, Model, Problem, Replicas, matching

POLICY_OF = "3.5"
"""Minor version of the AWS Load Balancer Controller whose calls the IAM policy here is made for."""

NodeGroupName = Annotated[
    str,
    matching(r"[a-zA-Z0-9][-_a-zA-Z0-9]{0,62}", "at most 63 letters, digits, '-' and '_', no '-' or '_' first"),
]
"""Of a node group in EKS; its nodes are labelled with it."""

KubernetesVersion = Annotated[str, matching(r"1\.[0-9]{2}", "a Kubernetes minor version in quotes, for example '1.34'")]
InstanceType = Annotated[str, matching(r"[a-z][a-z0-9-]*\.[a-z0-9-]+", "an EC2 instance type, for example m6i.large")]
Zone = Annotated[str, matching(r"[a-z]{2}(-[a-z]+)+-[0-9][a-z]", "an availability zone, for example eu-central-1a")]

AddOn = Literal["vpc-cni", "kube-proxy", "coredns", "eks-pod-identity-agent"]
LogType = Literal["api", "audit", "authenticator", "controllerManager", "scheduler"]


class EksNodes(Model):
    """What every managed node group is told, whatever runs on it."""

    instance_types: Annotated[tuple[InstanceType, ...], Field(min_length=1, max_length=20)] = ("m6i.large",)
    """The types that may be used, the first that is to be had; they are of one architecture."""

    architecture: Literal["x86_64", "arm64"] = "x86_64"
    """Of the instance types; the image is Amazon Linux 2023 for it."""

    nodes: Replicas = Replicas(min=2, max=4)
    """Nodes in all zones together: a cluster autoscaler may move between the two; without one there are `min`."""

    zones: tuple[Zone, ...] = ()
    """The network's zones that the nodes are in; all of them when empty."""

    disk: Annotated[int, Field(ge=20, le=16384)] = 50
    """Size of a node's root volume in GiB."""

    def problems(self) -> Iterator[Problem]:
        yield from (problem.below("nodes") for problem in self.nodes.problems())
        for key, values in (("instanceTypes", self.instance_types), ("zones", self.zones)):
            for value, times in Counter(values).items():
                if times > 1:
                    yield Problem(key=key, message=f"'{value}' is there {times} times; name each once")
        for index, instance_type in enumerate(self.instance_types):
            if self.architecture != (actual := _architecture(instance_type)):
                yield Problem(
                    key=f"instanceTypes[{index}]",
                    message=f"'{instance_type}' is {actual}, but architecture is {self.architecture}; they must agree",
                )


def _architecture(instance_type: str) -> str:
    """AWS's own processors have a g behind the generation: m7g, c6gn, im4gn, but not g5 or g4dn."""
    family = instance_type.partition(".")[0]
    return "arm64" if re.fullmatch(r"a1|[a-z]+[0-9]+[a-z]*g[a-z]*", family) else "x86_64"


class EksApplicationNodes(EksNodes):
    """The application nodes: all that is not a gateway runs there, the cluster's own add-ons too."""

    name: NodeGroupName = "application"


class Endpoint(Model):
    """How the control plane is reached: in the VPC and what is connected to it in any case."""

    public: bool = False
    """Whether it has a public address too. Without one, `pulumi` and `kubectl` have to run inside the VPC, previews
    included."""

    allowed: Annotated[tuple[Cidr, ...], Field(max_length=40)] = ()
    """Who may reach the public address. The private one is guarded by the control plane's security group."""

    def problems(self) -> Iterator[Problem]:
        if self.public and not self.allowed:
            yield Problem(key="allowed", message="is empty; a public address needs to know who may use it")
        if self.allowed and not self.public:
            yield Problem(
                key="allowed", message="is for the public address, and public is false; take it out, or set public"
            )
        for index, cidr in enumerate(self.allowed):
            if cidr.prefixlen == 0:
                yield Problem(key=f"allowed[{index}]", message="is everybody; name the networks")
            elif cidr.prefixlen < 8:
                yield Problem(key=f"allowed[{index}]", message=f"is {cidr}, wider than a /8; name the networks")
            elif inside := next((own for own in NOT_PUBLIC if cidr.overlaps(own)), None):
                yield Problem(
                    key=f"allowed[{index}]",
                    message=f"is {cidr}, which overlaps {inside}: nobody comes to a public address from there; "
                    "give the addresses that the internet sees",
                )
        for cidr, times in Counter(self.allowed).items():
            if times > 1:
                yield Problem(key="allowed", message=f"'{cidr}' is there {times} times; name each once")


NOT_PUBLIC = (*PRIVATE, *map(IPv4Network, ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")))


class Access(Model):
    """What an IAM principal may do in the cluster (an access entry with an access policy)."""

    principal: Annotated[
        str,
        matching(
            r"arn:aws:iam::[0-9]{12}:(role|user)/[\w+=,.@/-]+",
            "the ARN of an IAM role or user (not of a session), for example arn:aws:iam::123456789012:role/operators",
        ),
    ]
    policy: Literal["cluster-admin", "admin", "edit", "view"] = "cluster-admin"
    """EKS's access policy of that name."""

    namespaces: tuple[DnsLabel, ...] = ()
    """Where; in the whole cluster when empty."""

    def problems(self) -> Iterator[Problem]:
        if self.policy == "cluster-admin" and self.namespaces:
            yield Problem(key="policy", message="is cluster-admin, for the whole cluster only; in namespaces use admin")


class ControlPlaneLogs(Model):
    """The control plane's logs in CloudWatch."""

    types: tuple[LogType, ...] = ("api", "audit", "authenticator", "controllerManager", "scheduler")
    retention_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 3653] = 90

    def problems(self) -> Iterator[Problem]:
        for value, times in Counter(self.types).items():
            if times > 1:
                yield Problem(key="types", message=f"'{value}' is there {times} times; name each once")


class LoadBalancerController(Model):
    """The AWS Load Balancer Controller, which makes an NLB of a Service."""

    version: Annotated[
        str,
        matching(
            rf"{POLICY_OF}\.[0-9]+",
            f"{POLICY_OF}.x: the IAM policy is known for the calls of that version of the controller",
        ),
    ] = "3.5.0"
    """Of the chart and of the controller, which are released together."""

    charts: Annotated[
        str, matching(r"(https|oci)://\S+|(?!.*://).+", "https://..., oci://... or the path of a directory")
    ] = "https://aws.github.io/eks-charts"
    """A Helm repository (https://, oci://) or a directory that holds aws-load-balancer-controller."""

    image: str | None = None
    """Repository of its image, without a tag; left out, eks/aws-load-balancer-controller of public.ecr.aws, through the
    network's cache of that where it has one."""

    replicas: Annotated[int, Field(ge=1)] = 2


class EksCluster(Model):
    """An EKS cluster with managed node groups, private but where settings say otherwise."""

    kind: Literal["eks"]
    name: Annotated[
        str,
        matching(r"[a-zA-Z0-9][-_a-zA-Z0-9]{0,99}", "at most 100 letters, digits, '-' and '_', no '-' or '_' first"),
    ] = "cluster1"
    version: KubernetesVersion
    """Of the control plane and of the application nodes, which follow it."""

    upgrade_policy: Literal["STANDARD", "EXTENDED"] = "STANDARD"
    """What becomes of a version at the end of its standard support: EKS upgrades the cluster, or keeps the version for
    a further year, at a higher price."""

    service_cidr: Cidr = IPv4Network("172.20.0.0/16")
    """Range of the Services' cluster addresses: private, a /12 to a /24, outside the VPC."""

    deletion_protection: bool = True
    """Whether EKS refuses to delete it; to do so, set false and run `pulumi up` before `pulumi destroy`."""

    endpoint: Endpoint = Endpoint()
    access: tuple[Access, ...] = ()
    creator_is_administrator: bool = False
    """Whether who makes the cluster may do everything in it. Decided once: another value makes another cluster."""

    identity: Literal["pod-identity", "irsa"] = "pod-identity"
    """How the VPC CNI and the load balancer controller get their IAM roles: EKS Pod Identity, or a web identity of the
    cluster's own OIDC issuer (IRSA), which is then made known to IAM."""

    logs: ControlPlaneLogs = ControlPlaneLogs()
    application_nodes: EksApplicationNodes = EksApplicationNodes()
    add_on_versions: dict[
        AddOn, Annotated[str, matching(r"v[0-9.]+-eksbuild\.[0-9]+", "an add-on's version, like v1.20.0-eksbuild.1")]
    ] = {}
    """Versions of EKS add-ons; without one, EKS's default for the cluster's version. An upgrade of the cluster leaves
    add-ons as they are: name their versions with it."""

    load_balancer_controller: LoadBalancerController = LoadBalancerController()

    def problems(self) -> Iterator[Problem]:
        for key, part in (
            ("endpoint", self.endpoint),
            ("logs", self.logs),
            ("applicationNodes", self.application_nodes),
        ):
            yield from (problem.below(key) for problem in part.problems())
        yield from self._access()
        cidr = self.service_cidr
        if not any(cidr.subnet_of(network) for network in SERVICES_IN):
            ranges = ", ".join(map(str, SERVICES_IN))
            yield Problem(key="serviceCidr", message=f"is {cidr}, which EKS does not take; use a part of {ranges}")
        if cidr.overlaps(DOCKER):
            yield Problem(key="serviceCidr", message=f"{cidr} overlaps {DOCKER}, which Docker uses on nodes")
        if not 12 <= cidr.prefixlen <= 24:
            yield Problem(key="serviceCidr", message=f"is {cidr}; EKS takes a /12 to a /24")

    def _access(self) -> Iterator[Problem]:
        for index, access in enumerate(self.access):
            yield from (problem.below(f"access[{index}]") for problem in access.problems())
        for (principal, policy), times in Counter((entry.principal, entry.policy) for entry in self.access).items():
            if times > 1:
                yield Problem(
                    key="access",
                    message=f"'{principal}' has {policy} {times} times; give it once, with all the namespaces",
                )
        if not self.creator_is_administrator and not any(entry.policy == "cluster-admin" for entry in self.access):
            yield Problem(
                key="access",
                message="gives nobody cluster-admin, and the creator is no administrator: nothing could be set up in "
                "the cluster; name the role that `pulumi up` runs with, or set creatorIsAdministrator",
            )


SERVICES_IN = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
