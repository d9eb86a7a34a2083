"""The network of a private GKE cluster whose egress gateways alone may reach the internet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_gcp import compute

from components.network.accounts import NodeAccounts, NodeAccountsArgs
from components.network.apis import ProjectApis, ProjectApisArgs
from components.network.firewall import rules
from components.network.image_mirrors import ImageMirrors, ImageMirrorsArgs
from components.network.nat import CloudNat, CloudNatArgs
from components.network.ordering import after
from components.network.private_dns import GooglePrivateDns, GooglePrivateDnsArgs
from components.network.vpc_firewall import VpcFirewall, VpcFirewallArgs
from settings.model import Cidr
from settings.network import GkeNetwork as GkeNetworkSettings
from settings.network import NodeRole

PODS, SERVICES, GATEWAY_PODS = "pods", "services", "gateway-pods"
"""Names of the secondary ranges."""


@dataclass(kw_only=True)
class GkeNetworkArgs:
    """Arguments of GkeNetwork."""

    environment: str
    """The environment's name, for the names of what is made."""

    project: str
    region: str
    network: GkeNetworkSettings
    protect: bool
    """Whether the VPC and the private zones are protected from deletion."""


class GkeNetwork(pulumi.ComponentResource):
    """The VPC with subnets, NAT, firewall, node accounts, private names of Google's APIs and mirrors of public images.

    The outputs of nodes' interest are known when NAT, firewall and names exist: no node starts without them.
    Source: "Use Anthos Service Mesh egress gateways on GKE clusters".
    """

    vpc: pulumi.Output[str]
    """Self link."""

    subnets: dict[NodeRole, pulumi.Output[str]]
    """Self link of the subnet of each role's nodes; both are one without a subnet of the gateway pool's own."""

    accounts: dict[NodeRole, pulumi.Output[str]]
    """E-mail address of the account of each role's nodes."""

    image_prefixes: dict[str, pulumi.Output[str]]
    """By public registry: what stands in an image's name instead of the registry's host."""

    def __init__(self, name: str, args: GkeNetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:network:GkeNetwork", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings, names = args.network, args.network.names.of(args.environment)
        cidrs, firewall = settings.cidrs, settings.firewall

        project = ProjectApis(
            f"{name}-apis", ProjectApisArgs(project=args.project, more=settings.apis), opts=child
        ).project
        if settings.adopt_vpc:
            vpc = compute.Network.get(
                f"{name}-vpc",
                pulumi.Output.concat("projects/", project, f"/global/networks/{settings.adopt_vpc}"),
                child,
            )
        else:
            vpc = compute.Network(
                f"{name}-vpc",
                project=project,
                name=names.vpc,
                auto_create_subnetworks=False,
                opts=pulumi.ResourceOptions(parent=self, protect=args.protect),
            )

        def subnet(label: str, cloud_name: str, nodes: Cidr, secondary: Mapping[str, Cidr]) -> compute.Subnetwork:
            return compute.Subnetwork(
                f"{name}-{label}",
                project=project,
                region=args.region,
                network=vpc.self_link,
                name=cloud_name,
                ip_cidr_range=str(nodes),
                secondary_ip_ranges=[
                    compute.SubnetworkSecondaryIpRangeArgs(range_name=range_name, ip_cidr_range=str(cidr))
                    for range_name, cidr in secondary.items()
                ],
                private_ip_google_access=True,
                log_config=compute.SubnetworkLogConfigArgs(
                    aggregation_interval="INTERVAL_5_MIN", flow_sampling=0.5, metadata="INCLUDE_ALL_METADATA"
                )
                if settings.flow_logs
                else None,
                opts=child,
            )

        nodes = subnet("subnet", names.subnet, cidrs.nodes, {PODS: cidrs.pods, SERVICES: cidrs.services})
        gateway = (
            subnet("gateway-subnet", names.gateway_subnet, cidrs.gateway.nodes, {GATEWAY_PODS: cidrs.gateway.pods})
            if cidrs.gateway
            else None
        )
        nat = CloudNat(
            f"{name}-nat",
            CloudNatArgs(
                project=project,
                region=args.region,
                network=vpc.self_link,
                gateway_subnet=gateway.self_link if gateway else None,
                names=names,
                nat=settings.nat,
            ),
            opts=child,
        )
        accounts = NodeAccounts(
            f"{name}-accounts",
            NodeAccountsArgs(
                project=project,
                account_ids={"application": names.application_account, "gateway": names.gateway_account},
            ),
            opts=child,
        )
        vpc_firewall = VpcFirewall(
            f"{name}-firewall",
            VpcFirewallArgs(
                project=project,
                network=vpc.self_link,
                rules=rules(settings),
                accounts=accounts.emails,
                prefix=names.firewall_prefix,
                log_allowed=firewall.log == "all",
                log_denied=firewall.log != "none",
            ),
            opts=child,
        )
        private_dns = GooglePrivateDns(
            f"{name}-dns",
            GooglePrivateDnsArgs(
                project=project,
                network=vpc.self_link,
                names=names,
                google_apis=settings.google_apis,
                protect=args.protect,
            ),
            opts=child,
        )
        mirrors = ImageMirrors(
            f"{name}-images",
            ImageMirrorsArgs(
                project=project,
                region=args.region,
                registries=settings.registries,
                prefix=names.repository_prefix,
            ),
            opts=child,
        )

        guards: list[pulumi.Resource] = [nat.nat, *vpc_firewall.rules, *private_dns.records]
        self.vpc = after(vpc.self_link, *guards)
        self.subnets = {
            "application": after(nodes.self_link, *guards),
            "gateway": after((gateway or nodes).self_link, *guards),
        }
        self.accounts = accounts.emails
        self.image_prefixes = mirrors.prefixes
        self.register_outputs(
            {
                "vpc": self.vpc,
                "subnets": self.subnets,
                "accounts": self.accounts,
                "imagePrefixes": self.image_prefixes,
            }
        )
