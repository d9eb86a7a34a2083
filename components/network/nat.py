"""The way to the internet for machines without an address of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_gcp import compute

from settings.network import Names, Nat

LOG_FILTERS: Mapping[str, str] = {"errors": "ERRORS_ONLY", "translations": "TRANSLATIONS_ONLY", "all": "ALL"}


@dataclass(kw_only=True)
class CloudNatArgs:
    """Arguments of CloudNat."""

    project: pulumi.Input[str]
    region: str
    network: pulumi.Input[str]
    """Self link of the VPC."""

    gateway_subnet: pulumi.Input[str] | None
    """Self link of the gateway pool's own subnet, where there is one."""

    names: Names
    nat: Nat


class CloudNat(pulumi.ComponentResource):
    """A Cloud Router with NAT, for the gateway pool's subnet or for all."""

    nat: compute.RouterNat

    def __init__(self, name: str, args: CloudNatArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:network:CloudNat", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        router = compute.Router(
            f"{name}-router",
            project=args.project,
            region=args.region,
            name=args.names.router,
            network=args.network,
            opts=child,
        )
        only = args.gateway_subnet if args.nat.subnets == "gateway" else None
        self.nat = compute.RouterNat(
            f"{name}-nat",
            project=args.project,
            region=args.region,
            name=args.names.nat,
            router=router.name,
            nat_ip_allocate_option="AUTO_ONLY",
            source_subnetwork_ip_ranges_to_nat="LIST_OF_SUBNETWORKS" if only else "ALL_SUBNETWORKS_ALL_IP_RANGES",
            subnetworks=[
                # Of its pods too: their addresses are not hidden behind the nodes'.
                compute.RouterNatSubnetworkArgs(name=only, source_ip_ranges_to_nats=["ALL_IP_RANGES"])
            ]
            if only
            else None,
            log_config=compute.RouterNatLogConfigArgs(
                enable=args.nat.log != "none", filter=LOG_FILTERS.get(args.nat.log, "ALL")
            ),
            opts=child,
        )
        self.register_outputs({"nat": self.nat.name})
