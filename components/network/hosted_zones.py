"""Hosted zones of Route 53."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import route53

from settings.network_eks import Dns


@dataclass(kw_only=True)
class HostedZonesArgs:
    """Arguments of HostedZones."""

    vpc_id: pulumi.Input[str]
    """The VPC that sees the private zones."""

    dns: Dns
    protect: bool
    """Whether the zones are protected from deletion: a public one made anew has other name servers."""


class HostedZones(pulumi.ComponentResource):
    """Private zones that the VPC sees, and public ones: made, or found by their ids and left alone.

    Raises pulumi.RunError when a zone that is found is another domain's, or private.
    """

    public: dict[str, pulumi.Output[str]]
    """Ids of the public zones by domain."""

    def __init__(self, name: str, args: HostedZonesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:network:HostedZones", name, None, opts)
        mine = pulumi.ResourceOptions(parent=self, protect=args.protect)
        self.public = {}
        for index, public in enumerate(args.dns.public):
            label = f"{name}-public-{public.domain.replace('.', '-')}"
            if public.zone_id:
                found = route53.Zone.get(label, public.zone_id, pulumi.ResourceOptions(parent=self), name=public.domain)
                self.public[public.domain] = _checked(found, index, public.zone_id, public.domain)
            else:
                made = route53.Zone(label, name=public.domain, force_destroy=False, opts=mine)
                self.public[public.domain] = made.zone_id
        for domain in args.dns.private:
            route53.Zone(
                f"{name}-private-{domain.replace('.', '-')}",
                name=domain,
                force_destroy=False,
                vpcs=[route53.ZoneVpcArgs(vpc_id=args.vpc_id)],
                opts=mine,
            )
        self.register_outputs({"public": self.public})


def _checked(zone: route53.Zone, index: int, zone_id: str, domain: str) -> pulumi.Output[str]:
    def check(name: str, vpcs: Sequence[object] | None) -> str:
        key = f"network.dns.public[{index}].zoneId"
        if name.rstrip(".") != domain:
            raise pulumi.RunError(f"{key}: {zone_id} is the hosted zone of '{name.rstrip('.')}', not of '{domain}'")
        if vpcs:
            raise pulumi.RunError(f"{key}: {zone_id} is a private hosted zone; name a public one")
        return zone_id

    return pulumi.Output.all(zone.name, zone.vpcs).apply(lambda values: check(*values))
