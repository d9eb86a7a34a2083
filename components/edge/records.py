"""Names of a gateway's hosts, which lead to its balancer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import lb, route53


@dataclass(kw_only=True)
class BalancerRecordsArgs:
    """Arguments of BalancerRecords."""

    hosts: Sequence[str]
    zone: str
    """The domain of the hosted zone."""

    zones: pulumi.Input[Mapping[str, str]]
    """Ids of the public hosted zones by their domain."""

    address: pulumi.Input[str]
    """The balancer's host name."""


class BalancerRecords(pulumi.ComponentResource):
    """An alias record for each host. Reference: Route 53, "Routing traffic to an ELB load balancer"."""

    def __init__(self, name: str, args: BalancerRecordsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:edge:BalancerRecords", name, None, opts)
        # All network load balancers of a region are in one zone of AWS itself.
        balancers = lb.get_hosted_zone_id_output(
            load_balancer_type="network", opts=pulumi.InvokeOutputOptions(parent=self)
        )
        for host in args.hosts:
            route53.Record(
                f"{name}-{host}",
                zone_id=zone_id(args.zones, args.zone),
                name=host,
                type="A",
                aliases=[route53.RecordAliasArgs(name=args.address, zone_id=balancers.id, evaluate_target_health=True)],
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})


def zone_id(zones: pulumi.Input[Mapping[str, str]], domain: str) -> pulumi.Output[str]:
    """The id of a domain's hosted zone. Raises RunError when layer network has made none."""

    def found(zones: Mapping[str, str]) -> str:
        if domain not in zones:
            raise pulumi.RunError(
                f"layer 'network' has no public zone '{domain}', which 'edge' names (there: "
                f"{', '.join(sorted(zones)) or 'none'}): add it to network.dns.public, or name another one"
            )
        return zones[domain]

    return pulumi.Output.from_input(zones).apply(found)
