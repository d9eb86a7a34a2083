"""Subnets in every zone, and their ways out."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

import pulumi
from pulumi_aws import ec2

from components.network.ordering import after
from settings.network_eks import NatGateways, Zone

ANYWHERE = "0.0.0.0/0"
PUBLIC_BALANCERS = {"kubernetes.io/role/elb": "1"}
"""By this tag the AWS Load Balancer Controller finds where internet-facing load balancers go."""
INTERNAL_BALANCERS = {"kubernetes.io/role/internal-elb": "1"}


@dataclass(kw_only=True)
class EksSubnetsArgs:
    """Arguments of EksSubnets."""

    environment: str
    """For the tag Name."""

    vpc_id: pulumi.Input[str]
    internet_gateway: pulumi.Input[str]
    """Its id."""

    zones: tuple[Zone, ...]
    nat: NatGateways


class EksSubnets(pulumi.ComponentResource):
    """A public and a private subnet in each zone; the private ones leave through NAT in a public one."""

    public: dict[str, pulumi.Output[str]]
    """Ids by zone, known when they have their way to the internet."""

    private: dict[str, pulumi.Output[str]]
    """Ids by zone, known when they have their way to NAT."""

    private_route_tables: list[pulumi.Output[str]]
    """Ids."""

    routes: list[pulumi.Resource]
    """What makes the ways out."""

    def __init__(self, name: str, args: EksSubnetsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:network:EksSubnets", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)

        def tags(label: str) -> dict[str, str]:
            return {"Name": f"{args.environment}-{label}"}

        def subnet(label: str, zone: Zone, cidr: IPv4Network, role: dict[str, str]) -> ec2.Subnet:
            return ec2.Subnet(
                f"{name}-{label}",
                vpc_id=args.vpc_id,
                availability_zone=zone.name,
                cidr_block=str(cidr),
                # In the public ones, too: load balancers and NAT bring addresses of their own, nothing else is there.
                map_public_ip_on_launch=False,
                tags={**tags(label), **role},
                opts=child,
            )

        def table(label: str) -> ec2.RouteTable:
            return ec2.RouteTable(f"{name}-{label}-routes", vpc_id=args.vpc_id, tags=tags(label), opts=child)

        def association(label: str, of: ec2.Subnet, with_table: ec2.RouteTable) -> ec2.RouteTableAssociation:
            return ec2.RouteTableAssociation(
                f"{name}-{label}-association", subnet_id=of.id, route_table_id=with_table.id, opts=child
            )

        public_table = table("public")
        internet = ec2.Route(
            f"{name}-public-internet",
            route_table_id=public_table.id,
            destination_cidr_block=ANYWHERE,
            gateway_id=args.internet_gateway,
            opts=child,
        )
        self.routes = [internet]
        self.public = {}
        for zone in args.zones:
            label = f"public-{zone.name}"
            made = subnet(label, zone, zone.public, PUBLIC_BALANCERS)
            associated = association(label, made, public_table)
            self.public[zone.name] = after(made.id, associated, internet)
            self.routes.append(associated)

        gateways: dict[str, ec2.NatGateway] = {}
        for zone in args.zones if args.nat.gateways == "per-zone" else args.zones[:1]:
            label = f"nat-{zone.name}"
            address = ec2.Eip(f"{name}-{label}-address", domain="vpc", tags=tags(label), opts=child)
            gateways[zone.name] = ec2.NatGateway(
                f"{name}-{label}",
                subnet_id=self.public[zone.name],
                allocation_id=address.id,
                connectivity_type="public",
                tags=tags(label),
                opts=child,
            )

        self.private = {}
        self.private_route_tables = []
        for zone in args.zones:
            label = f"private-{zone.name}"
            made, own_table = subnet(label, zone, zone.private, INTERNAL_BALANCERS), table(label)
            associated = association(label, made, own_table)
            out = ec2.Route(
                f"{name}-{label}-nat",
                route_table_id=own_table.id,
                destination_cidr_block=ANYWHERE,
                nat_gateway_id=(gateways.get(zone.name) or gateways[args.zones[0].name]).id,
                opts=child,
            )
            self.private[zone.name] = after(made.id, associated, out)
            self.private_route_tables.append(own_table.id)
            self.routes += [associated, out]
        self.register_outputs({"public": self.public, "private": self.private})
