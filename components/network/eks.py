"""The network of an EKS cluster behind network load balancers."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_aws import ec2

from components.network.ecr_mirrors import EcrMirrors, EcrMirrorsArgs
from components.network.eks_endpoints import EksEndpoints, EksEndpointsArgs, s3_policy, services
from components.network.eks_flow_logs import EksFlowLogs, EksFlowLogsArgs
from components.network.eks_rules import rules
from components.network.eks_security_groups import EksSecurityGroups, EksSecurityGroupsArgs
from components.network.eks_subnets import EksSubnets, EksSubnetsArgs
from components.network.hosted_zones import HostedZones, HostedZonesArgs
from components.network.ordering import after
from settings.network_eks import EksNetwork as EksNetworkSettings


@dataclass(kw_only=True)
class EksNetworkArgs:
    """Arguments of EksNetwork."""

    environment: str
    """The environment's name, for the names of what is made."""

    region: str
    network: EksNetworkSettings
    protect: bool
    """Whether the VPC and the hosted zones are protected from deletion."""


class EksNetwork(pulumi.ComponentResource):
    """The VPC with subnets, NAT, security groups, endpoints of AWS's APIs, hosted zones and mirrors of public images.

    The outputs of nodes' interest are known when routes, endpoints and rules exist: no node starts without them, and
    nodes and load balancers go before they do.
    Reference: Amazon EKS, "View Amazon EKS networking requirements for VPC and subnets".
    """

    vpc: pulumi.Output[str]
    """Id."""

    public: dict[str, pulumi.Output[str]]
    private: dict[str, pulumi.Output[str]]
    """Ids of the subnets by zone."""

    security_groups: dict[str, pulumi.Output[str]]
    """Ids of the groups of `application` and `gateway` nodes and of the `control_plane`."""

    dns_zones: dict[str, pulumi.Output[str]]
    """Ids of the public hosted zones by domain."""

    image_prefixes: dict[str, pulumi.Output[str]]
    """By public registry: what stands in an image's name instead of the registry's host."""

    def __init__(self, name: str, args: EksNetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:network:EksNetwork", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings, environment = args.network, args.environment

        vpc = ec2.Vpc(
            f"{name}-vpc",
            cidr_block=str(settings.cidr),
            # Both, for the private names of endpoints and of the control plane.
            enable_dns_support=True,
            enable_dns_hostnames=True,
            tags={"Name": f"{environment}-vpc"},
            opts=pulumi.ResourceOptions(parent=self, protect=args.protect),
        )
        # Taken over without a rule: what has no group of its own reaches nothing.
        ec2.DefaultSecurityGroup(
            f"{name}-default-group", vpc_id=vpc.id, tags={"Name": f"{environment}-unused"}, opts=child
        )
        internet_gateway = ec2.InternetGateway(
            f"{name}-internet", vpc_id=vpc.id, tags={"Name": f"{environment}-internet"}, opts=child
        )
        subnets = EksSubnets(
            f"{name}-subnets",
            EksSubnetsArgs(
                environment=environment,
                vpc_id=vpc.id,
                internet_gateway=internet_gateway.id,
                zones=settings.zones,
                nat=settings.nat,
            ),
            opts=child,
        )
        s3 = ec2.VpcEndpoint(
            f"{name}-s3",
            vpc_id=vpc.id,
            vpc_endpoint_type="Gateway",
            service_name=f"com.amazonaws.{args.region}.s3",
            route_table_ids=subnets.private_route_tables,
            policy=s3_policy(settings.s3_buckets, vpc.owner_id, args.region),
            tags={"Name": f"{environment}-s3"},
            opts=child,
        )
        groups = EksSecurityGroups(
            f"{name}-groups",
            EksSecurityGroupsArgs(
                environment=environment, vpc_id=vpc.id, s3_prefix_list=s3.prefix_list_id, rules=rules(settings)
            ),
            opts=child,
        )
        interfaces = EksEndpoints(
            f"{name}-endpoints",
            EksEndpointsArgs(
                environment=environment,
                region=args.region,
                vpc_id=vpc.id,
                services=services(settings),
                subnets=list(subnets.private.values()),
                security_group=groups.ids["endpoints"],
            ),
            opts=child,
        )
        zones = HostedZones(
            f"{name}-zones",
            HostedZonesArgs(vpc_id=vpc.id, dns=settings.dns, protect=args.protect),
            opts=child,
        )
        if settings.flow_logs:
            EksFlowLogs(
                f"{name}-flow-logs",
                EksFlowLogsArgs(
                    environment=environment, vpc_id=vpc.id, account=vpc.owner_id, flow_logs=settings.flow_logs
                ),
                opts=child,
            )
        mirrors = EcrMirrors(
            f"{name}-images",
            EcrMirrorsArgs(environment=environment, region=args.region, registries=settings.registries),
            opts=child,
        )

        guards: list[pulumi.Resource] = [*subnets.routes, s3, *groups.rules, *interfaces.endpoints]
        # Load balancers find the public subnets by their tags, not by a value that they are given: who knows the VPC
        # may make one.
        self.vpc = after(vpc.id, *guards)
        self.public = subnets.public
        self.private = {zone: after(subnet, s3, *interfaces.endpoints) for zone, subnet in subnets.private.items()}
        self.security_groups = {group: groups.ids[group] for group in ("application", "gateway", "control_plane")}
        self.dns_zones = zones.public
        self.image_prefixes = mirrors.prefixes
        self.register_outputs(
            {
                "vpc": self.vpc,
                "public": self.public,
                "private": self.private,
                "securityGroups": self.security_groups,
                "dnsZones": self.dns_zones,
                "imagePrefixes": self.image_prefixes,
            }
        )
