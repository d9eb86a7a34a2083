"""What the sections of an environment on EKS mean for each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from settings.cluster_eks import EksCluster
from settings.edge import AcmCertificate, ExistingAcmCertificate, NlbEdge
from settings.gateway_pool import EksGatewayPool
from settings.model import Problem
from settings.network_eks import EksNetwork


def misfits(good: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems between sections that are right each by itself; `good` has those sections."""
    network, cluster, pool, edge = (good.get(layer) for layer in ("network", "cluster", "gateway_pool", "edge"))
    if isinstance(network, EksNetwork):
        yield from _zones(network, good)
        yield from _credentials(network, good)
        if isinstance(cluster, EksCluster):
            yield from _node_zones("cluster.applicationNodes.zones", cluster.application_nodes.zones, network)
            if cluster.service_cidr.overlaps(network.cidr):
                yield Problem(
                    key="cluster.serviceCidr",
                    message=f"{cluster.service_cidr} overlaps network.cidr ({network.cidr}); Services need a range "
                    "outside the VPC",
                )
        if isinstance(pool, EksGatewayPool):
            yield from _node_zones("gateway_pool.zones", pool.zones, network)
        if isinstance(edge, NlbEdge):
            yield from _hosted_zones(edge, network)
            yield from _balancers(edge, network)
    if isinstance(edge, NlbEdge):
        yield from _certificates(edge, good)
    if isinstance(cluster, EksCluster) and isinstance(pool, EksGatewayPool):
        yield from _pool(cluster, pool)


def _zones(network: EksNetwork, good: Mapping[str, Any]) -> Iterator[Problem]:
    aws = good.get("aws")
    for index, zone in enumerate(network.zones):
        if aws and not re.fullmatch(rf"{aws.region}[a-z]", zone.name):
            yield Problem(
                key=f"network.zones[{index}].name",
                message=f"'{zone.name}' is no zone of aws.region ({aws.region}); its zones are {aws.region}a, "
                f"{aws.region}b and so on",
            )


def _credentials(network: EksNetwork, good: Mapping[str, Any]) -> Iterator[Problem]:
    aws = good.get("aws")
    for index, registry in enumerate(network.registries):
        region = registry.credential_arn.split(":")[3] if registry.credential_arn else None
        if aws and region and region != aws.region:
            yield Problem(
                key=f"network.registries[{index}].credentialArn",
                message=f"is in {region}; ECR reads secrets of its own region alone (aws.region: {aws.region})",
            )


def _node_zones(key: str, zones: tuple[str, ...], network: EksNetwork) -> Iterator[Problem]:
    known = [zone.name for zone in network.zones]
    for index, zone in enumerate(zones):
        if zone not in known:
            yield Problem(
                key=f"{key}[{index}]",
                message=f"'{zone}' has no subnet: it is not under network.zones (there: {', '.join(known)})",
            )


def _pool(cluster: EksCluster, pool: EksGatewayPool) -> Iterator[Problem]:
    if _minor(pool.version) > _minor(cluster.version):
        yield Problem(
            key="gateway_pool.version",
            message=f"is {pool.version}, newer than the cluster ({cluster.version}); nodes follow their control plane",
        )
    if pool.name == cluster.application_nodes.name:
        yield Problem(
            key="gateway_pool.name", message=f"'{pool.name}' is cluster.applicationNodes too; names must differ"
        )


def _balancers(edge: NlbEdge, network: EksNetwork) -> Iterator[Problem]:
    """A balancer that faces the internet is in the public subnets, an internal one in the private ones."""
    for name, gateway in edge.gateways.items():
        if gateway.balancer.client_address != "proxy-protocol":
            continue
        sort = "public" if gateway.balancer.scheme == "internet-facing" else "private"
        for zone in network.zones:
            subnet = zone.public if sort == "public" else zone.private
            if not any(subnet.subnet_of(cidr) for cidr in edge.balancer_cidrs):
                yield Problem(
                    key="edge.balancerCidrs",
                    message=f"lacks {subnet}, the {sort} subnet in {zone.name}: the balancer of gateways.{name} is "
                    "there, and would be kept out",
                )


def _certificates(edge: NlbEdge, good: Mapping[str, Any]) -> Iterator[Problem]:
    aws = good.get("aws")
    for name, certificate in edge.balancer_certificates.items():
        if aws and isinstance(certificate, ExistingAcmCertificate):
            region = certificate.arn.split(":")[3]
            if region != aws.region:
                yield Problem(
                    key=f"edge.balancerCertificates.{name}.arn",
                    message=f"is in {region}; a balancer takes certificates of its own region alone (aws.region: "
                    f"{aws.region})",
                )


def _minor(version: str) -> int:
    return int(version.partition(".")[2])


def _hosted_zones(edge: NlbEdge, network: EksNetwork) -> Iterator[Problem]:
    named = [
        *(
            (f"balancerCertificates.{name}.zone", certificate.zone)
            for name, certificate in edge.balancer_certificates.items()
            if isinstance(certificate, AcmCertificate)
        ),
        *((f"gateways.{name}.zone", gateway.zone) for name, gateway in edge.gateways.items() if gateway.zone),
    ]
    known = [zone.domain for zone in network.dns.public]
    for key, domain in named:
        if domain not in known:
            yield Problem(
                key=f"edge.{key}",
                message=f"'{domain}' is not under network.dns.public (there: {', '.join(known) or 'none'})",
            )
