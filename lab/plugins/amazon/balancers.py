"""The network load balancers that a cluster's AWS Load Balancer Controller made: what they keep in use.

They are no resources of a stack but what Services of the lab's API server, which is the simulated cluster's, have been
given. A cluster that is deleted with such Services leaves its balancers behind, as in the cloud: records of the
simulated cloud then, which keep subnets in use until somebody deletes them by hand.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx2
from lightkube import Client, KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.resources.core_v1 import Service

from lab.instance import Instance
from lab.plugins.amazon.common import derived, tags
from lab.plugins.amazon.tokens import (
    CLUSTER,
    LISTENER,
    LOAD_BALANCER,
    SECURITY_GROUP,
    SUBNET,
)
from lab.plugins.base import PluginError
from lab.plugins.store import Record, World

PREFIX = "service.beta.kubernetes.io/aws-load-balancer-"
CLASS = "service.k8s.aws/nlb"
CONTROLLERS_GROUP = "[k8s] Managed SecurityGroup for LoadBalancer"


@dataclass(frozen=True)
class Balancer:
    """A network load balancer of a Service."""

    service: str
    """namespace/name"""

    host: str
    public: bool
    subnets: tuple[str, ...]
    """Ids or names that the Service asks for; the controller finds them by their tags where there are none."""

    security_groups: tuple[str, ...]
    certificates: tuple[str, ...]

    def __str__(self) -> str:
        return f"The load balancer {self.host} of the Service {self.service} is still there"


def of_services(services: list[Service]) -> list[Balancer]:
    """The balancers that the controller has made for Services."""
    return [balancer for one in services if (balancer := _balancer(one))]


def _balancer(service: Service) -> Balancer | None:
    metadata, spec, status = service.metadata, service.spec, service.status
    given = (metadata.annotations if metadata else None) or {}
    # What in-tree code and other controllers take is none of this one's.
    ours = given.get(f"{PREFIX}type") in ("external", "nlb-ip") or (spec and spec.loadBalancerClass == CLASS)
    points = status.loadBalancer.ingress if status and status.loadBalancer else None
    if not (metadata and ours and points and points[0].hostname):
        return None

    def names(annotation: str) -> tuple[str, ...]:
        return tuple(name.strip() for name in given.get(PREFIX + annotation, "").split(",") if name.strip())

    return Balancer(
        f"{metadata.namespace}/{metadata.name}",
        points[0].hostname,
        given.get(f"{PREFIX}scheme", "internal") == "internet-facing",
        names("subnets"),
        names("security-groups"),
        names("ssl-cert"),
    )


def living(world: World) -> list[Balancer]:
    """The balancers of the simulated cluster, if there is one."""
    if not any(world.of(CLUSTER)):
        return []
    return of_services(services(Instance(os.environ["MESHGATE_LAB"])))


def services(instance: Instance) -> list[Service]:
    """All Services of the lab's API server. Raises PluginError when it does not answer."""
    try:
        client = Client(KubeConfig.from_file(instance.kubeconfig).get())
        return list(client.list(Service, namespace="*"))
    except (ApiError, httpx2.HTTPError) as error:
        raise PluginError(f"the lab's API server, which is the simulated cluster's, does not answer: {error}") from None


def places(world: World, balancer: Balancer) -> list[Record]:
    """The subnets that a balancer has a network interface in: one per zone."""
    vpcs = {cluster.outputs["vpcConfig"]["vpcId"] for cluster in world.of(CLUSTER)}
    subnets = [subnet for subnet in world.of(SUBNET) if subnet.inputs["vpcId"] in vpcs]
    if balancer.subnets:
        return [one for one in subnets if {one.id, tags(one).get("Name")} & set(balancer.subnets)]
    role = f"kubernetes.io/role/{'elb' if balancer.public else 'internal-elb'}"
    found = sorted((one for one in subnets if tags(one).get(role) in ("", "1")), key=lambda one: one.id, reverse=True)
    return list({one.outputs["availabilityZone"]: one for one in found}.values())


def in_subnet(world: World, subnet: str) -> Balancer | None:
    """A balancer with a network interface in this subnet."""
    return next((one for one in living(world) if any(place.id == subnet for place in places(world, one))), None)


def in_vpc(world: World, vpc: str) -> Balancer | None:
    """A balancer in this VPC."""
    for balancer in living(world):
        if any(place.inputs["vpcId"] == vpc for place in places(world, balancer)):
            return balancer
    return None


def with_group(world: World, group: str) -> Balancer | None:
    """A balancer with this security group of the user's."""
    return next((one for one in living(world) if group in one.security_groups), None)


def with_certificate(world: World, arn: str) -> Balancer | None:
    """A balancer with a listener that has this certificate."""
    return next((one for one in living(world) if arn in one.certificates), None)


def left_behind(world: World, account: str, region: str) -> Iterator[Record]:
    """What stays in the cloud when the cluster is deleted now: nobody takes its balancers away any more."""
    for balancer in living(world):
        subnets = places(world, balancer)
        for vpc in {subnet.inputs["vpcId"] for subnet in subnets}:
            name = balancer.host.partition(".")[0]
            group = Record(
                SECURITY_GROUP,
                derived("sg", balancer.host),
                {"vpcId": vpc, "name": name, "description": CONTROLLERS_GROUP},
                {},
            )
            id_ = f"arn:aws:elasticloadbalancing:{region}:{account}:loadbalancer/net/{name}/{derived('', name)[2:]}"
            groups = [group.id, *balancer.security_groups]
            yield group
            yield _record(
                LOAD_BALANCER,
                id_,
                {
                    "name": name,
                    "loadBalancerType": "network",
                    "internal": not balancer.public,
                    "subnets": [one.id for one in subnets],
                    "securityGroups": groups,
                },
            )
            for number, certificate in enumerate(balancer.certificates):
                listener = {"loadBalancerArn": id_, "certificateArn": certificate, "protocol": "TLS"}
                yield _record(LISTENER, f"{id_.replace(':loadbalancer/', ':listener/')}/{number}", listener)


def _record(type_: str, id_: str, inputs: Mapping[str, object]) -> Record:
    return Record(type_, id_, dict(inputs), {**inputs, "arn": id_})
